//! Several filters in one VM, singleton filters without requests, and log filters that run at the end of requests only.

use std::sync::Arc;

use harness::{
    Codec, Filter, Module, Origin, Proxy, ProxyOptions, RawConnection, RawOrigin, Resources, body_channel, empty, full,
    wait_until, wasm_from_wat,
};
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::sync::{Barrier, Semaphore};

/// Returns a filter of `shared_vm.wat`, by its root id.
fn filter(name: &'static str, fields: &str) -> Filter {
    let module = Module::Bytes("shared.wasm", wasm_from_wat(include_str!("wat/shared_vm.wat")));
    Filter::new(name, module).with_fields(format!("rootId: {name}, {fields}"))
}

const TOGETHER: &str = "vm: {id: shared}";

/// Sends a request, and returns the counts and root ids that its filters have added.
async fn get_passes(origin: &Origin, proxy: &Proxy) -> (Vec<String>, Vec<String>) {
    assert_eq!(proxy.get("/").await.status, 200);
    (last(origin, "x-count"), last(origin, "x-root"))
}

/// Returns the values of a header of the last request.
fn last(origin: &Origin, name: &str) -> Vec<String> {
    origin.last().headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

fn counts(numbers: [u8; 2]) -> Vec<String> {
    numbers.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn filters_with_same_vm_id_share_vm() {
    let origin = Origin::echo(Codec::Http1).await;
    let with = |one: &str, two: &str| {
        Resources::forward_to(origin.address()).filter(filter("a", one)).filter(filter("b", two))
    };
    let proxy = Proxy::start(&with(TOGETHER, TOGETHER)).await;
    let changed = Resources::forward_to(origin.address())
        .filter(filter("a", TOGETHER))
        .filter(Filter { config: json!({"changed": true}), ..filter("b", TOGETHER) });
    let roots = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(get_passes(&origin, &proxy).await, (counts([1, 2]), roots.clone()));
    assert_eq!(get_passes(&origin, &proxy).await, (counts([3, 4]), roots.clone()));
    assert_eq!(proxy.metric("weir_filter_vms").await, 1.0, "there is one VM");
    let plugins = proxy.json("/plugins").await;
    assert_eq!((&plugins[0]["vms"], &plugins[1]["vms"]), (&json!(1), &json!(1)));

    // A change of one filter replaces the VM of both, and no request fails.
    proxy.apply_and_wait(&changed).await;
    assert_eq!(get_passes(&origin, &proxy).await, (counts([1, 2]), roots.clone()));
    wait_until("the old VM to be dropped", async || (proxy.metric("weir_filter_vms").await == 1.0).then_some(())).await;

    // Filters with different VM ids, VM configurations, limits or permissions have separate VMs.
    for two in [
        "",
        "vm: {id: other}",
        "vm: {id: shared, config: other}",
        "vm: {id: shared}, recycle: {requests: 9}",
        "vm: {id: shared}, limits: {memory: 2Mi}",
        "vm: {id: shared}, allow: {services: []}",
    ] {
        proxy.apply_and_wait(&with(TOGETHER, two)).await;
        let (counts, _) = get_passes(&origin, &proxy).await;
        assert_eq!(counts[1], "1", "{two}");
    }
}

#[tokio::test]
async fn failure_in_shared_vm_replaces_vm_for_all() {
    let origin = Origin::echo(Codec::Http1).await;
    let resources = Resources::forward_to(origin.address())
        .filter(filter("a", "vm: {id: shared}, failurePolicy: FailOpen"))
        .filter(filter("b", TOGETHER));
    let proxy = Proxy::start(&resources).await;
    assert_eq!(get_passes(&origin, &proxy).await.0, counts([1, 2]));
    let trap = |root: &'static str| Request::get("/").header("x-trap", root).body(empty()).unwrap();
    let mut client = proxy.client().await;
    assert_eq!(client.send(trap("b")).await.status, 503);
    let reserve = async || (proxy.json("/plugins").await[1]["spareVms"] == 1).then_some(());
    wait_until("a VM in reserve", reserve).await;
    assert_eq!(get_passes(&origin, &proxy).await.0, counts([1, 2]), "both filters have a new VM");
    wait_until("a VM in reserve", reserve).await;
    // Each filter has its own failure policy: `a` is skipped, and `b` runs in a new VM.
    assert_eq!(client.send(trap("a")).await.status, 200);
    assert_eq!(last(&origin, "x-count"), ["3", "1"], "the header of `a` stays, and `b` runs in a new VM");
    assert_eq!(get_passes(&origin, &proxy).await.0, counts([2, 3]));
}

#[tokio::test]
async fn breaker_keeps_failing_filter_out_of_new_shared_vm() {
    let origin = Origin::echo(Codec::Http1).await;
    let resources = Resources::forward_to(origin.address())
        .filter(filter("a", "vm: {id: shared}, failurePolicy: FailOpen"))
        .filter(filter("b", "vm: {id: shared}, failurePolicy: FailOpen"));
    let proxy = Proxy::start(&resources).await;
    let mut client = proxy.client().await;
    let mut failures = 0.0;
    while !proxy.log().contains("filter failed too often") {
        let failed = Request::get("/").header("x-trap", "a").body(empty()).unwrap();
        assert_eq!(client.send(failed).await.status, 200);
        failures += 1.0;
        assert!(failures < 50.0, "the breaker stays closed");
        wait_until("a VM in reserve", async || (proxy.json("/plugins").await[1]["spareVms"] == 1).then_some(())).await;
    }
    wait_until("only the other filter to run", async || (get_passes(&origin, &proxy).await.1 == ["b"]).then_some(()))
        .await;
}

/// Starts an origin that responds to two callouts when both have arrived.
async fn origin_that_responds_to_pairs() -> Origin {
    let both = Arc::new(Barrier::new(2));
    Origin::start(Codec::Http1, move |_| {
        let both = Arc::clone(&both);
        async move {
            both.wait().await;
            Ok(Response::new(full("yes")))
        }
    })
    .await
}

#[tokio::test]
async fn callout_ids_are_unique_in_shared_vm() {
    let (origin, callee) = (Origin::echo(Codec::Http1).await, origin_that_responds_to_pairs().await);
    // The module stores its callouts by id, and panics on a duplicate id.
    let calling_filter = |name: &'static str, path: &str| {
        let call = json!({"do": "call", "path": path, "service": "default/callee:80", "to": "/", "timeout_ms": 20000});
        let config = json!({
            "request_headers": [call],
            "call_response": [{"do": "resume", "direction": "request"}],
            "response_headers": [{"do": "set", "path": path, "name": "x-filter", "value": name}],
        });
        Filter::test(name, config).with_fields(TOGETHER)
    };
    let resources = Resources::forward_to(origin.address())
        .service("callee", &[callee.address()])
        .filter(calling_filter("a", "/a"))
        .filter(calling_filter("b", "/b"));
    let proxy = Proxy::start(&resources).await;
    let (mut one, mut two) = (proxy.client().await, proxy.client().await);
    let (one, two) = tokio::join!(one.get("/a"), two.get("/b"));
    assert_eq!((one.status, one.header("x-filter")), (200, Some("a")));
    assert_eq!((two.status, two.header("x-filter")), (200, Some("b")));
    assert_eq!(proxy.metric("weir_filter_vms").await, 1.0, "there is one VM");
}

#[tokio::test]
async fn removed_filter_preserves_streams_of_shared_vm() {
    let origin = Origin::echo(Codec::Http1).await;
    // One filter ticks; the other has a request in flight when both are removed.
    let ticks =
        Filter::test("a", json!({"tick_ms": 10, "tick": [{"do": "count", "metric": "ticks"}]})).with_fields(TOGETHER);
    let ends = json!({"do": "append_body", "text": ", by b"});
    let marks = Filter::test("b", json!({"request_body": [ends], "tick_ms": 10})).with_fields(TOGETHER);
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(ticks).filter(marks)).await;
    let (mut client, (sender, body)) = (proxy.client().await, body_channel());
    let response = client.send_head(Request::post("/").body(body).unwrap()).await;
    assert_eq!(proxy.metric("weir_filter_vms").await, 1.0, "there is one VM");
    proxy.apply_and_wait(&Resources::forward_to(origin.address())).await;
    sender.data("hello").await;
    drop(sender);
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "hello, by b");
    wait_until("the VM to be dropped", async || (proxy.metric("weir_filter_vms").await == 0.0).then_some(())).await;
    assert!(!proxy.log().contains("filter failed"), "{}", proxy.log());
}

