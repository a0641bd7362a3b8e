//! `isolation: Stream`, which starts a VM per request; recycling of VMs; limits of filters.

use std::time::Duration;

use harness::{Client, Codec, Filter, Module, Origin, Proxy, Resources, empty, wait_until, wasm_from_wat};
use http::Request;
use serde_json::json;

async fn isolated(config: serde_json::Value, fields: &'static str) -> (Origin, Proxy) {
    let origin = Origin::echo(Codec::Http1).await;
    let resources = Resources::forward_to(origin.address()).filter(Filter::test("one", config).with_fields(fields));
    let proxy = Proxy::start(&resources).await;
    (origin, proxy)
}

/// Sends a request that is paused by a callout, and meanwhile one that makes the filter fail. Returns the status of the
/// first request.
async fn status_beside_failing_request(isolation: &'static str) -> u16 {
    let (release, released) = tokio::sync::watch::channel(false);
    let slow = Origin::start(Codec::Http1, move |_| {
        let mut released = released.clone();
        async move {
            released.wait_for(|is_released| *is_released).await.ok();
            Ok(http::Response::new(empty()))
        }
    })
    .await;
    let origin = Origin::text("inside").await;
    let config = json!({
        "request_headers": [
            {"do": "call", "path": "/wait", "service": "default/slow:80", "to": "/", "timeout_ms": 20000},
            {"do": "panic", "path": "/harm"}
        ],
        "call_response": [{"do": "resume", "direction": "request"}]
    });
    let resources = Resources::forward_to(origin.address())
        .service("slow", &[slow.address()])
        .filter(Filter::test("one", config).with_fields(isolation));
    let proxy = Proxy::start(&resources).await;
    let mut waiting = proxy.client().await;
    let (first, ()) = tokio::join!(waiting.send(Request::get("/wait").body(empty()).unwrap()), async {
        slow.wait_for(1).await;
        assert_eq!(proxy.get("/harm").await.status, 503);
        release.send(true).ok();
    });
    first.status
}

#[tokio::test]
async fn stream_isolation_limits_failure_to_one_request() {
    assert_eq!(status_beside_failing_request("isolation: Worker").await, 503, "both requests share a VM");
    assert_eq!(status_beside_failing_request("isolation: Stream").await, 200, "each request has its own VM");
}

#[tokio::test]
async fn stream_vm_is_dropped_with_its_stream() {
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
        let mut client = Client::connect(codec, proxy.address().await).await;
        for _ in 0..20 {
            assert_eq!(client.post("/", "body").await.text(), "body!", "{codec:?}");
            assert_eq!(origin.last().header("x-filter"), Some("was here"));
        }
    }
    wait_until("every VM to be gone", async || {
        let plugins = proxy.json("/plugins").await;
        (plugins[0]["vms"] == 0 && plugins[0]["spareVms"] == 0 && plugins[0]["state"] == "running").then_some(())
    })
    .await;
    assert_eq!(proxy.metric("weir_filter_vms_started_total{filter=\"default/one\"}").await, 40.0);
}

#[tokio::test]
async fn slow_start_of_stream_vm_is_rejected() {
    let (_origin, proxy) = isolated(json!({}), "isolation: Stream").await;
    let origin = Origin::text("inside").await;
    let spins = Filter::test("one", json!({"configure": [{"do": "loop_forever"}]}))
        .with_fields("isolation: Stream, limits: {callTimeout: 20ms, startTimeout: 30s}");
    let before = tokio::time::Instant::now();
    proxy.apply(&Resources::forward_to(origin.address()).filter(spins));
    proxy.wait_for_log("configuration rejected").await;
    proxy.wait_for_log("proxy_on_configure").await;
    assert!(before.elapsed() < Duration::from_secs(25), "a stream's VM has `callTimeout` to start");
    assert_eq!(proxy.get("/").await.status, 200);
}

#[tokio::test]
async fn recycled_vm_fails_no_request() {
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
            let response = proxy.client().await.post(path, "body").await;
            assert_eq!((response.text().as_str(), response.header("x-filter")), ("body", Some("was here")));
        }
    }
    assert_eq!(slow.join_all().await, vec!["body"; 20]);
    assert_eq!(origin.count(), 60);
    // At most one VM for every five requests, if the successor is ready in time; replaced VMs are dropped.
    let started = "weir_filter_vms_started_total{filter=\"default/one\"}";
    proxy.wait_for_metric(started, |vms| vms >= 4.0).await;
    proxy.wait_for_metric("weir_filter_vms", |vms| vms == 1.0).await;
}

/// Starts a proxy with the filter `shared_limits.wat` and its limits, sends requests one after another, and returns their
/// statuses.
async fn request_with_limits(origin: &Origin, limits: &str, requests: usize) -> (Proxy, Vec<u16>) {
    let module = Module::Bytes("limits.wasm", wasm_from_wat(include_str!("wat/shared_limits.wat")));
    let filter = Filter::new("greedy", module).with_fields(format!("limits: {{{limits}}}"));
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
    let mut statuses = Vec::new();
    for _ in 0..requests {
        statuses.push(proxy.get("/").await.status);
    }
    (proxy, statuses)
}

#[tokio::test]
async fn filter_limits_are_enforced_and_counted() {
    const AMPLE: &str = "callTimeout: 1s, tableElements: 100000";
    let origin = Origin::text("hello").await;
    // Shared data has 16 parts, each with a sixteenth of the limit.
    let (proxy, _) = request_with_limits(&origin, &format!("{AMPLE}, sharedDataBytes: 64Ki"), 100).await;
    let evicted = &proxy.json("/plugins").await[0]["limited"]["sharedData"];
    assert!(evicted.as_u64().is_some_and(|evicted| (20..80).contains(&evicted)), "{evicted}");

    let (proxy, _) = request_with_limits(&origin, &format!("{AMPLE}, metrics: 10"), 30).await;
    assert_eq!(proxy.metric("weir_filter_custom_metrics_overflow{filter=\"default/greedy\"}").await, 20.0);

    // The table grows by 50 with each request.
    let (proxy, statuses) = request_with_limits(&origin, "callTimeout: 1s, tableElements: 170", 5).await;
    assert_eq!(statuses[..3], [200, 200, 200]);
    assert_eq!(statuses[3], 503, "{statuses:?}");
    let failed =
        proxy.metric("weir_filter_failures_total{filter=\"default/greedy\",kind=\"filter_out_of_memory\"}").await;
    assert!(failed >= 1.0, "{}", proxy.log());

    // Each request takes some milliseconds, so the first ones use up the filter's CPU time of the second.
    let (proxy, statuses) = request_with_limits(&origin, &format!("{AMPLE}, cpuPerSecond: 3ms"), 20).await;
    assert!(statuses[0] == 200 && statuses.contains(&503), "{statuses:?}");
    assert!(proxy.metric("weir_filter_limited_total{filter=\"default/greedy\",limit=\"cpu\"}").await >= 1.0);
    wait_until("the next second's CPU time", async || (proxy.get("/").await.status == 200).then_some(())).await;
}
