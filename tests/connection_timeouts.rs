//! Timeouts of ClientTrafficPolicies: late heads, idle streams, idle and old connections.

use std::net::SocketAddr;
use std::time::Duration;

use harness::{
    Body, BodyError, Client, Codec, Origin, Proxy, RawConnection, RawOrigin, Resources, empty, full, with_deadline,
};
use http::{Request, Response};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

/// The timeout of each test. It is longer than the worker's interval between two checks.
const TIMEOUT: Duration = Duration::from_millis(300);

/// A time that no test reaches unless a default takes the place of its policy. The shortest default is 15 s.
const NEVER: Duration = Duration::from_secs(10);

/// Starts a proxy with a policy of one timeout for the whole mesh.
async fn proxy_with(origin: SocketAddr, timeout: &str) -> Proxy {
    let policy = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {{name: clients}}\nspec: {{timeouts: \
         {{{timeout}: 300ms}}}}\n"
    );
    Proxy::start(&Resources::forward_to(origin).yaml(&policy)).await
}

/// Panics unless the time since `start` is about [`TIMEOUT`].
fn assert_about_timeout(start: Instant) {
    let elapsed = start.elapsed();
    assert!(elapsed >= TIMEOUT && elapsed < NEVER, "{elapsed:?}");
}

fn details(line: &Value) -> &str {
    line["response_code_details"].as_str().unwrap_or_default()
}

/// Starts an origin that responds to `/gated` when the gate opens, and to other paths at once.
async fn gated_origin(codec: Codec) -> (watch::Sender<bool>, Origin) {
    let (sender, gate) = watch::channel(false);
    let origin = Origin::start(codec, move |request| {
        let mut gate = gate.clone();
        async move {
            if request.uri().path() == "/gated" {
                gate.wait_for(|open| *open).await.map_err(|_| BodyError)?;
            }
            Ok(Response::new(full("ok")))
        }
    })
    .await;
    (sender, origin)
}

/// Starts an origin that never responds.
async fn silent_origin() -> Origin {
    Origin::start(Codec::Http1, |_| std::future::pending::<Result<Response<Body>, BodyError>>()).await
}

