//! A running program and its child processes: CPU time and memory from `/proc`, and a clean shutdown.

use std::collections::HashMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use weir_sdk::testing::http::{self, Message};

/// Interval between two checks of a condition.
const POLL: Duration = Duration::from_millis(1);

/// Half a minute for a start: Envoy compiles its filter within it.
const MAX_START_POLLS: usize = 30_000;

/// Five seconds for a graceful exit.
const MAX_END_POLLS: usize = 5_000;

/// A proxy or origin process. Dropping it stops the process.
pub(super) struct BenchProcess {
    child: Child,
    address: SocketAddr,
    folder: PathBuf,
}

/// Memory of a process tree, in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    /// Resident set size.
    pub(super) resident: u64,
    /// Proportional set size: shared pages are divided among their processes.
    pub(super) proportional: u64,
}

/// CPU time by thread.
#[derive(Debug, Default)]
pub(super) struct CpuTimes(HashMap<PathBuf, CpuTime>);

/// CPU time of a thread. The total is exact; the kernel samples the division into user and system every 10 ms.
#[derive(Debug, Default, Clone, Copy)]
struct CpuTime {
    nanoseconds: u64,
    user_ticks: u64,
    kernel_ticks: u64,
}

/// CPU time between two readings.
#[derive(Debug, Clone, Copy)]
pub(super) struct CpuUsed {
    pub(super) microseconds: f64,
    /// Share of it in the kernel, 0 to 1.
    pub(super) in_kernel: f64,
}

impl CpuTimes {
    /// Returns the CPU time since `before`, of the threads that still exist.
    pub(super) fn since(&self, before: &Self) -> CpuUsed {
        let sum = |of: fn(&CpuTime) -> u64| {
            let spent = |(thread, now)| of(now) - before.0.get(thread).map_or(0, of);
            self.0.iter().map(spent).sum::<u64>() as f64
        };
        let (user, kernel) = (sum(|time| time.user_ticks), sum(|time| time.kernel_ticks));
        CpuUsed { microseconds: sum(|time| time.nanoseconds) / 1e3, in_kernel: kernel / (user + kernel).max(1.0) }
    }
}

impl CpuTime {
    /// Reads `/proc/<id>/task/<id>`. `None` when the thread has exited in the meantime.
    fn of(thread: &Path) -> Result<Option<Self>> {
        let (Ok(ran), Ok(stat)) =
            (fs::read_to_string(thread.join("schedstat")), fs::read_to_string(thread.join("stat")))
        else {
            return Ok(None);
        };
        let number = |field: Option<&str>| field.and_then(|field| field.parse().ok());
        let ticks = |position: usize| number(after_name(&stat).get(position).copied());
        Ok(Some(Self {
            nanoseconds: number(ran.split(' ').next()).context("the kernel tells no CPU time in schedstat")?,
            user_ticks: ticks(11).context("the kernel tells no user time in stat")?,
            kernel_ticks: ticks(12).context("the kernel tells no kernel time in stat")?,
        }))
    }
}

impl BenchProcess {
    /// Starts the program and waits until a request to `address` returns 200. `folder` receives its logs.
    pub(super) fn start(command: Command, address: SocketAddr, folder: &Path) -> Result<Self> {
        Self::start_until(command, address, folder, |address| {
            let request =
                Message::request("GET", "/").with_header("host", "bench").with_header("x-api-key", "bench-key");
            http::send(address, &request).is_ok_and(|answer| answer.status() == 200)
        })
    }

    /// Starts the program and waits until it accepts connections at `address`. `folder` receives its logs.
    pub(super) fn start_listening(command: Command, address: SocketAddr, folder: &Path) -> Result<Self> {
        Self::start_until(command, address, folder, |address| TcpStream::connect(address).is_ok())
    }

    fn start_until(
        mut command: Command,
        address: SocketAddr,
        folder: &Path,
        is_ready: impl Fn(SocketAddr) -> bool,
    ) -> Result<Self> {
        let program = PathBuf::from(command.get_program());
        let child = command.spawn().with_context(|| format!("{} did not start", program.display()))?;
        let mut running = Self { child, address, folder: folder.to_owned() };
        for _ in 0..MAX_START_POLLS {
            if let Some(status) = running.child.try_wait()? {
                let output = fs::read_to_string(folder.join("err.log")).unwrap_or_default();
                bail!("{} ended with {status}: {output}", program.display());
            }
            if is_ready(address) {
                return Ok(running);
            }
            thread::sleep(POLL);
        }
        bail!("{} does not answer; its logs are in {}", program.display(), folder.display())
    }

    /// Returns the process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the folder of its logs.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the address on which it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the CPU time so far of each thread of the process and its children.
    pub(super) fn cpu(&self) -> Result<CpuTimes> {
        Self::cpu_of(&self.tree()?)
    }

    /// Returns the CPU time without that of the children, which is much faster to read.
    pub(super) fn own_cpu(&self) -> Result<CpuTimes> {
        Self::cpu_of(&[self.id()])
    }

    fn cpu_of(processes: &[u32]) -> Result<CpuTimes> {
        let mut times = CpuTimes::default();
        for id in processes {
            for thread in fs::read_dir(format!("/proc/{id}/task"))? {
                let thread = thread?.path();
                if let Some(time) = CpuTime::of(&thread)? {
                    times.0.insert(thread, time);
                }
            }
        }
        Ok(times)
    }

    /// Returns the memory of the process and its children.
    pub(super) fn memory(&self) -> Result<Memory> {
        let mut memory = Memory::default();
        for id in self.tree()? {
            let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
            let kib = |name: &str| {
                let line = rollup.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0)
            };
            memory.resident += kib("Rss:");
            memory.proportional += kib("Pss:");
        }
        Ok(memory)
    }

    /// Returns the ids of the process and all its descendants.
    fn tree(&self) -> Result<Vec<u32>> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { continue };
            let parent = after_name(&stat).get(1).and_then(|field| field.parse::<u32>().ok()).unwrap_or(0);
            parents.push((id, parent));
        }
        let mut tree = vec![self.child.id()];
        let mut next = 0;
        while let Some(&id) = tree.get(next) {
            tree.extend(parents.iter().filter(|(_, parent)| *parent == id).map(|(child, _)| *child));
            next += 1;
        }
        Ok(tree)
    }
}

impl Drop for BenchProcess {
    /// SIGTERM first, so that a master process stops its workers.
    fn drop(&mut self) {
        if let Some(id) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(id, Signal::TERM).ok();
        }
        for _ in 0..MAX_END_POLLS {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(POLL);
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Returns the fields after the program's name, which may contain any character.
fn after_name(stat: &str) -> Vec<&str> {
    stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect()
}
