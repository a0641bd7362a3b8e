//! `cargo xtask bench --compare BEFORE AFTER`: two builds of the proxy in turns, to decide on a change. Machines drift,
//! so the ratio is the median of the ratios of turns that follow each other.

use anyhow::{Context, Result};

use super::chain::Chain;
use super::env::{BenchEnv, Proxy};
use super::load::{self, Load, Sample};
use super::micro::median;
use super::process::BenchProcess;
use super::target::{BenchTarget, ProxyKind};
use crate::progress::print;
use crate::workspace::Metadata;

/// Turns of each build.
const ROUNDS: usize = 12;

/// Numbers of connections.
const CONNECTIONS: [u32; 3] = [32, 100, 1_000];

/// The chains that are measured.
const CHAINS: [Chain; 2] = [Chain::Empty, Chain::Four];

/// One build, which serves a chain.
struct Side {
    env: BenchEnv,
    running: BenchProcess,
}

impl Side {
    fn start(name: &str, proxy: &Proxy, chain: Chain) -> Result<Self> {
        let folder = Metadata::read()?.target()?.join("bench").join(name);
        let env = BenchEnv::prepare_in(proxy.clone(), folder)?;
        let running = BenchTarget::of(ProxyKind::Weir, chain).start(&env, 1).with_context(|| name.to_owned())?;
        Ok(Self { env, running })
    }

    fn sample(&self, connections: u32) -> Result<Sample> {
        load::run(&self.env, &self.running, &Load { connections, ..Load::seconds(2) })
    }
}

/// Prints the cost of a request in both builds, for each chain and number of connections.
pub(super) fn run(before: &Proxy, after: &Proxy) -> Result<()> {
    for chain in CHAINS {
        let sides = [Side::start("before", before, chain)?, Side::start("after", after, chain)?];
        for connections in CONNECTIONS {
            let mut pairs = Vec::new();
            for round in 0..=ROUNDS {
                let pair = [sides[0].sample(connections)?, sides[1].sample(connections)?];
                if round > 0 {
                    pairs.push(pair); // The first was cold.
                }
            }
            print(&line(chain, connections, &pairs));
        }
    }
    Ok(())
}

fn line(chain: Chain, connections: u32, pairs: &[[Sample; 2]]) -> String {
    let side = |index: usize, of: fn(&Sample) -> f64| median(pairs.iter().map(|pair| of(&pair[index])).collect());
    let ratio = |of: fn(&Sample) -> f64| median(pairs.iter().map(|pair| of(&pair[1]) / of(&pair[0])).collect());
    let user = |sample: &Sample| sample.cpu - sample.kernel;
    let cost = |index| format!("{:.1} + {:.1} us", side(index, |sample| sample.kernel), side(index, user));
    let memory = |index| side(index, |sample| sample.memory.resident as f64 / 1024.0);
    format!(
        "{}, {connections} connections: kernel + user {} before, {} after; ratio of user {:.2}, of all {:.2}; {:.0} and {:.0} MiB",
        if chain == Chain::Empty { "no filters" } else { chain.name() },
        cost(0),
        cost(1),
        ratio(user),
        ratio(|sample| sample.cpu),
        memory(0),
        memory(1),
    )
}
