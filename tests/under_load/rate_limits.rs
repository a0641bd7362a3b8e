//! Acceptance test of the shipped `rate-limit` filter. It must pass exactly the configured rate for any number of
//! workers. Its memory must stay below the cap in its README for any number of keys.
//!
//! The suite runs 10 s and 200,000 keys; the acceptance run was `WEIR_LIMIT_SECONDS=60 WEIR_LIMIT_KEYS=10000000`.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use harness::{Filter, Module, Proxy, ProxyOptions, Resources};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::load::{Load, LoadStats};
use crate::{lock_machine, number_from_env};

/// Limit in requests a second, which is also the burst.
const RATE: u64 = 300;

/// Duration of a measurement by default, in seconds.
const SECONDS: usize = 10;

/// Connections of each load. There are several for each worker, since the kernel distributes connections over workers.
const CONNECTIONS: usize = 32;

/// Keys by default.
const KEYS: usize = 200_000;

/// Bytes of shared data of one limit with its 65,536 keys, as documented in the README.
const DOCUMENTED_CAP: u64 = 8_192 * 281;

/// Bytes in addition to that count: allocation and fragments of the shared data, buffers of the connections.
const SLACK: u64 = 8 << 20;

/// Requests that reached the upstream: their number, and the times of the first and the last.
#[derive(Debug, Default, Clone, Copy)]
struct PassedRequests {
    count: u64,
    span: Option<(Instant, Instant)>,
}

/// Starts an origin that counts requests. They are the requests that the filter has passed, including those whose
/// response the load did not wait for.
fn counting_origin() -> (SocketAddr, Arc<Mutex<PassedRequests>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let passed = Arc::new(Mutex::new(PassedRequests::default()));
    let counter = Arc::clone(&passed);
    thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let counter = Arc::clone(&counter);
            thread::spawn(move || serve(connection, &counter));
        }
    });
    (address, passed)
}

fn serve(connection: TcpStream, passed: &Mutex<PassedRequests>) -> Option<()> {
    connection.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(connection.try_clone().ok()?);
    let mut writer = connection;
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line != "\r\n" {
            continue;
        }
        let now = Instant::now();
        let mut passed = passed.lock();
        passed.count += 1;
        passed.span = Some((passed.span.map_or(now, |(first, _)| first), now));
        drop(passed);
        writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").ok()?;
    }
}

fn resources(origin: SocketAddr, config: Value) -> Resources {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("plugins/rate-limit");
    let module = weir_sdk::testing::build_with_profile(folder, "plugin").unwrap_or_else(|error| panic!("{error}"));
    let module = Module::Bytes("rate_limit.wasm", std::fs::read(module).unwrap());
    Resources::forward_to(origin).filter(Filter { config, ..Filter::new("limits", module) })
}

/// Returns the options of a proxy without an access log, which would have gigabytes.
fn options(workers: usize) -> ProxyOptions {
    let arguments = ["--access-log", "/dev/null"].map(str::to_owned).to_vec();
    ProxyOptions { workers: Some(workers), arguments, ..ProxyOptions::default() }
}

/// Start of the script for about three times the limit: each connection waits between its requests.
const THREE_TIMES_THE_LIMIT: &str = "function delay() return 32 end\n";

/// Start of the script for the highest rate: each connection sends its next request at once.
const WITHOUT_DELAY: &str = "";

/// Script of wrk: checks the rate limit headers of each response.
const SCRIPT: &str = r#"
local text
function request()
    text = text or wrk.format("GET", "/")
    return text
end
function is_right(status, headers, body)
    local remaining = tonumber(headers["ratelimit-remaining"])
    if headers["ratelimit-limit"] ~= "300" or remaining == nil then return false end
    return (status == 200 and headers["retry-after"] == nil)
        or (status == 429 and headers["retry-after"] == "1" and remaining == 0)
end
"#;

#[tokio::test]
async fn rate_limit_passes_exactly_burst_and_rate() {
    let _machine = lock_machine().await;
    let seconds = number_from_env("WEIR_LIMIT_SECONDS", SECONDS);
    for (workers, pace) in
        [(1, THREE_TIMES_THE_LIMIT), (2, THREE_TIMES_THE_LIMIT), (4, THREE_TIMES_THE_LIMIT), (4, WITHOUT_DELAY)]
    {
        let (origin, passed) = counting_origin();
        let limits = json!({"limits": [{"name": "all", "requests": RATE, "per": "second"}]});
        let proxy = Proxy::start_with(&resources(origin, limits), options(workers)).await;
        let load = Load::start(proxy.address().await, CONNECTIONS, &format!("{pace}{SCRIPT}"));
        tokio::time::sleep(Duration::from_secs(seconds as u64)).await; // A length of time to measure over.
        let stats = load.stop().await;
        let passed = *passed.lock();
        assert_eq!((stats.wrong, stats.broken), (0, 0), "{stats:?}");
        assert_exact_rate(workers, passed, stats);
        assert_counters(&proxy, passed.count, stats).await;
    }
}

