//! Acceptance of live changes: routes, filter configurations and modules are edited while `wrk` runs over 100 routes.
//! Each edit serves within 30 ms (a module within its compile time and 30 ms), and no request fails or goes astray.
//!
//! `WEIR_CHANGES=1000` runs as many; the suite runs fewer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use harness::{Client, Proxy, ProxyOptions, Resources, module_of_wat, until, within};
use serde_json::json;
use tokio::time::Instant;

use crate::load::{Figures, Load};
use crate::volume::{Volume, WAYS, Way};
use crate::{machine, path_origin, percentile, setting};

const ROUTES: usize = 100;

/// Edits when nobody asks for more.
const CHANGES: usize = 300;

/// From the write until it serves, beyond what a request takes without any change.
const BUDGET: Duration = Duration::from_millis(30);

/// Asks for each route in turn; the origin answers with the path, the route stamps its own.
const SCRIPT: &str = r#"
local requests, next = {}, 0
function request()
    next = (next + 1) % 100
    requests[next] = requests[next] or wrk.format("GET", "/r" .. next)
    return requests[next]
end
function is_right(status, headers, body)
    return status == 200 and headers["x-route"] == body
end
"#;

/// What is edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Route,
    Config,
    Module,
}

impl Subject {
    /// Of ten edits six are of routes, three of configurations, one of a module.
    fn of(change: usize) -> Self {
        match change % 10 {
            0 => Self::Module,
            1..=3 => Self::Config,
            _ => Self::Route,
        }
    }

    /// The header of an answer that shows the version.
    fn header(self) -> &'static str {
        match self {
            Self::Route => "x-version",
            Self::Config => "x-config",
            Self::Module => "x-module",
        }
    }

    /// The file, and its content of a version. Linked files have a second set.
    fn file(self, set: char, version: usize) -> (String, Vec<u8>) {
        match self {
            Self::Route => (format!("routes-{set}.yaml"), routes(range_of(set), version).into_bytes()),
            Self::Config => (format!("filters-{set}.yaml"), filters(set, version).into_bytes()),
            Self::Module => (format!("{set}.wasm"), module(version)),
        }
    }
}

/// Routes of the plain set and of the linked one; the rest never changes.
fn range_of(set: char) -> std::ops::Range<usize> {
    if set == 'a' { 0..10 } else { 10..20 }
}

fn routes(range: std::ops::Range<usize>, version: usize) -> String {
    let route = |number: usize| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r{number}}}\nspec:\n  \
             parentRefs: [{{name: edge}}]\n  rules:\n    - matches: [{{path: {{type: Exact, value: /r{number}}}}}]\n      \
             filters:\n        - type: ResponseHeaderModifier\n          responseHeaderModifier:\n            set: \
             [{{name: x-route, value: /r{number}}}, {{name: x-version, value: \"{version:06}\"}}]\n      \
             backendRefs: [{{name: origin, port: 80}}]\n"
        )
    };
    range.map(route).collect()
}

/// A filter whose configuration changes and one whose module changes, before the first route of the set.
fn filters(set: char, version: usize) -> String {
    let route = format!("r{}", range_of(set).start);
    let config = json!({"response_headers": [{"do": "set", "name": "x-config", "value": format!("{version:06}")}]});
    let filter = |name: &str, file: &str, config: &str| {
        format!(
            "---\napiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {{name: {name}-{set}}}\nspec:\n  targetRefs: \
             [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: {route}}}]\n  module: {{file: ./{file}}}\n  \
             config: {config}\n"
        )
    };
    filter("config", "test_filter.wasm", &config.to_string()) + &filter("module", &format!("{set}.wasm"), "{}")
}

/// Stamps its version on answers.
fn module(version: usize) -> Vec<u8> {
    let text = r#"(module
        (import "env" "proxy_replace_header_map_value" (func $set (param i32 i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 16) "x-module") (data (i32.const 32) "VERSION")
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
        (func (export "proxy_on_context_create") (param i32 i32))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            (call $set (i32.const 2) (i32.const 16) (i32.const 8) (i32.const 32) (i32.const 6))))"#;
    module_of_wat(&text.replace("VERSION", &format!("{version:06}")))
}

/// How long each change took, by what and how.
#[derive(Default)]
struct Times(BTreeMap<Key, Vec<Duration>>);

type Key = (Subject, Way);

impl Times {
    fn of(&self, wanted: impl Fn(Subject) -> bool) -> Vec<Duration> {
        let wanted = self.0.iter().filter(|((subject, _), _)| wanted(*subject));
        wanted.flat_map(|(_, times)| times.iter().copied()).collect()
    }

    fn print(&self) {
        for ((subject, way), times) in &self.0 {
            print_times(&format!("{subject:?} by {way:?}"), times);
        }
    }
}

fn print_times(what: &str, times: &[Duration]) {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (p50, p99, max) = (percentile(times, 50), percentile(times, 99), percentile(times, 100));
    println!(
        "{what:<28} {:5} times  p50 {:6.1} ms  p99 {:6.1} ms  max {:6.1} ms",
        times.len(),
        ms(p50),
        ms(p99),
        ms(max)
    );
}

