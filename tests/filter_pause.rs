//! Filters that pause a stream in each callback, and the ways to resume it: a tick, a callout, the end of the stream.

use std::sync::Arc;

use harness::{Client, Codec, Filter, Origin, Proxy, Resources, body_channel, empty, full};
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};

async fn filtered(config: Value) -> (Origin, Proxy) {
    let origin = Origin::echo(Codec::Http1).await;
    let resources = Resources::forward_to(origin.address()).filter(Filter::test("one", config));
    let proxy = Proxy::start(&resources).await;
    (origin, proxy)
}

#[tokio::test]
async fn tick_resumes_paused_callback() {
    for callback in ["request_headers", "request_body", "response_headers", "response_body"] {
        let (origin, proxy) = filtered(json!({"tick_ms": 20, callback: [{"do": "pause_until_tick"}]})).await;
        let mut client = proxy.client().await;
        for _ in 0..3 {
            assert_eq!(client.post("/", "body").await.text(), "body", "{callback}");
        }
        assert_eq!(origin.count(), 3);
        let mut client = Client::http2(proxy.address().await).await;
        assert_eq!(client.post("/", "body").await.text(), "body", "{callback}");
    }
}

#[tokio::test]
async fn trailers_can_be_paused() {
    let origin = Origin::echo(Codec::Http2).await;
    let config = json!({
        "tick_ms": 20,
        "request_trailers": [{"do": "pause_until_tick"}],
        "response_trailers": [{"do": "pause_until_tick"}]
    });
    let resources = Resources::forward_to_http2(origin.address()).filter(Filter::test("one", config));
    let proxy = Proxy::start(&resources).await;
    let trailers =
        http::HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), http::HeaderValue::from_static("42"))]);
    let request = Request::post("/").header("te", "trailers").body(harness::with_trailers("body", trailers)).unwrap();
    let response = Client::http2(proxy.address().await).await.send(request).await;
    assert_eq!((response.text().as_str(), response.trailer("x-sum")), ("body", Some("42")));
}

#[tokio::test]
async fn two_filters_can_pause_in_turn() {
    // The origin responds before the request is complete, so response headers and a request body are paused at once.
    let origin = Origin::echo(Codec::Http1).await;
    let pauses = || {
        json!({
            "tick_ms": 20,
            "request_headers": [{"do": "pause_until_tick"}],
            "request_body": [{"do": "pause_until_tick"}],
            "response_headers": [{"do": "pause_until_tick"}],
            "response_body": [{"do": "pause_until_tick"}]
        })
    };
    let resources = Resources::forward_to(origin.address())
        .filter(Filter::test("one", pauses()))
        .filter(Filter::test("two", pauses()));
    let proxy = Proxy::start(&resources).await;
    assert_eq!(proxy.client().await.post("/", "body").await.text(), "body");
}

#[tokio::test]
async fn callout_response_resumes_request() {
    let origin = Origin::echo(Codec::Http1).await;
    let callee = Origin::start(Codec::Http1, |request| async move {
        let body = request.into_body().collect().await.map_err(|_| harness::BodyError)?.to_bytes();
        let response = Response::builder().status(203).header("x-verdict", "fine");
        Ok(response.body(full([b"callee: ".as_slice(), &body].concat())).unwrap())
    })
    .await;
    let config = json!({
        "request_headers": [{"do": "call", "service": "default/verdicts:80", "to": "/ask", "body": "who", "timeout_ms": 5000}],
        "call_response": [
            {"do": "copy", "from": "call_response", "name": "x-verdict", "to": "request", "new_name": "x-verdict"},
            {"do": "copy", "from": "call_response", "name": ":status", "to": "request", "new_name": "x-call-status"},
            {"do": "callback_arguments", "name": "x-seen", "map": "request"},
            {"do": "resume", "direction": "request"}
        ]
    });
    let resources = Resources::forward_to(origin.address())
        .service("verdicts", &[callee.address()])
        .filter(Filter::test("one", config));
    let proxy = Proxy::start(&resources).await;
    let response = proxy.client().await.post("/", "body").await;
    assert_eq!(response.text(), "body");
    let received = origin.last();
    assert_eq!(received.header("x-verdict"), Some("fine"));
    assert_eq!(received.header("x-call-status"), Some("203"));
    assert_eq!(received.header("x-seen"), Some("size=11 ends=false"));
    let callout = callee.last();
    assert_eq!((callout.path.as_str(), callout.header("x-callout")), ("/ask", Some("1")));
    assert_eq!(callout.authority, "callout.test");
}

#[tokio::test]
async fn callout_response_can_send_local_reply() {
    let (origin, callee) = (Origin::text("never").await, Origin::text("no").await);
    let config = json!({
        "request_headers": [{"do": "call", "service": "default/verdicts:80", "to": "/", "timeout_ms": 5000}],
        "call_response": [{"do": "reply", "status": 403, "body": "the verdict is no"}]
    });
    let resources = Resources::forward_to(origin.address())
        .service("verdicts", &[callee.address()])
        .filter(Filter::test("one", config));
    let proxy = Proxy::start(&resources).await;
    let response = proxy.client().await.post("/", "body").await;
    assert_eq!((response.status, response.text().as_str(), origin.count()), (403, "the verdict is no", 0));
}

