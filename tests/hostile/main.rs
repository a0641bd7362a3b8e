//! Hostile modules in a real proxy of one worker. Each does its harm on a route of its own while the latency of another
//! route is measured. The process must survive, the other route must stay fast, and each filter must serve again.
//!
//! The suite needs `wrk` and about three minutes, and no other load on the machine. `cargo test -p weir-tests
//! --features tools --test hostile -- --nocapture` prints the figures.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking and prints")]

mod modules; // Every module that starts; endless loops, resource exhaustion and invalid results.
mod floods; // Modules that flood the host.
mod protocol_violations; // Modules that make calls out of turn.
mod rejected; // Modules that do not start.
mod table; // The table of modules that start.
mod wat; // Parts of modules, in the text format.
#[expect(dead_code, reason = "the statistics of wrk are not read in this suite")]
#[path = "../under_load/load.rs"]
mod load; // wrk.
#[path = "../under_load/path_origin.rs"]
mod path_origin; // An origin that responds with the path.
#[path = "../under_load/latency.rs"]
mod latency; // Latency of requests on one route.

use std::collections::HashSet;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use harness::{
    Client, ClientResponse, Codec, Filter, Module, Origin, Proxy, Resources, full, wait_until, wasm_from_wat,
    with_deadline, with_trailers,
};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;

use crate::latency::LatencySummary;
use crate::load::Load;
use crate::rejected::RejectedModule;
use crate::table::HostileModule;
use crate::wat::HARMLESS_HEADERS;

/// Duration of one measurement of the other route. It is long enough that the three failures which open a breaker delay
/// less than a hundredth of the requests.
const WINDOW: Duration = Duration::from_secs(1);

/// Modules that are measured against the same baseline of the other route.
const MODULES_PER_BASELINE: usize = 4;

/// Attempts to measure a module. Other programs on the machine delay requests, too, but not in every attempt.
const MAX_ATTEMPTS: usize = 4;

/// Connections of requests that cause harm.
const HARMFUL_CONNECTIONS: usize = 2;
/// Connections of the other route.
const OTHER_CONNECTIONS: usize = 4;

/// p99 that other programs can cause on a machine of two cores, independently of a filter.
const NOISE: Duration = Duration::from_millis(2);

/// Bytes that all modules together may add to the proxy's memory. Each module has two VMs of up to 2 MiB. Shared data
/// and queues have limits of 64 MiB each.
const MEMORY_CAP: u64 = 384 << 20;

/// Bytes that all modules together may add to the log. A VM may write 64 KiB a second; the proxy's own messages about a
/// VM are limited, too.
const LOG_CAP: usize = 16 << 20;

/// Smallest number of hostile modules.
const MIN_MODULES: usize = 50;

/// Limits for untrusted filters. `cpuPerSecond` limits the delay that a filter can cause on other routes.
const LIMITS: &str = "limits: {memory: 2Mi, callTimeout: 5ms, startTimeout: 500ms, cpuPerSecond: 10ms}";

/// Returns the lock of the machine, which one test at a time has.
async fn lock_machine() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::const_new(());
    MACHINE.lock().await
}

#[tokio::test]
async fn hostile_modules_harm_only_themselves() {
    let _machine = lock_machine().await;
    let table = modules::all();
    let distinct: HashSet<&str> = table.iter().map(|module| module.text.as_str()).collect();
    assert!(distinct.len() == table.len() && table.len() >= MIN_MODULES, "{} of {}", distinct.len(), table.len());

    let echo = echo().await;
    let mut proxy = Proxy::start(&resources(&table, echo.address())).await;
    let (id, before) = (proxy.id(), proxy.memory("VmRSS"));
    let mut worst = (0.0, "");
    let mut baseline = LatencySummary::default();
    for (at, module) in table.iter().enumerate() {
        if at % MODULES_PER_BASELINE == 0 {
            baseline = measure_other_route(&proxy, module, "fine").await;
        }
        let ratio = assert_other_route_unharmed(&proxy, module, baseline).await;
        if ratio > worst.0 {
            worst = (ratio, &module.name);
        }
    }
    for module in &table {
        wait_until_recovered(&proxy, module).await;
        assert_failure_reported(&proxy, module).await;
    }
    proxy.wait_until_ready().await;
    let (grown, log) = (proxy.memory("VmHWM").saturating_sub(before), proxy.log());
    println!("{} modules; p99 of the other route at most {:.2} of undisturbed, by {}", table.len(), worst.0, worst.1);
    print_most_frequent(&log);
    println!("memory grew by {} MiB at most, the log by {} KiB", grown >> 20, log.len() >> 10);
    assert_eq!(proxy.id(), id);
    assert!(!log.contains("panicked"), "see the log");
    assert!(!log.lines().any(|line| line.starts_with("forged")), "a filter forged a line of the log");
    assert!(grown < MEMORY_CAP, "memory grew by {grown} bytes");
    assert!(log.len() < LOG_CAP, "the log has {} bytes", log.len());
}

