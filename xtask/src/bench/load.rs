//! Requests from `wrk`, and what they cost the proxy.

use std::fmt;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::process::{Memory, Running};

/// What is sent.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) seconds: u32,
    pub(super) connections: u32,
    pub(super) path: String,
}

impl Load {
    /// As in every published figure of ours: 32 connections.
    pub(super) fn seconds(seconds: u32) -> Self {
        Self { seconds, connections: 32, path: "/".to_owned() }
    }
}

/// What one run of `wrk` showed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Requests that were answered.
    pub(super) requests: f64,
    /// CPU microseconds of the proxy per request.
    pub(super) cpu: f64,
    /// Requests per second.
    pub(super) throughput: f64,
    /// Half of the requests were answered within this, in milliseconds.
    pub(super) p50: f64,
    /// All but one in a hundred.
    pub(super) p99: f64,
    /// Of the proxy, under load.
    pub(super) memory: Memory,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, throughput, p50, p99, memory, .. } = self;
        let mib = memory.resident as f64 / 1024.0;
        write!(f, "{cpu:6.1} us CPU  {throughput:7.0} requests/s  p50 {p50:.2} ms  p99 {p99:.2} ms  {mib:5.1} MiB")
    }
}

/// Sends requests for some seconds. One that fails is an error.
pub(super) fn run(running: &Running, load: &Load) -> Result<Sample> {
    let Load { seconds, connections, path } = load;
    let before = running.cpu()?;
    let output = Command::new("wrk")
        .args(["--threads", "1", "--connections", &connections.to_string(), "--duration", &format!("{seconds}s")])
        .args(["--latency", "--header", "x-api-key: bench-key", "--header", "user-agent: bench"])
        .arg(format!("http://{}{path}", running.address()))
        .output()
        .context("wrk did not start")?;
    let cpu = running.cpu()?.since(&before);
    let memory = running.memory()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "wrk: {text}{}", String::from_utf8_lossy(&output.stderr));
    ensure!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "requests failed: {text}");
    let requests: f64 = number_before(&text, " requests in").context("wrk counts its requests")?;
    Ok(Sample {
        requests,
        cpu: cpu / requests,
        throughput: number_after(&text, "Requests/sec:").context("wrk prints its throughput")?,
        p50: duration_after(&text, "50%").context("wrk prints its latencies")?,
        p99: duration_after(&text, "99%").context("wrk prints its latencies")?,
        memory,
    })
}

fn number_before(text: &str, mark: &str) -> Option<f64> {
    text.split(mark).next()?.rsplit(char::is_whitespace).next()?.parse().ok()
}

fn number_after(text: &str, mark: &str) -> Option<f64> {
    text.split(mark).nth(1)?.split_whitespace().next()?.parse().ok()
}

/// In milliseconds.
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
        assert_eq!(number_before(text, " requests in"), Some(66_021.0));
        assert_eq!(number_after(text, "Requests/sec:"), Some(21_296.15));
        assert_eq!(duration_after(text, "50%"), Some(0.931));
        assert_eq!(duration_after(text, "99%"), Some(1250.0));
    }
}
