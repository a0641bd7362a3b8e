//! Filters that fail: trap, loop, hoard, garbage, flood. Their streams follow the failure policy, others go on, and a
//! fresh VM takes over.

use harness::{Filter, Origin, Proxy, Resources, full};
use http::Request;
use serde_json::{Value, json};

/// Two routes with a filter each: `/hostile` runs `steps` on the path `/hostile/bad`, `/other` is well-behaved.
async fn hostile(callback: &str, steps: Value, fields: &'static str) -> (Origin, Proxy) {
    let origin = Origin::echoes(harness::Codec::Http1).await;
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
        .filter(Filter::test("bad", json!({callback: steps})).before("hostile").with(fields))
        .filter(Filter::test("good", kind).before("other"));
    (origin, Proxy::start(&resources).await)
}

const FAILURES: [(&str, &str); 4] =
    [("panic", "filter_trap"), ("spin", "filter_deadline"), ("hoard", "filter_memory"), ("flood", "filter_deadline")];

async fn post(proxy: &Proxy, path: &str) -> Result<(u16, String), hyper::Error> {
    let mut client = proxy.client().await;
    let response = client.attempt(Request::post(path).body(full("body")).unwrap()).await?;
    let answer = harness::within("an answer", harness::read(response)).await?;
    Ok((answer.status, answer.text()))
}

#[tokio::test]
async fn a_failed_filter_that_is_closed_answers_503() {
    for (failure, _) in FAILURES {
        for callback in ["request_headers", "request_body", "response_headers"] {
            let (_origin, proxy) = hostile(callback, json!([{"do": failure}]), "").await;
            assert_eq!(post(&proxy, "/hostile/good").await.unwrap(), (200, "body".to_owned()), "{failure}");
            let (status, text) = post(&proxy, "/hostile/bad").await.unwrap();
            assert_eq!(status, 503, "{failure} in {callback}: {text}");
            assert!(text.starts_with("a filter failed and its failure policy is Closed (filter_"), "{text}");
            let line = proxy.logged("/hostile/bad").await;
            assert_eq!((line["who_failed"].as_str(), line["response_flags"].as_str()), (Some("filter"), Some("FF")));
            assert_eq!(line["cause"], "default/bad", "{line}");
            // A fresh VM takes over, and others noticed nothing.
            harness::until("a fresh VM", async || {
                (post(&proxy, "/hostile/good").await.unwrap().0 == 200).then_some(())
            })
            .await;
            assert_eq!(post(&proxy, "/other").await.unwrap(), (200, "body".to_owned()));
        }
    }
}

#[tokio::test]
async fn a_failed_filter_that_is_open_is_skipped() {
    for (failure, _) in FAILURES {
        let (origin, proxy) = hostile("request_headers", json!([{"do": failure}]), "failure: Open").await;
        assert_eq!(post(&proxy, "/hostile/bad").await.unwrap(), (200, "body".to_owned()), "{failure}");
        assert_eq!(origin.count(), 1);
    }
}

#[tokio::test]
async fn the_log_tells_how_a_filter_failed() {
    for (failure, detail) in FAILURES {
        let (_origin, proxy) = hostile("request_headers", json!([{"do": failure}]), "").await;
        post(&proxy, "/hostile/bad").await.unwrap();
        let line = proxy.wait_for_log("filter failed").await;
        assert!(line.contains("default/bad") && line.contains("proxy_on_request_headers"), "{failure}: {line}");
        if failure == "panic" {
            assert!(line.contains("backtrace") && line.contains(" < "), "the guest's backtrace: {line}");
        }
        if failure != "hoard" {
            assert_eq!(proxy.logged("/hostile/bad").await["details"], detail, "{failure}");
        }
        let failures = proxy.json("/plugins").await;
        let bad = failures.as_array().unwrap().iter().find(|plugin| plugin["name"] == "default/bad").unwrap().clone();
        assert_eq!(bad["failures"], 1, "{bad}");
        assert!(bad["lastFailure"].is_string(), "{bad}");
    }
}

#[tokio::test]
async fn garbage_pointers_are_answered_and_harm_nobody() {
    let (_origin, proxy) = hostile("request_headers", json!([{"do": "garbage"}]), "").await;
    assert_eq!(post(&proxy, "/hostile/bad").await.unwrap(), (200, "body".to_owned()));
    // InvalidMemoryAccess is 6.
    proxy.wait_for_log("garbage was answered with 6 6 ").await;
}

#[tokio::test]
async fn the_breaker_stops_calling_a_filter_that_fails_too_often() {
    let (_origin, proxy) = hostile("request_headers", json!([{"do": "panic"}]), "").await;
    let opened = "filter_breaker_opened_total{plugin=\"default/bad\"}";
    harness::until("the breaker to open", async || {
        assert_eq!(post(&proxy, "/hostile/bad").await.unwrap().0, 503);
        (proxy.metric(opened).await >= 1.0).then_some(())
    })
    .await;
    let line = proxy.wait_for_log("filter failed too often").await;
    assert!(line.contains("default/bad"), "{line}");
    // While it is open the policy answers good requests too; after its pause the filter is called again.
    harness::until("the breaker to close", async || {
        (post(&proxy, "/hostile/good").await.unwrap().0 == 200).then_some(())
    })
    .await;
    assert_eq!(post(&proxy, "/other").await.unwrap().0, 200);
}

#[tokio::test]
async fn streams_that_wait_in_a_vm_that_dies_are_answered_at_once() {
    for (fields, expected) in [("", 503), ("failure: Open", 200)] {
        let origin = Origin::echoes(harness::Codec::Http1).await;
        let config = json!({"request_headers": [{"do": "pause", "path": "/wait"}, {"do": "panic", "path": "/bad"}]});
        let resources = Resources::forward_to(origin.address()).filter(Filter::test("one", config).with(fields));
        let proxy = Proxy::start(&resources).await;
        let client = harness::Client::http2(proxy.address().await).await;
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let asked = client.concurrent(Request::get("/wait").body(harness::empty()).unwrap());
            waiting.spawn(async move { asked.await.unwrap().status().as_u16() });
        }
        proxy.wait_for_metric("filter_streams_total{plugin=\"default/one\"}", |count| count >= 20.0).await;
        assert_eq!(post(&proxy, "/bad").await.unwrap().0, expected);
        let statuses = harness::within("every stream", waiting.join_all()).await;
        assert_eq!(statuses, vec![expected; 20]);
    }
}
