//! Acceptance test of live changes. Routes, filter configurations and modules are edited while `wrk` runs over 100
//! routes. Each edit must serve within 30 ms, a module within its compile time and 30 ms. No request may fail or be
//! misrouted.
//!
//! The suite makes 300 edits; `WEIR_CHANGES=1000` makes 1,000.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use harness::{Client, Proxy, ProxyOptions, Resources, wait_until, wasm_from_wat, with_deadline};
use serde_json::json;
use tokio::time::Instant;

use crate::load::{Load, LoadStats};
use crate::watched_folder::{WRITE_STYLES, WatchedFolder, WriteStyle};
use crate::{lock_machine, number_from_env, path_origin, percentile};

const ROUTES: usize = 100;

/// Edits by default.
const CHANGES: usize = 300;

/// Longest time from the write until it serves, in addition to the duration of a request without a change.
const BUDGET: Duration = Duration::from_millis(30);

/// Script of wrk: requests each route in turn. The origin responds with the path; each route sets its own in `x-route`.
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

/// Kind of an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum EditKind {
    Route,
    Config,
    Module,
}

impl EditKind {
    /// Returns the kind of an edit. Of ten edits six are of routes, three of filter configurations, one of a module.
    fn of(edit: usize) -> Self {
        match edit % 10 {
            0 => Self::Module,
            1..=3 => Self::Config,
            _ => Self::Route,
        }
    }

    /// Returns the response header that has the version.
    fn header(self) -> &'static str {
        match self {
            Self::Route => "x-version",
            Self::Config => "x-config",
            Self::Module => "x-module",
        }
    }

    /// Returns the name of the file and its content of a version. Set `a` has plain files, set `b` linked ones.
    fn file(self, set: char, version: usize) -> (String, Vec<u8>) {
        match self {
            Self::Route => (format!("routes-{set}.yaml"), routes(range_of(set), version).into_bytes()),
            Self::Config => (format!("filters-{set}.yaml"), filters(set, version).into_bytes()),
            Self::Module => (format!("{set}.wasm"), module(version)),
        }
    }
}

/// Returns the routes of a set of files: `a` has plain files, `b` linked ones. Other routes never change.
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

/// Returns two filters of the first route of a set: one whose configuration changes and one whose module changes.
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

/// Returns a module that sets its version in the responses' `x-module`.
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
    wasm_from_wat(&text.replace("VERSION", &format!("{version:06}")))
}

/// Time until each edit served, by kind and style.
#[derive(Default)]
struct ApplyTimes(BTreeMap<EditKey, Vec<Duration>>);

type EditKey = (EditKind, WriteStyle);

impl ApplyTimes {
    fn select(&self, is_selected: impl Fn(EditKind) -> bool) -> Vec<Duration> {
        let selected = self.0.iter().filter(|((kind, _), _)| is_selected(*kind));
        selected.flat_map(|(_, times)| times.iter().copied()).collect()
    }

