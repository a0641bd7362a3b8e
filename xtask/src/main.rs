//! The tasks of this repository, in Rust: `cargo xtask demo | test | plugins | release | bench`.
//!
//! Each task is a file. They print what they do and how long it took; a failed task ends with exit code 1.

mod bench;
mod demo;
mod plugins;
mod release;
mod test;

mod strip;
mod tools;

mod progress;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

use progress::{say, step};

const USAGE: &str = "\
cargo xtask demo [--once]       build the proxy, serve the quickstart through a filter, show what it does
cargo xtask test                run every check; installs the tools it needs and says so first
cargo xtask tools               install what tests and examples need beside Rust: Envoy and others
cargo xtask plugins [--release] build the filters for Wasm and put them beside the proxy
cargo xtask release             build the proxy as it is packaged, into target/dist
cargo xtask bench               measure the packaged proxy beside HAProxy, nginx and Envoy, which it installs
cargo xtask bench --as-it-lies  the same, of what was packaged last
cargo xtask bench --quick       less of it, of an ordinary release
cargo xtask bench --prices      what hostcalls, callbacks and VMs cost, beside Envoy; of an ordinary release
                                (or, with --as-it-lies, of what was packaged last)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<()> {
    match arguments {
        ["demo"] => demo::run(demo::Ending::WhenToldTo),
        ["demo", "--once"] => demo::run(demo::Ending::WhenShown),
        ["test"] => test::run(),
        ["tools"] => step("tools", tools::install).map(drop),
        ["plugins"] => step("filters for Wasm", || plugins::run(plugins::Beside::WhatIsThere)),
        ["plugins", "--release"] => step("filters for Wasm", || plugins::run(plugins::Beside::ReleaseToo)),
        ["release"] => release::run().map(drop),
        ["bench"] => bench::run(bench::FULL),
        ["bench", "--as-it-lies"] => bench::run(bench::AS_IT_LIES),
        ["bench", "--quick"] => bench::run(bench::QUICK),
        ["bench", "--prices"] => bench::prices(bench::QUICK),
        ["bench", "--prices", "--as-it-lies"] => bench::prices(bench::AS_IT_LIES),
        [] | ["help" | "--help" | "-h"] => {
            say(USAGE);
            Ok(())
        }
        other => bail!("there is no task `{}`\n{USAGE}", other.join(" ")),
    }
}
