//! The memory of an idle connection: resident memory with ten thousand of them, and before. Each has served a request.
//!
//! Memory of sockets is the kernel's and does not count. A proxy starts anew for each measurement, because allocators
//! reuse the memory of closed connections.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::chain::Chain;
use super::client::{Connection, REQUEST};
use super::env::BenchEnv;
use super::load::{self, Load};
use super::target::{BenchTarget, ProxyKind};
use crate::progress::print;

/// Connections that are open at once.
pub(super) const CONNECTIONS: u32 = 10_000;

/// Connections beside the idle ones: those of `wrk`.
const SPARE_CONNECTIONS: u32 = 200;

/// Open files of a process beside its connections.
const SPARE_FILES: u64 = 1_000;

/// Time without requests before memory is read.
const SETTLING: Duration = Duration::from_secs(1);

/// Measurements of one proxy.
pub(super) struct IdleRow {
    pub(super) target: BenchTarget,
    pub(super) samples: Vec<IdleSample>,
}

/// Resident memory of a proxy, in KiB.
pub(super) struct IdleSample {
    /// After some load, without connections.
    pub(super) before: u64,
    /// With all idle connections.
    pub(super) with: u64,
}

impl IdleSample {
    /// Returns the KiB of one connection.
    pub(super) fn per_connection(&self) -> f64 {
        (self.with as f64 - self.before as f64) / f64::from(CONNECTIONS)
    }
}

/// Measures each proxy `starts` times, in turns.
pub(super) fn measure(env: &BenchEnv, starts: usize) -> Result<Vec<IdleRow>> {
    raise_open_files()?;
    let max_connections = CONNECTIONS + SPARE_CONNECTIONS;
    let target = |peer| BenchTarget { max_connections, ..BenchTarget::of(peer, Chain::Empty) };
    let mut rows = ProxyKind::ALL.map(|peer| IdleRow { target: target(peer), samples: Vec::new() });
    for start in 1..=starts {
        for IdleRow { target, samples } in &mut rows {
            let sample = sample(env, *target).with_context(|| format!("{target}, idle connections"))?;
            let kib = sample.per_connection();
            print(&format!("{start}/{starts} {target}, {CONNECTIONS} idle connections: {kib:.2} KiB each"));
            samples.push(sample);
        }
    }
    Ok(rows.into())
}

fn sample(env: &BenchEnv, target: BenchTarget) -> Result<IdleSample> {
    let running = target.start(env, 1)?;
    load::run(env, &running, &Load::seconds(1))?;
    thread::sleep(SETTLING);
    let before = running.memory()?.resident;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(running.address())?;
        connection.send(&REQUEST.concat())?;
        connection.receive()?;
        connections.push(connection);
    }
    thread::sleep(SETTLING);
    let with = running.memory()?.resident;
    connections.iter().try_for_each(Connection::ensure_idle)?;
    Ok(IdleSample { before, with })
}

/// Raises the limit of open files, which the proxies inherit, to the highest that is allowed.
fn raise_open_files() -> Result<()> {
    let allowed = getrlimit(Resource::Nofile).maximum;
    let needed = u64::from(CONNECTIONS + SPARE_CONNECTIONS) + SPARE_FILES;
    ensure!(allowed.is_none_or(|allowed| allowed >= needed), "{needed} open files are not allowed: `ulimit -Hn`");
    Ok(setrlimit(Resource::Nofile, Rlimit { current: allowed, maximum: allowed })?)
}
