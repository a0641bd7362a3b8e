//! What a request costs in instructions, counted by valgrind in user space: the same in each run to a hundredth, where
//! time varies by a fifth on a machine that is shared. The difference of two counts is what a filter adds.
//!
//! The worker's thread alone is counted: what other threads do by the clock would be counted a hundred times over in a
//! process that is slowed down so much. Two loads of different length, so that opening connections is not counted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::chain::Chain;
use super::contestant::{Contestant, Peer};
use super::load::{self, Load};
use super::process::Running;
use super::setting::Setting;
use crate::progress::say;

/// Seconds of the two loads.
const SECONDS: [u32; 2] = [1, 4];

/// Under valgrind a VM that starts slowly may end the process: it hides the memory in which the clock is looked up.
const ATTEMPTS: usize = 8;

/// The thread that everything begins with; no worker's.
const MAIN_THREAD: &str = "01";

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
        let instructions = count(contestant, setting).unwrap_or_else(|error| {
            say(&format!("not counted: {error:#}"));
            f64::NAN
        });
        say(&format!("{contestant:<28} {instructions:.0} instructions a request"));
        Self { chain, instructions }
    }
}

fn count(contestant: Contestant, setting: &Setting) -> Result<f64> {
    for _ in 0..ATTEMPTS {
        let counts = setting.empty_folder("instructions")?;
        let under = |command: Command| under_valgrind(&command, &counts);
        let Ok(running) = contestant.start_as(setting, 1, under) else { continue };
        let Ok(requests) = serve(setting, &running) else { continue };
        let log = running.folder().join("err.log");
        drop(running); // It writes the last counts when it ends.
        if fs::read_to_string(&log)?.contains("Process terminating") {
            continue;
        }
        let [few, many] = requests;
        let (before, after) = (worker(&counts, "counts.1-")?, worker(&counts, "counts-")?);
        return Ok((after - before) / (many - few));
    }
    bail!("{contestant} did not run under valgrind, {ATTEMPTS} times")
}

/// Both loads, after one to warm up; how many requests each had.
fn serve(setting: &Setting, running: &Running) -> Result<[f64; 2]> {
    let load = |seconds| Ok::<_, anyhow::Error>(load::run(setting, running, &Load::seconds(seconds))?.requests);
    load(1)?;
    control("--zero", running)?;
    let few = load(SECONDS[0])?;
    control("--dump", running)?;
    Ok([few, load(SECONDS[1])?])
}

/// Has valgrind set its counts to nothing, or write them down and begin anew.
fn control(order: &str, running: &Running) -> Result<()> {
    let mut control = Command::new("callgrind_control");
    let output =
        control.arg(order).arg(running.id().to_string()).output().context("callgrind_control did not start")?;
    ensure!(output.status.success(), "callgrind_control: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn under_valgrind(command: &Command, counts: &Path) -> Command {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--separate-threads=yes"]);
    valgrind.arg(format!("--callgrind-out-file={}", counts.join("counts").display()));
    valgrind.arg(command.get_program()).args(command.get_args());
    valgrind
}

/// What the busiest thread but the first has executed: the one worker.
fn worker(counts: &Path, prefix: &str) -> Result<f64> {
    let mut most = None;
    for entry in fs::read_dir(counts)? {
        let place: PathBuf = entry?.path();
        let name = place.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.strip_prefix(prefix).is_some_and(|thread| thread != MAIN_THREAD) {
            let text = fs::read(&place).with_context(|| place.display().to_string())?;
            most = most.max(executed(&String::from_utf8_lossy(&text)));
        }
    }
    let most = most.with_context(|| format!("valgrind has left no {prefix} in {}", counts.display()))?;
    Ok(most as f64)
}

/// `summary: 36550159`
fn executed(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("summary: ")).and_then(|count| count.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_thread_but_the_first_counts() {
        assert_eq!(executed("version: 1\nthread: 3\nsummary: 36550159\n\nfn=(1) a\n"), Some(36_550_159));
        assert_eq!(executed(""), None);
        let folder = std::env::temp_dir().join(format!("weir-counts-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for (name, count) in [("counts-01", 90), ("counts-02", 5), ("counts-03", 70), ("counts.1-03", 80)] {
            fs::write(folder.join(name), format!("summary: {count}\n")).unwrap();
        }
        assert_eq!(worker(&folder, "counts-").unwrap(), 70.0);
        assert_eq!(worker(&folder, "counts.1-").unwrap(), 80.0);
        fs::remove_dir_all(&folder).unwrap();
        assert!(worker(&folder, "counts-").is_err());
    }
}