/// Prints the most frequent messages of the log.
fn print_most_frequent(log: &str) {
    let mut counts = std::collections::HashMap::<&str, usize>::new();
    for line in log.lines() {
        let message = line.split(": ").nth(1).unwrap_or(line);
        *counts.entry(message.get(..40).unwrap_or(message)).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    println!("the log's most frequent lines: {:?}", &counts[..counts.len().min(6)]);
}

/// Starts an origin that responds with the request's body and a trailer.
async fn echo() -> Origin {
    Origin::start(Codec::Http2, |request| async move {
        let body = request.into_body().collect().await.map_err(|_| harness::BodyError)?.to_bytes();
        Ok(Response::new(with_trailers(body, trailers())))
    })
    .await
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("x-trailer"), HeaderValue::from_static("end"))])
}

/// Returns a route with a filter for each module, and the other route.
fn resources(table: &[HostileModule], echo: SocketAddr) -> Resources {
    let rules = |path: &str, service: &str| {
        format!(
            "rules: [{{matches: [{{path: {{type: PathPrefix, value: /{path}}}}}], backendRefs: [{{name: {service}, port: 80}}]}}]"
        )
    };
    let mut resources = Resources::new()
        .http2_service("echo", &[echo])
        .service("plain", &[path_origin::start()])
        .route("other", &rules("other", "plain"));
    for HostileModule { name, text, .. } in table {
        // The harness takes static names.
        let name: &'static str = name.clone().leak();
        let module = Module::Bytes(format!("{name}.wasm").leak(), wasm_from_wat(text));
        resources = resources
            .route(name, &rules(name, "echo"))
            .filter(Filter::new(name, module).with_fields(LIMITS).targeting(name));
    }
    resources
}

/// Measures the other route while a module does its harm. Returns its p99 as a multiple of the baseline's.
///
/// # Panics
///
/// Every attempt shows a p99 of more than twice the baseline.
async fn assert_other_route_unharmed(proxy: &Proxy, module: &HostileModule, mut baseline: LatencySummary) -> f64 {
    let mut measured = String::new();
    for _ in 0..MAX_ATTEMPTS {
        let harmed = measure_other_route(proxy, module, "harm").await;
        // Harm that continues by itself, for example in ticks, stops with a harmless request.
        drop(send_harmless(proxy, module).await);
        let ratio = harmed.p99.as_secs_f64() / baseline.p99.as_secs_f64();
        write!(
            measured,
            "{:?} (at most {:?} of {}) beside {:?}; ",
            harmed.p99, harmed.max, harmed.requests, baseline.p99
        )
        .unwrap();
        if harmed.p99 <= (baseline.p99 * 2).max(NOISE) {
            let memory = proxy.memory("VmRSS") >> 20;
            println!("{:<32} {memory:>4} MiB; p99 of the other route {measured}", module.name);
            return ratio;
        }
        baseline = measure_other_route(proxy, module, "fine").await;
    }
    panic!("{}: p99 of the other route {measured}", module.name);
}

/// Measures the other route while a module gets requests for `action`: `harm` or `fine`.
async fn measure_other_route(proxy: &Proxy, module: &HostileModule, action: &str) -> LatencySummary {
    let address = proxy.address().await;
    let harm = HarmfulLoad::start(address, &module.name, action);
    let measured = latency::measure(address, OTHER_CONNECTIONS, WINDOW).await;
    harm.stop().await;
    measured
}

