//! The cost of a request with many routes and with many connections, beside the peers where they can be compared. With
//! one connection every proxy wakes up for each request; with many it serves several per wakeup.

use anyhow::{Context, Result};

use super::chain::Chain;
use super::env::BenchEnv;
use super::load::{self, Load, Sample};
use super::process::BenchProcess;
use super::target::{BenchTarget, ProxyKind};
use crate::progress::print;

/// Sizes of route tables, and numbers of connections.
const STEPS: [u32; 4] = [1, 10, 100, 1_000];

/// One row of the table: the proxy, the size, the measurement.
pub(super) struct Row {
    pub(super) target: BenchTarget,
    pub(super) connections: u32,
    pub(super) samples: Vec<Sample>,
}

/// The proxies take turns of two seconds: a thousand connections are open before the measurement starts.
pub(super) fn measure(env: &BenchEnv, rounds: usize) -> Result<Vec<Row>> {
    let plain = |peer| BenchTarget::of(peer, Chain::Empty);
    let routes = STEPS.map(|routes| (BenchTarget { routes: routes as usize, ..plain(ProxyKind::Weir) }, 32));
    let mut rows: Vec<Row> = Vec::new();
    let mut running: Vec<(BenchTarget, BenchProcess)> = Vec::new();
    let connections = ProxyKind::ALL.map(|peer| STEPS.map(|connections| (plain(peer), connections)));
    for (target, connections) in routes.into_iter().chain(connections.into_iter().flatten()) {
        if !running.iter().any(|(known, _)| *known == target) {
            running.push((target, target.start(env, 1).with_context(|| target.to_string())?));
        }
        rows.push(Row { target, connections, samples: Vec::new() });
    }
    for round in 0..=rounds {
        for Row { target, connections, samples } in &mut rows {
            let (_, running) = running.iter().find(|(known, _)| known == target).context("a proxy")?;
            let load = Load { connections: *connections, path: target.path(), ..Load::seconds(2) };
            let sample = load::run(env, running, &load).with_context(|| target.to_string())?;
            if round == 0 {
                continue; // It was cold.
            }
            print(&format!("{round}/{rounds} {target}, {} routes, {connections} connections: {sample}", target.routes));
            samples.push(sample);
        }
    }
    Ok(rows)
}
