//! Instructions per request in user space, counted by callgrind. They repeat within a hundredth, where time varies by a
//! fifth on a shared machine. The difference of two counts is the cost of a filter.
//!
//! Only the worker's thread counts: timers of other threads would count a hundred times over in a process that is
//! slowed down so much. Two loads of different length cancel the cost of opening connections.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::chain::Chain;
use super::env::BenchEnv;
use super::load::{self, Load};
use super::process::BenchProcess;
use super::target::{BenchTarget, ProxyKind};
use crate::progress::print;

/// Seconds of the two loads.
const SECONDS: [u32; 2] = [1, 4];

/// A VM that starts slowly may abort the process under valgrind, which hides the vDSO; a longer start limit avoids it.
const ATTEMPTS: usize = 8;

/// The main thread, which is not a worker.
const MAIN_THREAD: &str = "01";

/// The count of one chain.
pub(super) struct InstructionCount {
    pub(super) chain: Chain,
    /// Instructions per request; `NaN` when they could not be counted.
    pub(super) instructions: f64,
}

impl InstructionCount {
    /// Counts for Weir with each chain. The modules are already compiled: every chain has served before.
    pub(super) fn of_each(env: &BenchEnv) -> Vec<Self> {
        Chain::counted().map(|chain| Self::of(chain, env)).collect()
    }

    fn of(chain: Chain, env: &BenchEnv) -> Self {
        let target = BenchTarget::of(ProxyKind::Weir, chain);
        let instructions = count(target, env).unwrap_or_else(|error| {
            print(&format!("not counted: {error:#}"));
            f64::NAN
        });
        print(&format!("{target:<28} {instructions:.0} instructions a request"));
        Self { chain, instructions }
    }
}

fn count(target: BenchTarget, env: &BenchEnv) -> Result<f64> {
    for _ in 0..ATTEMPTS {
        let counts = env.empty_folder("instructions")?;
        let under = |command: Command| under_valgrind(&command, &counts);
        let Ok(running) = target.start_as(env, 1, under) else { continue };
        let Ok(requests) = serve(env, &running) else { continue };
        let log = running.folder().join("err.log");
        drop(running); // It writes the last counts when it ends.
        if fs::read_to_string(&log)?.contains("Process terminating") {
            continue;
        }
        let [few, many] = requests;
        let (before, after) = (worker(&counts, "counts.1-")?, worker(&counts, "counts-")?);
        return Ok((after - before) / (many - few));
    }
    bail!("{target} did not run under valgrind, {ATTEMPTS} times")
}

/// Sends both loads after a warm-up; returns the number of requests of each.
fn serve(env: &BenchEnv, running: &BenchProcess) -> Result<[f64; 2]> {
    let load = |seconds| Ok::<_, anyhow::Error>(load::run(env, running, &Load::seconds(seconds))?.requests);
    load(1)?;
    control("--zero", running)?;
    let few = load(SECONDS[0])?;
    control("--dump", running)?;
    Ok([few, load(SECONDS[1])?])
}

/// Resets valgrind's counters, or dumps and resets them.
fn control(order: &str, running: &BenchProcess) -> Result<()> {
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

/// Returns the instructions of the busiest thread other than the first: the one worker.
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

/// Parses `summary: 36550159`.
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