/// Load of requests that cause harm, some of them with trailers.
struct HarmfulLoad {
    load: Load,
    _trailers: JoinSet<()>,
}

impl HarmfulLoad {
    fn start(address: SocketAddr, name: &str, action: &str) -> Self {
        let headers: String = (0..=HARMLESS_HEADERS).map(|at| format!("wrk.headers[\"x-{at}\"] = \"1\" ")).collect();
        let script = format!(
            "{headers}\nwrk.method = \"POST\" wrk.body = \"harm\"\nlocal text\nfunction request()\n    text = text or \
             wrk.format(nil, \"/{name}/{action}\")\n    return text\nend\nfunction is_right() return true end"
        );
        let mut trailers = JoinSet::new();
        trailers.spawn(send_harmful_with_trailers(address, format!("http://proxy/{name}/{action}")));
        Self { load: Load::start(address, HARMFUL_CONNECTIONS, &script), _trailers: trailers }
    }

    async fn stop(self) {
        self.load.stop().await;
    }
}

/// Sends requests with trailers one after another. Failures are ignored.
async fn send_harmful_with_trailers(address: SocketAddr, uri: String) {
    loop {
        let mut client = Client::http2(address).await;
        loop {
            let mut request = Request::post(&uri).body(with_trailers("harm", trailers())).unwrap();
            for at in 0..=HARMLESS_HEADERS {
                let name = http::HeaderName::try_from(format!("x-{at}")).unwrap();
                request.headers_mut().insert(name, HeaderValue::from_static("1"));
            }
            let Ok(response) = client.try_send(request).await else { break };
            if response.into_body().collect().await.is_err() {
                break;
            }
        }
    }
}

/// Blocks until the filter serves a harmless request.
async fn wait_until_recovered(proxy: &Proxy, module: &HostileModule) {
    wait_until(&format!("{} to work again", module.name), async || {
        let response = send_harmless(proxy, module).await?;
        (response.status == 200 && response.header("x-filter") == Some(&module.name) && response.body == "fine")
            .then_some(())
    })
    .await;
}

/// Sends a request that causes no harm. Returns `None` if it fails.
async fn send_harmless(proxy: &Proxy, module: &HostileModule) -> Option<ClientResponse> {
    let mut client = proxy.client().await;
    let request = Request::post(format!("/{}/fine", module.name)).body(full("fine")).unwrap();
    let response = client.try_send(request).await.ok()?;
    with_deadline("an answer", harness::read(response)).await.ok()
}

/// Panics unless a module that must fail is reported as failed in `/plugins`, with the expected failure.
async fn assert_failure_reported(proxy: &Proxy, module: &HostileModule) {
    let plugins = proxy.json("/plugins").await;
    let name = format!("default/{}", module.name);
    let plugin = plugins.as_array().unwrap().iter().find(|plugin| plugin["name"] == name).unwrap().clone();
    let Some(expected) = module.fails else { return };
    let failure = plugin["lastFailure"].as_str().unwrap_or_default();
    assert!(plugin["failures"].as_u64().unwrap() > 0 && failure.contains(expected), "{plugin}");
}

#[tokio::test]
async fn module_that_fails_to_start_is_rejected_without_disruption() {
    let _machine = lock_machine().await;
    let origin = Origin::text("as before").await;
    let mut proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let (id, version) = (proxy.id(), proxy.version().await);
    for RejectedModule { name, bytes, reason } in rejected::all() {
        let filter = format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {{name: {name}}}\nspec:\n  module: {{file: \
             ./{name}.wasm}}\n  limits: {{startTimeout: 50ms}}\n"
        );
        proxy.write(&format!("{name}.wasm"), bytes);
        proxy.write("more.yaml", filter);
        let line = proxy.wait_for_log(&format!("Filter default/{name}: ")).await;
        assert!(line.contains("configuration rejected") && line.contains(reason), "{name}: {line}");
        assert_eq!(proxy.get("/").await.text(), "as before", "{name}");
        assert_eq!(proxy.version().await, version, "{name}");
    }
    proxy.wait_until_ready().await;
    assert!(proxy.id() == id && !proxy.log().contains("panicked"), "see the log");
}
