//! Load from `wrk`, and its cost in the proxy.

use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::env::BenchEnv;
use super::process::{BenchProcess, Memory};
use crate::progress::Stopwatch;

/// The measurement ends this long before the load, so that closing connections does not count. Counters are read within
/// it, which takes tens of milliseconds on a busy machine.
const CLOSING: Duration = Duration::from_millis(100);

/// Time for opening connections of `h2load`.
const HTTP2_OPENING: Duration = Duration::from_millis(200);

/// The requests to send.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) seconds: u32,
    pub(super) connections: u32,
    pub(super) path: String,
    /// A script of `wrk` in Lua that writes the requests; without one they are GETs.
    pub(super) script: Option<PathBuf>,
}

impl Load {
    /// 32 connections, as in all published figures.
    pub(super) fn seconds(seconds: u32) -> Self {
        Self { seconds, connections: 32, path: "/".to_owned(), script: None }
    }

    /// Time for opening connections on both sides of the proxy, before the measurement.
    fn opening(&self) -> Duration {
        Duration::from_millis(100) + self.connections * Duration::from_micros(700)
    }

    /// Time from the start of the load to the end of the measurement.
    fn counted_until(&self) -> Duration {
        Duration::from_secs(self.seconds.into()).saturating_sub(CLOSING)
    }

    /// Starts `wrk`, which reports on its standard output.
    pub(super) fn command(&self, to: &BenchProcess) -> Command {
        let mut wrk = Command::new("wrk");
        wrk.args(["--threads", "1", "--connections", &self.connections.to_string()]);
        wrk.args(["--duration", &format!("{}s", self.seconds), "--latency"]);
        wrk.args(["--header", "x-api-key: bench-key", "--header", "user-agent: bench"]);
        if let Some(script) = &self.script {
            wrk.arg("--script").arg(script);
        }
        wrk.arg(format!("http://{}{}", to.address(), self.path));
        wrk.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        wrk
    }
}

/// The result of one run of `wrk`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Requests that were answered, from first to last.
    pub(super) requests: f64,
    /// CPU microseconds of the proxy per request, while all connections were open.
    pub(super) cpu: f64,
    /// The part of them in the kernel.
    pub(super) kernel: f64,
    /// Requests per second.
    pub(super) throughput: f64,
    /// Median latency, in milliseconds. `NaN` when it is not measured.
    pub(super) p50: f64,
    /// 99th percentile of the latency, in milliseconds. `NaN` when it is not measured.
    pub(super) p99: f64,
    /// Memory of the proxy under load.
    pub(super) memory: Memory,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, throughput, p50, p99, memory, .. } = self;
        let mib = memory.resident as f64 / 1024.0;
        write!(f, "{cpu:6.1} us CPU  {throughput:7.0} requests/s  ")?;
        if !p99.is_nan() {
            write!(f, "p50 {p50:.2} ms  p99 {p99:.2} ms  ")?;
        }
        write!(f, "{mib:5.1} MiB")
    }
}

/// Sends requests for some seconds. Errors when a request fails.
pub(super) fn run(env: &BenchEnv, running: &BenchProcess, load: &Load) -> Result<Sample> {
    let clock = Stopwatch::start();
    let mut wrk = load.command(running).spawn().context("wrk did not start")?;
    thread::sleep(load.opening());
    let counted = count(env, running, load.counted_until().saturating_sub(clock.time()))?;
    ensure!(wrk.try_wait()?.is_none(), "wrk ended before its time");
    let output = wrk.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "wrk: {text}{}", String::from_utf8_lossy(&output.stderr));
    let requests = answered(&text)?;
    Ok(Sample {
        requests,
        throughput: number_after(&text, "Requests/sec:").context("wrk prints its throughput")?,
        p50: duration_after(&text, "50%").context("wrk prints its latencies")?,
        p99: duration_after(&text, "99%").context("wrk prints its latencies")?,
        ..counted
    })
}

