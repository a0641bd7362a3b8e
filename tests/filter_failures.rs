//! Filters that trap, loop, allocate too much, pass invalid pointers or flood the log. Their streams follow the failure
//! policy, other streams are unaffected, and a new VM serves later requests.

use harness::{Filter, Module, Origin, Proxy, ProxyOptions, Resources, full};
use http::Request;
use serde_json::{Value, json};

/// Starts a proxy with two routes. The filter of `/hostile` runs `steps` for the path `/hostile/bad`, and the filter of
/// `/other` never fails.
async fn hostile(callback: &str, steps: Value, fields: &'static str) -> (Origin, Proxy) {
    let origin = Origin::echo(harness::Codec::Http1).await;
    let mut steps = steps;
    for step in steps.as_array_mut().unwrap() {
        step["path"] = json!("/hostile/bad");
    }
    let kind = json!({"response_headers": [{"do": "set", "name": "x-kind", "value": "yes"}]});
    let rules = |path: &str| {
        format!("rules: [{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{name: origin, port: 80}}]}}]")
    };
    let resources = Resources::new()
        .service("origin", &[origin.address()])
        .route("hostile", &rules("/hostile"))
        .route("other", &rules("/other"))
        .filter(Filter::test("bad", json!({callback: steps})).targeting("hostile").with_fields(fields))
        .filter(Filter::test("good", kind).targeting("other"));
    (origin, Proxy::start(&resources).await)
}

const FAILURES: [(&str, &str); 4] = [
    ("panic", "filter_trap"),
    ("loop_forever", "filter_deadline"),
    ("allocate_forever", "filter_out_of_memory"),
    ("flood_log", "filter_deadline"),
];

async fn post(proxy: &Proxy, path: &str) -> Result<(u16, String), hyper::Error> {
    let mut client = proxy.client().await;
    let response = client.try_send(Request::post(path).body(full("body")).unwrap()).await?;
    let response = harness::with_deadline("a response", harness::read(response)).await?;
    Ok((response.status, response.text()))
}

#[tokio::test]
async fn failed_filter_with_fail_closed_is_503() {
    for (failure, _) in FAILURES {
        for callback in ["request_headers", "request_body", "response_headers"] {
            let (_origin, proxy) = hostile(callback, json!([{"do": failure}]), "").await;
            assert_eq!(post(&proxy, "/hostile/good").await.unwrap(), (200, "body".to_owned()), "{failure}");
            let (status, text) = post(&proxy, "/hostile/bad").await.unwrap();
            assert_eq!(status, 503, "{failure} in {callback}: {text}");
            assert!(text.starts_with("a filter failed and its failure policy is FailClosed (filter_"), "{text}");
            let line = proxy.access_log_for("/hostile/bad").await;
            assert_eq!((line["who_failed"].as_str(), line["response_flags"].as_str()), (Some("Filter"), Some("FF")));
            assert_eq!(line["cause"], "default/bad", "{line}");
            // A new VM serves the next request, and the other route is unaffected.
            harness::wait_until("a new VM", async || {
                (post(&proxy, "/hostile/good").await.unwrap().0 == 200).then_some(())
            })
            .await;
            assert_eq!(post(&proxy, "/other").await.unwrap(), (200, "body".to_owned()));
        }
    }
}

#[tokio::test]
async fn failed_filter_with_fail_open_is_skipped() {
    for (failure, _) in FAILURES {
        let (origin, proxy) = hostile("request_headers", json!([{"do": failure}]), "failurePolicy: FailOpen").await;
        assert_eq!(post(&proxy, "/hostile/bad").await.unwrap(), (200, "body".to_owned()), "{failure}");
        assert_eq!(origin.count(), 1);
    }
}

