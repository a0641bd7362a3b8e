//! Load by `wrk`, with a script that checks each response.

use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// End of the script: counts wrong responses and prints the statistics in one line. `request` and `is_right` precede
/// it.
const REPORT_SCRIPT: &str = r#"
wrong = 0
function response(status, headers, body)
    if not is_right(status, headers, body) then
        wrong = wrong + 1
        if wrong <= 5 then print("wrong: " .. status .. " " .. (headers["x-route"] or "-") .. " " .. body) end
    end
end
local threads = {}
function setup(thread) table.insert(threads, thread) end
function done(summary, latency, requests)
    local wrong = 0
    for _, thread in ipairs(threads) do wrong = wrong + thread:get("wrong") end
    local broken = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
    print("stats " .. summary.requests .. " " .. wrong .. " " .. broken .. " " ..
        string.format("%d %d %d", latency:percentile(50), latency:percentile(99), latency.max))
end
"#;

/// A running `wrk`.
pub(crate) struct Load {
    child: Child,
    _script: TempDir,
}

/// Statistics of a load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoadStats {
    pub(crate) requests: u64,
    /// Responses for which the script's `is_right` is false.
    pub(crate) wrong: u64,
    /// Connections that broke, and requests without a response.
    pub(crate) broken: u64,
    #[expect(dead_code, reason = "printed")]
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
}

impl Load {
    /// Starts a load. `script` defines `request()` and `is_right(status, headers, body)` in Lua.
    pub(crate) fn start(address: SocketAddr, connections: usize, script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("load.lua");
        fs::write(&file, format!("{script}\n{REPORT_SCRIPT}")).unwrap();
        let child = Command::new("wrk")
            .args(["--threads", "1", "--connections", &connections.to_string(), "--duration", "3600s", "--script"])
            .arg(&file)
            .arg(format!("http://{address}/"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("wrk starts; `cargo xtask test` installs it");
        Self { child, _script: folder }
    }

    /// Stops the load and returns its statistics.
    pub(crate) async fn stop(self) -> LoadStats {
        let id = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("wrk runs");
        kill_process(id, Signal::INT).unwrap();
        let output = harness::with_deadline("the end of wrk", self.child.wait_with_output()).await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for line in text.lines().filter(|line| line.starts_with("wrong: ")) {
            println!("{line}");
        }
        let line = text.lines().find_map(|line| line.strip_prefix("stats ")).unwrap_or_else(|| panic!("{text}"));
        let stats: Vec<u64> = line.split(' ').map(|figure| figure.parse().unwrap()).collect();
        let time = |index: usize| Duration::from_micros(stats[index]);
        LoadStats { requests: stats[0], wrong: stats[1], broken: stats[2], p50: time(3), p99: time(4), max: time(5) }
    }
}
