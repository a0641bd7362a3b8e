//! `isolation: Stream`: each request has a VM of its own, so that what one does to its VM is nobody else's.

use std::time::Duration;

use harness::{Client, Codec, Filter, Module, Origin, Proxy, Resources, empty, module_of_wat, until};
use http::Request;
use serde_json::json;

async fn isolated(config: serde_json::Value, fields: &'static str) -> (Origin, Proxy) {
    let origin = Origin::echoes(Codec::Http1).await;
    let resources = Resources::forward_to(origin.address()).filter(Filter::test("one", config).with(fields));
    let proxy = Proxy::start(&resources).await;
    (origin, proxy)
}

/// A request that waits for a callout, one that makes the filter fail meanwhile, and what becomes of the first.
async fn fate_of_the_other(isolation: &'static str) -> u16 {
    let (answer, answered) = tokio::sync::watch::channel(false);
    let slow = Origin::start(Codec::Http1, move |_| {
        let mut answered = answered.clone();
        async move {
            answered.wait_for(|answered| *answered).await.ok();
            Ok(http::Response::new(empty()))
        }
    })
    .await;
    let origin = Origin::says("inside").await;
    let config = json!({
        "request_headers": [
            {"do": "call", "path": "/wait", "service": "default/slow:80", "to": "/", "timeout_ms": 20000},
            {"do": "panic", "path": "/harm"}
        ],
        "call_response": [{"do": "resume", "direction": "request"}]
    });
    let resources = Resources::forward_to(origin.address())
        .service("slow", &[slow.address()])
        .filter(Filter::test("one", config).with(isolation));
    let proxy = Proxy::start(&resources).await;
    let mut waiting = proxy.client().await;
    let (first, ()) = tokio::join!(waiting.send(Request::get("/wait").body(empty()).unwrap()), async {
        slow.wait_for(1).await;
        assert_eq!(proxy.get("/harm").await.status, 503);
        answer.send(true).ok();
    });
    first.status
}

#[tokio::test]
async fn a_failing_request_costs_no_other() {
    assert_eq!(fate_of_the_other("isolation: Worker").await, 503, "they share a VM");
    assert_eq!(fate_of_the_other("isolation: Stream").await, 200, "each has its own");
}

#[tokio::test]
async fn a_vm_goes_with_its_stream() {
    let (origin, proxy) = isolated(
        json!({
            "tick_ms": 20,
            "request_headers": [{"do": "set", "name": "x-filter", "value": "was here"}],
            "request_body": [{"do": "pause_until_tick"}],
            "response_body": [{"do": "append_body", "text": "!"}]
        }),
        "isolation: Stream",
    )
    .await;
    for codec in [Codec::Http1, Codec::Http2] {
        let mut client = Client::speaking(codec, proxy.address().await).await;
        for _ in 0..20 {
            assert_eq!(client.post("/", "body").await.text(), "body!", "{codec:?}");
            assert_eq!(origin.last().header("x-filter"), Some("was here"));
        }
    }
    until("every VM to be gone", async || {
        let plugins = proxy.json("/plugins").await;
        (plugins[0]["vms"] == 0 && plugins[0]["spareVms"] == 0 && plugins[0]["state"] == "running").then_some(())
    })
    .await;
    assert_eq!(proxy.metric("filter_vms_started_total{plugin=\"default/one\"}").await, 40.0);
}

#[tokio::test]
async fn a_filter_that_does_not_start_in_time_is_refused() {
    let (_origin, proxy) = isolated(json!({}), "isolation: Stream").await;
    let origin = Origin::says("inside").await;
    let spins = Filter::test("one", json!({"configure": [{"do": "spin"}]}))
        .with("isolation: Stream, limits: {callTime: 20ms, startTime: 30s}");
    let before = tokio::time::Instant::now();
    proxy.apply(&Resources::forward_to(origin.address()).filter(spins));
    proxy.wait_for_log("configuration refused").await;
    proxy.wait_for_log("proxy_on_configure").await;
    assert!(before.elapsed() < Duration::from_secs(25), "a stream's VM has `callTime` to start");
    assert_eq!(proxy.get("/").await.status, 200);
}