#[tokio::test]
async fn filter_failure_is_logged_with_cause() {
    for (failure, detail) in FAILURES {
        let (_origin, proxy) = hostile("request_headers", json!([{"do": failure}]), "").await;
        post(&proxy, "/hostile/bad").await.unwrap();
        let line = proxy.wait_for_log("filter failed").await;
        assert!(line.contains("default/bad") && line.contains("proxy_on_request_headers"), "{failure}: {line}");
        if failure == "panic" {
            assert!(line.contains("backtrace") && line.contains(" < "), "the guest's backtrace: {line}");
        }
        if failure != "allocate_forever" {
            assert_eq!(proxy.access_log_for("/hostile/bad").await["response_code_details"], detail, "{failure}");
        }
        let failures = proxy.json("/plugins").await;
        let bad = failures.as_array().unwrap().iter().find(|plugin| plugin["name"] == "default/bad").unwrap().clone();
        assert_eq!(bad["failures"], 1, "{bad}");
        assert!(bad["lastFailure"].is_string(), "{bad}");
    }
}

#[tokio::test]
async fn invalid_guest_pointers_return_status() {
    let (_origin, proxy) = hostile("request_headers", json!([{"do": "invalid_pointers"}]), "").await;
    assert_eq!(post(&proxy, "/hostile/bad").await.unwrap(), (200, "body".to_owned()));
    // InvalidMemoryAccess is 6.
    proxy.wait_for_log("invalid pointers returned 6 6 ").await;
}

#[tokio::test]
async fn breaker_stops_calls_of_failing_filter() {
    let (_origin, proxy) = hostile("request_headers", json!([{"do": "panic"}]), "").await;
    let opened = "weir_filter_breaker_opened_total{filter=\"default/bad\"}";
    harness::wait_until("the breaker to open", async || {
        assert_eq!(post(&proxy, "/hostile/bad").await.unwrap().0, 503);
        (proxy.metric(opened).await >= 1.0).then_some(())
    })
    .await;
    let line = proxy.wait_for_log("filter failed too often").await;
    assert!(line.contains("default/bad"), "{line}");
    // The open breaker rejects good requests, too. It closes after its pause.
    harness::wait_until("the breaker to close", async || {
        (post(&proxy, "/hostile/good").await.unwrap().0 == 200).then_some(())
    })
    .await;
    assert_eq!(post(&proxy, "/other").await.unwrap().0, 200);
}

#[tokio::test]
async fn paused_streams_of_failed_vm_follow_failure_policy() {
    for (fields, expected) in [("", 503), ("failurePolicy: FailOpen", 200)] {
        let origin = Origin::echo(harness::Codec::Http1).await;
        let config = json!({"request_headers": [{"do": "pause", "path": "/wait"}, {"do": "panic", "path": "/bad"}]});
        let resources = Resources::forward_to(origin.address()).filter(Filter::test("one", config).with_fields(fields));
        let proxy = Proxy::start(&resources).await;
        let client = harness::Client::http2(proxy.address().await).await;
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let pending = client.concurrent(Request::get("/wait").body(harness::empty()).unwrap());
            waiting.spawn(async move { pending.await.unwrap().status().as_u16() });
        }
        proxy.wait_for_metric("weir_filter_streams_total{filter=\"default/one\"}", |count| count >= 20.0).await;
        assert_eq!(post(&proxy, "/bad").await.unwrap().0, expected);
        let statuses = harness::with_deadline("every stream", waiting.join_all()).await;
        assert_eq!(statuses, vec![expected; 20]);
    }
}

/// The filter `good` sets a response header. The filter `lost` does not load.
fn with_lost_filter(origin: &Origin, lost: Filter) -> Resources {
    let kind = json!({"response_headers": [{"do": "set", "name": "x-kind", "value": "yes"}]});
    Resources::forward_to(origin.address()).filter(lost).filter(Filter::test("good", kind))
}

/// Returns filters that do not load: an invalid module, a module that does not start, a rejected configuration.
fn filters_that_do_not_load(fields: &'static str) -> [Filter; 3] {
    let trap = harness::wasm_from_wat(
        "(module (memory (export \"memory\") 1) (func (export \"proxy_abi_version_0_2_1\")) (func (export \
         \"proxy_on_memory_allocate\") (param i32) (result i32) i32.const 1024) (func (export \"proxy_on_vm_start\") \
         (param i32 i32) (result i32) unreachable))",
    );
    let rejected = json!({"configure": [{"do": "reject_configuration"}]});
    [
        Filter::new("lost", Module::Bytes("lost.wasm", b"no module".to_vec())),
        Filter::new("lost", Module::Bytes("lost.wasm", trap)),
        Filter::test("lost", rejected),
    ]
    .map(|filter| filter.with_fields(fields))
}

