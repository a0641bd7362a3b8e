//! Limits per downstream connection and request.

use harness::{Client, Codec, Filter, Origin, Proxy, RawConnection, Resources, empty, with_deadline};
use http::Request;
use serde_json::json;

/// The longest head of a request: `MAX_HEAD_BYTES` of the proxy.
const MAX_HEAD_BYTES: usize = 64 * 1024;

async fn hello() -> (Origin, Proxy) {
    let origin = Origin::text("hello").await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    (origin, proxy)
}

fn many_headers(count: usize) -> String {
    (0..count).map(|index| format!("x-{index}: 1\r\n")).collect()
}

#[tokio::test]
async fn too_many_headers_is_431() {
    let (origin, proxy) = hello().await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    // The proxy adds three headers, and the origin has the same limit of 100.
    wire.send(format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", many_headers(95))).await;
    assert!(wire.response().await.0.starts_with("HTTP/1.1 200 "));
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send(format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", many_headers(100))).await;
    let response = wire.rest().await;
    assert!(response.starts_with("HTTP/1.1 431 "), "{response}");
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn oversized_headers_are_431() {
    let (origin, proxy) = hello().await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send(format!("GET / HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n", "x".repeat(50_000))).await;
    assert!(wire.response().await.0.starts_with("HTTP/1.1 200 "));
    // Each head has the limit's length and is incomplete. A longer one would be reset with unread bytes, which could
    // discard the response.
    for (start, status) in [("GET / HTTP/1.1\r\nhost: a\r\nx-long: ", 431), ("GET /", 414)] {
        let mut wire = RawConnection::connect(proxy.address().await).await;
        wire.send(format!("{start}{}", "x".repeat(MAX_HEAD_BYTES - start.len()))).await;
        let response = wire.rest().await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{start:?}: {response}");
    }
    assert_eq!(proxy.get("/").await.status, 200);
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn http2_header_limits_match_http1() {
    let (origin, proxy) = hello().await;
    let mut client = Client::http2(proxy.address().await).await;
    let mut request = Request::get("/many").body(empty()).unwrap();
    for index in 0..101 {
        let name = http::HeaderName::from_bytes(format!("x-{index}").as_bytes()).unwrap();
        request.headers_mut().insert(name, http::HeaderValue::from_static("1"));
    }
    assert_eq!(client.send(request).await.status, 431);
    assert_eq!(proxy.access_log_for("/many").await["response_code_details"], "headers_too_large");
    let request = Request::get("/long").header("x-long", "x".repeat(MAX_HEAD_BYTES)).body(empty()).unwrap();
    assert_eq!(client.send(request).await.status, 431);
    assert_eq!(Client::http2(proxy.address().await).await.get("/").await.status, 200);
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn response_with_too_many_headers_is_502() {
    let origin = harness::RawOrigin::start(|mut wire| async move {
        wire.head().await;
        wire.send(format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", many_headers(150))).await;
    })
    .await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    assert_eq!(proxy.client().await.post("/many", "x").await.status, 502);
    assert_eq!(proxy.access_log_for("/many").await["who_failed"], "Upstream");
}

#[tokio::test]
async fn http2_streams_per_connection_are_bounded() {
    let origin = Origin::start(Codec::Http1, |_| {
        std::future::pending::<Result<http::Response<harness::Body>, harness::BodyError>>()
    })
    .await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let client = Client::http2(proxy.address().await).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..110 {
        let pending = client.concurrent(Request::get("/").body(empty()).unwrap());
        tasks.spawn(async move { drop(pending.await) });
    }
    origin.wait_for(100).await;
    // The client learns the limit from SETTINGS and delays further requests. Another connection has its own limit.
    let mut other = Client::http2(proxy.address().await).await;
    let pending = other.try_send(Request::get("/other").body(empty()).unwrap());
    tokio::select! {
        response = pending => panic!("the origin does not respond: {response:?}"),
        () = origin.wait_for(101) => {}
    }
    assert_eq!(origin.count(), 101);
}

#[tokio::test]
async fn response_body_buffered_by_filter_is_bounded() {
    let origin = Origin::start(Codec::Http1, |_| async { Ok(http::Response::new(harness::zeros(4 << 20).0)) }).await;
    let filter = Filter::test("one", json!({"response_body": [{"do": "pause_until_end"}]}));
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
    let mut client = proxy.client().await;
    let response = client.try_send(Request::get("/large").body(empty()).unwrap()).await;
    let whole = match response {
        Ok(response) => {
            with_deadline("the end", harness::read(response)).await.is_ok_and(|response| response.status == 200)
        }
        Err(_) => false,
    };
    assert!(!whole, "four megabytes do not fit in one");
    assert_eq!(proxy.access_log_for("/large").await["response_code_details"], "body_too_large");
}
