//! `cargo xtask bench [--quick | --as-it-lies]`: what a request costs, beside HAProxy, nginx and Envoy on the same machine.
//!
//! ```text
//!  wrk, 32 connections ─► one proxy with one worker ─► nginx as the origin
//!                              └─ /proc: CPU time and memory of its processes
//! ```
//!
//! Every proxy does the same work: access log in JSON to a file, request id, forwarded headers, connections kept open
//! (the configurations are in `xtask/bench/`). Machines drift, so all run at once and take turns of a second, many times
//! around; what counts is the median and the ratio. CPU time per request is the figure to trust; throughput and latency also depend
//! on the load generator and the origin, which share the machine. The tables go to `target/bench/results.md`;
//! `docs/performance.md` says how to read them.

mod contestant;
mod chain;
mod footprint;
mod instructions;
mod prices;
mod scale;
mod slices;
mod load;
mod report;
mod training;

mod process;
mod setting;

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::plugins::{self, Beside};
use crate::progress::{Clock, say, step};
use crate::release;
use crate::tools;
use crate::workspace::{Metadata, cargo, finish};

use chain::Chain;
use contestant::Contestant;
use footprint::Footprint;
use instructions::Count;
use load::Load;
use process::Running;
use report::Measured;
use setting::{Proxy, Setting};
use slices::Added;

/// Which proxy is measured.
#[derive(Clone, Copy)]
enum Build {
    /// The one that is packaged.
    Packaged,
    /// The one that lies in `target/dist`.
    AsItLies,
    /// An ordinary release, which is built in half the time.
    Plain,
}

impl Build {
    fn proxy(self) -> Result<Proxy> {
        match self {
            Self::Packaged => Ok(in_folder(&release::run()?)),
            Self::AsItLies => as_it_lies(),
            Self::Plain => plain(),
        }
    }
}

/// How much is measured, and of what.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    build: Build,
    /// How often each proxy has its turn of a second.
    rounds: usize,
    /// How often a small filter and none have a slice of time, one right after the other; others, which stand out more, a
    /// quarter as often.
    pairs: usize,
    /// How often each has its turn with many routes and many connections.
    scale_rounds: usize,
    /// How often memory is measured.
    starts: usize,
}

/// What the documentation quotes.
pub(crate) const FULL: Extent = Extent { build: Build::Packaged, rounds: 25, pairs: 1_200, scale_rounds: 9, starts: 5 };

/// As [`FULL`], of what was packaged last.
pub(crate) const AS_IT_LIES: Extent = Extent { build: Build::AsItLies, ..FULL };

/// Enough to see whether a change did harm.
pub(crate) const QUICK: Extent = Extent { build: Build::Plain, rounds: 7, pairs: 200, scale_rounds: 3, starts: 3 };

pub(crate) fn run(extent: Extent) -> Result<()> {
    let clock = Clock::start();
    say("measures the proxy beside HAProxy, nginx and Envoy");
    let setting = Setting::prepare(extent.build.proxy()?)?;
    let contestants = Contestant::all();
    let mut samples = vec![Vec::new(); contestants.len()];
    step("requests", || {
        let start = |contestant: &Contestant| warm(*contestant, &setting).with_context(|| contestant.to_string());
        let running = contestants.iter().map(start).collect::<Result<Vec<Running>>>()?;
        for round in 1..=extent.rounds {
            for ((contestant, running), samples) in contestants.iter().zip(&running).zip(&mut samples) {
                let sample = load::run(&setting, running, &Load::seconds(1)).with_context(|| contestant.to_string())?;
                say(&format!("{round}/{} {contestant:<28} {sample}", extent.rounds));
                samples.push(sample);
            }
        }
        Ok(())
    })?;
    let added = step("what filters add", || what_filters_add(&setting, extent.pairs))?;
    let scale = step("many routes, many connections", || scale::measure(&setting, extent.scale_rounds))?;
    let counts = step("instructions", || Ok(Count::of_each(&setting)))?;
    let footprints = step("memory and start", || Footprint::of_each(&setting, extent.starts))?;

    let measured = Measured { contestants, samples, added, scale, counts, footprints };
    let text = report::write(&measured, extent);
    let place = setting.folder().join("results.md");
    std::fs::write(&place, &text).with_context(|| place.display().to_string())?;
    say(&format!("\n{text}\nwritten to {} after {}", place.display(), clock.elapsed()));
    Ok(())
}

/// The list of prices alone.
pub(crate) fn prices(extent: Extent) -> Result<()> {
    let clock = Clock::start();
    say("measures what hostcalls, callbacks and VMs cost, beside Envoy");
    let setting = Setting::prepare(extent.build.proxy()?)?;
    let text = step("prices", || prices::measure(&setting))?;
    let place = setting.folder().join("prices.md");
    std::fs::write(&place, &text).with_context(|| place.display().to_string())?;
    say(&format!("\n{text}\nwritten to {} after {}", place.display(), clock.elapsed()));
    Ok(())
}

/// The proxy of a folder that was packaged.
fn in_folder(dist: &Path) -> Proxy {
    Proxy { program: dist.join("weir-proxy"), plugins: dist.join("plugins") }
}

/// What was packaged last.
fn as_it_lies() -> Result<Proxy> {
    tools::announce_peers();
    step("peers", tools::install_peers)?;
    let proxy = in_folder(&Metadata::read()?.target()?.join("dist"));
    ensure!(proxy.program.exists(), "there is no {}: `cargo xtask release` makes it", proxy.program.display());
    Ok(proxy)
}

/// As cargo builds it for release.
fn plain() -> Result<Proxy> {
    say(
        "builds it without a profile: what is packaged is a seventh faster; the first build takes a quarter of an hour",
    );
    tools::announce_peers();
    step("peers", tools::install_peers)?;
    step("the proxy, for release", || {
        finish(&mut cargo(&["build", "--release", "--workspace", "--bin", "weir-proxy"])?)
    })?;
    step("its filters, for Wasm", || plugins::run(Beside::ReleaseToo))?;
    let release = Metadata::read()?.target()?.join("release");
    Ok(Proxy { program: release.join("weir-proxy"), plugins: release.join("plugins") })
}

/// Has a proxy serve as in life, for [`release`].
pub(crate) fn train(program: &Path, plugins: &Path) -> Result<()> {
    let proxy = Proxy { program: program.to_owned(), plugins: plugins.to_owned() };
    training::run(&Setting::prepare(proxy)?)
}

/// Three header operations, whose price has a budget, then each shipped filter alone, and all four.
fn what_filters_add(setting: &Setting, pairs: usize) -> Result<Vec<Added>> {
    let others = Chain::ALONE.into_iter().chain([Chain::Four]).map(|chain| (chain, pairs / 4));
    let measure = |(chain, pairs)| slices::measure(setting, chain, pairs);
    [(Chain::ThreeHeaders, pairs)].into_iter().chain(others).map(measure).collect()
}

/// Starts it; connections are open and code is warm before anything counts.
fn warm(contestant: Contestant, setting: &Setting) -> Result<Running> {
    let running = contestant.start(setting, 1)?;
    load::run(setting, &running, &Load::seconds(1))?;
    Ok(running)
}
