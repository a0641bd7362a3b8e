//! Several filters in one VM; filters that no request goes through; filters that are told of the ends of requests alone.

use std::sync::Arc;

use harness::{
    Codec, Filter, Module, Origin, Proxy, ProxyOptions, Resources, Wire, WireOrigin, empty, full, in_steps,
    module_of_wat, until,
};
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::sync::{Barrier, Semaphore};

/// A filter of `shared.wat`, by its root id.
fn filter(name: &'static str, fields: &str) -> Filter {
    let module = Module::Bytes("shared.wasm", module_of_wat(include_str!("wat/shared.wat")));
    Filter::of(name, module).with(format!("rootId: {name}, {fields}"))
}

const TOGETHER: &str = "vm: {id: shared}";

/// What the origin was told by the filters of a request: counts, and root ids.
async fn passes(origin: &Origin, proxy: &Proxy) -> (Vec<String>, Vec<String>) {
    assert_eq!(proxy.get("/").await.status, 200);
    (last(origin, "x-count"), last(origin, "x-root"))
}

/// The values of a header of the last request.
fn last(origin: &Origin, name: &str) -> Vec<String> {
    origin.last().headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

fn counts(numbers: [u8; 2]) -> Vec<String> {
    numbers.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn filters_with_one_vm_share_what_it_knows() {
    let origin = Origin::echoes(Codec::Http1).await;
    let with = |one: &str, two: &str| {
        Resources::forward_to(origin.address()).filter(filter("a", one)).filter(filter("b", two))
    };
    let proxy = Proxy::start(&with(TOGETHER, TOGETHER)).await;
    let changed = Resources::forward_to(origin.address())
        .filter(filter("a", TOGETHER))
        .filter(Filter { config: json!({"changed": true}), ..filter("b", TOGETHER) });
    let roots = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(passes(&origin, &proxy).await, (counts([1, 2]), roots.clone()));
    assert_eq!(passes(&origin, &proxy).await, (counts([3, 4]), roots.clone()));
    assert_eq!(proxy.metric("filter_vms").await, 1.0, "there is one VM");
    let plugins = proxy.json("/plugins").await;
    assert_eq!((&plugins[0]["vms"], &plugins[1]["vms"]), (&json!(1), &json!(1)));

    // A change of one of them is a new VM for both, and no request is lost.
    proxy.change(&changed).await;
    assert_eq!(passes(&origin, &proxy).await, (counts([1, 2]), roots.clone()));
    until("the old VM to be gone", async || (proxy.metric("filter_vms").await == 1.0).then_some(())).await;

    // With another id, another VM configuration, or none, or when it may use or do other things, each has a VM of its own.
    for two in [
        "",
        "vm: {id: other}",
        "vm: {id: shared, config: other}",
        "vm: {id: shared}, recycle: {requests: 9}",
        "vm: {id: shared}, limits: {memory: 2Mi}",
        "vm: {id: shared}, allow: {services: []}",
    ] {
        proxy.change(&with(TOGETHER, two)).await;
        let (counts, _) = passes(&origin, &proxy).await;
        assert_eq!(counts[1], "1", "{two}");
    }
}

#[tokio::test]
async fn a_failure_of_one_is_a_new_vm_for_all() {
    let origin = Origin::echoes(Codec::Http1).await;
    let resources = Resources::forward_to(origin.address())
        .filter(filter("a", "vm: {id: shared}, failure: Open"))
        .filter(filter("b", TOGETHER));
    let proxy = Proxy::start(&resources).await;
    assert_eq!(passes(&origin, &proxy).await.0, counts([1, 2]));
    let trap = |root: &'static str| Request::get("/").header("x-trap", root).body(empty()).unwrap();
    let mut client = proxy.client().await;
    assert_eq!(client.send(trap("b")).await.status, 503);
    let reserve = async || (proxy.json("/plugins").await[1]["spareVms"] == 1).then_some(());
    until("a VM in reserve", reserve).await;
    assert_eq!(passes(&origin, &proxy).await.0, counts([1, 2]), "the VM is another one for both");
    until("a VM in reserve", reserve).await;
    // The policy is each one's own: without `a` the request goes on, to a new VM.
    assert_eq!(client.send(trap("a")).await.status, 200);
    assert_eq!(last(&origin, "x-count"), ["3", "1"], "what it had done is done; the other one is in a new VM");
    assert_eq!(passes(&origin, &proxy).await.0, counts([2, 3]));
}

#[tokio::test]
async fn who_fails_too_often_is_left_out_of_a_vm_that_others_have_started_anew() {
    let origin = Origin::echoes(Codec::Http1).await;
    let resources = Resources::forward_to(origin.address())
        .filter(filter("a", "vm: {id: shared}, failure: Open"))
        .filter(filter("b", "vm: {id: shared}, failure: Open"));
    let proxy = Proxy::start(&resources).await;
    let mut client = proxy.client().await;
    let mut failures = 0.0;
    while !proxy.log().contains("filter failed too often") {
        let failed = Request::get("/").header("x-trap", "a").body(empty()).unwrap();
        assert_eq!(client.send(failed).await.status, 200);
        failures += 1.0;
        assert!(failures < 50.0, "its breaker stays closed");
        until("a VM in reserve", async || (proxy.json("/plugins").await[1]["spareVms"] == 1).then_some(())).await;
    }
    until("the other one to be called alone", async || (passes(&origin, &proxy).await.1 == ["b"]).then_some(())).await;
}

/// Answers two callouts when both have come.
async fn answers_two_at_once() -> Origin {
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
async fn callouts_of_all_filters_of_a_vm_have_numbers_of_their_own() {
    let (origin, asked) = (Origin::echoes(Codec::Http1).await, answers_two_at_once().await);
    // The module keeps its callouts by number, and panics when a number comes twice.
    let asks = |name: &'static str, path: &str| {
        let call = json!({"do": "call", "path": path, "service": "default/asked:80", "to": "/", "timeout_ms": 20000});
        let config = json!({
            "request_headers": [call],
            "call_response": [{"do": "resume", "direction": "request"}],
            "response_headers": [{"do": "set", "path": path, "name": "x-filter", "value": name}],
        });
        Filter::test(name, config).with(TOGETHER)
    };
    let resources = Resources::forward_to(origin.address())
        .service("asked", &[asked.address()])
        .filter(asks("a", "/a"))
        .filter(asks("b", "/b"));
    let proxy = Proxy::start(&resources).await;
    let (mut one, mut two) = (proxy.client().await, proxy.client().await);
    let (one, two) = tokio::join!(one.get("/a"), two.get("/b"));
    assert_eq!((one.status, one.header("x-filter")), (200, Some("a")));
    assert_eq!((two.status, two.header("x-filter")), (200, Some("b")));
    assert_eq!(proxy.metric("filter_vms").await, 1.0, "there is one VM");
}

#[tokio::test]
async fn a_filter_that_leaves_a_vm_lets_the_streams_of_others_go_on() {
    let origin = Origin::echoes(Codec::Http1).await;
    // One ticks all the time; the other has a request under way when both go.
    let ticks = Filter::test("a", json!({"tick_ms": 10, "tick": [{"do": "count", "metric": "ticks"}]})).with(TOGETHER);
    let ends = json!({"do": "append_body", "text": ", says b"});
    let marks = Filter::test("b", json!({"request_body": [ends], "tick_ms": 10})).with(TOGETHER);
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(ticks).filter(marks)).await;
    let (mut client, (sender, body)) = (proxy.client().await, in_steps());
    let response = client.begin(Request::post("/").body(body).unwrap()).await;
    assert_eq!(proxy.metric("filter_vms").await, 1.0, "there is one VM");
    proxy.change(&Resources::forward_to(origin.address())).await;
    sender.data("hello").await;
    drop(sender);
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "hello, says b");
    until("the VM to be gone", async || (proxy.metric("filter_vms").await == 0.0).then_some(())).await;
    assert!(!proxy.log().contains("filter failed"), "{}", proxy.log());
}

