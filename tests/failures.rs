//! Failures of upstream and downstream: the status that the downstream gets, and the fault in the access log.

use harness::{
    BodyError, Client, Codec, Origin, Proxy, RawConnection, RawOrigin, Resources, body_channel, empty, full,
    own_address, with_deadline,
};
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::Value;

/// Asserts the response flags, the fault and the details of a failed request in the access log.
fn assert_fault(line: &Value, flags: &str, fault: &str, details: &str) {
    let logged =
        ["response_flags", "who_failed", "response_code_details"].map(|key| line[key].as_str().unwrap_or_default());
    assert_eq!(logged, [flags, fault, details], "{line}");
    assert_eq!(line["outcome"], "failed", "{line}");
    assert!(line["reason"].as_str().is_some_and(|reason| reason.contains(' ')), "a sentence: {line}");
}

#[tokio::test]
async fn refused_connection_is_upstream_connect_failure() {
    for downstream in [Codec::Http1, Codec::Http2] {
        let closed_port = own_address();
        let proxy = Proxy::start(&Resources::forward_to(closed_port)).await;
        let response = Client::connect(downstream, proxy.address().await).await.get("/refused").await;
        assert_eq!(response.status, 503);
        assert_eq!(response.text(), "no connection to the endpoint could be opened (upstream_connect_failed)\n");
        let line = proxy.access_log_for("/refused").await;
        assert_fault(&line, "UF", "Upstream", "upstream_connect_failed");
        assert_eq!(line["endpoint"], closed_port.to_string());
        assert!(line["cause"].as_str().unwrap().to_lowercase().contains("refused"), "{line}");
    }
}

#[tokio::test]
async fn unreachable_endpoint_is_skipped() {
    let (dead, living) = (own_address(), Origin::text("alive").await);
    let resources = Resources::new().service("origin", &[dead, living.address()]).route_everything();
    let proxy = Proxy::start(&resources).await;
    let mut client = proxy.client().await;
    for _ in 0..20 {
        assert_eq!(client.post("/", "body").await.text(), "alive");
    }
    assert_eq!(living.count(), 20);
}

#[tokio::test]
async fn cluster_without_endpoints_is_no_healthy_upstream() {
    let proxy = Proxy::start(&Resources::new().service("origin", &[]).route_everything()).await;
    let response = proxy.get("/unhealthy").await;
    assert_eq!(response.status, 503);
    assert_fault(&proxy.access_log_for("/unhealthy").await, "UH", "Upstream", "no_healthy_upstream");
}

#[tokio::test]
async fn close_before_response_is_upstream_reset() {
    let origin = RawOrigin::start(|mut wire| async move {
        wire.head().await;
    })
    .await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    assert_eq!(proxy.client().await.post("/closed", "x").await.status, 503);
    assert_fault(&proxy.access_log_for("/closed").await, "UC", "Upstream", "upstream_reset");
}

#[tokio::test]
async fn reset_before_response_is_upstream_reset() {
    let origin = RawOrigin::start(|mut wire| async move {
        wire.head().await;
        wire.reset();
    })
    .await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    assert_eq!(proxy.client().await.post("/reset", "x").await.status, 503);
    assert_fault(&proxy.access_log_for("/reset").await, "UC", "Upstream", "upstream_reset");
}

#[tokio::test]
async fn response_that_is_not_http_is_protocol_error() {
    let origin = RawOrigin::responding(b"220 smtp ready\r\n\r\n").await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    assert_eq!(proxy.client().await.post("/smtp", "x").await.status, 502);
    assert_fault(&proxy.access_log_for("/smtp").await, "UPE", "Upstream", "upstream_protocol_error");
}

#[tokio::test]
async fn http1_endpoint_of_http2_cluster_is_upstream_failure() {
    let origin = Origin::text("HTTP/1.1 only").await;
    let proxy = Proxy::start(&Resources::forward_to_http2(origin.address())).await;
    let status = proxy.get("/h2").await.status;
    assert!(matches!(status, 502 | 503), "{status}");
    let line = proxy.access_log_for("/h2").await;
    assert_eq!((line["outcome"].as_str(), line["who_failed"].as_str()), (Some("failed"), Some("Upstream")), "{line}");
}

#[tokio::test]
async fn ambiguous_response_framing_is_protocol_error() {
    for response in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nabc",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: abc\r\n\r\nabc",
    ] {
        let origin = RawOrigin::responding(response).await;
        let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
        let status = proxy.client().await.post("/odd", "x").await.status;
        assert_eq!(status, 502, "{}", String::from_utf8_lossy(response));
        assert_fault(&proxy.access_log_for("/odd").await, "UPE", "Upstream", "upstream_protocol_error");
    }
}