#[tokio::test]
async fn filter_with_fail_open_that_does_not_load_is_skipped() {
    let origin = Origin::text("here").await;
    let skipped = "weir_filter_skipped_streams_total{filter=\"default/lost\"}";
    for lost in filters_that_do_not_load("failurePolicy: FailOpen") {
        let what = format!("{:?}", lost.module);
        let proxy = Proxy::start(&with_lost_filter(&origin, lost)).await;
        let response = proxy.get("/").await;
        assert_eq!((response.status, response.header("x-kind")), (200, Some("yes")), "{what}: the other filter runs");
        assert_eq!(proxy.metric(skipped).await, 1.0, "{what}");
        assert_eq!(proxy.metric("weir_filter_not_loaded{filter=\"default/lost\"}").await, 1.0, "{what}");
        let plugins = proxy.json("/plugins").await;
        let entry = plugins.as_array().unwrap().iter().find(|plugin| plugin["name"] == "default/lost").unwrap();
        assert_eq!((&entry["state"], &entry["skippedStreams"]), (&json!("notLoaded"), &json!(1)), "{entry}");
        assert!(entry["loadFailure"].as_str().is_some_and(|reason| reason.len() > 10), "{entry}");
        proxy.wait_for_log("a filter with FailOpen does not load").await;

        // Once it loads, it serves.
        let works = Filter::test("lost", json!({"response_headers": [{"do": "set", "name": "x-lost", "value": "1"}]}));
        proxy.apply_and_wait(&with_lost_filter(&origin, works.with_fields("failurePolicy: FailOpen"))).await;
        assert_eq!(proxy.get("/").await.header("x-lost"), Some("1"), "{what}");
        assert_eq!(proxy.metric("weir_filter_not_loaded{filter=\"default/lost\"}").await, 0.0, "{what}");
    }
}

#[tokio::test]
async fn filter_with_fail_closed_that_does_not_load_rejects_files() {
    let origin = Origin::text("here").await;
    for lost in filters_that_do_not_load("") {
        let resources = with_lost_filter(&origin, lost);
        let (status, log) = Proxy::fail_to_start(&resources, ProxyOptions::default()).await;
        assert!(!status.success() && log.contains("configuration rejected"), "{log}");
    }
}

#[tokio::test]
async fn module_that_appears_later_is_loaded() {
    let origin = Origin::text("here").await;
    let bad = Filter::new("lost", Module::Bytes("lost.wasm", b"no module".to_vec()));
    let config = json!({"response_headers": [{"do": "set", "name": "x-lost", "value": "1"}]});
    let resources = with_lost_filter(&origin, Filter { config, ..bad }.with_fields("failurePolicy: FailOpen"));
    let proxy = Proxy::start(&resources).await;
    assert_eq!(proxy.get("/").await.header("x-lost"), None);
    proxy.write("lost.wasm", std::fs::read(harness::test_filter()).unwrap());
    harness::wait_until("the filter", async || proxy.get("/").await.header("x-lost").map(drop)).await;
}

#[tokio::test]
async fn previous_version_of_filter_with_fail_open_serves() {
    let origin = Origin::text("here").await;
    let version =
        |config| with_lost_filter(&origin, Filter::test("lost", config).with_fields("failurePolicy: FailOpen"));
    let stamp = json!({"response_headers": [{"do": "set", "name": "x-lost", "value": "1"}]});
    let proxy = Proxy::start(&version(stamp)).await;
    assert_eq!(proxy.get("/").await.header("x-lost"), Some("1"));
    proxy.apply_and_wait(&version(json!({"configure": [{"do": "reject_configuration"}]}))).await;
    assert_eq!(proxy.get("/").await.header("x-lost"), Some("1"), "the previous version serves");
    let plugins = proxy.json("/plugins").await;
    let entry = plugins.as_array().unwrap().iter().find(|plugin| plugin["name"] == "default/lost").unwrap();
    assert!(entry["loadFailure"].as_str().is_some_and(|reason| reason.contains("configuration")), "{entry}");
}
