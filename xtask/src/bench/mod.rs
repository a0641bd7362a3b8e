//! `cargo xtask bench [--quick | --no-build | --micro | --rows | --protocols | --instructions]`: the cost of a request beside HAProxy,
//! nginx and Envoy on the same machine.
//!
//! ```text
//!  wrk, 32 connections ─► one proxy with one worker ─► nginx as the origin
//!                              └─ /proc: CPU time and memory of its processes
//! ```
//!
//! Every proxy does the same work: access log in JSON to a file, request id, forwarded headers, keep-alive (the
//! configurations are in `xtask/bench/`). Machines drift, so all run at once and take turns of a second, many rounds.
//! Medians and ratios count. CPU time per request is the reliable figure; throughput and latency also depend on the
//! load generator and the origin, which share the machine. The tables go to `target/bench/results.md`;
//! `docs/performance.md` explains them.

mod plan;
mod target;
mod chain;
mod micro_filters;
mod filter;
mod footprint;
mod instructions;
mod micro;
mod scale;
mod rows;
mod transport;
mod websocket;
mod websocket_origin;
mod certificates;
mod idle;
mod slow;
mod client;
mod added_cost;
mod load;
mod report;
mod training;
mod compare;

mod process;
mod env;

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::plugins::{self, InstallTarget};
use crate::progress::{Stopwatch, print, step};
use crate::tools;
use crate::workspace::{Metadata, cargo, finish};

use added_cost::AddedCost;
use chain::Chain;
use env::{BenchEnv, Proxy};
use footprint::Footprint;
use instructions::InstructionCount;
use load::Load;
use plan::Build;
pub(crate) use plan::{BenchPlan, FULL, QUICK};
use process::BenchProcess;
use report::Results;
use rows::{Rows, Shape};
use target::{BenchTarget, ProxyKind};

pub(crate) fn run(plan: BenchPlan) -> Result<()> {
    let clock = Stopwatch::start();
    print("measures the proxy beside HAProxy, nginx and Envoy");
    let env = BenchEnv::prepare(proxy(plan.build)?)?;
    let targets = BenchTarget::all();
    let mut samples = vec![Vec::new(); targets.len()];
    step("requests", || {
        let start = |target: &BenchTarget| warm(*target, &env).with_context(|| target.to_string());
        let running = targets.iter().map(start).collect::<Result<Vec<BenchProcess>>>()?;
        for round in 1..=plan.rounds {
            for ((target, running), samples) in targets.iter().zip(&running).zip(&mut samples) {
                let sample = load::run(&env, running, &Load::seconds(1)).with_context(|| target.to_string())?;
                print(&format!("{round}/{} {target:<28} {sample}", plan.rounds));
                samples.push(sample);
            }
        }
        Ok(())
    })?;
    let added = step("what filters add", || measure_filters(&env, plan.pairs))?;
    let scale = step("many routes, many connections", || scale::measure(&env, plan.scale_rounds))?;
    let rows = step("bodies, pipelining, slow and idle clients", || rows_of(&env, plan))?;
    let protocols = step("protocols", || rows::measure_shapes(&env, &Shape::PROTOCOLS, plan.row_rounds))?;
    let counts = step("instructions", || Ok(InstructionCount::of_each(&env)))?;
    let footprints = step("memory and start", || Footprint::of_each(&env, plan.starts))?;

    let measured = Results { targets, samples, added, scale, rows, protocols, counts, footprints };
    let text = report::write(&measured, plan);
    let path = env.folder().join("results.md");
    std::fs::write(&path, &text).with_context(|| path.display().to_string())?;
    print(&format!("\n{text}\nwritten to {} after {}", path.display(), clock.elapsed()));
    Ok(())
}

/// Runs the micro benchmarks alone.
pub(crate) fn run_micro(plan: BenchPlan) -> Result<()> {
    let clock = Stopwatch::start();
    print("measures what hostcalls, callbacks and VMs cost, beside Envoy");
    let env = BenchEnv::prepare(proxy(plan.build)?)?;
    let text = step("micro benchmarks", || micro::measure(&env))?;
    let path = env.folder().join("micro.md");
    std::fs::write(&path, &text).with_context(|| path.display().to_string())?;
    print(&format!("\n{text}\nwritten to {} after {}", path.display(), clock.elapsed()));
    Ok(())
}

/// Measures bodies, pipelining, slow and idle clients alone, with the proxy of a package folder or the plan's.
pub(crate) fn run_rows(plan: BenchPlan, package: Option<&Path>) -> Result<()> {
    let clock = Stopwatch::start();
    let env = BenchEnv::prepare(match package {
        Some(package) => proxy_in_folder(package),
        None => proxy(plan.build)?,
    })?;
    let rows = step("bodies, pipelining, slow and idle clients", || rows_of(&env, plan))?;
    let text = report::write_rows(&rows, plan);
    let path = env.folder().join("rows.md");
    std::fs::write(&path, &text).with_context(|| path.display().to_string())?;
    print(&format!("\n{text}\nwritten to {} after {}", path.display(), clock.elapsed()));
    Ok(())
}

