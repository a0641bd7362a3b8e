//! What a request costs in instructions, counted by valgrind in user space: the same in each run to a hundredth, where
//! time varies by a fifth on a machine that is shared. The difference of two counts is what a filter adds.
//!
//! Two runs of different length, so that what the start takes is not counted.

use anyhow::{Context, Result, bail};

use super::chain::Chain;
use super::contestant::{Contestant, Peer};
use super::load::{self, Load};
use super::setting::Setting;
use crate::progress::say;
use std::fs;
use std::process::Command;

/// Seconds of the two runs.
const SECONDS: [u32; 2] = [1, 4];

/// Under valgrind a VM that starts slowly may end the process: it hides the memory in which the clock is looked up.
const ATTEMPTS: usize = 8;

/// One chain's count.
pub(super) struct Count {
    pub(super) chain: Chain,
    /// For each request; `NaN` when it could not be counted.
    pub(super) instructions: f64,
}

impl Count {
    /// Counts for Weir with each chain. The modules are compiled: every chain has been served before.
    pub(super) fn of_each(setting: &Setting) -> Vec<Self> {
        let chains = [Chain::Empty, Chain::ThreeHeaders].into_iter().chain(Chain::ALONE).chain([Chain::Four]);
        chains.map(|chain| Self::of(chain, setting)).collect()
    }

    fn of(chain: Chain, setting: &Setting) -> Self {
        let contestant = Contestant::of(Peer::Weir, chain);
        let [short, long] = SECONDS.map(|seconds| count(contestant, setting, seconds));
        let instructions = match (short, long) {
            (Ok((few, before)), Ok((many, after))) => (after - before) / (many - few),
            (Err(error), _) | (_, Err(error)) => {
                say(&format!("not counted: {error:#}"));
                f64::NAN
            }
        };
        say(&format!("{contestant:<28} {instructions:.0} instructions a request"));
        Self { chain, instructions }
    }
}

/// Requests served, and instructions from the start of the process to its end.
fn count(contestant: Contestant, setting: &Setting, seconds: u32) -> Result<(f64, f64)> {
    for _ in 0..ATTEMPTS {
        let Ok(running) = contestant.start_as(setting, 1, |command| under_valgrind(&command)) else { continue };
        let Ok(sample) = load::run(setting, &running, &Load::seconds(seconds)) else { continue };
        let log = running.folder().join("err.log");
        drop(running); // It counts until its end.
        let text = fs::read_to_string(&log).with_context(|| log.display().to_string())?;
        if let Some(instructions) = counted(&text) {
            return Ok((sample.requests, instructions));
        }
    }
    bail!("{contestant} did not run under valgrind, {ATTEMPTS} times")
}

fn under_valgrind(command: &Command) -> Command {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]);
    valgrind.arg(command.get_program()).args(command.get_args());
    valgrind
}

/// `==17== I   refs:      36,550,159`, but not of a run that has crashed.
fn counted(text: &str) -> Option<f64> {
    let digits = text.rsplit_once("refs:")?.1.lines().next()?.trim().replace(',', "");
    digits.parse().ok().filter(|_| !text.contains("Process terminating"))
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn what_valgrind_prints_is_understood() {
        assert_eq!(counted("==17== \n==17== I   refs:      36,550,159\n"), Some(36_550_159.0));
        assert_eq!(counted("==17== Process terminating with SIGSEGV\n==17== I   refs:      36\n"), None);
        assert_eq!(counted(""), None);
    }
}
