//! Hostile modules, one beside the other in a real proxy of one worker: each does its harm on a route of its own while
//! another route is watched. The process lives, the other route hardly notices, and each filter serves again
//! afterwards.
//!
//! It needs `wrk`, and the machine for itself, for three minutes: `cargo test -p weir-tests --features tools --test hostile --
//! --nocapture` prints the figures.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking and prints")]

mod modules; // Those that start: endless, greedy, lying ones.
mod floods; // Those that start and flood.
mod turns; // Those that start and speak out of turn.
mod refused; // Those that do not start.
mod wat; // What they are made of.
#[expect(dead_code, reason = "here it makes a load, and nobody asks how it went")]
#[path = "../under_load/load.rs"]
mod load; // wrk.
#[path = "../under_load/path_origin.rs"]
mod path_origin; // An origin that answers with the path.
#[path = "../under_load/waits.rs"]
mod waits; // What the other route's requests wait.

use std::collections::HashSet;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use harness::{
    Answer, Client, Codec, Filter, Module, Origin, Proxy, Resources, full, module_of_wat, until, with_trailers, within,
};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;

use crate::load::Load;
use crate::modules::Hostile;
use crate::refused::Refused;
use crate::waits::Waits;
use crate::wat::HARMLESS_HEADERS;

/// For how long the other route is looked at: long enough that the three failures which open a breaker are no more than what
/// a hundredth of its requests meets.
const LOOK: Duration = Duration::from_secs(1);

/// Modules that do their harm between two looks at the other route without any.
const MODULES_BETWEEN_LOOKS: usize = 4;

/// How often a look is taken anew when it shows more than is allowed: other programs make requests wait, too, but not
/// each time.
const LOOKS: usize = 4;

/// Connections that make a module do harm, and connections of the other route.
const HAMMERS: usize = 2;
const OTHERS: usize = 4;

/// What other programs do to a hundredth of the requests on a machine of two cores, whatever a filter does.
const NOISE: Duration = Duration::from_millis(2);

/// What all modules together may add to the proxy's memory: two VMs each of which some take 2 MiB, and what plugins share,
/// which has its own bounds of 64 MiB of data and 64 MiB of queues.
const MEMORY_CAP: u64 = 384 << 20;

/// What they may add to its log: each VM may write 64 KiB in a second, and what the proxy itself says of one is bounded.
const LOG_CAP: usize = 16 << 20;

/// Hostile modules that there are at least.
const AT_LEAST: usize = 50;

/// As for filters of strangers: the last one bounds how long others wait for a filter that takes what it may take.
const LIMITS: &str = "limits: {memory: 2Mi, callTime: 5ms, startTime: 500ms, cpuPerSecond: 10ms}";

/// The machine, for one test at a time.
async fn machine() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::const_new(());
    MACHINE.lock().await
}

#[tokio::test]
async fn hostile_modules_harm_only_themselves() {
    let _machine = machine().await;
    let table = modules::all();
    let distinct: HashSet<&str> = table.iter().map(|module| module.text.as_str()).collect();
    assert!(distinct.len() == table.len() && table.len() >= AT_LEAST, "{} of {}", distinct.len(), table.len());

    let echo = echo().await;
    let mut proxy = Proxy::start(&resources(&table, echo.address())).await;
    let (id, before) = (proxy.id(), proxy.memory("VmRSS"));
    let mut worst = (0.0, "");
    let mut alone = Waits::default();
    for (at, module) in table.iter().enumerate() {
        if at % MODULES_BETWEEN_LOOKS == 0 {
            alone = look_beside(&proxy, module, "fine").await;
        }
        let ratio = suffer(&proxy, module, alone).await;
        if ratio > worst.0 {
            worst = (ratio, &module.name);
        }
    }
    for module in &table {
        works_again(&proxy, module).await;
        assert_named(&proxy, module).await;
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

/// What the log says most often, by the words after the name of who says it.
fn print_most_frequent(log: &str) {
    let mut counts = std::collections::HashMap::<&str, usize>::new();
    for line in log.lines() {
        let said = line.split(": ").nth(1).unwrap_or(line);
        *counts.entry(said.get(..40).unwrap_or(said)).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    println!("the log's most frequent lines: {:?}", &counts[..counts.len().min(6)]);
}

/// Answers with the body that came, and trailers.
async fn echo() -> Origin {
    Origin::start(Codec::Http2, |request| async move {
        let body = request.into_body().collect().await.map_err(|_| harness::Broken)?.to_bytes();
        Ok(Response::new(with_trailers(body, trailers())))
    })
    .await
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("x-trailer"), HeaderValue::from_static("end"))])
}

/// A route for each module, and the other one.
fn resources(table: &[Hostile], echo: SocketAddr) -> Resources {
    let rules = |path: &str, service: &str| {
        format!(
            "rules: [{{matches: [{{path: {{type: PathPrefix, value: /{path}}}}}], backendRefs: [{{name: {service}, port: 80}}]}}]"
        )
    };
    let mut resources = Resources::new()
        .http2_service("echo", &[echo])
        .service("plain", &[path_origin::start()])
        .route("other", &rules("other", "plain"));
    for Hostile { name, text, .. } in table {
        // The harness takes names that are written in a test; these are made by one.
        let name: &'static str = name.clone().leak();
        let module = Module::Bytes(format!("{name}.wasm").leak(), module_of_wat(text));
        resources =
            resources.route(name, &rules(name, "echo")).filter(Filter::of(name, module).with(LIMITS).before(name));
    }
    resources
}

