//! What filters add to a request. That is a twentieth of what a request costs, or less, and a request costs a tenth more or
//! less from one second to the next. So both are measured in slices of a twentieth of a second, one right after the other,
//! hundreds of times; and of one proxy, which has the filters on one of its two routes, so that nothing else differs.
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

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::chain::Chain;
use super::contestant::{Contestant, Peer};
use super::load::{self, Load};
use super::process::Running;
use super::setting::Setting;

/// How long CPU time and requests are counted.
const SLICE: Duration = Duration::from_millis(50);

/// Before and after a slice: a load that is let go needs a moment to flow, and what is under way when it stops to end.
const SETTLING: Duration = Duration::from_millis(4);

/// Connections are open and code is warm after that.
const WARM_UP: Duration = Duration::from_millis(500);

/// Longer than any measurement: a load is ended, it does not end.
const NEVER_SECONDS: u32 = 3_600;

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
    let without = Tap::open(&running, contestant.path())?;
    let with = Tap::open(&running, "/".to_owned())?;
    let slice = |tap: &Tap| -> Result<f64> {
        tap.turn(Signal::CONT)?;
        thread::sleep(SETTLING);
        let (before, served_before) = (running.own_cpu()?, setting.served()?);
        thread::sleep(SLICE);
        let spent = running.own_cpu()?.since(&before);
        let served = setting.served()? - served_before;
        tap.turn(Signal::STOP)?;
        thread::sleep(SETTLING);
        Ok(spent.microseconds / served as f64)
    };
    let pair = |number: usize| -> Result<[f64; 2]> {
        if number.is_multiple_of(2) {
            return Ok([slice(&without)?, slice(&with)?]);
        }
        let with = slice(&with)?;
        Ok([slice(&without)?, with])
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
        let tap = Self { wrk, id };
        thread::sleep(WARM_UP);
        tap.turn(Signal::STOP)?;
        Ok(tap)
    }

    fn turn(&self, signal: Signal) -> Result<()> {
        kill_process(self.id, signal).context("wrk ended before its time")
    }

    /// Ends it. A request that failed is an error.
    fn close(mut self) -> Result<()> {
        self.turn(Signal::INT)?;
        self.turn(Signal::CONT)?;
        let mut said = String::new();
        self.wrk.stdout.take().context("wrk has an output")?.read_to_string(&mut said)?;
        load::all_answered(&said)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.wrk.kill().ok();
        self.wrk.wait().ok();
    }
}
