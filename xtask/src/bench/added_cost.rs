//! The cost that filters add to a request, measured in pairs of time slices.
//!
//! A small filter adds a twentieth of the cost of a request, and that cost varies by a tenth from one second to the
//! next. Requests with and without the filters are therefore measured in alternating slices of 50 ms, hundreds of
//! times. Both go through one proxy, which has the filters on one of its two routes, so that nothing else differs.
//!
//! ```text
//!  wrk, 32 connections, with the filters    ▂▂▂▂    ▂▂▂▂            ▂▂▂▂    ▂▂▂▂
//!  wrk, 32 connections, without         ▂▂▂▂            ▂▂▂▂    ▂▂▂▂            ▂▂▂▂     time ─►
//!                                       └─ a pair ─┘ └─ a pair, the other way around
//! ```

use std::io::Read;
use std::process::Child;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::chain::Chain;
use super::env::BenchEnv;
use super::load::{self, Load};
use super::process::BenchProcess;
use super::target::{BenchTarget, ProxyKind};

/// Length of a slice of load.
const SLICE: Duration = Duration::from_millis(50);

/// Pause after a slice, in which requests in flight complete. Time and requests are read during the pause, because the
/// kernel updates the CPU time of a running thread only every few milliseconds.
const SETTLING: Duration = Duration::from_millis(4);

/// Time until all connections are open and the code is warm.
const WARM_UP: Duration = Duration::from_millis(500);

/// Duration passed to `wrk`: longer than any measurement, because a signal stops the load.
const NEVER_SECONDS: u32 = 900;

/// Attempts to stop a load, each followed by [`SETTLING`].
const MAX_END_ASKS: usize = 500;

/// The cost that a chain adds.
pub(super) struct AddedCost {
    pub(super) chain: Chain,
    /// CPU microseconds per request: without the filters and with them.
    pub(super) pairs: Vec<[f64; 2]>,
}

/// Measures `pairs` pairs of slices, one without the filters and one with them.
pub(super) fn measure(env: &BenchEnv, chain: Chain, pairs: usize) -> Result<AddedCost> {
    // The filters are on the first route, the second route has none.
    let target = BenchTarget { routes: 2, ..BenchTarget::of(ProxyKind::Weir, chain) };
    let running = target.start(env, 1)?;
    let mut without = PausableLoad::open(&running, target.path())?;
    let mut with = PausableLoad::open(&running, "/".to_owned())?;
    let slice = |tap: &mut PausableLoad| -> Result<f64> {
        let (before, served_before) = (running.own_cpu()?, env.served()?);
        tap.send(Signal::CONT)?;
        thread::sleep(SLICE);
        tap.send(Signal::STOP)?;
        thread::sleep(SETTLING);
        let spent = running.own_cpu()?.since(&before);
        let served = env.served()? - served_before - 1; // But for this question.
        ensure!(served > 0, "nothing was served for {} ms", SLICE.as_millis());
        Ok(spent.microseconds / served as f64)
    };
    let pair = |number: usize| -> Result<[f64; 2]> {
        if number.is_multiple_of(2) {
            return Ok([slice(&mut without)?, slice(&mut with)?]);
        }
        let dearer = slice(&mut with)?;
        Ok([slice(&mut without)?, dearer])
    };
    let pairs = (0..pairs).map(pair).collect::<Result<_>>()?;
    without.close()?;
    with.close()?;
    Ok(AddedCost { chain, pairs })
}

/// A load that can be paused and resumed.
struct PausableLoad {
    wrk: Child,
    id: Pid,
}

impl PausableLoad {
    /// Opens the connections, then pauses.
    fn open(to: &BenchProcess, path: String) -> Result<Self> {
        let load = Load { path, ..Load::seconds(NEVER_SECONDS) };
        let wrk = load.command(to).spawn().context("wrk did not start")?;
        let id = i32::try_from(wrk.id()).ok().and_then(Pid::from_raw).context("a process has a number")?;
        let mut tap = Self { wrk, id };
        thread::sleep(WARM_UP);
        tap.send(Signal::STOP)?;
        Ok(tap)
    }

    fn send(&mut self, signal: Signal) -> Result<()> {
        ensure!(self.wrk.try_wait()?.is_none(), "wrk ended before its time: {}", self.finish_report()?);
        Ok(kill_process(self.id, signal)?)
    }

    /// Stops the load. Errors when a request failed.
    fn close(mut self) -> Result<()> {
        self.send(Signal::CONT)?;
        for _ in 0..MAX_END_ASKS {
            thread::sleep(SETTLING);
            if self.wrk.try_wait()?.is_some() {
                return load::answered(&self.finish_report()?).map(drop);
            }
            // Repeats the signal: `wrk`'s sleeping main thread notices only a signal that the kernel delivers to
            // itself.
            kill_process(self.id, Signal::INT)?;
        }
        bail!("wrk does not end when it is interrupted")
    }

    /// Returns the output of `wrk` after it has exited.
    fn finish_report(&mut self) -> Result<String> {
        let mut output = String::new();
        self.wrk.stdout.take().context("wrk has an output")?.read_to_string(&mut output)?;
        self.wrk.stderr.take().context("wrk has an error output")?.read_to_string(&mut output)?;
        Ok(output)
    }
}

impl Drop for PausableLoad {
    fn drop(&mut self) {
        self.wrk.kill().ok();
        self.wrk.wait().ok();
    }
}
