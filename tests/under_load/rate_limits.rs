//! Acceptance of the shipped `rate-limit`: it passes exactly what it says, however many workers share the limit; and
//! however many keys arrive, its memory stays below the cap that its README gives.
//!
//! `WEIR_LIMIT_SECONDS=60` and `WEIR_LIMIT_KEYS=10000000` run as much; the suite runs less.

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

use crate::load::{Figures, Load};
use crate::{machine, setting};

/// Requests a second, and as many at once.
const RATE: u64 = 300;

/// For how long, when nobody asks for more.
const SECONDS: usize = 10;

/// Connections of each load: some for each worker, since the kernel spreads connections over workers, not requests.
const CONNECTIONS: usize = 32;

/// Keys, when nobody asks for more.
const KEYS: usize = 200_000;

/// What the README gives as the most that one limit with its 65,536 keys keeps, by the proxy's own count.
const DOCUMENTED_CAP: u64 = 8_192 * 281;

/// Beside that count: allocation and fragments of one limit's shared data, buffers of the connections.
const SLACK: u64 = 8 << 20;

/// What reached the upstream: how many, the first and the last.
#[derive(Debug, Default, Clone, Copy)]
struct Passed {
    count: u64,
    span: Option<(Instant, Instant)>,
}

/// An origin that counts. What it has seen is what the filter has passed, so answers that were under way when the load
/// ended count, too.
fn counting_origin() -> (SocketAddr, Arc<Mutex<Passed>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let passed = Arc::new(Mutex::new(Passed::default()));
    let counter = Arc::clone(&passed);
    thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let counter = Arc::clone(&counter);
            thread::spawn(move || serve(connection, &counter));
        }
    });
    (address, passed)
}

fn serve(connection: TcpStream, passed: &Mutex<Passed>) -> Option<()> {
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
    Resources::forward_to(origin).filter(Filter { config, ..Filter::of("limits", module) })
}

/// The access log would be gigabytes.
fn options(workers: usize) -> ProxyOptions {
    let arguments = ["--access-log", "/dev/null"].map(str::to_owned).to_vec();
    ProxyOptions { workers: Some(workers), arguments, ..ProxyOptions::default() }
}

/// About three times the limit: each connection waits between its requests.
const THREE_TIMES: &str = "function delay() return 32 end\n";

/// Each connection asks again at once: as much as the machine gives.
const FLAT_OUT: &str = "";

const ASK: &str = r#"
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
async fn what_passes_is_the_burst_and_the_rate() {
    let _machine = machine().await;
    let seconds = setting("WEIR_LIMIT_SECONDS", SECONDS);
    for (workers, pace) in [(1, THREE_TIMES), (2, THREE_TIMES), (4, THREE_TIMES), (4, FLAT_OUT)] {
        let (origin, passed) = counting_origin();
        let limits = json!({"limits": [{"name": "all", "requests": RATE, "per": "second"}]});
        let proxy = Proxy::start_with(&resources(origin, limits), options(workers)).await;
        let load = Load::start(proxy.address().await, CONNECTIONS, &format!("{pace}{ASK}"));
        tokio::time::sleep(Duration::from_secs(seconds as u64)).await; // A length of time to measure over.
        let figures = load.stop().await;
        let passed = *passed.lock();
        assert_eq!((figures.wrong, figures.broken), (0, 0), "{figures:?}");
        assert_exact(workers, passed, figures);
        assert_counted(&proxy, passed.count, figures).await;
    }
}

/// The load is more than the limit all the time, so each token is taken as soon as it is there. The first request takes
/// one of a full bucket, and the last that passed took one as it came: from the one to the other, by the clock at the
/// upstream, the burst and one for each interval have passed. The edges are the way to the upstream, one token at either
/// end.
fn assert_exact(workers: usize, passed: Passed, figures: Figures) {
    let (first, last) = passed.span.unwrap();
    let elapsed = (last - first).as_secs_f64();
    let expected = RATE as f64 * (1.0 + elapsed);
    let error = (passed.count as f64 - expected) / expected;
    let times = figures.requests as f64 / elapsed / RATE as f64;
    println!(
        "{workers} workers, {times:.1} times the limit for {elapsed:.2} s: {} passed of {}, {expected:.1} expected, \
         {:+.3} %",
        passed.count,
        figures.requests,
        error * 100.0
    );
    assert!(times > 1.5, "the load was no more than the limit");
    assert!(error.abs() <= 0.01, "{passed:?}");
}

