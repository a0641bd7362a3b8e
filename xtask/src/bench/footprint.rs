//! The proxy's footprint: resident memory with two workers, time from start to ready.

use std::time::Duration;

use anyhow::{Context, Result};

use super::chain::Chain;
use super::env::BenchEnv;
use super::load::{self, Load};
use super::process::Memory;
use super::target::{BenchTarget, ProxyKind};
use crate::progress::{Stopwatch, print};

/// Workers of the proxy; the budgets assume two.
const WORKERS: usize = 2;

/// Figures of one chain, one per run.
pub(super) struct Footprint {
    pub(super) target: BenchTarget,
    /// Memory when the proxy is ready.
    pub(super) idle: Vec<Memory>,
    /// Memory after several seconds of load.
    pub(super) loaded: Vec<Memory>,
    /// Time from the start of the process until its first response.
    pub(super) start: Vec<Duration>,
}

impl Footprint {
    /// Measures the proxy with each chain. The module cache is warm: every chain has served before.
    pub(super) fn of_each(env: &BenchEnv, rounds: usize) -> Result<Vec<Self>> {
        let chains = [Chain::Empty, Chain::ThreeHeaders, Chain::Four];
        chains.into_iter().map(|chain| Self::of(chain, env, rounds)).collect()
    }

    fn of(chain: Chain, env: &BenchEnv, rounds: usize) -> Result<Self> {
        let target = BenchTarget::of(ProxyKind::Weir, chain);
        let mut footprint = Self { target, idle: Vec::new(), loaded: Vec::new(), start: Vec::new() };
        for _ in 0..rounds {
            let clock = Stopwatch::start();
            let running = target.start(env, WORKERS).with_context(|| target.to_string())?;
            let start = clock.time();
            let idle = running.memory()?;
            let loaded = load::run(env, &running, &Load::seconds(2))?.memory;
            print(&format!(
                "{target:<28} serves after {} ms, {} KiB, {} KiB after load",
                start.as_millis(),
                idle.resident,
                loaded.resident
            ));
            footprint.start.push(start);
            footprint.idle.push(idle);
            footprint.loaded.push(loaded);
        }
        Ok(footprint)
    }
}