/// Measures protocols other than plain HTTP/1.1 alone, with the proxy of a package folder or the plan's.
pub(crate) fn run_protocols(plan: BenchPlan, package: Option<&Path>) -> Result<()> {
    let clock = Stopwatch::start();
    let env = BenchEnv::prepare(match package {
        Some(package) => proxy_in_folder(package),
        None => proxy(plan.build)?,
    })?;
    let rows = step("protocols", || rows::measure_shapes(&env, &Shape::PROTOCOLS, plan.row_rounds))?;
    let text = report::write_protocols(&rows, plan);
    let path = env.folder().join("protocols.md");
    std::fs::write(&path, &text).with_context(|| path.display().to_string())?;
    print(&format!("\n{text}\nwritten to {} after {}", path.display(), clock.elapsed()));
    Ok(())
}

/// Counts instructions per request alone: of the proxy in a package folder, or of an ordinary release.
pub(crate) fn run_instructions(package: Option<&Path>) -> Result<()> {
    let clock = Stopwatch::start();
    let env = BenchEnv::prepare(match package {
        Some(package) => proxy_in_folder(package),
        None => plain()?,
    })?;
    // Each chain serves once: the counted proxy loads modules that are compiled already.
    for chain in Chain::counted() {
        drop(warm(BenchTarget::of(ProxyKind::Weir, chain), &env)?);
    }
    step("instructions", || Ok(InstructionCount::of_each(&env)))?;
    print(&format!("after {}", clock.elapsed()));
    Ok(())
}

/// Compares two builds of the proxy, each in a folder with `weir-proxy` and `plugins`.
pub(crate) fn run_comparison(before: &Path, after: &Path) -> Result<()> {
    step("two builds in turns", || compare::run(&proxy_in_folder(before), &proxy_in_folder(after)))
}

fn proxy(build: Build) -> Result<Proxy> {
    match build {
        Build::Packaged => existing(),
        Build::Plain => plain(),
    }
}

/// Returns the proxy of a package folder.
fn proxy_in_folder(dist: &Path) -> Proxy {
    Proxy { program: dist.join("weir-proxy"), plugins: dist.join("plugins") }
}

/// Returns the existing package.
fn existing() -> Result<Proxy> {
    tools::announce_peers();
    step("peers", tools::install_peers)?;
    let proxy = proxy_in_folder(&Metadata::read()?.target()?.join("dist"));
    ensure!(proxy.program.exists(), "there is no {}: `cargo xtask release` makes it", proxy.program.display());
    Ok(proxy)
}

/// Builds an ordinary release.
fn plain() -> Result<Proxy> {
    print(
        "builds it without a profile: what is packaged is a seventh faster; the first build takes a quarter of an hour",
    );
    tools::announce_peers();
    step("peers", tools::install_peers)?;
    step("the proxy, for release", || {
        finish(&mut cargo(&["build", "--release", "--workspace", "--bin", "weir-proxy"])?)
    })?;
    step("its filters, for Wasm", || plugins::run(InstallTarget::Release))?;
    let release = Metadata::read()?.target()?.join("release");
    Ok(Proxy { program: release.join("weir-proxy"), plugins: release.join("plugins") })
}

/// Runs the training load of `cargo xtask release`.
pub(crate) fn train(program: &Path, plugins: &Path) -> Result<()> {
    let proxy = Proxy { program: program.to_owned(), plugins: plugins.to_owned() };
    training::run(&BenchEnv::prepare(proxy)?)
}

/// Measures three header operations, which have a budget, then each shipped filter alone, then all four.
fn measure_filters(env: &BenchEnv, pairs: usize) -> Result<Vec<AddedCost>> {
    let others = Chain::ALONE.into_iter().chain([Chain::Four]).map(|chain| (chain, pairs / 4));
    let measure = |(chain, pairs)| added_cost::measure(env, chain, pairs);
    [(Chain::ThreeHeaders, pairs)].into_iter().chain(others).map(measure).collect()
}

fn rows_of(env: &BenchEnv, plan: BenchPlan) -> Result<Rows> {
    rows::measure(env, plan.row_rounds, plan.starts)
}

/// Starts a proxy and sends load until connections are open and code is warm.
fn warm(target: BenchTarget, env: &BenchEnv) -> Result<BenchProcess> {
    let running = target.start(env, 1)?;
    load::run(env, &running, &Load::seconds(1))?;
    Ok(running)
}
