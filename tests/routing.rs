//! Routing tests that scenarios cannot express: weights, mirrors, ports in redirects, timeouts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use harness::{Body, BodyError, Codec, Origin, Proxy, Resources, body_channel, empty, full, wait_until};
use http::{Request, Response};
use http_body_util::BodyExt;

/// Starts an origin that never responds.
async fn silent() -> Origin {
    Origin::start(Codec::Http1, |_| std::future::pending::<Result<Response<Body>, BodyError>>()).await
}

#[tokio::test]
async fn backend_weights_are_shares() {
    let (nine, one) = (Origin::text("nine").await, Origin::text("one").await);
    let route = "rules: [{backendRefs: [{name: nine, port: 80, weight: 90}, {name: one, port: 80, weight: 10}]}]";
    let resources = Resources::new().service("nine", &[nine.address()]).service("one", &[one.address()]);
    let proxy = Proxy::start(&resources.route("shares", route)).await;
    let mut client = proxy.client().await;
    for _ in 0..1_000 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(nine.count() + one.count(), 1_000);
    // Five standard deviations of a fair draw: 100 ± 47.
    assert!((53..=147).contains(&one.count()), "{} of 1000 instead of about 100", one.count());
}

#[tokio::test]
async fn round_robin_follows_endpoint_weights() {
    let (light, heavy) = (Origin::text("light").await, Origin::text("heavy").await);
    let service = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {{name: origin}}\nspec:\n  ports: [{{port: 80}}]\n  \
         endpoints: [{{address: \"{}\"}}, {{address: \"{}\", weight: 3}}]\n",
        light.address(),
        heavy.address()
    );
    let proxy = Proxy::start(&Resources::new().yaml(&service).route_everything()).await;
    let mut client = proxy.client().await;
    for _ in 0..40 {
        client.get("/").await;
    }
    assert_eq!((light.count(), heavy.count()), (10, 30), "round robin is exact on one worker");
}

#[tokio::test]
async fn redirect_without_port_preserves_listener_port() {
    let route = "rules: [{filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, \
                 replaceFullPath: /new}}}]}]";
    let proxy = Proxy::start(&Resources::new().route("moved", route)).await;
    let port = proxy.address().await.port();
    let request = Request::get("/old?a=b").header("host", "shop.example").body(empty()).unwrap();
    let response = proxy.client().await.send(request).await;
    let expected = format!("http://shop.example:{port}/new?a=b");
    assert_eq!((response.status, response.header("location")), (302, Some(expected.as_str())));
}

#[tokio::test]
async fn route_without_backend_weight_fails_with_500() {
    let rules = "rules: [{backendRefs: [{name: web, port: 80, weight: 0}]}]";
    let origin = Origin::echo(Codec::Http1).await;
    let resources = Resources::new().service("web", &[origin.address()]).route("weightless", rules);
    let proxy = Proxy::start(&resources).await;
    assert_eq!(proxy.client().await.get("/weightless").await.status, 500);
    let line = proxy.access_log_for("/weightless").await;
    assert_eq!((line["who_failed"].as_str(), line["response_flags"].as_str()), (Some("Proxy"), Some("NC")), "{line}");
    assert_eq!(
        (line["response_code_details"].as_str(), line["cause"].as_str()),
        (Some("no_target"), Some("no_backend_weight"))
    );
}

#[tokio::test]
async fn mirror_gets_copy_without_delaying_response() {
    let (main, bodies) = (Origin::echo(Codec::Http1).await, Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&bodies);
    let mirror = Origin::start(Codec::Http1, move |request| {
        let counted = Arc::clone(&counted);
        async move {
            let body = request.into_body().collect().await.map_err(|_| BodyError)?.to_bytes();
            counted.fetch_add(body.len() as u64, Ordering::AcqRel);
            std::future::pending().await // No response.
        }
    })
    .await;
    let route = "rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: mirror, port: 80}}}], \
                 backendRefs: [{name: main, port: 80}]}]";
    let resources = Resources::new().service("main", &[main.address()]).service("mirror", &[mirror.address()]);
    let proxy = Proxy::start(&resources.route("mirrored", route)).await;
    let mut client = proxy.client().await;
    for _ in 0..3 {
        assert_eq!(client.post("/copied", "four").await.text(), "four");
    }
    mirror.wait_for(3).await;
    wait_until("the bodies at the mirror", async || (bodies.load(Ordering::Acquire) == 12).then_some(())).await;
    assert_eq!(mirror.last().path, "/copied");
}

#[tokio::test]
async fn mirror_percentage_is_respected() {
    let (main, mirror) = (Origin::text("main").await, Origin::text("mirror").await);
    let route = "rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: mirror, port: 80}, \
                 percent: 20}}], backendRefs: [{name: main, port: 80}]}]";
    let resources = Resources::new().service("main", &[main.address()]).service("mirror", &[mirror.address()]);
    let proxy = Proxy::start(&resources.route("mirrored", route)).await;
    let mut client = proxy.client().await;
    for _ in 0..500 {
        assert_eq!(client.get("/").await.text(), "main");
    }
    mirror.wait_for(55).await; // 100 ± 45: five standard deviations.
    assert!(mirror.count() <= 145, "{} of 500 instead of about 100", mirror.count());
}

#[tokio::test]
async fn route_timeout_is_504() {
    let origin = silent().await;
    let route = "rules: [{timeouts: {request: 100ms}, backendRefs: [{name: origin, port: 80}]}]";
    let proxy = Proxy::start(&Resources::new().service("origin", &[origin.address()]).route("slow", route)).await;
    let response = proxy.get("/slow").await;
    assert_eq!(
        (response.status, response.text().as_str()),
        (504, "the response was not complete in time (request_timeout)\n")
    );
    let line = proxy.access_log_for("/slow").await;
    assert_eq!((line["response_flags"].as_str(), line["who_failed"].as_str()), (Some("UT"), Some("Upstream")));
    wait_until("the origin's connection to end", async || (origin.open_connections() == 0).then_some(())).await;
}

#[tokio::test]
async fn attempt_timeout_is_504() {
    let origin = silent().await;
    let route = "rules: [{timeouts: {request: 20s, backendRequest: 100ms}, backendRefs: [{name: origin, port: 80}]}]";
    let proxy = Proxy::start(&Resources::new().service("origin", &[origin.address()]).route("slow", route)).await;
    assert_eq!(proxy.get("/slow").await.status, 504);
    assert_eq!(proxy.access_log_for("/slow").await["response_code_details"], "attempt_timeout");
}

#[tokio::test]
async fn backend_policy_timeout_is_route_default() {
    let origin = silent().await;
    let policy = "apiVersion: weir.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {name: quick}\nspec: {targetRefs: \
                  [{kind: Service, name: origin}], timeouts: {request: 100ms}}\n";
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).yaml(policy)).await;
    assert_eq!(proxy.get("/slow").await.status, 504);
}

