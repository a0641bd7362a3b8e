//! The tasks of this repository: `cargo xtask demo | test | tools | plugins | release | bench`.
//!
//! Each task is a file. A task prints its steps and their duration; a failed task exits with code 1.

mod bench;
mod demo;
mod plugins;
mod release;
mod test;

mod strip;
mod tools;

mod progress;
mod workspace;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

use progress::{print, step};

const USAGE: &str = "\
cargo xtask demo [--once]       build the proxy, serve the quickstart through its filters, show what they do
cargo xtask test                run every check; installs the tools it needs and lists them first
cargo xtask tools               install what tests and examples need beside Rust: Envoy and others
cargo xtask plugins [--release] build the filters for Wasm and put them beside the proxy
cargo xtask release             build the packaged proxy in target/dist
cargo xtask bench               package the proxy, and measure it beside HAProxy, nginx and Envoy, which it installs
cargo xtask bench --no-build    measure the existing package
cargo xtask bench --quick       fewer measurements, of an ordinary release
cargo xtask bench --micro       the cost of hostcalls, callbacks and VMs, beside Envoy; of an ordinary release
                                (with --no-build, of the existing package)
cargo xtask bench --rows [--quick] [FOLDER]
                                bodies, pipelining, slow and idle clients, of an ordinary release
                                (or of the package in FOLDER; with --no-build, of the existing package)
cargo xtask bench --protocols [--quick] [FOLDER]
                                TLS and mutual TLS to the origin, HTTP/2, gRPC, WebSockets, of an ordinary release
                                (or of the package in FOLDER; with --no-build, of the existing package)
cargo xtask bench --instructions [FOLDER]
                                instructions per request with each filter chain, of an ordinary release
                                (or of the package in FOLDER)
cargo xtask bench --compare BEFORE AFTER
                                the cost of a request in two builds, each in a folder, in turns";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<()> {
    match arguments {
        ["demo"] => demo::run(demo::DemoMode::Interactive),
        ["demo", "--once"] => demo::run(demo::DemoMode::Once),
        ["test"] => test::run(),
        ["tools"] => step("tools", tools::install).map(drop),
        ["plugins"] => step("filters for Wasm", || plugins::run(plugins::InstallTarget::ExistingBuilds)),
        ["plugins", "--release"] => step("filters for Wasm", || plugins::run(plugins::InstallTarget::Release)),
        ["release"] => release::run().map(drop),
        ["bench"] => release::run().and_then(|_| bench::run(bench::FULL)),
        ["bench", "--no-build"] => bench::run(bench::FULL),
        ["bench", "--quick"] => bench::run(bench::QUICK),
        ["bench", "--micro"] => bench::run_micro(bench::QUICK),
        ["bench", "--micro", "--no-build"] => bench::run_micro(bench::FULL),
        ["bench", "--rows"] => bench::run_rows(bench::QUICK, None),
        ["bench", "--rows", "--no-build"] => bench::run_rows(bench::FULL, None),
        ["bench", "--rows", "--quick", folder] => bench::run_rows(bench::QUICK, Some(Path::new(folder))),
        ["bench", "--rows", folder] => bench::run_rows(bench::FULL, Some(Path::new(folder))),
        ["bench", "--protocols"] => bench::run_protocols(bench::QUICK, None),
        ["bench", "--protocols", "--no-build"] => bench::run_protocols(bench::FULL, None),
        ["bench", "--protocols", "--quick", folder] => bench::run_protocols(bench::QUICK, Some(Path::new(folder))),
        ["bench", "--protocols", folder] => bench::run_protocols(bench::FULL, Some(Path::new(folder))),
        ["bench", "--instructions"] => bench::run_instructions(None),
        ["bench", "--instructions", folder] => bench::run_instructions(Some(Path::new(folder))),
        ["bench", "--compare", before, after] => bench::run_comparison(Path::new(before), Path::new(after)),
        [] | ["help" | "--help" | "-h"] => {
            print(USAGE);
            Ok(())
        }
        other => bail!("there is no task `{}`\n{USAGE}", other.join(" ")),
    }
}
