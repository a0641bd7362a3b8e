//! `cargo xtask demo`: from a fresh clone to served requests.
//!
//! ```text
//!  build ─► target/demo (a copy of examples/quickstart) ─► weir-proxy ─► auth filter ─► a small origin in this process
//! ```
//!
//! Then it shows, command by command, what the filter lets through and what not, an edit taking effect, and a bad edit
//! refused. Every command that it prints is run by it.

mod scene;
mod stage;

use std::io::{IsTerminal, stdin};

use anyhow::Result;

use crate::plugins::{self, Beside};
use crate::progress::{say, step};
use crate::workspace::{cargo, finish};

use stage::Stage;

/// When the demo ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// At Ctrl-C, or at once if nobody is there to press it.
    WhenToldTo,
    /// After the last command.
    WhenShown,
}

pub(crate) fn run(ending: Ending) -> Result<()> {
    say("builds the proxy and its filters and shows them at work");
    say("the first build takes about a quarter of an hour on two cores; later ones take seconds");
    step("the proxy", || finish(&mut cargo(&["build", "--workspace", "--bin", "weir-proxy"])?))?;
    step("its filters, for Wasm", || plugins::run(Beside::WhatIsThere))?;

    let mut stage = step("start", Stage::set)?;
    for scene in scene::all() {
        scene.play(&stage)?;
    }
    if ending == Ending::WhenToldTo && stdin().is_terminal() {
        say(&format!("\nstill serving on http://{}; edit {} and see; Ctrl-C ends it", stage.address(), stage.folder()));
        stage.serve()?;
    }
    say("\nthat was the demo; README.md says where to go on");
    Ok(())
}
