//! `cargo xtask bench --micro`: the cost of one hostcall and one callback, in Weir and in Envoy with the same module,
//! and the cost of a VM per request.
//!
//! A module makes one hostcall [`CALLS`] times per request. The cost is the difference to a module without calls,
//! divided by that number. Callbacks are measured with a module that exports all of them and does nothing.

use anyhow::{Context, Result};

use super::chain::Chain;
use super::env::BenchEnv;
use super::load::{self, Load};
use super::micro_filters::{CALLS, COPIES, MICRO_BENCHMARKS, SMALL, isolated};
use super::process::BenchProcess;
use super::target::{BenchTarget, ProxyKind};
use crate::progress::print;

/// Turns of each target.
const ROUNDS: usize = 5;

/// Returns the median cost of a request, in microseconds, of several targets that take turns.
fn medians(env: &BenchEnv, targets: &[BenchTarget], workers: usize) -> Result<Vec<f64>> {
    let start = |target: &BenchTarget| target.start(env, workers).with_context(|| target.to_string());
    let running = targets.iter().map(start).collect::<Result<Vec<BenchProcess>>>()?;
    let mut costs = vec![Vec::new(); targets.len()];
    for round in 0..=ROUNDS {
        for (running, costs) in running.iter().zip(&mut costs) {
            let sample = load::run(env, running, &Load::seconds(1))?;
            if round > 0 {
                costs.push(sample.cpu); // The first turn is for connections and caches.
            }
        }
    }
    Ok(costs.into_iter().map(median).collect())
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the whole list as Markdown.
pub(super) fn measure(env: &BenchEnv) -> Result<String> {
    let mut text = String::from("| hostcall | Weir, ns | Envoy, ns | Weir / Envoy |\n|---|---:|---:|---:|\n");
    let nothing = MICRO_BENCHMARKS.len();
    let both =
        |place: usize| [ProxyKind::Weir, ProxyKind::Envoy].map(|peer| BenchTarget::of(peer, Chain::Micro(place)));
    let mut row = |name: &str, cost: [f64; 2]| {
        let line = format!("| {name} | {:.0} | {:.0} | {:.2} |", cost[0], cost[1], cost[0] / cost[1]);
        print(&line);
        text.push_str(&line);
        text.push('\n');
    };
    for (index, benchmark) in MICRO_BENCHMARKS.iter().enumerate() {
        let [ours, theirs] = both(index);
        let [our_base, their_base] = both(nothing);
        let costs = medians(env, &[ours, our_base, theirs, their_base], 1)?;
        let each = |with: f64, without: f64| (with - without) * 1e3 / f64::from(CALLS);
        row(benchmark.name.trim_start_matches("price-"), [each(costs[0], costs[1]), each(costs[2], costs[3])]);
    }
    for (place, (_, name)) in SMALL.iter().enumerate() {
        let of = |chain| [ProxyKind::Weir, ProxyKind::Envoy].map(|peer| BenchTarget::of(peer, chain));
        let ([ours, theirs], [our_base, their_base]) = (of(Chain::Sixteen(place)), of(Chain::Empty));
        let costs = medians(env, &[ours, our_base, theirs, their_base], 1)?;
        let each = |with: f64, without: f64| (with - without) * 1e3 / f64::from(COPIES);
        row(name, [each(costs[0], costs[1]), each(costs[2], costs[3])]);
    }
    text.push_str(&isolation(env)?);
    Ok(text)
}

fn isolation(env: &BenchEnv) -> Result<String> {
    let mut text = String::from(
        "\n| `auth` with a configuration of | workers | a VM for each worker, us a request | for each request, us | more |\n|---|---:|---:|---:|---:|\n",
    );
    for rules in [0, 10, 160] {
        for workers in [1, 2] {
            let chains = ["Worker", "Stream"]
                .map(|isolation| BenchTarget::of(ProxyKind::Weir, Chain::Isolated(rules, isolation)));
            let costs = medians(env, &chains, workers)?;
            let size = isolated(rules, "Worker")[0].config.len();
            let line = format!(
                "| {size} bytes | {workers} | {:.1} | {:.1} | {:.1} |",
                costs[0],
                costs[1],
                costs[1] - costs[0]
            );
            print(&line);
            text.push_str(&line);
            text.push('\n');
        }
    }
    Ok(text)
}