#[tokio::test]
async fn failed_callout_is_reported_to_filter() {
    let origin = Origin::echo(Codec::Http1).await;
    let silent =
        Origin::start(Codec::Http1, |_| std::future::pending::<Result<Response<_>, harness::BodyError>>()).await;
    for (service, endpoint) in [("silent", silent.address()), ("refusing", harness::own_address())] {
        let config = json!({
            "request_headers": [{"do": "call", "service": format!("default/{service}:80"), "to": "/", "timeout_ms": 100}],
            "call_response": [{"do": "callback_arguments", "name": "x-seen", "map": "request"}, {"do": "resume", "direction": "request"}]
        });
        let resources =
            Resources::forward_to(origin.address()).service(service, &[endpoint]).filter(Filter::test("one", config));
        let proxy = Proxy::start(&resources).await;
        assert_eq!(proxy.get("/").await.status, 200, "{service}");
        // A timeout is a callout response without headers. A refused connection is a 503.
        assert!(origin.last().header("x-seen").is_some(), "{service}");
    }
}

#[tokio::test]
async fn callout_to_unknown_cluster_is_rejected() {
    let (origin, proxy) = filtered(json!({
        "request_headers": [{"do": "call", "service": "default/unknown:80", "to": "/", "timeout_ms": 100}]
    }))
    .await;
    assert_eq!(proxy.get("/").await.status, 200);
    assert_eq!(origin.last().header("x-call-refused"), Some("BadArgument"));
}

#[tokio::test]
async fn response_can_be_paused_by_callout() {
    let (origin, callee) = (Origin::text("response").await, Origin::text("fine").await);
    let config = json!({
        "response_headers": [{"do": "call", "service": "default/verdicts:80", "to": "/", "timeout_ms": 5000}],
        "call_response": [
            {"do": "set", "map": "response", "name": "x-verdict", "value": "fine"},
            {"do": "resume", "direction": "response"}
        ]
    });
    let resources = Resources::forward_to(origin.address())
        .service("verdicts", &[callee.address()])
        .filter(Filter::test("one", config));
    let proxy = Proxy::start(&resources).await;
    let response = proxy.get("/").await;
    assert_eq!((response.text().as_str(), response.header("x-verdict")), ("response", Some("fine")));
}

#[tokio::test]
async fn downstream_reset_ends_paused_request() {
    let (origin, proxy) =
        filtered(json!({"request_headers": [{"do": "pause"}], "done": [{"do": "log", "text": "done with it"}]})).await;
    let mut wire = harness::RawConnection::connect(proxy.address().await).await;
    wire.send("GET /left HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let streams = "weir_filter_streams_total{filter=\"default/one\"}";
    proxy.wait_for_metric(streams, |count| count >= 1.0).await;
    wire.reset();
    assert_eq!(proxy.access_log_for("/left").await["response_code_details"], "downstream_gone");
    proxy.wait_for_log("done with it").await;
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn body_buffered_by_paused_filter_is_bounded() {
    let origin = Origin::text("never").await;
    let filter = Filter::test("one", json!({"request_body": [{"do": "pause"}]}));
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
    let (sender, body) = body_channel();
    let mut client = proxy.client().await;
    let writing = async {
        let piece = bytes::Bytes::from(vec![b'x'; 64 * 1024]);
        let mut sent = 0;
        while sender.data(piece.clone()).await && sent < 64 {
            sent += 1;
        }
        drop(sender);
    };
    let request = Request::post("/buffered").body(body).unwrap();
    let (response, ()) = tokio::join!(client.try_send(request), writing);
    let status = response.map(|response| response.status().as_u16());
    // 413, or a connection error if the response arrived while the request was written.
    assert!(matches!(status, Ok(413) | Err(_)), "{status:?}");
    let line = proxy.access_log_for("/buffered").await;
    assert_eq!(
        (line["status"].as_u64(), line["response_code_details"].as_str()),
        (Some(413), Some("body_too_large")),
        "{line}"
    );
}

#[tokio::test]
async fn many_streams_can_pause_at_once() {
    let (origin, proxy) = filtered(json!({"tick_ms": 20, "request_headers": [{"do": "pause_until_tick"}]})).await;
    let client = Client::http2(proxy.address().await).await;
    let (origin, mut tasks) = (Arc::new(origin), tokio::task::JoinSet::new());
    for index in 0..90 {
        let pending = client.concurrent(Request::get(format!("/{index}")).body(empty()).unwrap());
        tasks.spawn(async move { pending.await.unwrap().status().as_u16() });
    }
    let statuses = harness::with_deadline("every response", tasks.join_all()).await;
    assert_eq!((statuses.iter().filter(|status| **status == 200).count(), origin.count()), (90, 90));
}
