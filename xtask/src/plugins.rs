//! `cargo xtask plugins`: compiles the filters to Wasm and installs them where the proxy finds them.
//!
//! ```text
//!  plugins/auth             ─► target/debug/plugins/auth.wasm
//!                              found by `module: {builtin: auth}`
//!  examples/custom-filter/… ─► examples/custom-filter/custom_filter.wasm
//!                              found by `module: {file: ./custom_filter.wasm}`
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::progress::print;
use crate::strip;
use crate::workspace::{self, Metadata, cargo, finish};

/// A target without an operating system, so that a module imports the Proxy-Wasm calls only.
const TARGET: &str = "wasm32-unknown-unknown";

/// Largest module of a shipped filter, in bytes: it is pushed to every proxy, and compiled there.
const MAX_SHIPPED: usize = 316 * 1024;

/// The proxy builds that get the modules.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum InstallTarget {
    /// `target/debug`, and `target/release` if it exists.
    ExistingBuilds,
    /// Both; missing folders are created.
    Release,
}

/// One crate that compiles to a module.
struct Plugin {
    package: String,
    /// The file that cargo writes, without its extension.
    library: String,
    /// The crate's folder, relative to the repository.
    folder: PathBuf,
    /// The callbacks to export (`[package.metadata.weir] callbacks`); `None` for all of them.
    callbacks: Option<Vec<String>>,
}

/// Builds all filters and installs each module.
pub(crate) fn run(beside: InstallTarget) -> Result<()> {
    ensure_target()?;
    let metadata = Metadata::read()?;
    let target = metadata.target()?;
    let plugins = find(&metadata)?;
    build(&plugins)?;
    for plugin in &plugins {
        let built = target.join(TARGET).join("plugin").join(format!("{}.wasm", plugin.library));
        let module = fs::read(&built).with_context(|| format!("cargo wrote no {}", built.display()))?;
        let module = match &plugin.callbacks {
            Some(callbacks) => strip::strip_callbacks(&module, callbacks).context(plugin.package.clone())?,
            None => module,
        };
        let is_shipped = plugin.folder.starts_with("plugins");
        let (name, size) = (&plugin.package, module.len());
        ensure!(!is_shipped || size <= MAX_SHIPPED, "{name} has {size} bytes; a shipped filter may have {MAX_SHIPPED}");
        for place in install_paths(plugin, &target, beside)? {
            install_module(&module, &place)?;
        }
    }
    Ok(())
}

fn find(metadata: &Metadata) -> Result<Vec<Plugin>> {
    let plugin = |(package, folder): (&serde_json::Value, PathBuf)| {
        let is_filter = folder.starts_with("plugins") || folder.starts_with("examples");
        let targets = package["targets"].as_array()?;
        let is_module = |target: &&serde_json::Value| {
            target["crate_types"].as_array().is_some_and(|types| types.iter().any(|kind| kind == "cdylib"))
        };
        let library = targets.iter().find(is_module)?["name"].as_str()?.replace('-', "_");
        let callbacks = package["metadata"]["weir"]["callbacks"]
            .as_array()
            .map(|callbacks| callbacks.iter().filter_map(|callback| callback.as_str().map(str::to_owned)).collect());
        is_filter.then_some(Plugin { package: package["name"].as_str()?.to_owned(), library, folder, callbacks })
    };
    Ok(metadata.packages()?.filter_map(plugin).collect())
}

fn build(plugins: &[Plugin]) -> Result<()> {
    let mut command = cargo(&["build", "--lib", "--target", TARGET, "--profile", "plugin"])?;
    for plugin in plugins {
        command.args(["--package", &plugin.package]);
    }
    finish(&mut command)
}

fn install_paths(plugin: &Plugin, target: &Path, beside: InstallTarget) -> Result<Vec<PathBuf>> {
    let file = plugin.folder.file_name().context("a plugin has a folder")?.to_string_lossy();
    if plugin.folder.starts_with("examples") {
        let example = plugin.folder.parent().context("examples/NAME/filter has a parent")?;
        return Ok(vec![workspace::root()?.join(example).join(format!("{}.wasm", plugin.library))]);
    }
    let mut profiles = vec!["debug"];
    if beside == InstallTarget::Release || target.join("release").is_dir() {
        profiles.push("release");
    }
    Ok(profiles.into_iter().map(|profile| target.join(profile).join(format!("plugins/{file}.wasm"))).collect())
}

/// Writes the file atomically, and only if it differs: a running proxy watches it.
fn install_module(module: &[u8], place: &Path) -> Result<()> {
    if fs::read(place).is_ok_and(|present| present == module) {
        return Ok(());
    }
    let folder = place.parent().context("a module is put in a folder")?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let draft = place.with_extension("draft");
    fs::write(&draft, module).with_context(|| draft.display().to_string())?;
    fs::rename(&draft, place).with_context(|| place.display().to_string())?;
    print(&format!("{} ({} KiB)", place.display(), module.len() / 1024));
    Ok(())
}

fn ensure_target() -> Result<()> {
    if has_target()? {
        return Ok(());
    }
    print(&format!("adding the compiler target {TARGET}"));
    let added = Command::new("rustup").args(["target", "add", TARGET, "wasm32-wasip1"]).status();
    match added {
        Ok(status) if status.success() && has_target()? => Ok(()),
        Ok(status) => bail!("`rustup target add {TARGET}` ended with {status}; add the target yourself and try again"),
        Err(_) => bail!("the compiler has no target {TARGET} and there is no rustup to add it; install the target"),
    }
}

fn has_target() -> Result<bool> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(workspace::root()?)
        .output()
        .context("rustc did not start")?;
    Ok(output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}
