//! Outlier detection: endpoints whose requests fail are left out for a while.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::{Codec, Origin, Proxy, RawConnection, RawOrigin, Resources, full, own_address, wait_until};
use http::{Response, StatusCode};
use serde_json::Value;

/// An origin that responds with 503 while `is_bad`, and with 200 otherwise.
struct Switchable {
    origin: Origin,
    is_bad: Arc<AtomicBool>,
}

impl Switchable {
    async fn start(codec: Codec) -> Self {
        let is_bad = Arc::new(AtomicBool::new(true));
        let state = Arc::clone(&is_bad);
        let origin = Origin::start(codec, move |_| {
            let is_bad = state.load(Ordering::Acquire);
            async move {
                let mut response = Response::new(full("text"));
                if is_bad {
                    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                }
                Ok(response)
            }
        })
        .await;
        Self { origin, is_bad }
    }
}

/// Starts a proxy with a Service of these endpoints and an outlier detection with these fields.
async fn proxy_with(codec: Codec, endpoints: &[SocketAddr], fields: &str) -> Proxy {
    let policy = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {{name: web}}\nspec: {{targetRefs: \
         [{{kind: Service, name: web}}], outlierDetection: {{{fields}}}}}\n"
    );
    let resources = match codec {
        Codec::Http1 => Resources::new().service("web", endpoints),
        Codec::Http2 => Resources::new().http2_service("web", endpoints),
    };
    Proxy::start(&resources.route("web", "rules: [{backendRefs: [{name: web, port: 80}]}]").yaml(&policy)).await
}

/// Returns the ejection of an endpoint on `/clusters`.
async fn ejection(proxy: &Proxy, endpoint: SocketAddr) -> Value {
    let clusters = proxy.json("/clusters").await;
    let endpoints = clusters[0]["endpoints"].as_array().unwrap().clone();
    let found = endpoints.into_iter().find(|status| status["address"] == endpoint.to_string());
    found.unwrap()["ejected"].clone()
}

async fn statuses(proxy: &Proxy, count: usize) -> Vec<u16> {
    let mut client = proxy.client().await;
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(client.get("/").await.status);
    }
    statuses
}

#[tokio::test]
async fn failing_endpoint_is_ejected_and_comes_back() {
    for codec in [Codec::Http1, Codec::Http2] {
        let (bad, good) = (Switchable::start(codec).await, Origin::text("good").await);
        let good = if codec == Codec::Http1 { good } else { Origin::echo(codec).await };
        let endpoints = [bad.origin.address(), good.address()];
        let proxy = proxy_with(codec, &endpoints, "consecutiveErrors: 3, interval: 1s, ejectionTime: 3s").await;
        let seen = statuses(&proxy, 60).await;
        assert_eq!(seen.iter().filter(|status| **status == 503).count(), 3, "{codec:?}: {seen:?}");
        let ejected = ejection(&proxy, bad.origin.address()).await;
        assert_eq!(ejected["cause"], "consecutiveErrors", "{ejected}");
        assert!(ejected["remainingMs"].as_u64().is_some_and(|time| time <= 3_000), "{ejected}");
        assert_eq!(proxy.metric("weir_upstream_ejections_total{cluster=\"default/web:80\"}").await, 1.0);
        assert!(proxy.log().contains("endpoint ejected"), "{}", proxy.log());
        bad.is_bad.store(false, Ordering::Release);
        wait_until("the end of the ejection", async || {
            ejection(&proxy, bad.origin.address()).await.is_null().then_some(())
        })
        .await;
        let before = bad.origin.count();
        assert_eq!(statuses(&proxy, 10).await, [200; 10]);
        assert_eq!(bad.origin.count() - before, 5, "{codec:?}");
    }
}

#[tokio::test]
async fn endpoint_without_responses_is_ejected_by_local_errors() {
    let good = Origin::text("good").await;
    let closing = RawOrigin::start(|mut wire| async move { drop(wire.try_head().await) }).await;
    for endpoint in [own_address(), closing.address()] {
        let fields = "consecutiveErrors: 0, consecutiveLocalErrors: 2, ejectionTime: 1h, maxEjectionTime: 1h";
        let proxy = proxy_with(Codec::Http1, &[endpoint, good.address()], fields).await;
        statuses(&proxy, 20).await;
        assert_eq!(ejection(&proxy, endpoint).await["cause"], "consecutiveLocalErrors");
        assert_eq!(statuses(&proxy, 20).await, [200; 20]);
    }
}