#[tokio::test]
async fn timeout_after_headers_breaks_off_response() {
    let origin = Origin::start(Codec::Http1, |_| async {
        let (sender, body) = body_channel();
        sender.data("the beginning").await;
        harness::spawn_background(async move { sender.closed().await }); // Dropping `sender` would complete the body.
        Ok(Response::new(body))
    })
    .await;
    let route = "rules: [{timeouts: {request: 200ms}, backendRefs: [{name: origin, port: 80}]}]";
    let proxy = Proxy::start(&Resources::new().service("origin", &[origin.address()]).route("slow", route)).await;
    let mut client = proxy.client().await;
    let response = client.send_head(Request::get("/half").body(empty()).unwrap()).await;
    assert_eq!(response.status(), 200);
    let broken = harness::with_deadline("the end of the response", harness::read(response)).await;
    assert!(broken.is_err(), "a truncated body must not look complete");
    let line = proxy.access_log_for("/half").await;
    assert_eq!((line["status"].as_u64(), line["response_code_details"].as_str()), (Some(200), Some("request_timeout")));
}

#[tokio::test]
async fn zero_timeout_means_no_timeout() {
    let (sender, gate) = tokio::sync::watch::channel(false);
    let origin = Origin::start(Codec::Http1, move |_| {
        let mut gate = gate.clone();
        async move {
            let opened = gate.wait_for(|open| *open).await;
            opened.map_err(|_| BodyError)?;
            Ok(Response::new(full("late")))
        }
    })
    .await;
    let policy = "apiVersion: weir.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {name: quick}\nspec: {targetRefs: \
                  [{kind: Service, name: origin}], timeouts: {request: 100ms}}\n";
    let route = "rules: [{timeouts: {request: 0s}, backendRefs: [{name: origin, port: 80}]}, {matches: [{path: {value: \
                 /quick}}], backendRefs: [{name: origin, port: 80}]}]";
    let resources = Resources::new().service("origin", &[origin.address()]).route("slow", route).yaml(policy);
    let proxy = Proxy::start(&resources).await;
    let (mut patient, mut hasty) = (proxy.client().await, proxy.client().await);
    let (late, quick) = tokio::join!(patient.get("/"), async {
        let quick = hasty.get("/quick").await; // The request timeout has expired when the gate opens.
        sender.send_replace(true);
        quick
    });
    assert_eq!((late.text().as_str(), quick.status), ("late", 504));
}

#[tokio::test]
async fn every_balancer_uses_every_endpoint() {
    for balancing in ["RoundRobin", "LeastRequest", "Random"] {
        let (one, two) = (Origin::text("one").await, Origin::text("two").await);
        let policy = format!(
            "apiVersion: weir.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {{name: p}}\nspec: {{targetRefs: [{{kind: \
             Service, name: origin}}], balancing: {{algorithm: {balancing}}}}}\n"
        );
        let service = Resources::new().service("origin", &[one.address(), two.address()]);
        let proxy = Proxy::start(&service.route_everything().yaml(&policy)).await;
        let mut client = proxy.client().await;
        for _ in 0..60 {
            assert_eq!(client.get("/").await.status, 200);
        }
        assert_eq!(one.count() + two.count(), 60);
        assert!(one.count().min(two.count()) > 5, "{balancing}: {} and {}", one.count(), two.count());
    }
}

#[tokio::test]
async fn service_with_dns_name_is_resolved() {
    let origin = Origin::text("found").await;
    let service = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {{name: origin}}\nspec: {{ports: [{{port: 80}}], dns: \
         {{host: localhost, port: {}}}}}\n",
        origin.address().port()
    );
    let proxy = Proxy::start(&Resources::new().yaml(&service).route_everything()).await;
    // `localhost` may also have an IPv6 address, on which no origin listens.
    assert_eq!(proxy.get("/").await.text(), "found");
}
