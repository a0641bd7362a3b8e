//! What filters add to a request. A small one adds a twentieth of what a request costs, which is a tenth more or less from one
//! second to the next. So requests with the filters and without are measured in slices of a twentieth of a second, one right
//! after the other, hundreds of times; and of one proxy, which has the filters on one of its two routes, so that nothing
//! else differs.
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
use super::contestant::{Contestant, Peer};
use super::load::{self, Load};
use super::process::Running;
use super::setting::Setting;

/// How long a load flows.
const SLICE: Duration = Duration::from_millis(50);

/// After a slice: what is under way ends. Time and requests are counted while nothing flows; the kernel brings the CPU time of a
/// thread that runs up to date once in some milliseconds only.
const SETTLING: Duration = Duration::from_millis(4);

/// Connections are open and code is warm after that.
const WARM_UP: Duration = Duration::from_millis(500);

/// Longer than any measurement: a load is ended, it does not end.
const NEVER_SECONDS: u32 = 900;

/// How often a load is asked to end, each time for [`SETTLING`].
const MAX_END_ASKS: usize = 500;

/// What a chain adds.
pub(super) struct Added {
    pub(super) chain: Chain,
    /// CPU microseconds a request, without the filters and with them.
    pub(super) pairs: Vec<[f64; 2]>,
}

/// So many pairs of slices, one without the filters and one with them.
pub(super) fn measure(setting: &Setting, chain: Chain, pairs: usize) -> Result<Added> {
    // The filters are on the first route, the second one has none.
    let contestant = Contestant { routes: 2, ..Contestant::of(Peer::Weir, chain) };
    let running = contestant.start(setting, 1)?;
    let mut without = Tap::open(&running, contestant.path())?;
    let mut with = Tap::open(&running, "/".to_owned())?;
    let slice = |tap: &mut Tap| -> Result<f64> {
        let (before, served_before) = (running.own_cpu()?, setting.served()?);
        tap.send(Signal::CONT)?;
        thread::sleep(SLICE);
        tap.send(Signal::STOP)?;
        thread::sleep(SETTLING);
        let spent = running.own_cpu()?.since(&before);
        let served = setting.served()? - served_before - 1; // But for this question.
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
    Ok(Added { chain, pairs })
}

/// A load that can be stopped and let go.
struct Tap {
    wrk: Child,
    id: Pid,
}

impl Tap {
    /// Opens its connections, then stops.
    fn open(to: &Running, path: String) -> Result<Self> {
        let load = Load { path, ..Load::seconds(NEVER_SECONDS) };
        let wrk = load.command(to).spawn().context("wrk did not start")?;
        let id = i32::try_from(wrk.id()).ok().and_then(Pid::from_raw).context("a process has a number")?;
        let mut tap = Self { wrk, id };
        thread::sleep(WARM_UP);
        tap.send(Signal::STOP)?;
        Ok(tap)
    }

    fn send(&mut self, signal: Signal) -> Result<()> {
        ensure!(self.wrk.try_wait()?.is_none(), "wrk ended before its time: {}", self.said()?);
        Ok(kill_process(self.id, signal)?)
    }

    /// Ends it. A request that failed is an error.
    fn close(mut self) -> Result<()> {
        self.send(Signal::CONT)?;
        for _ in 0..MAX_END_ASKS {
            thread::sleep(SETTLING);
            if self.wrk.try_wait()?.is_some() {
                return load::answered(&self.said()?).map(drop);
            }
            // Again and again: the thread that sleeps until the end notices only a signal that it takes itself.
            kill_process(self.id, Signal::INT)?;
        }
        bail!("wrk does not end when it is interrupted")
    }

    /// All that it has printed, once it has ended.
    fn said(&mut self) -> Result<String> {
        let mut said = String::new();
        self.wrk.stdout.take().context("wrk has an output")?.read_to_string(&mut said)?;
        self.wrk.stderr.take().context("wrk has an error output")?.read_to_string(&mut said)?;
        Ok(said)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.wrk.kill().ok();
        self.wrk.wait().ok();
    }
}