/// Lets a module do its harm: the other route's p99 beside it, in parts of what it is without.
async fn suffer(proxy: &Proxy, module: &Hostile, mut alone: Waits) -> f64 {
    let mut seen = String::new();
    for _ in 0..LOOKS {
        let harmed = look_beside(proxy, module, "harm").await;
        // What goes on by itself, in ticks say, goes on until a harmless request comes.
        drop(ask(proxy, module).await);
        let ratio = harmed.p99.as_secs_f64() / alone.p99.as_secs_f64();
        write!(seen, "{:?} (at most {:?} of {}) beside {:?}; ", harmed.p99, harmed.max, harmed.requests, alone.p99)
            .unwrap();
        if harmed.p99 <= (alone.p99 * 2).max(NOISE) {
            let memory = proxy.memory("VmRSS") >> 20;
            println!("{:<32} {memory:>4} MiB; p99 of the other route {seen}", module.name);
            return ratio;
        }
        alone = look_beside(proxy, module, "fine").await;
    }
    panic!("{}: p99 of the other route {seen}", module.name);
}

/// Looks at the other route beside requests that ask a module for harm, or for nothing.
async fn look_beside(proxy: &Proxy, module: &Hostile, what: &str) -> Waits {
    let address = proxy.address().await;
    let harm = Harm::start(address, &module.name, what);
    let seen = waits::look(address, OTHERS, LOOK).await;
    harm.stop().await;
    seen
}

/// Requests that ask a module for harm: many, and some with trailers.
struct Harm {
    hammers: Load,
    _trailers: JoinSet<()>,
}

impl Harm {
    fn start(address: SocketAddr, name: &str, what: &str) -> Self {
        let headers: String = (0..=HARMLESS_HEADERS).map(|at| format!("wrk.headers[\"x-{at}\"] = \"1\" ")).collect();
        let script = format!(
            "{headers}\nwrk.method = \"POST\" wrk.body = \"harm\"\nlocal text\nfunction request()\n    text = text or \
             wrk.format(nil, \"/{name}/{what}\")\n    return text\nend\nfunction is_right() return true end"
        );
        let mut trailers = JoinSet::new();
        trailers.spawn(ask_with_trailers(address, format!("http://proxy/{name}/{what}")));
        Self { hammers: Load::start(address, HAMMERS, &script), _trailers: trailers }
    }

    async fn stop(self) {
        self.hammers.stop().await;
    }
}

/// Harmful requests one after another, whatever becomes of them.
async fn ask_with_trailers(address: SocketAddr, uri: String) {
    loop {
        let mut client = Client::http2(address).await;
        loop {
            let mut request = Request::post(&uri).body(with_trailers("harm", trailers())).unwrap();
            for at in 0..=HARMLESS_HEADERS {
                let name = http::HeaderName::try_from(format!("x-{at}")).unwrap();
                request.headers_mut().insert(name, HeaderValue::from_static("1"));
            }
            let Ok(response) = client.attempt(request).await else { break };
            if response.into_body().collect().await.is_err() {
                break;
            }
        }
    }
}

/// A harmless request is served, and by this filter.
async fn works_again(proxy: &Proxy, module: &Hostile) {
    until(&format!("{} to work again", module.name), async || {
        let answer = ask(proxy, module).await?;
        (answer.status == 200 && answer.header("x-filter") == Some(&module.name) && answer.body == "fine").then_some(())
    })
    .await;
}

/// A request without harm.
async fn ask(proxy: &Proxy, module: &Hostile) -> Option<Answer> {
    let mut client = proxy.client().await;
    let request = Request::post(format!("/{}/fine", module.name)).body(full("fine")).unwrap();
    let response = client.attempt(request).await.ok()?;
    within("an answer", harness::read(response)).await.ok()
}

/// A module that must fail has failed, and its page says how.
async fn assert_named(proxy: &Proxy, module: &Hostile) {
    let plugins = proxy.json("/plugins").await;
    let name = format!("default/{}", module.name);
    let plugin = plugins.as_array().unwrap().iter().find(|plugin| plugin["name"] == name).unwrap().clone();
    let Some(expected) = module.fails else { return };
    let said = plugin["lastFailure"].as_str().unwrap_or_default();
    assert!(plugin["failures"].as_u64().unwrap() > 0 && said.contains(expected), "{plugin}");
}

#[tokio::test]
async fn modules_that_do_not_start_are_refused_by_a_proxy_that_goes_on() {
    let _machine = machine().await;
    let origin = Origin::says("as before").await;
    let mut proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let (id, version) = (proxy.id(), proxy.version().await);
    for Refused { name, bytes, reason } in refused::all() {
        let filter = format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {{name: {name}}}\nspec:\n  module: {{file: \
             ./{name}.wasm}}\n  limits: {{startTime: 50ms}}\n"
        );
        proxy.write(&format!("{name}.wasm"), bytes);
        proxy.write("more.yaml", filter);
        let line = proxy.wait_for_log(&format!("Filter default/{name}: ")).await;
        assert!(line.contains("configuration refused") && line.contains(reason), "{name}: {line}");
        assert_eq!(proxy.get("/").await.text(), "as before", "{name}");
        assert_eq!(proxy.version().await, version, "{name}");
    }
    proxy.wait_until_ready().await;
    assert!(proxy.id() == id && !proxy.log().contains("panicked"), "see the log");
}
