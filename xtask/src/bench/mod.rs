//! `cargo xtask bench [--quick]`: what a request costs, beside HAProxy, nginx and Envoy on the same machine.
//!
//! ```text
//!  wrk, 32 connections ─► one proxy with one worker ─► nginx as the origin
//!                              └─ /proc: CPU time and memory of its processes
//! ```
//!
//! Every proxy does the same work: access log in JSON to a file, request id, forwarded headers, connections kept open
//! (the configurations are in `xtask/bench/`). Machines drift, so the proxies take turns, five times around, and what
//! counts is the median and the ratio. CPU time per request is the figure to trust; throughput and latency also depend
//! on the load generator and the origin, which share the machine. The tables go to `target/bench/results.md`;
//! `docs/performance.md` says how to read them.

mod contestant;
mod chain;
mod footprint;
mod load;
mod report;

mod process;
mod setting;

use anyhow::{Context, Result};

use crate::plugins::{self, Beside};
use crate::progress::{Clock, say, step};
use crate::tools;
use crate::workspace::{cargo, finish};

use contestant::Contestant;
use footprint::Footprint;
use load::Sample;
use setting::Setting;

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    /// Times around.
    rounds: usize,
    /// Seconds of load for each proxy each time.
    seconds: u32,
}

/// What the documentation quotes.
pub(crate) const FULL: Extent = Extent { rounds: 5, seconds: 5 };

/// Enough to see whether a change did harm.
pub(crate) const QUICK: Extent = Extent { rounds: 3, seconds: 2 };

pub(crate) fn run(extent: Extent) -> Result<()> {
    let clock = Clock::start();
    say("measures the proxy beside HAProxy, nginx and Envoy; the first build takes about a quarter of an hour");
    tools::announce_peers();
    step("peers", tools::install_peers)?;
    step("the proxy, for release", || {
        finish(&mut cargo(&["build", "--release", "--workspace", "--bin", "weir-proxy"])?)
    })?;
    step("its filters, for Wasm", || plugins::run(Beside::ReleaseToo))?;

    let setting = Setting::prepare()?;
    let contestants = Contestant::all();
    let mut samples = vec![Vec::new(); contestants.len()];
    step("requests", || {
        for round in 1..=extent.rounds {
            for (contestant, samples) in contestants.iter().zip(&mut samples) {
                let sample = measure(*contestant, &setting, extent).with_context(|| contestant.to_string())?;
                say(&format!("{round}/{} {contestant:<28} {sample}", extent.rounds));
                samples.push(sample);
            }
        }
        Ok(())
    })?;
    let footprints = step("memory and start", || Footprint::of_each(&setting, extent.rounds))?;

    let text = report::write(&contestants, &samples, &footprints, extent);
    let place = setting.folder().join("results.md");
    std::fs::write(&place, &text).with_context(|| place.display().to_string())?;
    say(&format!("\n{text}\nwritten to {} after {}", place.display(), clock.elapsed()));
    Ok(())
}

fn measure(contestant: Contestant, setting: &Setting, extent: Extent) -> Result<Sample> {
    let running = contestant.start(setting, 1)?;
    load::run(&running, 1)?; // Connections are open and code is warm before anything counts.
    load::run(&running, extent.seconds)
}