#[tokio::test]
async fn not_more_than_the_maximum_is_ejected() {
    let (one, other, good) =
        (Switchable::start(Codec::Http1).await, Switchable::start(Codec::Http1).await, Origin::text("good").await);
    let endpoints = [one.origin.address(), other.origin.address(), good.address()];
    let fields = "consecutiveErrors: 2, maxEjected: 34, ejectionTime: 1h, maxEjectionTime: 1h";
    let proxy = proxy_with(Codec::Http1, &endpoints, fields).await;
    let seen = statuses(&proxy, 60).await;
    assert!(seen[30..].contains(&503), "one of three is ejected: {seen:?}");
    let ejected = [ejection(&proxy, endpoints[0]).await, ejection(&proxy, endpoints[1]).await];
    assert_eq!(ejected.iter().filter(|ejected| !ejected.is_null()).count(), 1, "{ejected:?}");
}

#[tokio::test]
async fn all_endpoints_are_used_if_fewer_than_half_are_left() {
    let (one, other, good) =
        (Switchable::start(Codec::Http1).await, Switchable::start(Codec::Http1).await, Origin::text("good").await);
    let endpoints = [one.origin.address(), other.origin.address(), good.address()];
    let fields = "consecutiveErrors: 2, maxEjected: 100, ejectionTime: 1h, maxEjectionTime: 1h";
    let proxy = proxy_with(Codec::Http1, &endpoints, fields).await;
    statuses(&proxy, 20).await;
    assert_eq!(proxy.metric("weir_upstream_ejections_total{cluster=\"default/web:80\"}").await, 2.0);
    let seen = statuses(&proxy, 30).await;
    assert_eq!(seen.iter().filter(|status| **status == 503).count(), 20, "{seen:?}");
}

#[tokio::test]
async fn low_success_rate_is_ejected() {
    let bad = Switchable::start(Codec::Http1).await;
    let good = [Origin::text("a").await, Origin::text("b").await, Origin::text("c").await];
    let mut endpoints = vec![bad.origin.address()];
    endpoints.extend(good.iter().map(Origin::address));
    let fields = "consecutiveErrors: 0, successRate: {minimumEndpoints: 4, minimumRequests: 5, stdevFactor: 1000}, \
                  interval: 1s, ejectionTime: 1h, maxEjectionTime: 1h";
    let proxy = proxy_with(Codec::Http1, &endpoints, fields).await;
    wait_until("an ejection", async || {
        statuses(&proxy, 40).await;
        (ejection(&proxy, bad.origin.address()).await["cause"] == "successRate").then_some(())
    })
    .await;
    assert_eq!(statuses(&proxy, 20).await, [200; 20]);
}

#[tokio::test]
async fn upgrade_that_cannot_be_sent_and_slow_upload_eject_nothing() {
    let fields = "consecutiveErrors: 1, ejectionTime: 1h, maxEjectionTime: 1h, maxEjected: 100";
    let http2 = Origin::echo(Codec::Http2).await;
    let proxy = proxy_with(Codec::Http2, &[http2.address()], fields).await;
    for _ in 0..3 {
        let mut wire = RawConnection::connect(proxy.address().await).await;
        wire.send(
            "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: \
             13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await;
        assert!(wire.head().await.starts_with("HTTP/1.1 502 "));
    }
    assert!(ejection(&proxy, http2.address()).await.is_null());

    let reading = RawOrigin::start(|mut wire| async move {
        if wire.try_head().await.is_some() {
            wire.try_exactly(1_000).await; // More than the downstream sends in time.
        }
    })
    .await;
    let policy = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {{name: web}}\nspec: {{targetRefs: \
         [{{kind: Service, name: web}}], outlierDetection: {{{fields}}}}}\n"
    );
    let rule = "rules: [{timeouts: {backendRequest: 200ms}, backendRefs: [{name: web, port: 80}]}]";
    let resources = Resources::new().service("web", &[reading.address()]).route("web", rule).yaml(&policy);
    let proxy = Proxy::start(&resources).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\npart").await;
    assert!(wire.head().await.starts_with("HTTP/1.1 504 "));
    assert!(ejection(&proxy, reading.address()).await.is_null(), "the downstream was slow");
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(wire.head().await.starts_with("HTTP/1.1 504 "));
    assert_eq!(ejection(&proxy, reading.address()).await["cause"], "consecutiveErrors");
}
