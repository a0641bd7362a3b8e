//! `cargo xtask test`: every check, cheap ones first. It continues after a failed check, and prints which passed and
//! failed.

use anyhow::{Result, bail};

use crate::plugins::{self, InstallTarget};
use crate::progress::{Stopwatch, print, step};
use crate::tools::{self, Tools};
use crate::workspace::{cargo, finish};

pub(crate) fn run() -> Result<()> {
    let clock = Stopwatch::start();
    print("runs every check of this repository; from an empty target folder it takes about half an hour on two cores");
    tools::announce();

    let tools = step("tools", tools::install)?;
    let steps: [(&str, &dyn Fn() -> Result<()>); 6] = [
        ("format", &|| finish(&mut cargo(&["fmt", "--all", "--check"])?)),
        ("build", &|| finish(&mut cargo(&["build", "--workspace"])?)),
        ("plugins", &|| plugins::run(InstallTarget::ExistingBuilds)),
        ("tests", &|| tests(tools)),
        ("lints", &lints),
        ("docs", &docs),
    ];
    let mut failed = Vec::new();
    for (name, work) in &steps {
        if let Err(error) = step(name, work) {
            print(&format!("{error:#}"));
            failed.push(*name);
        }
    }
    print(&format!("\n{} passed, {} failed, after {}", steps.len() - failed.len(), failed.len(), clock.elapsed()));
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
