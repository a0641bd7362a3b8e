//! `cargo xtask release`: the packaged proxy, in `target/dist`. It is built once with profiling counters and once more
//! with the recorded profile.
//!
//! ```text
//!  build with counters ─► serve with and without filters, over HTTP/1 and HTTP/2 ─► profile ─► build ─► target/dist
//! ```
//!
//! Hot code is laid out together and cold code is moved away. This saves a seventh of the CPU per request, and a fifth
//! with four filters. Each of the two builds takes as long as an ordinary release.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::bench;
use crate::plugins::{self, InstallTarget};
use crate::progress::{print, step};
use crate::tools;
use crate::workspace::{Metadata, cargo, finish};

/// Builds the package and returns its folder: `target/dist`, with the shipped modules in `plugins` beside the proxy.
pub(crate) fn run() -> Result<PathBuf> {
    print("builds the proxy twice, for release; the first time that takes about half an hour");
    tools::announce_peers();
    step("what loads are made with", tools::install_peers)?;
    let profdata = step("llvm-profdata", profdata_tool)?;
    step("its filters, for Wasm", || plugins::run(InstallTarget::Release))?;
    let target = Metadata::read()?.target()?;
    let work = target.join("pgo");
    let raw = work.join("raw");
    let watching = step("the proxy, with counters", || {
        build(&work.join("instrumented"), &format!("-Cprofile-generate={}", raw.display()))
    })?;
    let profile = work.join("weir-proxy.profdata");
    step("its profile", || {
        fs::remove_dir_all(&raw).ok(); // What an earlier program has left does not fit this one.
        bench::train(&watching, &target.join("release/plugins"))?;
        merge(&profdata, &raw, &profile)
    })?;
    let built = step("the proxy, with its profile", || {
        build(&work.join("optimised"), &format!("-Cprofile-use={}", profile.display()))
    })?;
    let dist = target.join("dist");
    put(&built, &target.join("release/plugins"), &dist)?;
    print(&format!("{} is ready", dist.join("weir-proxy").display()));
    Ok(dist)
}

/// Builds for this machine's own target, by name, so that the flags apply to the proxy and not to build scripts.
fn build(folder: &Path, flags: &str) -> Result<PathBuf> {
    let host = host()?;
    let mut command = cargo(&["build", "--release", "--workspace", "--bin", "weir-proxy", "--target", &host])?;
    command.env("CARGO_TARGET_DIR", folder).env("RUSTFLAGS", flags).env_remove("CARGO_ENCODED_RUSTFLAGS");
    finish(&mut command)?;
    Ok(folder.join(host).join("release/weir-proxy"))
}

fn merge(tool: &Path, raw: &Path, profile: &Path) -> Result<()> {
    let entries = fs::read_dir(raw).with_context(|| format!("no counters in {}", raw.display()))?;
    let counters: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    ensure!(!counters.is_empty(), "the proxy has left no counters in {}; did it end by itself?", raw.display());
    finish(Command::new(tool).arg("merge").arg("--output").arg(profile).args(counters))
}

fn put(program: &Path, modules: &Path, dist: &Path) -> Result<()> {
    let plugins = dist.join("plugins");
    fs::create_dir_all(&plugins).with_context(|| plugins.display().to_string())?;
    let place = dist.join("weir-proxy");
    fs::remove_file(&place).ok(); // A program that runs cannot be overwritten.
    fs::copy(program, &place).with_context(|| format!("{} cannot be copied", program.display()))?;
    for entry in fs::read_dir(modules)? {
        let module = entry?.path();
        let name = module.file_name().context("a file has a name")?;
        fs::copy(&module, plugins.join(name))?;
    }
    Ok(())
}

/// Returns the path of `llvm-profdata` of this compiler, from the component `llvm-tools`.
fn profdata_tool() -> Result<PathBuf> {
    let place = PathBuf::from(rustc(&["--print", "sysroot"])?).join("lib/rustlib").join(host()?);
    let tool = place.join("bin/llvm-profdata");
    if !tool.exists() {
        finish(Command::new("rustup").args(["component", "add", "llvm-tools"]))
            .context("install the component llvm-tools of this compiler: `rustup component add llvm-tools`")?;
    }
    ensure!(tool.exists(), "there is no {}: install the component llvm-tools of this compiler", tool.display());
    Ok(tool)
}

fn host() -> Result<String> {
    let version = rustc(&["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say what it builds for")?.to_owned())
}

fn rustc(arguments: &[&str]) -> Result<String> {
    let output = Command::new("rustc").args(arguments).output().context("rustc did not start")?;
    ensure!(output.status.success(), "rustc: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
