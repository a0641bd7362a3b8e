//! ClientTrafficPolicies: each field takes effect on the connections that Gateways accept. `connection_timeouts.rs` has
//! the timeouts, `backend_traffic_policy.rs` the connections to endpoints.

use std::net::SocketAddr;

use harness::{Client, Codec, Origin, Proxy, RawConnection, RawOrigin, Resources, empty};
use http::{HeaderName, HeaderValue, Request};
use serde_json::Value;

/// Returns a ClientTrafficPolicy; `spec` is its `spec`, as YAML in flow style.
fn policy(name: &str, spec: &str) -> String {
    format!("apiVersion: weir.dev/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

/// Starts a proxy that forwards everything to `origin`, with a policy for the whole mesh.
async fn proxy_with(origin: SocketAddr, spec: &str) -> Proxy {
    Proxy::start(&Resources::forward_to(origin).yaml(&policy("clients", spec))).await
}

/// Starts an origin that responds with the number of headers `x-many-N` that it has received. It has no bound of its
/// own.
async fn counting_origin() -> RawOrigin {
    RawOrigin::start(|mut wire| async move {
        while let Some(head) = wire.try_head().await {
            let count = head.lines().filter(|line| line.starts_with("x-many-")).count().to_string();
            wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{count}", count.len())).await;
        }
    })
    .await
}

fn many_headers(count: usize) -> String {
    (0..count).map(|index| format!("x-many-{index}: 1\r\n")).collect()
}

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n{fields}\r\n")
}

/// Sends a request on a new connection, and returns the head and the body of its response.
async fn exchange(address: SocketAddr, request: &str) -> (String, String) {
    let mut wire = RawConnection::connect(address).await;
    wire.send(request).await;
    wire.response().await
}

/// Sends a request on a new connection, and returns the status of its response.
async fn status(address: SocketAddr, request: &str) -> u16 {
    let (head, _) = exchange(address, request).await;
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{head:?}"))
}

/// Returns a request with `count` headers `x-many-N`, for HTTP/2.
fn request_with_headers(path: &str, count: usize) -> Request<harness::Body> {
    let mut request = Request::get(path).body(empty()).unwrap();
    for index in 0..count {
        let name = HeaderName::from_bytes(format!("x-many-{index}").as_bytes()).unwrap();
        request.headers_mut().insert(name, HeaderValue::from_static("1"));
    }
    request
}

fn has_close(head: &str) -> bool {
    head.contains("\r\nconnection: close\r\n")
}

#[tokio::test]
async fn head_above_max_head_bytes_is_431() {
    let origin = Origin::text("ok").await;
    let proxy = proxy_with(origin.address(), "http1: {maxHeadBytes: 4Ki}").await;
    let address = proxy.address().await;
    for (path, length, expected) in [("/fits", 3_500, 200), ("/large", 5_000, 431)] {
        assert_eq!(status(address, &get(path, &format!("x-long: {}\r\n", "x".repeat(length)))).await, expected);
    }
    assert_eq!(proxy.access_log_for("/large").await["response_code_details"], "http1_head_too_large");
    for (length, expected) in [(3_000, 200), (5_000, 431)] {
        let request = Request::get("/").header("x-long", "x".repeat(length)).body(empty()).unwrap();
        assert_eq!(Client::http2(address).await.send(request).await.status, expected, "{length} bytes over HTTP/2");
    }
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn head_below_larger_max_head_bytes_passes() {
    let origin = Origin::text("ok").await;
    let proxy = proxy_with(origin.address(), "http1: {maxHeadBytes: 128Ki}").await;
    let address = proxy.address().await;
    let long = "x".repeat(100_000); // Above the default bound.
    assert_eq!(status(address, &get("/", &format!("x-long: {long}\r\n"))).await, 200);
    assert_eq!(origin.last().header("x-long").map(str::len), Some(long.len()));
    assert_eq!(status(address, &get("/", &format!("x-long: {}\r\n", "x".repeat(140_000)))).await, 431);
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn headers_above_max_headers_are_431() {
    let origin = counting_origin().await;
    let proxy = proxy_with(origin.address(), "http1: {maxHeaders: 10}").await;
    let address = proxy.address().await;
    // `host` is one of ten.
    assert_eq!(exchange(address, &get("/", &many_headers(9))).await.1, "9");
    assert_eq!(status(address, &get("/many", &many_headers(10))).await, 431);
    assert_eq!(proxy.access_log_for("/many").await["response_code_details"], "http1_too_many_fields");
    let mut client = Client::http2(address).await;
    assert_eq!(client.send(request_with_headers("/", 10)).await.text(), "10");
    assert_eq!(client.send(request_with_headers("/many2", 11)).await.status, 431);
    assert_eq!(proxy.access_log_for("/many2").await["response_code_details"], "headers_too_large");
}

#[tokio::test]
async fn headers_below_larger_max_headers_all_reach_endpoint() {
    let origin = counting_origin().await;
    let proxy = proxy_with(origin.address(), "http1: {maxHeaders: 200}").await;
    let address = proxy.address().await;
    assert_eq!(exchange(address, &get("/", &many_headers(150))).await.1, "150");
    assert_eq!(Client::http2(address).await.send(request_with_headers("/", 150)).await.text(), "150");
    assert_eq!(status(address, &get("/", &many_headers(200))).await, 431);
    assert_eq!(Client::http2(address).await.send(request_with_headers("/", 201)).await.status, 431);
}

#[tokio::test]
async fn target_above_max_target_bytes_is_414() {
    let origin = Origin::text("ok").await;
    let proxy = proxy_with(origin.address(), "http1: {maxTargetBytes: 1Ki}").await;
    let address = proxy.address().await;
    let target = |length: usize| format!("/{}", "x".repeat(length - 1));
    assert_eq!(status(address, &get(&target(1024), "")).await, 200);
    assert_eq!(status(address, &get(&target(1025), "")).await, 414);
    let is_rejected = |line: &Value| line["response_code_details"] == "http1_target_too_long";
    proxy.access_log_line(is_rejected).await;

    let proxy = proxy_with(origin.address(), "http1: {maxTargetBytes: 48Ki}").await;
    let long = target(40_000); // Above the default bound.
    assert_eq!(status(proxy.address().await, &get(&long, "")).await, 200);
    assert_eq!(origin.last().path, long);
}

#[tokio::test]
async fn last_request_of_connection_has_connection_close() {
    let origin = Origin::text("ok").await;
    let proxy = proxy_with(origin.address(), "http1: {maxRequestsPerConnection: 3}").await;
    for _ in 0..2 {
        let mut wire = RawConnection::connect(proxy.address().await).await;
        for is_last in [false, false, true] {
            wire.send(get("/", "")).await;
            let (head, body) = wire.response().await;
            assert_eq!((has_close(&head), body.as_str()), (is_last, "ok"), "{head}");
        }
        assert_eq!(wire.rest().await, "", "the connection closes");
    }
    // Pipelined requests beyond the last one are not served.
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send(get("/", "").repeat(5)).await;
    let responses = wire.rest().await;
    assert_eq!(responses.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{responses}");
    assert_eq!(responses.matches("connection: close\r\n").count(), 1, "{responses}");
    assert_eq!(origin.count(), 9);
}

#[tokio::test]
async fn http2_connection_ends_with_goaway_after_max_requests() {
    let origin = Origin::text("ok").await;
    let proxy = proxy_with(origin.address(), "http1: {maxRequestsPerConnection: 3}").await;
    let address = proxy.address().await;
    let mut client = Client::http2(address).await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "ok");
    }
    client.closed().await;
    assert_eq!(Client::http2(address).await.get("/").await.text(), "ok", "the next request, on a new connection");
    assert_eq!(origin.count(), 4);
}

/// Returns an HTTPRoute on the Gateway `second`.
const SECOND_ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: second}\nspec: \
                            {parentRefs: [{name: second}], rules: [{backendRefs: [{name: origin, port: 80}]}]}\n";

#[tokio::test]
async fn policy_of_listener_precedes_gateway_and_mesh() {
    let origin = counting_origin().await;
    let resources = Resources::empty()
        .gateway("edge", &["http", "other"])
        .gateway("second", &["http"])
        .service("origin", &[origin.address()])
        .route_everything()
        .yaml(SECOND_ROUTE)
        .yaml(&policy("mesh", "http1: {maxHeaders: 10, maxTargetBytes: 1Ki}"))
        .yaml(&policy("gateway", "targetRefs: [{kind: Gateway, name: edge}], http1: {maxHeaders: 20}"))
        .yaml(&policy("port", "targetRefs: [{kind: Gateway, name: edge, sectionName: http}], http1: {maxHeaders: 30}"));
    let proxy = Proxy::start(&resources).await;
    for (listener, most) in [("default/second/http", 10), ("default/edge/other", 20), ("default/edge/http", 30)] {
        let address = proxy.listener(listener).await;
        assert_eq!(status(address, &get("/", &many_headers(most - 1))).await, 200, "{listener}");
        assert_eq!(status(address, &get("/", &many_headers(most))).await, 431, "{listener}");
    }
    // Policies are not merged: those of the Gateway have no bound of the target.
    let long = get(&format!("/{}", "x".repeat(2_000)), "");
    for (listener, expected) in [("default/second/http", 414), ("default/edge/other", 200), ("default/edge/http", 200)]
    {
        assert_eq!(status(proxy.listener(listener).await, &long).await, expected, "{listener}");
    }
}

#[tokio::test]
async fn changed_policy_applies_to_new_connections_only() {
    let origin = Origin::text("ok").await;
    let resources = || Resources::forward_to(origin.address());
    let proxy = Proxy::start(&resources()).await;
    let address = proxy.address().await;
    let (mut wire, mut http2) = (RawConnection::connect(address).await, Client::http2(address).await);
    wire.send(get("/", "")).await;
    assert_eq!(wire.response().await.1, "ok");
    assert_eq!(http2.get("/").await.text(), "ok");

    let spec = "http1: {maxHeaders: 5, maxRequestsPerConnection: 2}";
    proxy.apply_and_wait(&resources().yaml(&policy("clients", spec))).await;
    for _ in 0..3 {
        wire.send(get("/", &many_headers(20))).await;
        let (head, body) = wire.response().await;
        assert!(body == "ok" && !has_close(&head), "an open connection has the bounds that it began with: {head}");
        assert_eq!(http2.send(request_with_headers("/", 20)).await.text(), "ok");
    }
    assert_eq!(proxy.address().await, address, "the listener stays");
    assert_eq!(status(address, &get("/", &many_headers(20))).await, 431);
    assert_eq!(Client::http2(address).await.send(request_with_headers("/", 20)).await.status, 431);

    proxy.apply_and_wait(&resources()).await;
    for codec in [Codec::Http1, Codec::Http2] {
        let mut client = Client::connect(codec, address).await;
        for _ in 0..4 {
            assert_eq!(client.send(request_with_headers("/", 20)).await.text(), "ok", "{codec:?}");
        }
    }
}
