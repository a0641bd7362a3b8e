//! What the proxy takes of the machine beside its work: resident memory with two workers, time from start to ready.

use std::time::Duration;

use anyhow::{Context, Result};

use super::chain::Chain;
use super::contestant::{Contestant, Peer};
use super::load::{self, Load};
use super::process::Memory;
use super::setting::Setting;
use crate::progress::{Clock, say};

/// Workers, as in the budgets.
const WORKERS: usize = 2;

/// One chain's figures, one per run.
pub(super) struct Footprint {
    pub(super) contestant: Contestant,
    /// As soon as it serves.
    pub(super) idle: Vec<Memory>,
    /// After seconds of load.
    pub(super) loaded: Vec<Memory>,
    /// From the start of the process until its first answer.
    pub(super) start: Vec<Duration>,
}

impl Footprint {
    /// Measures the proxy with each chain. The cache is warm: every chain has been served before.
    pub(super) fn of_each(setting: &Setting, rounds: usize) -> Result<Vec<Self>> {
        let chains = [Chain::Empty, Chain::ThreeHeaders, Chain::Four];
        chains.into_iter().map(|chain| Self::of(chain, setting, rounds)).collect()
    }

    fn of(chain: Chain, setting: &Setting, rounds: usize) -> Result<Self> {
        let contestant = Contestant::of(Peer::Weir, chain);
        let mut footprint = Self { contestant, idle: Vec::new(), loaded: Vec::new(), start: Vec::new() };
        for _ in 0..rounds {
            let clock = Clock::start();
            let running = contestant.start(setting, WORKERS).with_context(|| contestant.to_string())?;
            let start = clock.time();
            let idle = running.memory()?;
            let loaded = load::run(setting, &running, &Load::seconds(2))?.memory;
            say(&format!(
                "{contestant:<28} serves after {} ms, {} KiB, {} KiB after load",
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