#[tokio::test]
async fn callout_response_for_removed_plugin_is_ignored() {
    let (origin, permits) = (Origin::echo(Codec::Http1).await, Arc::new(Semaphore::new(0)));
    let handler_permits = Arc::clone(&permits);
    let callee = Origin::start(Codec::Http1, move |_| {
        let handler_permits = Arc::clone(&handler_permits);
        async move {
            handler_permits.acquire().await.unwrap().forget();
            Ok(Response::new(full("late")))
        }
    })
    .await;
    let rules = |path: &str, service: &str| {
        format!(
            "rules: [{{matches: [{{path: {{type: PathPrefix, value: /{path}}}}}], backendRefs: [{{name: {service}, port: 80}}]}}]"
        )
    };
    let without = Resources::new()
        .service("origin", &[origin.address()])
        .service("callee", &[callee.address()])
        .route("a", &rules("a", "origin"))
        .route("b", &rules("b", "origin"))
        .route("callee", &rules("callee", "callee"));
    let leaves = |name: &'static str| {
        let module = Module::Bytes("leaves.wasm", wasm_from_wat(include_str!("wat/callout_when_done.wat")));
        Filter::new(name, module).with_fields(TOGETHER).targeting(name)
    };
    let proxy = Proxy::start(&without.clone().filter(leaves("a")).filter(leaves("b"))).await;
    let (mut client, (sender, body)) = (proxy.client().await, body_channel());
    let response = client.send_head(Request::post("/b").body(body).unwrap()).await;
    proxy.apply_and_wait(&without).await;
    callee.wait_for(1).await; // The first plugin is removed; the second one has a request in flight.
    permits.add_permits(3);
    // The later request is answered after the earlier callouts.
    assert_eq!(proxy.get("/callee").await.text(), "late");
    sender.data("hello").await;
    drop(sender);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
    wait_until("the VM to be dropped", async || (proxy.metric("weir_filter_vms").await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn breaker_stops_ticks_in_shared_vm() {
    let origin = Origin::echo(Codec::Http1).await;
    let fails = json!({"tick_ms": 10, "tick": [{"do": "panic"}]});
    let fails = Filter::test("a", fails).with_fields("vm: {id: shared}, failurePolicy: FailOpen");
    let mark = json!({"do": "set", "name": "x-filter", "value": "b"});
    let marks = Filter::test("b", json!({"response_headers": [mark]})).with_fields(TOGETHER);
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(fails).filter(marks)).await;
    let mut client = proxy.client().await;
    // Each request starts a VM in which the first filter ticks and fails, until its breaker opens.
    wait_until("the breaker to open", async || {
        client.get("/").await;
        proxy.log().contains("filter failed too often").then_some(())
    })
    .await;
    let failures = || proxy.log().lines().filter(|line| line.contains("filter failed; its VM")).count();
    wait_until("the other filter to run", async || {
        (client.get("/").await.header("x-filter") == Some("b")).then_some(())
    })
    .await;
    let before = failures();
    for _ in 0..200 {
        client.get("/").await;
    }
    assert!(failures() <= before + 1, "{}", proxy.log());
}

#[tokio::test]
async fn rejected_configuration_in_shared_vm_names_filter() {
    let origin = Origin::echo(Codec::Http1).await;
    let with = |config: &str| {
        let two = Filter { config: json!(config), ..filter("b", TOGETHER) };
        Resources::forward_to(origin.address()).filter(filter("a", TOGETHER)).filter(two)
    };
    let proxy = Proxy::start(&with("yes")).await;
    proxy.apply(&with("no"));
    let log = proxy.wait_for_log("configuration rejected").await;
    assert!(log.contains("default/b"), "{log}");
    assert_eq!(get_passes(&origin, &proxy).await.0, counts([1, 2]), "the active configuration stays");
}

/// Returns the filter `singleton.wat`, which traps in each callback of a request.
fn service(fields: &'static str) -> Filter {
    Filter::new("counts", Module::Bytes("service.wasm", wasm_from_wat(include_str!("wat/singleton.wat"))))
        .with_fields(fields)
}

const TICKS: &str = "weir_filter_custom_ticks{filter=\"default/counts\"}";
const ENDS: &str = "weir_filter_custom_ends{filter=\"default/counts\"}";

#[tokio::test]
async fn singleton_filter_runs_once_without_requests() {
    let origin = Origin::text("hello").await;
    let resources = Resources::forward_to(origin.address()).filter(service("isolation: Process"));
    let options = ProxyOptions { workers: Some(2), ..ProxyOptions::default() };
    let proxy = Proxy::start_with(&resources, options).await;
    proxy.wait_for_metric(TICKS, |ticks| ticks >= 3.0).await;
    for _ in 0..8 {
        assert_eq!(proxy.get("/").await.status, 200);
    }
    let plugins = proxy.json("/plugins").await;
    assert_eq!((&plugins[0]["vms"], &plugins[0]["state"]), (&json!(1), &json!("running")), "{plugins}");
    assert_eq!(proxy.metric(ENDS).await, 0.0);
    // The VM is dropped with its configuration.
    proxy.apply_and_wait(&Resources::forward_to(origin.address())).await;
    wait_until("the VM to be dropped", async || (proxy.metric("weir_filter_vms").await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn failed_singleton_filter_restarts_without_requests() {
    let origin = Origin::text("hello").await;
    let module = Module::Bytes("tires.wasm", wasm_from_wat(include_str!("wat/traps_on_third_tick.wat")));
    let tires = Filter::new("counts", module).with_fields("isolation: Process");
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(tires)).await;
    // Each VM fails after two ticks.
    proxy.wait_for_metric(TICKS, |ticks| ticks > 2.0).await;
    proxy.wait_for_log("proxy_on_tick").await;
}

#[tokio::test]
async fn failure_at_shutdown_is_logged() {
    let origin = Origin::text("hello").await;
    let done = "(func (export \"proxy_on_done\") (param i32) (result i32) unreachable)";
    let text = include_str!("wat/singleton.wat").replacen("(memory", &format!("{done} (memory"), 1);
    let fails =
        Filter::new("fails", Module::Bytes("fails.wasm", wasm_from_wat(&text))).with_fields("isolation: Process");
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(fails)).await;
    wait_until("the VM to run", async || (proxy.metric("weir_filter_vms").await == 1.0).then_some(())).await;
    proxy.apply_and_wait(&Resources::forward_to(origin.address())).await;
    let log = proxy.wait_for_log("filter failed").await;
    assert!(log.contains("proxy_on_done"), "{log}");
}

#[tokio::test]
async fn shutdown_failure_does_not_open_breaker_of_successor_vm() {
    let origin = Origin::echo(Codec::Http1).await;
    let done = "(func (export \"proxy_on_done\") (param $context i32) (result i32)
        (if (i32.eq (local.get $context) (i32.const 1)) (then unreachable)) (i32.const 1))";
    let text = include_str!("wat/shared_vm.wat").replacen("(memory", &format!("{done} (memory"), 1);
    let fails =
        Filter::new("a", Module::Bytes("ends.wasm", wasm_from_wat(&text))).with_fields("recycle: {requests: 2}");
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(fails)).await;
    let mut client = proxy.client().await;
    // Three failures open a breaker.
    wait_until("six VMs to have failed at their end", async || {
        assert_eq!(client.get("/").await.status, 200);
        (proxy.log().lines().filter(|line| line.contains("filter failed; its VM")).count() >= 6).then_some(())
    })
    .await;
    assert!(!proxy.log().contains("filter failed too often"), "{}", proxy.log());
}

#[tokio::test]
async fn log_phase_filter_runs_at_end_of_requests() {
    let origin = Origin::text("hello").await;
    let resources = Resources::forward_to(origin.address()).filter(service("phase: Log"));
    let proxy = Proxy::start(&resources).await;
    for number in 1..=5 {
        assert_eq!(proxy.client().await.post("/", "body").await.status, 200);
        proxy.wait_for_metric(ENDS, |ends| ends == f64::from(number)).await;
    }
}

#[tokio::test]
async fn log_phase_filter_runs_at_end_of_connections() {
    let origin = RawOrigin::start(|mut wire| async move { wire.send("hello").await }).await;
    let log = service("phase: Log").targeting_tcp("everything");
    let proxy = Proxy::start(&Resources::forward_tcp_to(origin.address()).filter(log)).await;
    for number in 1..=5 {
        let mut wire = RawConnection::connect(proxy.listener("default/edge/tcp").await).await;
        assert_eq!(wire.rest().await, "hello");
        drop(wire);
        proxy.wait_for_metric(ENDS, |ends| ends == f64::from(number)).await;
    }
}
