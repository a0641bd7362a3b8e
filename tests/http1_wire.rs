//! HTTP/1 byte by byte: requests that no library would send, and messages with ambiguous framing.

use harness::{Origin, Proxy, RawConnection, RawOrigin, Resources};
use http_body_util::BodyExt;

const HOST: &str = "host: a\r\n";

async fn proxy_to(origin: &Origin) -> Proxy {
    Proxy::start(&Resources::forward_to(origin.address())).await
}

#[tokio::test]
async fn ambiguous_requests_are_rejected() {
    let origin = Origin::text("never").await;
    let proxy = proxy_to(&origin).await;
    let address = proxy.address().await;
    for (why, status, request) in [
        ("two lengths", 400, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd"),
        ("a listed length", 400, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3, 4\r\n\r\nabcd"),
        ("a signed length", 400, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc"),
        ("a length in hexadecimal", 400, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x3\r\n\r\nabc"),
        (
            "not chunked in the end",
            400,
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        ),
        ("another coding", 501, "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ("an unknown coding", 501, "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
        (
            "chunked twice",
            400,
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("chunked in HTTP/1.0", 400, "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("no host", 400, "GET / HTTP/1.1\r\n\r\n"),
        ("two hosts", 400, "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
        ("a host with a path", 400, "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n"),
        ("a host with a user", 400, "GET / HTTP/1.1\r\nhost: u@a\r\n\r\n"),
        ("two different hosts", 400, "GET http://a/ HTTP/1.1\r\nhost: b\r\n\r\n"),
        ("a folded header", 400, "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\r\n 2\r\n\r\n"),
        ("a space before the colon", 400, "GET / HTTP/1.1\r\nhost: a\r\ncontent-length : 3\r\n\r\nabc"),
        ("a bare carriage return", 400, "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\rx-b: 2\r\n\r\n"),
        ("a zero byte", 400, "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\x002\r\n\r\n"),
        ("a path above the root", 400, "GET /a/../../etc HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("a target without a slash", 400, "GET etc HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("a space in the target", 400, "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("CONNECT", 400, "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n"),
        ("an upgrade", 403, "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n"),
        ("an unknown expectation", 417, "GET / HTTP/1.1\r\nhost: a\r\nexpect: magic\r\n\r\n"),
        ("no HTTP", 400, "HELLO\r\n\r\n"),
        ("another version", 505, "GET / HTTP/3.0\r\nhost: a\r\n\r\n"),
    ] {
        let mut wire = RawConnection::connect(address).await;
        wire.send(request).await;
        wire.finish().await;
        let response = wire.rest().await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{why}: {response}");
    }
    assert_eq!(origin.count(), 0, "no such request reaches the origin: {:?}", origin.received());
}

#[tokio::test]
async fn content_length_beside_chunked_is_dropped() {
    let origin = Origin::echo(harness::Codec::Http1).await;
    let proxy = proxy_to(&origin).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send(format!(
        "POST / HTTP/1.1\r\n{HOST}content-length: 30\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
         5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n{HOST}\r\n"
    ))
    .await;
    let response = wire.rest().await;
    assert!(response.contains("hello") || response.starts_with("HTTP/1.1 400 "), "{response}");
    assert!(origin.received().iter().all(|request| request.path == "/"), "{:?}", origin.received());
    assert!(origin.received().iter().all(|request| request.header("content-length") != Some("30")));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start(harness::Codec::Http1, |request| async move {
        Ok(http::Response::new(harness::full(request.uri().path().to_owned())))
    })
    .await;
    let proxy = proxy_to(&origin).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send(format!(
        "GET /1 HTTP/1.1\r\n{HOST}\r\nPOST /2 HTTP/1.1\r\n{HOST}content-length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\n{HOST}\r\n"
    ))
    .await;
    for expected in ["/1", "/2", "/3"] {
        let (head, body) = wire.response().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(body, expected);
    }
}

#[tokio::test]
async fn chunked_body_is_decoded() {
    let origin = Origin::start(harness::Codec::Http1, |request| async move {
        let body = request.into_body().collect().await.map_err(|_| harness::BodyError)?.to_bytes();
        Ok(http::Response::new(harness::full(body))) // One frame with a known length.
    })
    .await;
    let proxy = proxy_to(&origin).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send(format!("POST / HTTP/1.1\r\n{HOST}transfer-encoding: chunked\r\n\r\n")).await;
    for piece in ["3\r\nab", "c\r\n", "A;name=value\r\n0123456789\r\n", "0", "\r\n", "\r\n"] {
        wire.send(piece).await;
    }
    let (head, body) = wire.response().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, "abc0123456789");
}

#[tokio::test]
async fn http_1_0_response_is_not_chunked() {
    let origin = Origin::start(harness::Codec::Http1, |_| async {
        let (sender, body) = harness::body_channel();
        sender.data("without a length").await; // To HTTP/1.1 the body is chunked.
        Ok(http::Response::new(body))
    })
    .await;
    let proxy = proxy_to(&origin).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send("GET / HTTP/1.0\r\n\r\n").await;
    let response = wire.rest().await; // The body ends with the connection.
    assert!(response.contains(" 200 "), "{response}");
    assert!(response.ends_with("\r\n\r\nwithout a length"), "{response}");
    assert!(!response.to_ascii_lowercase().contains("transfer-encoding"), "{response}");
}

const EXPECTING: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n";

#[tokio::test]
async fn expect_100_continue_is_sent_on_when_endpoint_sends_it() {
    let (asked, mut is_asked) = tokio::sync::mpsc::channel(1);
    let origin = RawOrigin::start(move |mut wire| {
        let asked = asked.clone();
        async move {
            while let Some(head) = wire.try_head().await {
                assert!(head.contains("\r\nexpect: 100-continue\r\n"), "{head}");
                let (go, going) = tokio::sync::oneshot::channel();
                asked.send(go).await.unwrap();
                let () = going.await.unwrap();
                wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
                assert_eq!(wire.exactly(4).await, b"body");
                wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            }
        }
    })
    .await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    for _ in 0..2 {
        wire.send(EXPECTING).await;
        let go = harness::with_deadline("the request", is_asked.recv()).await.unwrap();
        go.send(()).unwrap();
        assert_eq!(wire.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
        wire.send("body").await;
        let (head, _) = wire.response().await;
        assert!(head.starts_with("HTTP/1.1 200 ") && !head.contains("connection: close"), "{head}");
    }
}

#[tokio::test]
async fn expect_100_continue_is_refused_by_endpoint_without_body() {
    let origin = RawOrigin::start(|mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno").await;
        assert_eq!(wire.rest().await, "", "no byte of the body is sent");
    })
    .await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send(EXPECTING).await;
    let response = wire.rest().await;
    assert!(response.starts_with("HTTP/1.1 401 ") && response.ends_with("\r\n\r\nno"), "{response}");
    assert!(response.contains("\r\nconnection: close\r\n"), "{response}");
}

#[tokio::test]
async fn expect_100_continue_of_endpoint_that_ignores_it_is_sent_after_a_second() {
    let origin = RawOrigin::start(|mut wire| async move {
        while wire.try_head().await.is_some() {
            assert_eq!(wire.exactly(4).await, b"body");
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send(EXPECTING).await;
    assert_eq!(wire.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    wire.send("body").await;
    assert_eq!(wire.response().await.1, "ok");
    // A downstream that does not wait is not sent a 100, and its body not held back.
    wire.send(format!("{EXPECTING}body")).await;
    let (head, body) = wire.response().await;
    assert!(head.starts_with("HTTP/1.1 200 ") && body == "ok", "{head}");
}

#[tokio::test]
async fn expect_100_continue_is_satisfied_for_http2_endpoint() {
    let origin = Origin::echo(harness::Codec::Http2).await;
    let proxy = Proxy::start(&Resources::forward_to_http2(origin.address())).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send(EXPECTING).await;
    assert_eq!(wire.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    wire.send("body").await;
    let (head, body) = wire.response().await;
    assert!(head.starts_with("HTTP/1.1 200 ") && body == "body", "{head}");
    assert_eq!(origin.last().header("expect"), None, "HTTP/2 endpoints are not asked");
}

#[tokio::test]
async fn expect_100_continue_gets_final_status_on_rejection() {
    let origin = Origin::text("never").await;
    let resources = Resources::new().service("origin", &[origin.address()]);
    let route = "hostnames: [shop.example]\nrules: [{backendRefs: [{name: origin, port: 80}]}]";
    let proxy = Proxy::start(&resources.route("shop", route)).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send(format!("POST / HTTP/1.1\r\n{HOST}content-length: 4\r\nexpect: 100-continue\r\n\r\n")).await;
    let (head, body) = wire.response().await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    assert_eq!(body, "no route matches the request (route_not_found)\n");
}

#[tokio::test]
async fn early_hints_of_upstream_are_skipped() {
    let response = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let origin = RawOrigin::responding(response).await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    assert_eq!(proxy.get("/").await.text(), "ok");
}

#[tokio::test]
async fn close_delimited_response_is_framed_again() {
    let origin = RawOrigin::responding(b"HTTP/1.1 200 OK\r\n\r\nto the end").await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut client = proxy.client().await;
    assert_eq!(client.get("/").await.text(), "to the end");
    assert_eq!(client.get("/").await.text(), "to the end", "the downstream connection stays open");
}

#[tokio::test]
async fn reset_within_request_releases_connection() {
    let origin = Origin::text("ok").await;
    let proxy = proxy_to(&origin).await;
    let address = proxy.address().await;
    for part in ["GET", "GET / HTTP/1.1\r\nhost", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nfour"] {
        let mut wire = RawConnection::connect(address).await;
        wire.send(part).await;
        wire.reset();
    }
    assert_eq!(proxy.get("/").await.text(), "ok");
    let connections = "weir_downstream_connections{listener=\"default/edge/http\"}";
    proxy.wait_for_metric(connections, |open| open <= 0.0).await;
}
