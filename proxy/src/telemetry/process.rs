//! Statistics of this process from the kernel: memory, CPU time, open files, threads. Read from `/proc/self` at each
//! scrape; `None` on a system without it.

use std::fs;

/// The resource usage of this process.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct ProcessStats {
    /// Memory in use, in bytes.
    pub(crate) resident_bytes: Option<u64>,
    /// CPU time used, in seconds.
    pub(crate) cpu_seconds: Option<f64>,
    /// Open file descriptors.
    pub(crate) open_files: Option<u64>,
    /// Threads.
    pub(crate) threads: Option<u64>,
}

impl ProcessStats {
    /// Returns the current usage.
    pub(crate) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            resident_bytes: line(&status, "VmRSS:").map(|kibibytes| kibibytes * 1024),
            cpu_seconds: cpu_seconds(),
            open_files: fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64),
            threads: line(&status, "Threads:"),
        }
    }
}

fn line(status: &str, key: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u32::try_from(time.tv_sec).ok()?;
    let nanos = u32::try_from(time.tv_nsec).ok()?;
    Some(f64::from(seconds) + f64::from(nanos) / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_parsed() {
        assert_eq!(line("Name:\tx\nVmRSS:\t    1234 kB\n", "VmRSS:"), Some(1234));
        let stats = ProcessStats::now();
        assert!(stats.resident_bytes.is_some_and(|bytes| bytes > 100_000), "{stats:?}");
        assert!(stats.open_files.is_some_and(|files| files >= 3) && stats.threads.is_some_and(|threads| threads >= 1));
    }
}
