//! `cargo xtask demo`: from a fresh clone to served requests.
//!
//! ```text
//!  build ─► target/demo (a copy of examples/quickstart) ─► weir-proxy ─► auth filter ─► a small origin in this process
//! ```
//!
//! Then it shows, command by command, which requests the filter accepts, an edit that takes effect, and a bad edit that
//! is rejected. The demo runs every command that it prints.

mod steps;
mod env;

use std::io::{IsTerminal, stdin};

use anyhow::Result;

use crate::plugins::{self, InstallTarget};
use crate::progress::{print, step};
use crate::workspace::{cargo, finish};

use env::DemoEnv;

/// The end of the demo.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum DemoMode {
    /// Ends at Ctrl-C, or at once without a terminal.
    Interactive,
    /// Ends after the last command.
    Once,
}

pub(crate) fn run(ending: DemoMode) -> Result<()> {
    print("builds the proxy and its filters and shows them at work");
    print("the first build takes about a quarter of an hour on two cores; later ones take seconds");
    step("the proxy", || finish(&mut cargo(&["build", "--workspace", "--bin", "weir-proxy"])?))?;
    step("its filters, for Wasm", || plugins::run(InstallTarget::ExistingBuilds))?;

    let mut env = step("start", DemoEnv::start)?;
    for demo_step in steps::all() {
        demo_step.run(&env)?;
    }
    if ending == DemoMode::Interactive && stdin().is_terminal() {
        print(&format!("\nstill serving on http://{}; edit {} and see; Ctrl-C ends it", env.address(), env.folder()));
        env.serve()?;
    }
    print("\nthat was the demo; README.md says where to go on");
    Ok(())
}