/// A client that checks every answer: the right route, in the old version or the new one.
struct Checker {
    client: Client,
    /// Versions by route and header.
    versions: BTreeMap<(String, &'static str), usize>,
}

impl Checker {
    /// How long until the new version serves. From then on the old one must not come back.
    async fn wait_for(&mut self, path: &str, header: &'static str, version: usize) -> Duration {
        let since = Instant::now();
        let old = self.versions.insert((path.to_owned(), header), version).unwrap_or(0);
        within("the change to serve", async {
            while self.seen(path, header).await != version {
                let seen = self.seen(path, header).await;
                assert!(seen == old || seen == version, "{header} of {path} is {seen}, not {old} or {version}");
            }
        })
        .await;
        let took = since.elapsed();
        assert_eq!(self.seen(path, header).await, version, "{header} of {path} went back");
        took
    }

    async fn seen(&mut self, path: &str, header: &str) -> usize {
        let answer = self.client.get(path).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, path));
        assert_eq!(answer.header("x-route"), Some(path), "misrouted");
        answer.header(header).and_then(|version| version.parse().ok()).unwrap_or_else(|| panic!("no {header}"))
    }
}

async fn start(origin: SocketAddr) -> (Proxy, Volume) {
    let mut resources = Resources::new().service("origin", &[origin]).yaml(&routes(20..ROUTES, 0));
    let test_filter = std::fs::read(harness::test_filter()).unwrap();
    resources = resources.file("test_filter.wasm", test_filter);
    let mut linked = BTreeMap::new();
    for subject in [Subject::Route, Subject::Config, Subject::Module] {
        let (name, bytes) = subject.file('a', 0);
        resources = resources.file(&name, bytes);
        linked.extend([subject.file('b', 0)]);
    }
    let options = ProxyOptions { fresh_cache: true, ..ProxyOptions::default() };
    let proxy = Proxy::start_with(&resources, options).await;
    let volume = Volume::new(proxy.config(), linked);
    until("the linked routes to serve", async || (proxy.get("/r10").await.status == 200).then_some(())).await;
    (proxy, volume)
}

/// How long the proxy says that it has compiled, in the lines of its log after `seen`: the longest, if there are several.
fn compile_time(log: &str, seen: usize) -> Duration {
    let lines = log[seen..].lines().filter(|line| line.contains("module compiled"));
    let times = lines.filter_map(|line| line.split("duration_ms=").nth(1)?.split(' ').next()?.parse().ok());
    Duration::from_millis(times.max().unwrap_or(0))
}

async fn control(checker: &mut Checker, count: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for number in 0..count {
        let since = Instant::now();
        checker.seen(&format!("/r{}", number % 10), "x-version").await;
        times.push(since.elapsed());
    }
    times
}

async fn change(number: usize, proxy: &Proxy, (volume, checker): (&mut Volume, &mut Checker)) -> (Key, Duration) {
    let (subject, way) = (Subject::of(number), WAYS[number / 2 % 3]);
    let set = if way == Way::Link { 'b' } else { 'a' };
    let version = number + 1;
    let (file, bytes) = subject.file(set, version);
    let seen = if subject == Subject::Module { proxy.log().len() } else { 0 };
    volume.write(way, &file, &bytes).await;
    let path = format!("/r{}", range_of(set).start);
    let took = checker.wait_for(&path, subject.header(), version).await;
    let compiling = if subject == Subject::Module { compile_time(&proxy.log(), seen) } else { Duration::ZERO };
    ((subject, way), took.saturating_sub(compiling))
}

#[tokio::test]
async fn changes_serve_at_once_and_fail_nobody() {
    let _machine = machine().await;
    let (proxy, mut volume) = start(path_origin::start()).await;
    let address = proxy.address().await;
    let mut checker = Checker { client: Client::http1(address).await, versions: BTreeMap::new() };
    let load = Load::start(address, 16, SCRIPT);
    let changes = setting("WEIR_CHANGES", CHANGES);

    let mut still = control(&mut checker, changes).await;
    let mut times = Times::default();
    for number in 0..changes {
        let (key, took) = change(number, &proxy, (&mut volume, &mut checker)).await;
        times.0.entry(key).or_default().push(took);
    }
    still.extend(control(&mut checker, changes).await);
    let figures = load.stop().await;

    print_times("control, no change", &still);
    times.print();
    println!("wrk: {figures:?}");
    assert_nothing_failed(&proxy, &figures, changes);
    let control = percentile(&still, 99);
    let edits = times.of(|subject| subject != Subject::Module);
    let modules = times.of(|subject| subject == Subject::Module);
    for (what, times) in [("edits", &edits), ("modules, less their compile time", &modules)] {
        print_times(what, times);
        let beyond = percentile(times, 99).saturating_sub(control);
        println!("{what}: p99 beyond the control's is {:.1} ms", beyond.as_secs_f64() * 1e3);
        // Other programs on the machine delay single changes; they do not delay half of them.
        assert!(percentile(times, 50) <= control + BUDGET, "{what} take too long");
    }
}

fn assert_nothing_failed(proxy: &Proxy, figures: &Figures, changes: usize) {
    assert!(figures.requests > 0, "no load");
    assert_eq!((figures.wrong, figures.broken), (0, 0), "requests failed or went astray");
    let log = proxy.log();
    let refusals: Vec<&str> = log.lines().filter(|line| line.contains("refused")).collect();
    assert!(refusals.is_empty(), "{} spurious refusals in {changes} changes:\n{}", refusals.len(), refusals.join("\n"));
}