    fn print(&self) {
        for ((kind, style), times) in &self.0 {
            print_times(&format!("{kind:?} by {style:?}"), times);
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

/// A client that checks every response: it is of the expected route, in the old version or the new one.
struct Checker {
    client: Client,
    /// Expected versions by route and header.
    versions: BTreeMap<(String, &'static str), usize>,
}

impl Checker {
    /// Blocks until the new version serves and returns the elapsed time. Panics if the old version serves afterwards.
    async fn wait_for(&mut self, path: &str, header: &'static str, version: usize) -> Duration {
        let start = Instant::now();
        let old = self.versions.insert((path.to_owned(), header), version).unwrap_or(0);
        with_deadline("the change to serve", async {
            while self.version_served(path, header).await != version {
                let served = self.version_served(path, header).await;
                assert!(served == old || served == version, "{header} of {path} is {served}, not {old} or {version}");
            }
        })
        .await;
        let elapsed = start.elapsed();
        assert_eq!(self.version_served(path, header).await, version, "{header} of {path} went back");
        elapsed
    }

    async fn version_served(&mut self, path: &str, header: &str) -> usize {
        let response = self.client.get(path).await;
        assert_eq!((response.status, response.text().as_str()), (200, path));
        assert_eq!(response.header("x-route"), Some(path), "misrouted");
        response.header(header).and_then(|version| version.parse().ok()).unwrap_or_else(|| panic!("no {header}"))
    }
}

async fn start(origin: SocketAddr) -> (Proxy, WatchedFolder) {
    let mut resources = Resources::new().service("origin", &[origin]).yaml(&routes(20..ROUTES, 0));
    let test_filter = std::fs::read(harness::test_filter()).unwrap();
    resources = resources.file("test_filter.wasm", test_filter);
    let mut linked = BTreeMap::new();
    for kind in [EditKind::Route, EditKind::Config, EditKind::Module] {
        let (name, bytes) = kind.file('a', 0);
        resources = resources.file(&name, bytes);
        linked.extend([kind.file('b', 0)]);
    }
    let options = ProxyOptions { fresh_cache: true, ..ProxyOptions::default() };
    let proxy = Proxy::start_with(&resources, options).await;
    let folder = WatchedFolder::new(proxy.config(), linked);
    wait_until("the linked routes to serve", async || (proxy.get("/r10").await.status == 200).then_some(())).await;
    (proxy, folder)
}

/// Returns the longest compile time that the proxy reports in its log after the byte `offset`.
fn compile_time(log: &str, offset: usize) -> Duration {
    let lines = log[offset..].lines().filter(|line| line.contains("module compiled"));
    let times = lines.filter_map(|line| line.split("duration_ms=").nth(1)?.split(' ').next()?.parse().ok());
    Duration::from_millis(times.max().unwrap_or(0))
}

async fn measure_control(checker: &mut Checker, count: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for number in 0..count {
        let start = Instant::now();
        checker.version_served(&format!("/r{}", number % 10), "x-version").await;
        times.push(start.elapsed());
    }
    times
}

/// Makes one edit. Returns its kind and style, and the time until it serves. The compile time of a module is not
/// counted.
async fn apply_edit(
    number: usize,
    proxy: &Proxy,
    folder: &mut WatchedFolder,
    checker: &mut Checker,
) -> (EditKey, Duration) {
    let (kind, style) = (EditKind::of(number), WRITE_STYLES[number / 2 % 3]);
    let set = if style == WriteStyle::Link { 'b' } else { 'a' };
    let version = number + 1;
    let (file, bytes) = kind.file(set, version);
    let offset = if kind == EditKind::Module { proxy.log().len() } else { 0 };
    folder.write(style, &file, &bytes).await;
    let path = format!("/r{}", range_of(set).start);
    let elapsed = checker.wait_for(&path, kind.header(), version).await;
    let compiling = if kind == EditKind::Module { compile_time(&proxy.log(), offset) } else { Duration::ZERO };
    ((kind, style), elapsed.saturating_sub(compiling))
}

#[tokio::test]
async fn config_changes_serve_within_budget_and_fail_no_request() {
    let _machine = lock_machine().await;
    let (proxy, mut folder) = start(path_origin::start()).await;
    let address = proxy.address().await;
    let mut checker = Checker { client: Client::http1(address).await, versions: BTreeMap::new() };
    let load = Load::start(address, 16, SCRIPT);
    let changes = number_from_env("WEIR_CHANGES", CHANGES);

    let mut control_times = measure_control(&mut checker, changes).await;
    let mut times = ApplyTimes::default();
    for number in 0..changes {
        let (key, elapsed) = apply_edit(number, &proxy, &mut folder, &mut checker).await;
        times.0.entry(key).or_default().push(elapsed);
    }
    control_times.extend(measure_control(&mut checker, changes).await);
    let stats = load.stop().await;

    print_times("control, no change", &control_times);
    times.print();
    println!("wrk: {stats:?}");
    assert_nothing_failed(&proxy, &stats, changes);
    let control = percentile(&control_times, 99);
    let edits = times.select(|kind| kind != EditKind::Module);
    let modules = times.select(|kind| kind == EditKind::Module);
    for (what, times) in [("edits", &edits), ("modules, less their compile time", &modules)] {
        print_times(what, times);
        let beyond = percentile(times, 99).saturating_sub(control);
        println!("{what}: p99 beyond the control's is {:.1} ms", beyond.as_secs_f64() * 1e3);
        // Other programs on the machine delay single changes, not half of them.
        assert!(percentile(times, 50) <= control + BUDGET, "{what} take too long");
    }
}

fn assert_nothing_failed(proxy: &Proxy, stats: &LoadStats, changes: usize) {
    assert!(stats.requests > 0, "no load");
    assert_eq!((stats.wrong, stats.broken), (0, 0), "requests failed or were misrouted");
    let log = proxy.log();
    let rejections: Vec<&str> = log.lines().filter(|line| line.contains("configuration rejected")).collect();
    assert!(
        rejections.is_empty(),
        "{} spurious rejections in {changes} changes:\n{}",
        rejections.len(),
        rejections.join("\n")
    );
}