#[tokio::test]
async fn truncated_response_does_not_look_complete() {
    for downstream in [Codec::Http1, Codec::Http2] {
        for response in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart"[..],
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n",
        ] {
            let origin = RawOrigin::responding(response).await;
            let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
            let mut client = Client::connect(downstream, proxy.address().await).await;
            let response = client.try_send(Request::post("/part").body(full("x")).unwrap()).await;
            let broken = match response {
                Ok(response) => with_deadline("the end", harness::read(response)).await.is_err(),
                Err(_) => true, // The headers and the reset arrived together.
            };
            assert!(broken, "{downstream:?}");
            assert_fault(&proxy.access_log_for("/part").await, "UC", "Upstream", "upstream_reset");
        }
    }
}

#[tokio::test]
async fn stale_pooled_connection_fails_no_request() {
    // Responds once per connection, then closes it without `connection: close`.
    let origin = RawOrigin::start(|mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    })
    .await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut client = proxy.client().await;
    for _ in 0..50 {
        assert_eq!(client.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn request_with_started_body_is_not_retried() {
    let heads = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&heads);
    let origin = RawOrigin::start(move |mut wire| {
        let counted = std::sync::Arc::clone(&counted);
        async move {
            wire.head().await;
            counted.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
            wire.exactly(4).await;
            wire.reset();
        }
    })
    .await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let (sender, body) = body_channel();
    sender.data("four").await;
    let response = proxy.client().await.send(Request::post("/once").body(body).unwrap()).await;
    assert_eq!((response.status, heads.load(std::sync::atomic::Ordering::Acquire)), (503, 1));
    assert_eq!(proxy.access_log_for("/once").await["attempts"], 1);
}

/// The task of an HTTP/2 connection reads the body, and the task of the downstream's connection learns of its end.
#[tokio::test]
async fn downstream_reset_after_body_is_noticed_with_http2_endpoint() {
    let (has_read, mut body_read) = tokio::sync::watch::channel(false);
    let origin = Origin::start(Codec::Http2, move |request| {
        let has_read = has_read.clone();
        async move {
            let body = request.into_body().collect().await.map_err(|_| BodyError)?.to_bytes();
            has_read.send_replace(&body[..] == b"late");
            std::future::pending::<Result<Response<harness::Body>, BodyError>>().await
        }
    })
    .await;
    let proxy = Proxy::start(&Resources::forward_to_http2(origin.address())).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send("POST /left HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n").await;
    origin.wait_for(1).await; // The body is read from now on.
    wire.send("late").await;
    with_deadline("the body at the origin", body_read.wait_for(|read| *read)).await.unwrap();
    wire.reset();
    assert_fault(&proxy.access_log_for("/left").await, "DC", "Downstream", "downstream_gone");
}

#[tokio::test]
async fn downstream_reset_is_downstream_failure() {
    let origin = Origin::start(Codec::Http1, |_| std::future::pending::<Result<Response<_>, BodyError>>()).await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send("GET /left HTTP/1.1\r\nhost: a\r\n\r\n").await;
    origin.wait_for(1).await;
    wire.reset();
    assert_fault(&proxy.access_log_for("/left").await, "DC", "Downstream", "downstream_gone");
    harness::wait_until("the upstream's connection to end", async || (origin.open_connections() == 0).then_some(()))
        .await;
}

#[tokio::test]
async fn canceled_http2_stream_cancels_upstream_request() {
    for upstream in [Codec::Http1, Codec::Http2] {
        let (ended, mut seen) = tokio::sync::watch::channel(false);
        let origin = Origin::start(upstream, move |_| {
            let (sender, body) = body_channel();
            let ended = ended.clone();
            harness::spawn_background(async move {
                sender.data("beginning").await;
                sender.closed().await;
                ended.send_replace(true);
            });
            std::future::ready(Ok(Response::new(body)))
        })
        .await;
        let proxy = Proxy::start(&Resources::forward(upstream, origin.address())).await;
        let client = Client::http2(proxy.address().await).await;
        let pending = client.concurrent(Request::get("/canceled").body(empty()).unwrap());
        let response = with_deadline("a head", pending).await.unwrap();
        drop(response);
        with_deadline("the origin to notice", seen.wait_for(|ended| *ended)).await.unwrap();
        assert_fault(&proxy.access_log_for("/canceled").await, "DC", "Downstream", "downstream_gone");
    }
}

#[tokio::test]
async fn early_response_is_forwarded() {
    for (downstream, upstream) in [(Codec::Http1, Codec::Http1), (Codec::Http2, Codec::Http2)] {
        let origin = Origin::start(upstream, |_| async {
            let response = Response::builder().status(413).header("connection", "close");
            Ok(response.body(full("too much")).unwrap())
        })
        .await;
        let proxy = Proxy::start(&Resources::forward(upstream, origin.address())).await;
        let mut client = Client::connect(downstream, proxy.address().await).await;
        let (sender, body) = body_channel();
        sender.data("some").await;
        let response = client.send(Request::post("/early").body(body).unwrap()).await;
        assert_eq!((response.status, response.text().as_str()), (413, "too much"), "{downstream:?}");
        drop(sender);
    }
}
