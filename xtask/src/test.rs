//! `cargo xtask test`: every check, in the order in which they are cheap. It goes on after a failed one, and ends with
//! what passed and what failed.

use anyhow::{Result, bail};

use crate::plugins::{self, Beside};
use crate::progress::{Clock, say, step};
use crate::tools::{self, Tools};
use crate::workspace::{cargo, finish};

pub(crate) fn run() -> Result<()> {
    let clock = Clock::start();
    say("runs every check of this repository; from an empty target folder it takes about half an hour on two cores");
    tools::announce();

    let tools = step("tools", tools::install)?;
    let steps: [(&str, &dyn Fn() -> Result<()>); 6] = [
        ("format", &|| finish(&mut cargo(&["fmt", "--all", "--check"])?)),
        ("build", &|| finish(&mut cargo(&["build", "--workspace"])?)),
        ("plugins", &|| plugins::run(Beside::WhatIsThere)),
        ("tests", &|| tests(tools)),
        ("lints", &lints),
        ("docs", &docs),
    ];
    let mut failed = Vec::new();
    for (name, work) in &steps {
        if let Err(error) = step(name, work) {
            say(&format!("{error:#}"));
            failed.push(*name);
        }
    }
    say(&format!("\n{} passed, {} failed, after {}", steps.len() - failed.len(), failed.len(), clock.elapsed()));
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn tests(tools: Tools) -> Result<()> {
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast"])?;
    if tools == Tools::Present {
        command.args(["--features", "weir-tests/tools"]);
    }
    finish(&mut command)
}

fn lints() -> Result<()> {
    finish(&mut cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--features",
        "weir-tests/tools",
        "--",
        "--deny",
        "warnings",
    ])?)
}

fn docs() -> Result<()> {
    finish(cargo(&["doc", "--workspace", "--no-deps"])?.env("RUSTDOCFLAGS", "--deny warnings"))
}
