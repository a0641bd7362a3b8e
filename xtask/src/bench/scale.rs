//! Whether a request costs more when there are many routes or many connections. Beside its peers where that can be: with
//! one connection every proxy wakes up for each single request, with many it does several at once.

use anyhow::{Context, Result};

use super::chain::Chain;
use super::contestant::{Contestant, Peer};
use super::load::{self, Load, Sample};
use super::process::Running;
use super::setting::Setting;
use crate::progress::say;

/// Sizes of route tables, and numbers of connections.
const STEPS: [u32; 4] = [1, 10, 100, 1_000];

/// One row: who, with how much, and what was measured.
pub(super) struct Row {
    pub(super) contestant: Contestant,
    pub(super) connections: u32,
    pub(super) samples: Vec<Sample>,
}

/// Everybody takes turns of two seconds, so that a thousand connections are open before anything counts.
pub(super) fn measure(setting: &Setting, rounds: usize) -> Result<Vec<Row>> {
    let plain = |peer| Contestant::of(peer, Chain::Empty);
    let routes = STEPS.map(|routes| (Contestant { routes: routes as usize, ..plain(Peer::Weir) }, 32));
    let mut rows: Vec<Row> = Vec::new();
    let mut running: Vec<(Contestant, Running)> = Vec::new();
    let connections = [Peer::Weir, Peer::HaProxy, Peer::Nginx, Peer::Envoy]
        .map(|peer| STEPS.map(|connections| (plain(peer), connections)));
    for (contestant, connections) in routes.into_iter().chain(connections.into_iter().flatten()) {
        if !running.iter().any(|(known, _)| *known == contestant) {
            running.push((contestant, contestant.start(setting, 1).with_context(|| contestant.to_string())?));
        }
        rows.push(Row { contestant, connections, samples: Vec::new() });
    }
    for round in 0..=rounds {
        for Row { contestant, connections, samples } in &mut rows {
            let (_, running) = running.iter().find(|(known, _)| known == contestant).context("a proxy")?;
            let load = Load { seconds: 2, connections: *connections, path: contestant.path() };
            let sample = load::run(setting, running, &load).with_context(|| contestant.to_string())?;
            if round == 0 {
                continue; // It was cold.
            }
            say(&format!(
                "{round}/{rounds} {contestant}, {} routes, {connections} connections: {sample}",
                contestant.routes
            ));
            samples.push(sample);
        }
    }
    Ok(rows)
}
