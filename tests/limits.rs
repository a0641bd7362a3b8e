//! Bounds on what one downstream may ask for.

use harness::{Client, Codec, Filter, Origin, Proxy, Resources, Wire, empty, within};
use http::Request;
use serde_json::json;

async fn hello() -> (Origin, Proxy) {
    let origin = Origin::says("hello").await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    (origin, proxy)
}

fn many_headers(count: usize) -> String {
    (0..count).map(|index| format!("x-{index}: 1\r\n")).collect()
}

#[tokio::test]
async fn too_many_headers_are_431() {
    let (origin, proxy) = hello().await;
    let mut wire = Wire::connect(proxy.address().await).await;
    // The proxy adds three of its own, and the origin here has the same bound.
    wire.send(format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", many_headers(95))).await;
    assert!(wire.response().await.0.starts_with("HTTP/1.1 200 "));
    let mut wire = Wire::connect(proxy.address().await).await;
    wire.send(format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", many_headers(100))).await;
    let answer = wire.rest().await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_head_that_is_too_long_is_431() {
    let (origin, proxy) = hello().await;
    let mut wire = Wire::connect(proxy.address().await).await;
    wire.send(format!("GET / HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n", "x".repeat(50_000))).await;
    assert!(wire.response().await.0.starts_with("HTTP/1.1 200 "));
    let mut wire = Wire::connect(proxy.address().await).await;
    wire.send(format!("GET / HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n", "x".repeat(100_000))).await;
    let answer = wire.rest().await;
    assert!(answer.starts_with("HTTP/1.1 431 ") || answer.is_empty(), "{answer}");
    let mut wire = Wire::connect(proxy.address().await).await;
    wire.send(format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(100_000))).await;
    let answer = wire.rest().await;
    let refused = answer.starts_with("HTTP/1.1 414 ") || answer.starts_with("HTTP/1.1 431 ") || answer.is_empty();
    assert!(refused, "{answer}");
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn http2_heads_have_the_same_bounds() {
    let (origin, proxy) = hello().await;
    let mut client = Client::http2(proxy.address().await).await;
    let mut request = Request::get("/many").body(empty()).unwrap();
    for index in 0..101 {
        let name = http::HeaderName::from_bytes(format!("x-{index}").as_bytes()).unwrap();
        request.headers_mut().insert(name, http::HeaderValue::from_static("1"));
    }
    assert_eq!(client.send(request).await.status, 431);
    assert_eq!(proxy.logged("/many").await["details"], "headers_too_large");
    let request = Request::get("/long").header("x-long", "x".repeat(100_000)).body(empty()).unwrap();
    let refused = client.attempt(request).await;
    assert!(refused.as_ref().map_or(true, |answer| answer.status() == 431), "{refused:?}");
    assert_eq!(Client::http2(proxy.address().await).await.get("/").await.status, 200);
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn an_answer_with_too_many_headers_is_not_passed_on() {
    let origin = harness::WireOrigin::start(|mut wire| async move {
        wire.head().await;
        wire.send(format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", many_headers(150))).await;
    })
    .await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    assert_eq!(proxy.client().await.post("/many", "x").await.status, 502);
    assert_eq!(proxy.logged("/many").await["who_failed"], "upstream");
}

#[tokio::test]
async fn http2_streams_per_connection_are_bounded() {
    let origin = Origin::start(Codec::Http1, |_| {
        std::future::pending::<Result<http::Response<harness::Body>, harness::Broken>>()
    })
    .await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let client = Client::http2(proxy.address().await).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..110 {
        let asked = client.concurrent(Request::get("/").body(empty()).unwrap());
        tasks.spawn(async move { drop(asked.await) });
    }
    origin.wait_for(100).await;
    // The client knows the bound by SETTINGS and keeps the rest back; another connection is not concerned.
    let mut other = Client::http2(proxy.address().await).await;
    let asked = other.attempt(Request::get("/other").body(empty()).unwrap());
    tokio::select! {
        answer = asked => panic!("the origin does not answer: {answer:?}"),
        () = origin.wait_for(101) => {}
    }
    assert_eq!(origin.count(), 101);
}

#[tokio::test]
async fn what_a_filter_may_hold_is_bounded_for_answers_too() {
    let origin = Origin::start(Codec::Http1, |_| async { Ok(http::Response::new(harness::counted(4 << 20).0)) }).await;
    let filter = Filter::test("one", json!({"response_body": [{"do": "pause_until_end"}]}));
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
    let mut client = proxy.client().await;
    let response = client.attempt(Request::get("/large").body(empty()).unwrap()).await;
    let whole = match response {
        Ok(response) => within("the end", harness::read(response)).await.is_ok_and(|answer| answer.status == 200),
        Err(_) => false,
    };
    assert!(!whole, "four megabytes do not fit in one");
    assert_eq!(proxy.logged("/large").await["details"], "body_too_large");
}