/// Sends requests by `h2load` over HTTP/2 for some seconds. Errors when a request fails.
pub(super) fn run_http2(env: &BenchEnv, running: &BenchProcess, load: &Http2Load) -> Result<Sample> {
    let mut h2load = Command::new("h2load");
    h2load.args(["-c", "8", "-m", "8", "-D", &load.seconds.to_string(), "-H", "x-api-key: bench-key"]);
    if let Some(message) = &load.message {
        h2load.arg("-d").arg(message).args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
    }
    h2load.arg(format!("http://{}{}", running.address(), load.path));
    h2load.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let clock = Stopwatch::start();
    let mut h2load = h2load.spawn().context("h2load did not start")?;
    thread::sleep(HTTP2_OPENING);
    let until = Duration::from_secs(load.seconds.into()).saturating_sub(CLOSING);
    let counted = count(env, running, until.saturating_sub(clock.time()))?;
    ensure!(h2load.try_wait()?.is_none(), "h2load ended before its time");
    let output = h2load.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "h2load: {text}{}", String::from_utf8_lossy(&output.stderr));
    ensure!(
        text.contains(" 0 failed, 0 errored, 0 timeout") && text.contains(" 0 3xx, 0 4xx, 0 5xx"),
        "h2load: {text}"
    );
    Ok(counted)
}

/// Requests over HTTP/2: eight connections with eight streams each.
pub(super) struct Http2Load {
    pub(super) seconds: u32,
    pub(super) path: &'static str,
    /// The file with the message of a call of gRPC; a GET without it.
    pub(super) message: Option<PathBuf>,
}

/// Counts CPU time and requests for some time, while load is sent by others. Latencies are `NaN`.
pub(super) fn count(env: &BenchEnv, running: &BenchProcess, time: Duration) -> Result<Sample> {
    count_by(running, time, || env.served())
}

/// Counts CPU time for some time, and the requests that `served` has counted so far. Latencies are `NaN`.
pub(super) fn count_by(running: &BenchProcess, time: Duration, served: impl Fn() -> Result<u64>) -> Result<Sample> {
    let (before, served_before) = (running.cpu()?, served()?);
    thread::sleep(time);
    let spent = running.cpu()?.since(&before);
    let requests = (served()? - served_before) as f64;
    let cpu = spent.microseconds / requests;
    Ok(Sample {
        requests,
        cpu,
        kernel: cpu * spent.in_kernel,
        throughput: requests / time.as_secs_f64(),
        p50: f64::NAN,
        p99: f64::NAN,
        memory: running.memory()?,
    })
}

/// Returns the number of answered requests in the report of `wrk`. Errors when a request failed.
pub(super) fn answered(output: &str) -> Result<f64> {
    ensure!(!output.contains("Socket errors") && !output.contains("Non-2xx"), "requests failed: {output}");
    number_before(output, " requests in").with_context(|| format!("wrk output nothing of its requests: {output}"))
}

fn number_before(text: &str, mark: &str) -> Option<f64> {
    text.split_once(mark)?.0.rsplit(char::is_whitespace).next()?.parse().ok()
}

fn number_after(text: &str, mark: &str) -> Option<f64> {
    text.split(mark).nth(1)?.split_whitespace().next()?.parse().ok()
}

/// Parses a duration to milliseconds.
fn duration_after(text: &str, mark: &str) -> Option<f64> {
    let word = text.split("Latency Distribution").nth(1)?.split(mark).nth(1)?.split_whitespace().next()?;
    let split = word.find(|c: char| c.is_alphabetic())?;
    let number: f64 = word[..split].parse().ok()?;
    match &word[split..] {
        "us" => Some(number / 1e3),
        "ms" => Some(number),
        "s" => Some(number * 1e3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_prints_is_understood() {
        let text = "  Latency Distribution\n     50%  931.00us\n     99%    1.25s \n  66021 requests in 3.10s, 1MB read\n\
                    Requests/sec:  21296.15\nTransfer/sec: 1MB";
        assert_eq!(answered(text).ok(), Some(66_021.0));
        let socket_errors = format!("{text}\n  Socket errors: connect 0, read 1, write 0, timeout 0");
        let refused = format!("{text}\n  Non-2xx or 3xx responses: 7");
        for wrong in ["", &socket_errors, &refused] {
            assert!(answered(wrong).is_err(), "{wrong}");
        }
        assert_eq!(number_before(text, " requests in"), Some(66_021.0));
        assert_eq!(number_after(text, "Requests/sec:"), Some(21_296.15));
        assert_eq!(duration_after(text, "50%"), Some(0.931));
        assert_eq!(duration_after(text, "99%"), Some(1250.0));
    }
}