#[tokio::test]
async fn late_head_is_408_after_request_head_timeout() {
    let origin = Origin::text("ok").await;
    let proxy = proxy_with(origin.address(), "requestHead").await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    // The timeout is that of each head, also of one that is not the connection's first.
    wire.send("GET /first HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(wire.response().await.1, "ok");
    let start = Instant::now();
    wire.send("GET /late HTTP/1.1\r\nhost: a\r\nx: ").await;
    let response = wire.rest().await;
    assert_about_timeout(start);
    assert!(response.starts_with("HTTP/1.1 408 ") && response.contains("connection: close\r\n"), "{response:?}");
    assert_eq!(details(&proxy.access_log_for("/late").await), "request_head_timeout");
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn connection_without_head_closes_after_request_head_timeout() {
    let origin = Origin::text("never").await;
    let proxy = proxy_with(origin.address(), "requestHead").await;
    let start = Instant::now();
    let mut wire = RawConnection::connect(proxy.address().await).await;
    assert_eq!(wire.rest().await, "", "no request has begun, so there is no response");
    assert_about_timeout(start);
    assert!(proxy.access_log().is_empty());
}

#[tokio::test]
async fn silent_endpoint_is_504_after_stream_idle_timeout() {
    let origin = silent_origin().await;
    let proxy = proxy_with(origin.address(), "streamIdle").await;
    for codec in [Codec::Http1, Codec::Http2] {
        let start = Instant::now();
        let path = format!("/{codec:?}");
        let response = Client::connect(codec, proxy.address().await).await.get(&path).await;
        assert_about_timeout(start);
        assert_eq!(response.status, 504, "{codec:?}");
        let line = proxy.access_log_for(&path).await;
        assert_eq!((details(&line), &line["response_flags"]), ("upstream_idle_timeout", &Value::from("SI")), "{line}");
    }
}

#[tokio::test]
async fn slow_upload_is_not_ended_by_request_timeout() {
    let origin = Origin::echo(Codec::Http1).await;
    let silent = silent_origin().await;
    let rule = |name: &str| {
        format!(
            "  - {{matches: [{{path: {{value: /{name}}}}}], backendRefs: [{{name: {name}, port: 80}}], \
             timeouts: {{request: 300ms}}}}"
        )
    };
    let resources = Resources::new()
        .service("echo", &[origin.address()])
        .service("silent", &[silent.address()])
        .route("both", &format!("rules:\n{}\n{}", rule("echo"), rule("silent")));
    let proxy = Proxy::start(&resources).await;
    for codec in [Codec::Http1, Codec::Http2] {
        for (path, status) in [("/echo", 200), ("/silent", 504)] {
            let (sender, body) = harness::body_channel();
            let mut client = Client::connect(codec, proxy.address().await).await;
            let request = Request::post(path).body(body).unwrap();
            let mut response = tokio::task::JoinSet::new();
            response.spawn(async move { client.send(request).await });
            let start = Instant::now();
            while start.elapsed() < 3 * TIMEOUT {
                assert!(sender.data("piece").await, "{codec:?} {path}");
                tokio::time::sleep(TIMEOUT / 10).await;
            }
            drop(sender);
            let end = Instant::now();
            let response = with_deadline("the response", response.join_next()).await.unwrap().unwrap();
            assert_eq!(response.status, status, "{codec:?} {path}: {}", response.text());
            // From the end of the request on.
            assert!(status == 200 || end.elapsed() >= Duration::from_millis(280), "{:?}", end.elapsed());
        }
    }
    let line = proxy.access_log_for("/silent").await;
    assert_eq!((details(&line), &line["who_failed"]), ("request_timeout", &Value::from("Upstream")), "{line}");
}

#[tokio::test]
async fn silent_downstream_is_408_after_stream_idle_timeout() {
    let origin = silent_origin().await;
    let proxy = proxy_with(origin.address(), "streamIdle").await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send("POST /stopped HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nfour").await;
    let response = wire.rest().await;
    assert!(response.starts_with("HTTP/1.1 408 "), "{response:?}");
    assert_eq!(response.matches("HTTP/1.1 ").count(), 1, "{response:?}");
    assert_eq!(details(&proxy.access_log_for("/stopped").await), "stream_idle_timeout");
}

#[tokio::test]
async fn response_that_stops_breaks_off_after_stream_idle_timeout() {
    let (sender, body) = harness::body_channel();
    let body = parking_lot::Mutex::new(Some(body));
    let origin = Origin::start(Codec::Http1, move |_| {
        let body = body.lock().take().unwrap_or_else(empty);
        std::future::ready(Ok(Response::new(body)))
    })
    .await;
    let proxy = proxy_with(origin.address(), "streamIdle").await;
    assert!(sender.data("begun").await);
    let response = proxy.client().await.send_head(Request::get("/stops").body(empty()).unwrap()).await;
    let end = with_deadline("the end of the response", harness::read(response)).await;
    assert!(end.is_err(), "a truncated response must not look complete");
    assert_eq!(details(&proxy.access_log_for("/stops").await), "upstream_idle_timeout");
    with_deadline("the request to the origin to end", sender.closed()).await;
}

/// Panics unless an idle connection closes after about [`TIMEOUT`], with a policy of this timeout.
async fn check_idle_connection_closes(timeout: &str) {
    let origin = Origin::text("ok").await;
    let proxy = proxy_with(origin.address(), timeout).await;
    for codec in [Codec::Http1, Codec::Http2] {
        let start = Instant::now();
        let mut client = Client::connect(codec, proxy.address().await).await;
        assert_eq!(client.get("/").await.text(), "ok");
        client.closed().await;
        assert_about_timeout(start);
    }
}

#[tokio::test]
async fn idle_connection_closes_after_connection_idle_timeout() {
    check_idle_connection_closes("connectionIdle").await;
}

/// A request on HTTP/2, RFC 9113: the preface, SETTINGS, and HEADERS for `GET http://a/` (stream 1, ended; RFC 7541 §A).
const HTTP2_REQUEST: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
    \0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a";

/// The types of the frames of a connection, in their order (RFC 9113 §6).
fn frame_types(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [high, middle, low, kind, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        types.push(*kind);
        bytes = &rest[5 + length..];
    }
    types
}

#[tokio::test]
async fn idle_http2_connection_is_sent_goaway() {
    const GOAWAY: u8 = 7;
    let origin = Origin::text("ok").await;
    for timeout in ["connectionIdle", "connectionAge"] {
        let proxy = proxy_with(origin.address(), timeout).await;
        let mut socket = TcpStream::connect(proxy.address().await).await.unwrap();
        socket.write_all(HTTP2_REQUEST).await.unwrap();
        let mut received = Vec::new();
        // No PING is answered: the connection closes all the same.
        with_deadline("the end of the connection", socket.read_to_end(&mut received)).await.unwrap();
        assert!(frame_types(&received).contains(&GOAWAY), "{timeout}: {received:?}");
    }
}

#[tokio::test]
async fn busy_connection_survives_connection_idle_timeout() {
    for codec in [Codec::Http1, Codec::Http2] {
        let (gate, origin) = gated_origin(Codec::Http1).await;
        let proxy = proxy_with(origin.address(), "connectionIdle").await;
        let mut busy = Client::connect(codec, proxy.address().await).await;
        let pending = busy.get("/gated");
        let (response, ()) = tokio::join!(pending, async {
            origin.wait_for(1).await;
            // An idle connection that is younger shows when the timeout has passed.
            let mut idle = Client::connect(codec, proxy.address().await).await;
            assert_eq!(idle.get("/").await.status, 200);
            idle.closed().await;
            gate.send_replace(true);
        });
        assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{codec:?}");
    }
}

#[tokio::test]
async fn begun_head_survives_connection_idle_timeout() {
    let origin = Origin::text("ok").await;
    let proxy = proxy_with(origin.address(), "connectionIdle").await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /late HTTP/1.1\r\n").await;
    assert_eq!(wire.response().await.1, "ok");
    tokio::time::sleep(2 * TIMEOUT).await; // The head has 15 s.
    wire.send("host: a\r\n\r\n").await;
    let (head, _) = wire.response().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
}

#[tokio::test]
async fn idle_connection_closes_at_connection_age() {
    check_idle_connection_closes("connectionAge").await;
}

#[tokio::test]
async fn busy_connection_ends_with_its_request_after_connection_age() {
    let (gate, origin) = gated_origin(Codec::Http1).await;
    let proxy = proxy_with(origin.address(), "connectionAge").await;
    let address = proxy.address().await;
    let (mut wire, http2) = (RawConnection::connect(address).await, Client::http2(address).await);
    wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let (head, _) = wire.response().await;
    assert!(!head.contains("connection: close"), "{head}");
    wire.send("GET /gated HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let pending = http2.concurrent(Request::get("/gated").body(empty()).unwrap());
    let (response, ()) = tokio::join!(pending, async {
        origin.wait_for(3).await;
        // An idle connection that is younger shows when the age has passed.
        let mut idle = Client::http1(address).await;
        assert_eq!(idle.get("/").await.status, 200);
        idle.closed().await;
        gate.send_replace(true);
    });
    let (head, body) = wire.response().await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("\r\nconnection: close\r\n"), "{head}");
    assert_eq!((body.as_str(), wire.rest().await.as_str()), ("ok", ""));
    let response = with_deadline("a response", harness::read(response.unwrap())).await.unwrap();
    assert_eq!(response.text(), "ok");
    let mut http2 = http2;
    http2.closed().await;
    assert!(proxy.access_log().iter().all(|line| line["outcome"] == "ok"), "{:?}", proxy.access_log());
}

/// Responds with `ok`, whose second byte waits for the gate in the response to `/slow`.
async fn respond_in_halves(mut wire: RawConnection, mut opened: watch::Receiver<bool>) {
    while let Some(head) = wire.try_head().await {
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no").await;
        if head.starts_with("GET /slow ") {
            opened.wait_for(|open| *open).await.unwrap();
        }
        wire.send("k").await;
    }
}

#[tokio::test]
async fn request_that_is_there_is_served_when_connection_age_passes_in_a_response() {
    let (gate, opened) = watch::channel(false);
    let origin = RawOrigin::start(move |wire| respond_in_halves(wire, opened.clone())).await;
    let proxy = proxy_with(origin.address(), "connectionAge").await;
    let address = proxy.address().await;
    let mut wire = RawConnection::connect(address).await;
    wire.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let head = wire.head().await;
    assert!(head.starts_with("HTTP/1.1 200 ") && !head.contains("connection: close"), "{head}");
    assert_eq!(wire.exactly(1).await, b"o");
    // An idle connection that is younger shows when the age has passed.
    let mut idle = Client::http1(address).await;
    assert_eq!(idle.get("/").await.status, 200);
    idle.closed().await;
    wire.send("GET /next HTTP/1.1\r\nhost: a\r\n\r\n").await;
    gate.send_replace(true);
    assert_eq!(wire.exactly(1).await, b"k");
    let (head, body) = wire.response().await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("\r\nconnection: close\r\n"), "{head}");
    assert_eq!((body.as_str(), wire.rest().await.as_str()), ("ok", ""));
}

#[tokio::test]
async fn requests_in_a_row_survive_connection_age() {
    let origin = Origin::text("ok").await;
    let proxy = proxy_with(origin.address(), "connectionAge").await;
    let (mut connections, start) = (0, Instant::now());
    while connections < 3 {
        assert!(start.elapsed() < NEVER, "{connections} connections have ended by their age");
        let mut wire = RawConnection::connect(proxy.address().await).await;
        connections += 1;
        loop {
            wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            // A connection that becomes too old between two requests closes without a response.
            let Some(head) = with_deadline("a response", wire.try_head()).await else { break };
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            assert_eq!(wire.exactly(2).await, b"ok");
            if head.contains("connection: close\r\n") {
                assert_eq!(wire.rest().await, "");
                break;
            }
        }
    }
}
