//! Bounds of HTTP/1 exchanges: informational responses, unread bodies, downstreams that do not read, and `100 Continue`.

use std::net::SocketAddr;
use std::time::Duration;

use harness::{Client, Codec, Filter, Origin, Proxy, RawConnection, RawOrigin, Resources, full, wait_until, zeros};
use http::Response;
use serde_json::{Value, json};
use tokio::time::Instant;

/// The bound of the proxy, `MAX_INFORMATIONAL_RESPONSES`.
const MAX_INFORMATIONAL: usize = 16;

/// A length below the proxy's `MAX_UNREAD_BODY_BYTES` of 256 KiB.
const SHORT_BODY: usize = 200 * 1024;

/// A length above `MAX_UNREAD_BODY_BYTES`, and above what the proxy reads while it closes a connection.
const LONG_BODY: usize = 2 * 1024 * 1024;

/// The time after which the proxy does not wait for the rest of a body, `UNREAD_BODY_TIMEOUT`, without the inaccuracy of
/// a timer.
const UNREAD_BODY_TIMEOUT: Duration = Duration::from_millis(950);

const GIB: u64 = 1 << 30;

async fn proxy_to(address: SocketAddr) -> Proxy {
    Proxy::start(&Resources::forward_to(address)).await
}

fn path_of(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
}