/// Panics unless the number of passed requests is the burst plus the rate, within one percent.
///
/// The load is always more than the limit, so each token is taken as soon as it exists. From the first passed request
/// to the last, by the clock at the upstream, the burst and one request for each interval pass. The error is one token
/// at either end, the delay on the way to the upstream.
fn assert_exact_rate(workers: usize, passed: PassedRequests, stats: LoadStats) {
    let (first, last) = passed.span.unwrap();
    let elapsed = (last - first).as_secs_f64();
    let expected = RATE as f64 * (1.0 + elapsed);
    let error = (passed.count as f64 - expected) / expected;
    let times = stats.requests as f64 / elapsed / RATE as f64;
    println!(
        "{workers} workers, {times:.1} times the limit for {elapsed:.2} s: {} passed of {}, {expected:.1} expected, \
         {:+.3} %",
        passed.count,
        stats.requests,
        error * 100.0
    );
    assert!(times > 1.5, "the load was no more than the limit");
    assert!(error.abs() <= 0.01, "{passed:?}");
}

/// Panics unless the filter's counters match the upstream's count and no bucket failed. When the load stops, one
/// request of each connection may be counted as allowed and not reach the upstream.
async fn assert_counters(proxy: &Proxy, passed: u64, stats: LoadStats) {
    let counted = count(proxy, "rate_limit_allowed_total").await;
    assert!((passed..=passed + CONNECTIONS as u64).contains(&counted), "{counted} counted, {passed} passed");
    assert!(count(proxy, "rate_limit_rejected_total").await + passed >= stats.requests);
    assert_eq!(count(proxy, "rate_limit_errors_total").await, 0, "a bucket could not be changed");
}

/// Returns the sum of a counter of the filter over all labels.
async fn count(proxy: &Proxy, name: &str) -> u64 {
    let page = proxy.page("/stats/prometheus").await.text();
    let lines = page.lines().filter(|line| line.contains(name) && !line.starts_with('#'));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    values.sum()
}

/// Script of wrk: each request has a distinct key.
const DISTINCT_KEYS: &str = r#"
local number = FIRST
function request()
    number = number + 1
    return "GET / HTTP/1.1\r\nhost: a\r\nx-user: user-" .. string.format("%d", number) .. "\r\n\r\n"
end
function is_right(status, headers, body) return status == 200 end
"#;

#[tokio::test]
async fn memory_stays_below_documented_cap_for_any_number_of_keys() {
    let _machine = lock_machine().await;
    let keys = number_from_env("WEIR_LIMIT_KEYS", KEYS) as u64;
    let (origin, _) = counting_origin();
    let limit = json!({"name": "each", "requests": 100, "per": "hour", "key": [{"header": "x-user"}]});
    let proxy = Proxy::start_with(&resources(origin, json!({"limits": [limit]})), options(2)).await;
    let address = proxy.address().await;

    // Requests of few keys come first, so that the growth that is measured is of keys only.
    let few = DISTINCT_KEYS.replace("number = number + 1", "number = (number + 1) % 100").replace("== 200", ">= 200");
    send(&proxy, address, &few.replace("FIRST", "0"), 5_000).await;
    let before = proxy.memory("VmRSS");
    let started = Instant::now();
    let mut sent = 0;
    while sent < keys {
        let script = DISTINCT_KEYS.replace("FIRST", &format!("{}", 1_000_000 + sent));
        sent += send(&proxy, address, &script, (keys - sent).min(2_000_000)).await;
    }
    let evicted = count(&proxy, "rate_limit_evicted_total").await;
    let grown = proxy.memory("VmHWM").saturating_sub(before);
    println!(
        "{sent} keys in {:.0} s: {evicted} evicted before they expired; memory grew by {} KiB at most, {} KiB are \
         documented",
        started.elapsed().as_secs_f64(),
        grown >> 10,
        DOCUMENTED_CAP >> 10
    );
    assert!(evicted >= sent.saturating_sub(65_536), "more keys were stored than the limit may store");
    assert!(grown <= DOCUMENTED_CAP + SLACK, "memory grew by {grown} bytes");
    assert_eq!(count(&proxy, "rate_limit_errors_total").await, 0);
}

/// Loads the proxy until it has decided on `requests` more. Returns the number of responses that wrk received.
async fn send(proxy: &Proxy, address: SocketAddr, script: &str, requests: u64) -> u64 {
    let decided =
        async || count(proxy, "rate_limit_allowed_total").await + count(proxy, "rate_limit_rejected_total").await;
    let goal = decided().await + requests;
    let load = Load::start(address, CONNECTIONS, script);
    while decided().await < goal {
        tokio::time::sleep(Duration::from_millis(20)).await; // `wait_until` has a deadline of half a minute.
    }
    let stats = load.stop().await;
    assert_eq!((stats.wrong, stats.broken), (0, 0), "{stats:?}");
    stats.requests
}