#[tokio::test]
async fn a_vm_that_has_served_long_enough_is_replaced_and_nobody_is_lost() {
    let (origin, proxy) = isolated(
        json!({
            "tick_ms": 20,
            "request_body": [{"do": "pause_until_tick", "path": "/slow"}],
            "response_headers": [{"do": "set", "name": "x-filter", "value": "was here"}]
        }),
        "recycle: {requests: 5}",
    )
    .await;
    let address = proxy.address().await;
    let mut slow = tokio::task::JoinSet::new();
    for number in 0..60 {
        let path = if number % 3 == 0 { "/slow" } else { "/fast" };
        if path == "/slow" {
            slow.spawn(async move { Client::http1(address).await.post(path, "body").await.text() });
        } else {
            let answer = proxy.client().await.post(path, "body").await;
            assert_eq!((answer.text().as_str(), answer.header("x-filter")), ("body", Some("was here")));
        }
    }
    assert_eq!(slow.join_all().await, vec!["body"; 20]);
    assert_eq!(origin.count(), 60);
    // One for every five, as far as a new one was there in time; and the old ones go.
    let started = "filter_vms_started_total{plugin=\"default/one\"}";
    proxy.wait_for_metric(started, |vms| vms >= 4.0).await;
    proxy.wait_for_metric("filter_vms", |vms| vms == 1.0).await;
}

/// `limits.wat`, a request at a time.
async fn within_limits(origin: &Origin, limits: &str, requests: usize) -> (Proxy, Vec<u16>) {
    let module = Module::Bytes("limits.wasm", module_of_wat(include_str!("wat/limits.wat")));
    let filter = Filter::of("greedy", module).with(format!("limits: {{{limits}}}"));
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
    let mut statuses = Vec::new();
    for _ in 0..requests {
        statuses.push(proxy.get("/").await.status);
    }
    (proxy, statuses)
}

#[tokio::test]
async fn each_limit_of_a_filter_is_kept_and_counted() {
    const AMPLE: &str = "callTime: 1s, tableElements: 100000";
    let origin = Origin::says("hello").await;
    // Shared data has 16 parts, each with a sixteenth of the limit.
    let (proxy, _) = within_limits(&origin, &format!("{AMPLE}, sharedData: 64Ki"), 100).await;
    let evicted = &proxy.json("/plugins").await[0]["limited"]["sharedData"];
    assert!(evicted.as_u64().is_some_and(|evicted| (20..80).contains(&evicted)), "{evicted}");

    let (proxy, _) = within_limits(&origin, &format!("{AMPLE}, metrics: 10"), 30).await;
    assert_eq!(proxy.metric("filter_custom_metrics_overflow{plugin=\"default/greedy\"}").await, 20.0);

    // The table grows by 50 with each request.
    let (proxy, statuses) = within_limits(&origin, "callTime: 1s, tableElements: 170", 5).await;
    assert_eq!(statuses[..3], [200, 200, 200]);
    assert_eq!(statuses[3], 503, "{statuses:?}");
    let failed = proxy.metric("filter_failures_total{plugin=\"default/greedy\",kind=\"filter_out_of_memory\"}").await;
    assert!(failed >= 1.0, "{}", proxy.log());

    // Each request takes some milliseconds: after the first ones the filter has had its share of the second.
    let (proxy, statuses) = within_limits(&origin, &format!("{AMPLE}, cpuPerSecond: 3ms"), 20).await;
    assert!(statuses[0] == 200 && statuses.contains(&503), "{statuses:?}");
    assert!(proxy.metric("filter_limited_total{plugin=\"default/greedy\",limit=\"cpu\"}").await >= 1.0);
    until("its share to come back", async || (proxy.get("/").await.status == 200).then_some(())).await;
}