#[tokio::test]
async fn an_answer_that_comes_when_its_plugin_has_left_disturbs_nobody() {
    let (origin, answers) = (Origin::echoes(Codec::Http1).await, Arc::new(Semaphore::new(0)));
    let waits = Arc::clone(&answers);
    let asked = Origin::start(Codec::Http1, move |_| {
        let waits = Arc::clone(&waits);
        async move {
            waits.acquire().await.unwrap().forget();
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
        .service("asked", &[asked.address()])
        .route("a", &rules("a", "origin"))
        .route("b", &rules("b", "origin"))
        .route("asked", &rules("asked", "asked"));
    let leaves = |name: &'static str| {
        let module = Module::Bytes("leaves.wasm", module_of_wat(include_str!("wat/leaves.wat")));
        Filter::of(name, module).with(TOGETHER).before(name)
    };
    let proxy = Proxy::start(&without.clone().filter(leaves("a")).filter(leaves("b"))).await;
    let (mut client, (sender, body)) = (proxy.client().await, in_steps());
    let response = client.begin(Request::post("/b").body(body).unwrap()).await;
    proxy.change(&without).await;
    asked.wait_for(1).await; // The first one has left; the other one still has a request.
    answers.add_permits(3);
    // What is asked later is answered later.
    assert_eq!(proxy.get("/asked").await.text(), "late");
    sender.data("hello").await;
    drop(sender);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
    until("the VM to be gone", async || (proxy.metric("filter_vms").await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn whose_ticks_fail_too_often_does_not_tick_in_a_vm_of_others() {
    let origin = Origin::echoes(Codec::Http1).await;
    let fails = json!({"tick_ms": 10, "tick": [{"do": "panic"}]});
    let fails = Filter::test("a", fails).with("vm: {id: shared}, failure: Open");
    let mark = json!({"do": "set", "name": "x-filter", "value": "b"});
    let marks = Filter::test("b", json!({"response_headers": [mark]})).with(TOGETHER);
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(fails).filter(marks)).await;
    let mut client = proxy.client().await;
    // A request starts a VM, in which the first one ticks and fails; until it has failed too often.
    until("its breaker to open", async || {
        client.get("/").await;
        proxy.log().contains("filter failed too often").then_some(())
    })
    .await;
    let failures = || proxy.log().lines().filter(|line| line.contains("filter failed; its VM")).count();
    until("the other one to be called", async || (client.get("/").await.header("x-filter") == Some("b")).then_some(()))
        .await;
    let before = failures();
    for _ in 0..200 {
        client.get("/").await;
    }
    assert!(failures() <= before + 1, "{}", proxy.log());
}

#[tokio::test]
async fn the_one_that_refuses_its_configuration_is_named() {
    let origin = Origin::echoes(Codec::Http1).await;
    let with = |config: &str| {
        let two = Filter { config: json!(config), ..filter("b", TOGETHER) };
        Resources::forward_to(origin.address()).filter(filter("a", TOGETHER)).filter(two)
    };
    let proxy = Proxy::start(&with("yes")).await;
    proxy.apply(&with("no"));
    let log = proxy.wait_for_log("refused").await;
    assert!(log.contains("default/b"), "{log}");
    assert_eq!(passes(&origin, &proxy).await.0, counts([1, 2]), "what was there goes on");
}

/// `service.wat`, which traps when a request reaches it.
fn service(fields: &'static str) -> Filter {
    Filter::of("counts", Module::Bytes("service.wasm", module_of_wat(include_str!("wat/service.wat")))).with(fields)
}

const TICKS: &str = "filter_custom_ticks{plugin=\"default/counts\"}";
const ENDS: &str = "filter_custom_ends{plugin=\"default/counts\"}";

#[tokio::test]
async fn a_service_runs_once_in_the_process_and_sees_no_request() {
    let origin = Origin::says("hello").await;
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
    // It ends with its configuration.
    proxy.change(&Resources::forward_to(origin.address())).await;
    until("its VM to be gone", async || (proxy.metric("filter_vms").await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn a_service_that_fails_starts_again_though_no_request_comes() {
    let origin = Origin::says("hello").await;
    let module = Module::Bytes("tires.wasm", module_of_wat(include_str!("wat/tires.wat")));
    let tires = Filter::of("counts", module).with("isolation: Process");
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(tires)).await;
    // Each VM has two before it fails.
    proxy.wait_for_metric(TICKS, |ticks| ticks > 2.0).await;
    proxy.wait_for_log("proxy_on_tick").await;
}

#[tokio::test]
async fn what_fails_when_its_configuration_goes_is_heard_of() {
    let origin = Origin::says("hello").await;
    let done = "(func (export \"proxy_on_done\") (param i32) (result i32) unreachable)";
    let text = include_str!("wat/service.wat").replacen("(memory", &format!("{done} (memory"), 1);
    let fails = Filter::of("fails", Module::Bytes("fails.wasm", module_of_wat(&text))).with("isolation: Process");
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(fails)).await;
    until("its VM to run", async || (proxy.metric("filter_vms").await == 1.0).then_some(())).await;
    proxy.change(&Resources::forward_to(origin.address())).await;
    let log = proxy.wait_for_log("filter failed").await;
    assert!(log.contains("proxy_on_done"), "{log}");
}

#[tokio::test]
async fn how_a_vm_ends_is_nothing_to_the_next_one() {
    let origin = Origin::echoes(Codec::Http1).await;
    let done = "(func (export \"proxy_on_done\") (param $context i32) (result i32)
        (if (i32.eq (local.get $context) (i32.const 1)) (then unreachable)) (i32.const 1))";
    let text = include_str!("wat/shared.wat").replacen("(memory", &format!("{done} (memory"), 1);
    let fails = Filter::of("a", Module::Bytes("ends.wasm", module_of_wat(&text))).with("recycle: {requests: 2}");
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(fails)).await;
    let mut client = proxy.client().await;
    // Three failures would open a breaker.
    until("six VMs to have failed at their end", async || {
        assert_eq!(client.get("/").await.status, 200);
        (proxy.log().lines().filter(|line| line.contains("filter failed; its VM")).count() >= 6).then_some(())
    })
    .await;
    assert!(!proxy.log().contains("filter failed too often"), "{}", proxy.log());
}

#[tokio::test]
async fn an_access_log_is_told_of_ends_alone() {
    let origin = Origin::says("hello").await;
    let resources = Resources::forward_to(origin.address()).filter(service("phase: Log"));
    let proxy = Proxy::start(&resources).await;
    for number in 1..=5 {
        assert_eq!(proxy.client().await.post("/", "body").await.status, 200);
        proxy.wait_for_metric(ENDS, |ends| ends == f64::from(number)).await;
    }
}

#[tokio::test]
async fn an_access_log_is_told_of_connections() {
    let origin = WireOrigin::start(|mut wire| async move { wire.send("hello").await }).await;
    let log = service("phase: Log").before_tcp("everything");
    let proxy = Proxy::start(&Resources::forward_tcp_to(origin.address()).filter(log)).await;
    for number in 1..=5 {
        let mut wire = Wire::connect(proxy.listener("default/edge/tcp").await).await;
        assert_eq!(wire.rest().await, "hello");
        drop(wire);
        proxy.wait_for_metric(ENDS, |ends| ends == f64::from(number)).await;
    }
}
