//! Bounds and timeouts of connections from a third-party control plane, by the fields of Envoy that have them.

use std::time::Duration;

use harness::{Client, Origin, Proxy, ProxyOptions, RawConnection, ThirdPartyXdsServer, wait_until};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{cluster, endpoints, is_nack, listener, routes, to};

/// A time that no test reaches unless a default takes the place of a timeout of 0.3 s.
const NEVER: Duration = Duration::from_secs(10);

/// Returns a listener whose connection manager has more fields.
fn listener_with(name: &str, fields: &Value) -> Value {
    let mut listener = listener(name, &[]);
    let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
    for (field, value) in fields.as_object().unwrap() {
        manager[field] = value.clone();
    }
    listener
}

/// Starts a server with a listener of these fields, which forwards everything to an origin, and a proxy that follows it.
async fn start(origin: &Origin, fields: &Value) -> (ThirdPartyXdsServer, Proxy) {
    let mut server = ThirdPartyXdsServer::start().await;
    let edge = json!([listener_with("edge", fields), routes("edge", &[to("/", "a")])]);
    let a = json!([cluster("a"), endpoints("a", &[origin])]);
    server.command(json!({"put": {"edge": edge, "a": a}})).await;
    let mut proxy = Proxy::follow(server.port(), &ProxyOptions::default()).await;
    proxy.wait_until_ready().await;
    // On a busy machine the proxy may be ready, without listeners, before the server has sent one.
    wait_until("the listener", async || proxy.find_listener("edge").await).await;
    (server, proxy)
}

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n")
}

fn many_headers(count: usize) -> String {
    (0..count).map(|index| format!("x-many-{index}: 1\r\n")).collect()
}

async fn connect(proxy: &Proxy) -> RawConnection {
    RawConnection::connect(proxy.listener("edge").await).await
}

/// Sends a request on a new connection, and returns the head of its response.
async fn response_head(proxy: &Proxy, request: &str) -> String {
    let mut wire = connect(proxy).await;
    wire.send(request).await;
    wire.response().await.0
}

#[tokio::test]
async fn bounds_of_heads_and_requests_take_effect() {
    let origin = Origin::text("ok").await;
    let common = json!({"max_headers_count": 10, "max_requests_per_connection": 2});
    let fields = json!({"common_http_protocol_options": common, "max_request_headers_kb": 4});
    let (server, proxy) = start(&origin, &fields).await;
    let long = |length: usize| get(&format!("x-long: {}\r\n", "x".repeat(length)));
    for (request, status) in
        [(get(&many_headers(9)), 200), (get(&many_headers(10)), 431), (long(3_500), 200), (long(5_000), 431)]
    {
        let head = response_head(&proxy, &request).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }
    let mut wire = connect(&proxy).await;
    for is_last in [false, true] {
        wire.send(get("")).await;
        let (head, body) = wire.response().await;
        assert_eq!((head.contains("connection: close\r\n"), body.as_str()), (is_last, "ok"), "{head}");
    }
    assert_eq!(wire.rest().await, "");
    assert!(!server.requests().iter().any(is_nack), "{:#?}", server.requests());
}

#[tokio::test]
async fn timeouts_of_connections_take_effect() {
    let origin = Origin::text("ok").await;
    let options = [
        json!({"common_http_protocol_options": {"idle_timeout": "0.3s"}}),
        json!({"common_http_protocol_options": {"max_connection_duration": "0.3s"}}),
    ];
    for fields in options {
        let (server, proxy) = start(&origin, &fields).await;
        let start = Instant::now();
        let mut client = Client::http1(proxy.listener("edge").await).await;
        assert_eq!(client.get("/").await.text(), "ok");
        client.closed().await;
        let elapsed = start.elapsed();
        assert!(elapsed >= Duration::from_millis(300) && elapsed < NEVER, "{elapsed:?} with {fields}");
        assert!(!server.requests().iter().any(is_nack), "{:#?}", server.requests());
    }
}

#[tokio::test]
async fn timeouts_of_requests_take_effect() {
    let origin = Origin::start(harness::Codec::Http1, |_| {
        std::future::pending::<Result<http::Response<harness::Body>, harness::BodyError>>()
    })
    .await;
    let fields = json!({"request_headers_timeout": "0.3s", "stream_idle_timeout": "0.4s"});
    let (server, proxy) = start(&origin, &fields).await;
    for (request, status, detail) in
        [("GET /late HTTP/1.1\r\nx: ", 408, "request_head_timeout"), (&get(""), 504, "upstream_idle_timeout")]
    {
        let mut wire = connect(&proxy).await;
        let start = Instant::now();
        wire.send(request).await;
        let (head, body) = wire.response().await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")) && body.ends_with(&format!("({detail})\n")),
            "{head}{body}"
        );
        assert!(start.elapsed() < NEVER, "{:?}", start.elapsed());
        let is_logged = |line: &Value| line["response_code_details"] == detail;
        proxy.access_log_line(is_logged).await;
    }
    assert!(!server.requests().iter().any(is_nack), "{:#?}", server.requests());
}

#[tokio::test]
async fn changed_bounds_apply_to_new_connections() {
    let origin = Origin::text("ok").await;
    let (mut server, proxy) = start(&origin, &json!({})).await;
    let address = proxy.listener("edge").await;
    let mut open = connect(&proxy).await;
    open.send(get(&many_headers(20))).await;
    assert_eq!(open.response().await.1, "ok");

    let changed = listener_with("edge", &json!({"common_http_protocol_options": {"max_headers_count": 10}}));
    server.command(json!({"put": {"edge": changed}})).await;
    wait_until("431 on a new connection", async || {
        let head = response_head(&proxy, &get(&many_headers(20))).await;
        head.starts_with("HTTP/1.1 431 ").then_some(())
    })
    .await;
    open.send(get(&many_headers(20))).await;
    let (head, body) = open.response().await;
    assert!(body == "ok" && !head.contains("connection: close"), "{head}");
    assert_eq!(proxy.listener("edge").await, address, "the listener stays");
}

#[tokio::test]
async fn bounds_out_of_range_are_rejected_with_field() {
    let origin = Origin::text("ok").await;
    let (mut server, proxy) = start(&origin, &json!({})).await;
    let common = json!({"max_headers_count": 100_000, "max_stream_duration": "1s"});
    let bad = listener_with("edge", &json!({"common_http_protocol_options": common, "max_request_headers_kb": 9_000}));
    server.command(json!({"put": {"edge": bad}})).await;
    let nack = server.wait_for("a NACK", is_nack).await;
    let error = nack["error"].as_str().unwrap_or_default();
    for field in ["max_request_headers_kb", "common_http_protocol_options.max_stream_duration"] {
        assert!(error.contains(field), "{field}: {error}");
    }
    assert_eq!(nack["type"], "Listener");
    assert!(response_head(&proxy, &get("")).await.starts_with("HTTP/1.1 200 "), "the last good listener serves");
}