/// Starts an origin that responds to `/STATUS/COUNT` with as many informational responses before its response.
async fn informational_origin() -> RawOrigin {
    RawOrigin::start(|mut wire| async move {
        while let Some(head) = wire.try_head().await {
            let numbers: Vec<usize> = path_of(&head).split('/').filter_map(|part| part.parse().ok()).collect();
            let &[status, count] = &numbers[..] else { return };
            let early = format!("HTTP/1.1 {status} Wait\r\nx-early: 1\r\n\r\n").repeat(count);
            let response = format!("{early}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            if !wire.try_send(response.as_bytes()).await {
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn informational_responses_above_bound_are_502() {
    let origin = informational_origin().await;
    let proxy = proxy_to(origin.address()).await;
    // `100 Continue` is the proxy's own, so that an endpoint's is counted and not forwarded.
    for (status, is_forwarded) in [(102, true), (103, true), (100, false)] {
        for (count, expected) in [(MAX_INFORMATIONAL, 200), (MAX_INFORMATIONAL + 1, 502)] {
            let mut wire = RawConnection::connect(proxy.address().await).await;
            wire.send(format!("GET /{status}/{count} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
            for _ in 0..if is_forwarded { MAX_INFORMATIONAL } else { 0 } {
                let head = wire.head().await;
                assert!(head.starts_with(&format!("HTTP/1.1 {status} ")) && head.contains("x-early: 1"), "{head}");
            }
            let (head, body) = wire.response().await;
            assert!(head.starts_with(&format!("HTTP/1.1 {expected} ")), "{count} times {status}: {head}");
            assert!(body == "ok" || body.ends_with("(upstream_protocol_error)\n"), "{body}");
        }
        let line = proxy.access_log_for(&format!("/{status}/17")).await;
        assert_eq!(line["response_code_details"], "upstream_protocol_error", "{line}");
        assert_eq!(line["cause"], "too many informational responses", "{line}");
    }
}

#[tokio::test]
async fn informational_responses_have_same_bound_for_http2_downstream() {
    let origin = informational_origin().await;
    let proxy = proxy_to(origin.address()).await;
    let mut client = Client::http2(proxy.address().await).await;
    assert_eq!(client.get("/103/16").await.text(), "ok");
    assert_eq!(client.get("/103/17").await.status, 502);
    assert_eq!(client.get("/103/1").await.text(), "ok");
}

/// Starts an origin that responds with the path after each head, and never reads a body.
async fn early_origin() -> RawOrigin {
    RawOrigin::start(|mut wire| async move {
        while let Some(head) = wire.try_head().await {
            let path = path_of(&head);
            wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len())).await;
            if head.starts_with("POST ") {
                std::future::pending::<()>().await; // The connection stays open, unread.
            }
        }
    })
    .await
}

#[tokio::test]
async fn unread_body_within_bound_leaves_connection_usable() {
    let origin = early_origin().await;
    let proxy = proxy_to(origin.address()).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    let (data, size) = ("x".repeat(SHORT_BODY), SHORT_BODY);
    let chunked = format!("{size:x}\r\n{data}\r\n0\r\nx-last: 1\r\n\r\n");
    for (framing, body) in [(format!("content-length: {size}"), data), ("transfer-encoding: chunked".into(), chunked)] {
        wire.send(format!("POST /early HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n")).await;
        let (head, text) = wire.response().await;
        assert_eq!(text, "/early", "{framing}");
        assert!(!head.contains("connection: close"), "{head}");
        wire.send(&body).await;
        wire.send("GET /next HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(wire.response().await.1, "/next", "{framing}");
    }
}

#[tokio::test]
async fn unread_body_above_bound_closes_connection_after_response() {
    let origin = early_origin().await;
    let proxy = proxy_to(origin.address()).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send(format!("POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: {LONG_BODY}\r\n\r\n")).await;
    let (head, text) = wire.response().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && text == "/early", "{head}");
    wire.send("x".repeat(LONG_BODY)).await;
    wire.send("GET /next HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(wire.rest().await, "", "no request behind the body is served");
    assert_eq!(proxy.access_log_for("/early").await["status"], 200);
    assert!(proxy.access_log().iter().all(|line| line["path"] != "/next"), "{:?}", proxy.access_log());
}

#[tokio::test]
async fn connection_whose_body_never_comes_closes_after_response() {
    let origin = early_origin().await;
    let proxy = proxy_to(origin.address()).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    let start = Instant::now();
    wire.send("POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nfirst").await;
    let response = wire.rest().await;
    let elapsed = start.elapsed();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with("\r\n\r\n/early"), "{response}");
    assert!(elapsed >= UNREAD_BODY_TIMEOUT && elapsed < UNREAD_BODY_TIMEOUT * 10, "{elapsed:?}");
    let open = "weir_downstream_connections{listener=\"default/edge/http\"}";
    proxy.wait_for_metric(open, |open| open <= 0.0).await;
}

/// Returns resources with a `streamIdle` of a second and without a request timeout.
fn with_stream_idle(codec: Codec, origin: SocketAddr) -> Resources {
    let policy = "apiVersion: weir.dev/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {name: clients}\nspec: \
                  {timeouts: {streamIdle: 1s}}\n";
    let resources = match codec {
        Codec::Http1 => Resources::new().service("origin", &[origin]),
        Codec::Http2 => Resources::new().http2_service("origin", &[origin]),
    };
    let route = "rules: [{timeouts: {request: 0s}, backendRefs: [{name: origin, port: 80}]}]";
    resources.route("everything", route).yaml(policy)
}

/// Starts downstreams that read nothing, and panics unless the proxy ends their requests in bounded memory.
async fn check_downstreams_that_never_read(codec: Codec, filter: Option<Filter>) {
    const DOWNSTREAMS: usize = 8;
    const MAX_GROWTH: u64 = 24 << 20;
    let origin = Origin::start(codec, |request| async move {
        let is_large = request.uri().path().starts_with("/large");
        Ok(Response::new(if is_large { zeros(GIB).0 } else { full("ok") }))
    })
    .await;
    let resources = with_stream_idle(codec, origin.address());
    let proxy = Proxy::start(&filter.into_iter().fold(resources, Resources::filter)).await;
    assert_eq!(proxy.get("/warm").await.text(), "ok");
    let before = proxy.memory("VmRSS");
    let mut wires = Vec::new();
    for index in 0..DOWNSTREAMS {
        let mut wire = RawConnection::connect(proxy.address().await).await;
        wire.send(format!("GET /large/{index} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        wires.push(wire);
    }
    for index in 0..DOWNSTREAMS {
        let line = proxy.access_log_for(&format!("/large/{index}")).await;
        let logged = (&line["response_code_details"], &line["who_failed"], &line["status"]);
        let expected = (&Value::from("stream_idle_timeout"), &Value::from("Downstream"), &Value::from(200));
        assert_eq!(logged, expected, "{line}");
    }
    let open = "weir_downstream_connections{listener=\"default/edge/http\"}";
    proxy.wait_for_metric(open, |open| open <= 0.0).await;
    let growth = proxy.memory("VmHWM").saturating_sub(before);
    assert!(growth < MAX_GROWTH, "{growth} bytes for {DOWNSTREAMS} downstreams that do not read");
    if codec == Codec::Http1 {
        // Each connection had an incomplete response, so that none serves another request.
        wait_until("the requests to the origin to end", async || (origin.open_connections() == 0).then_some(())).await;
    }
    assert_eq!(proxy.get("/after").await.text(), "ok");
    let received = wires.remove(0).rest().await;
    assert!(received.starts_with("HTTP/1.1 200 OK\r\n"), "{:?}", received.get(..100));
    assert!((received.len() as u64) < GIB, "the response is not complete");
}

#[tokio::test]
async fn downstream_that_never_reads_ends_by_stream_idle_timeout() {
    check_downstreams_that_never_read(Codec::Http1, None).await;
}

#[tokio::test]
async fn downstream_that_never_reads_http2_endpoint_ends_by_stream_idle_timeout() {
    check_downstreams_that_never_read(Codec::Http2, None).await;
}

#[tokio::test]
async fn downstream_that_never_reads_through_filter_ends_by_stream_idle_timeout() {
    let filter = Filter::test("reader", json!({"response_body": [{"do": "read_body"}]}));
    check_downstreams_that_never_read(Codec::Http1, Some(filter)).await;
}

/// Sends requests that expect `100 Continue`, and panics unless it is sent before the response or not at all.
async fn check_continue_precedes_response(proxy: &Proxy, body: &[u8]) {
    for index in 0..32 {
        let mut wire = RawConnection::connect(proxy.address().await).await;
        let connection = if index % 2 == 0 { "connection: close\r\n" } else { "" };
        let head =
            format!("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n{connection}\r\n");
        wire.send(head).await;
        let mut head = wire.head().await;
        if head.starts_with("HTTP/1.1 100 ") {
            assert_eq!(head, "HTTP/1.1 100 Continue\r\n\r\n");
            head = wire.head().await;
        }
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let received = match head.contains("\r\ntransfer-encoding: chunked\r\n") {
            true => wire.chunked().await,
            false => wire.exactly(body.len()).await,
        };
        assert!(received == body, "the body has bytes of its own alone");
        wire.finish().await;
        assert_eq!(wire.rest().await, "");
    }
}

#[tokio::test]
async fn continue_never_stands_within_response() {
    static PIECE: [u8; 10_000] = [b'x'; 10_000];
    let body = PIECE.repeat(6);
    let length = body.len();
    let http1 = RawOrigin::start(move |mut wire| async move {
        let Some(_) = wire.try_head().await else { return };
        wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n")).await;
        for _ in 0..6 {
            tokio::task::yield_now().await;
            wire.send(&PIECE).await;
        }
        std::future::pending::<()>().await;
    })
    .await;
    let shared = bytes::Bytes::from(body.clone());
    let http2 = Origin::start(Codec::Http2, move |_| {
        let body = shared.clone();
        async move { Ok(Response::new(full(body))) }
    })
    .await;
    check_continue_precedes_response(&proxy_to(http1.address()).await, &body).await;
    let proxy = Proxy::start(&Resources::forward_to_http2(http2.address())).await;
    check_continue_precedes_response(&proxy, &body).await;
    // The body is first read when the filter resumes the request.
    let steps = json!({"tick_ms": 10, "request_headers": [{"do": "pause_until_tick"}]});
    let resources = Resources::forward_to(http1.address()).filter(Filter::test("late", steps));
    check_continue_precedes_response(&Proxy::start(&resources).await, &body).await;
}

#[tokio::test]
async fn reply_of_proxy_to_expectation_has_no_continue_and_closes() {
    let filter = Filter::test("reply", json!({"request_headers": [{"do": "reply", "status": 403, "body": "no"}]}));
    let origin = Origin::text("never").await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n").await;
    let response = wire.rest().await;
    assert!(response.starts_with("HTTP/1.1 403 ") && response.ends_with("\r\n\r\nno"), "{response}");
    assert!(response.contains("\r\nconnection: close\r\n"), "the next bytes would have no one meaning: {response}");
    assert_eq!(origin.count(), 0);
}