/// No limit was ever given up on, and the filter's own count is the upstream's; but for what was under way when the load
/// ended, one request for each connection: it may have been let through and have had nobody left to be sent for.
async fn assert_counted(proxy: &Proxy, passed: u64, figures: Figures) {
    let counted = count(proxy, "rate_limit_allowed_total").await;
    assert!((passed..=passed + CONNECTIONS as u64).contains(&counted), "{counted} counted, {passed} passed");
    assert!(count(proxy, "rate_limit_refused_total").await + passed >= figures.requests);
    assert_eq!(count(proxy, "rate_limit_errors_total").await, 0, "a bucket could not be changed");
}

/// The sum of the filter's own counter, whatever its labels.
async fn count(proxy: &Proxy, name: &str) -> u64 {
    let page = proxy.page("/stats/prometheus").await.text();
    let lines = page.lines().filter(|line| line.contains(name) && !line.starts_with('#'));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    values.sum()
}

/// Each request has a key that no other has.
const ALL_DIFFERENT: &str = r#"
local number = FIRST
function request()
    number = number + 1
    return "GET / HTTP/1.1\r\nhost: a\r\nx-user: user-" .. string.format("%d", number) .. "\r\n\r\n"
end
function is_right(status, headers, body) return status == 200 end
"#;

#[tokio::test]
async fn memory_is_bounded_whatever_keys_arrive() {
    let _machine = machine().await;
    let keys = setting("WEIR_LIMIT_KEYS", KEYS) as u64;
    let (origin, _) = counting_origin();
    let limit = json!({"name": "each", "requests": 100, "per": "hour", "key": [{"header": "x-user"}]});
    let proxy = Proxy::start_with(&resources(origin, json!({"limits": [limit]})), options(2)).await;
    let address = proxy.address().await;

    // The same connections and requests of few keys first, so that what follows is the keys alone.
    let few = ALL_DIFFERENT.replace("number = number + 1", "number = (number + 1) % 100").replace("== 200", ">= 200");
    send(&proxy, address, &few.replace("FIRST", "0"), 5_000).await;
    let before = proxy.memory("VmRSS");
    let started = Instant::now();
    let mut sent = 0;
    while sent < keys {
        let script = ALL_DIFFERENT.replace("FIRST", &format!("{}", 1_000_000 + sent));
        sent += send(&proxy, address, &script, (keys - sent).min(2_000_000)).await;
    }
    let evicted = count(&proxy, "rate_limit_evicted_total").await;
    let grown = proxy.memory("VmHWM").saturating_sub(before);
    println!(
        "{sent} keys in {:.0} s: {evicted} forgotten before their time; memory grew by {} KiB at most, {} KiB are \
         documented",
        started.elapsed().as_secs_f64(),
        grown >> 10,
        DOCUMENTED_CAP >> 10
    );
    assert!(evicted >= sent.saturating_sub(65_536), "more keys were kept than the limit may remember");
    assert!(grown <= DOCUMENTED_CAP + SLACK, "memory grew by {grown} bytes");
    assert_eq!(count(&proxy, "rate_limit_errors_total").await, 0);
}

/// Loads the proxy until this many requests more have been decided on; how many wrk has seen answered.
async fn send(proxy: &Proxy, address: SocketAddr, script: &str, requests: u64) -> u64 {
    let decided =
        async || count(proxy, "rate_limit_allowed_total").await + count(proxy, "rate_limit_refused_total").await;
    let goal = decided().await + requests;
    let load = Load::start(address, CONNECTIONS, script);
    while decided().await < goal {
        tokio::time::sleep(Duration::from_millis(20)).await; // `until` would give up after half a minute.
    }
    let figures = load.stop().await;
    assert_eq!((figures.wrong, figures.broken), (0, 0), "{figures:?}");
    figures.requests
}
