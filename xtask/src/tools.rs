//! Programs that the tests use beside Rust, installed when they are missing.
//!
//! `cargo test --workspace` needs none of them; `cargo xtask test` runs the tests that do, with the feature `tools` of
//! `weir-tests`. To use another program in a test, add a line to [`TOOLS`].

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::progress::say;

/// A program, the apt package that brings it, and what for.
struct Tool {
    program: &'static str,
    package: &'static str,
    used_for: &'static str,
}

const TOOLS: [Tool; 3] = [
    Tool { program: "curl", package: "curl", used_for: "the commands in the READMEs" },
    Tool { program: "python3", package: "python3", used_for: "the upstream in the READMEs" },
    Tool { program: "wrk", package: "wrk", used_for: "load while the configuration changes" },
];

/// Whether the tests that need tools can run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tools {
    Present,
    Missing,
}

/// Says what will be installed, before anything is.
pub(crate) fn announce() {
    let missing = missing();
    if missing.is_empty() {
        say("every tool is here; nothing will be installed, but for the compiler target wasm32 if it is missing");
    }
    for tool in missing {
        say(&format!("will be installed with apt-get: {} (for {})", tool.package, tool.used_for));
    }
}

/// Installs what is missing. In CI a tool that cannot be installed is an error; elsewhere its tests are left out, and
/// that is said.
pub(crate) fn install() -> Result<Tools> {
    let packages: Vec<&str> = missing().iter().map(|tool| tool.package).collect();
    if packages.is_empty() {
        return Ok(Tools::Present);
    }
    apt_get(&["update", "--quiet"]);
    apt_get(&[&["install", "--yes", "--quiet", "--no-install-recommends"], packages.as_slice()].concat());
    let missing = missing();
    if missing.is_empty() {
        return Ok(Tools::Present);
    }
    let names: Vec<&str> = missing.iter().map(|tool| tool.program).collect();
    let names = names.join(", ");
    if std::env::var_os("CI").is_some() {
        bail!("could not install {names}");
    }
    say(&format!("LEFT OUT: the tests that need {names}; install them and run this again"));
    Ok(Tools::Missing)
}

/// Whether a program can be started.
pub(crate) fn is_present(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn missing() -> Vec<&'static Tool> {
    TOOLS.iter().filter(|tool| !is_present(tool.program)).collect()
}

/// As root, or with a `sudo` that asks nothing. What it could not do shows in [`missing`].
fn apt_get(arguments: &[&str]) {
    let mut command = match is_root() {
        true => Command::new("apt-get"),
        false => {
            let mut command = Command::new("sudo");
            command.args(["--non-interactive", "apt-get"]);
            command
        }
    };
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => say(&format!("apt-get {} ended with {status}", arguments.join(" "))),
        Err(error) => say(&format!("apt-get did not start: {error}")),
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
