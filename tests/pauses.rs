//! Filters that pause: what waits, what goes on, and what ends a pause: a tick, a callout, the stream's end.

use std::sync::Arc;

use harness::{Client, Codec, Filter, Origin, Proxy, Resources, empty, full, in_steps};
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};

async fn filtered(config: Value) -> (Origin, Proxy) {
    let origin = Origin::echoes(Codec::Http1).await;
    let resources = Resources::forward_to(origin.address()).filter(Filter::test("one", config));
    let proxy = Proxy::start(&resources).await;
    (origin, proxy)
}

#[tokio::test]
async fn a_tick_lets_go_on_in_every_callback() {
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
async fn trailers_wait_too() {
    let origin = Origin::echoes(Codec::Http2).await;
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
    let answer = Client::http2(proxy.address().await).await.send(request).await;
    assert_eq!((answer.text().as_str(), answer.trailer("x-sum")), ("body", Some("42")));
}

#[tokio::test]
async fn two_filters_pause_one_after_the_other() {
    // The origin answers before it has the whole request, so a response's head and a request's body wait at once.
    let origin = Origin::echoes(Codec::Http1).await;
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
async fn a_callout_decides() {
    let origin = Origin::echoes(Codec::Http1).await;
    let asked = Origin::start(Codec::Http1, |request| async move {
        let body = request.into_body().collect().await.map_err(|_| harness::Broken)?.to_bytes();
        let answer = Response::builder().status(203).header("x-verdict", "fine");
        Ok(answer.body(full([b"asked: ".as_slice(), &body].concat())).unwrap())
    })
    .await;
    let config = json!({
        "request_headers": [{"do": "call", "service": "default/verdicts:80", "to": "/ask", "body": "who", "timeout_ms": 5000}],
        "call_response": [
            {"do": "copy", "from": "call_response", "name": "x-verdict", "to": "request", "new_name": "x-verdict"},
            {"do": "copy", "from": "call_response", "name": ":status", "to": "request", "new_name": "x-call-status"},
            {"do": "told", "name": "x-told", "map": "request"},
            {"do": "resume", "direction": "request"}
        ]
    });
    let resources = Resources::forward_to(origin.address())
        .service("verdicts", &[asked.address()])
        .filter(Filter::test("one", config));
    let proxy = Proxy::start(&resources).await;
    let answer = proxy.client().await.post("/", "body").await;
    assert_eq!(answer.text(), "body");
    let received = origin.last();
    assert_eq!(received.header("x-verdict"), Some("fine"));
    assert_eq!(received.header("x-call-status"), Some("203"));
    assert_eq!(received.header("x-told"), Some("size=10 ends=false"));
    let callout = asked.last();
    assert_eq!((callout.path.as_str(), callout.header("x-callout")), ("/ask", Some("1")));
    assert_eq!(callout.authority, "callout.test");
}

#[tokio::test]
async fn a_callout_can_answer_instead() {
    let (origin, asked) = (Origin::says("never").await, Origin::says("no").await);
    let config = json!({
        "request_headers": [{"do": "call", "service": "default/verdicts:80", "to": "/", "timeout_ms": 5000}],
        "call_response": [{"do": "reply", "status": 403, "body": "the verdict is no"}]
    });
    let resources = Resources::forward_to(origin.address())
        .service("verdicts", &[asked.address()])
        .filter(Filter::test("one", config));
    let proxy = Proxy::start(&resources).await;
    let answer = proxy.client().await.post("/", "body").await;
    assert_eq!((answer.status, answer.text().as_str(), origin.count()), (403, "the verdict is no", 0));
}

#[tokio::test]
async fn a_callout_that_fails_is_told_and_not_waited_for() {
    let origin = Origin::echoes(Codec::Http1).await;
    let silent = Origin::start(Codec::Http1, |_| std::future::pending::<Result<Response<_>, harness::Broken>>()).await;
    for (service, endpoint) in [("silent", silent.address()), ("nobody", harness::own_address())] {
        let config = json!({
            "request_headers": [{"do": "call", "service": format!("default/{service}:80"), "to": "/", "timeout_ms": 100}],
            "call_response": [{"do": "told", "name": "x-told", "map": "request"}, {"do": "resume", "direction": "request"}]
        });
        let resources =
            Resources::forward_to(origin.address()).service(service, &[endpoint]).filter(Filter::test("one", config));
        let proxy = Proxy::start(&resources).await;
        assert_eq!(proxy.get("/").await.status, 200, "{service}");
        // A timeout has no headers at all; a refused connection is told as any proxy would: by a 503.
        assert!(origin.last().header("x-told").is_some(), "{service}");
    }
}

#[tokio::test]
async fn a_callout_to_nowhere_is_refused_at_once() {
    let (origin, proxy) = filtered(json!({
        "request_headers": [{"do": "call", "service": "default/unknown:80", "to": "/", "timeout_ms": 100}]
    }))
    .await;
    assert_eq!(proxy.get("/").await.status, 200);
    assert_eq!(origin.last().header("x-call-refused"), Some("BadArgument"));
}

#[tokio::test]
async fn an_answer_can_wait_for_a_callout() {
    let (origin, asked) = (Origin::says("answer").await, Origin::says("fine").await);
    let config = json!({
        "response_headers": [{"do": "call", "service": "default/verdicts:80", "to": "/", "timeout_ms": 5000}],
        "call_response": [
            {"do": "set", "map": "response", "name": "x-verdict", "value": "fine"},
            {"do": "resume", "direction": "response"}
        ]
    });
    let resources = Resources::forward_to(origin.address())
        .service("verdicts", &[asked.address()])
        .filter(Filter::test("one", config));
    let proxy = Proxy::start(&resources).await;
    let answer = proxy.get("/").await;
    assert_eq!((answer.text().as_str(), answer.header("x-verdict")), ("answer", Some("fine")));
}

#[tokio::test]
async fn a_paused_request_whose_downstream_leaves_is_forgotten() {
    let (origin, proxy) =
        filtered(json!({"request_headers": [{"do": "pause"}], "done": [{"do": "say", "text": "done with it"}]})).await;
    let mut wire = harness::Wire::connect(proxy.address().await).await;
    wire.send("GET /left HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let streams = "filter_streams_total{plugin=\"default/one\"}";
    proxy.wait_for_metric(streams, |count| count >= 1.0).await;
    wire.reset();
    assert_eq!(proxy.logged("/left").await["details"], "downstream_gone");
    proxy.wait_for_log("done with it").await;
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn what_a_paused_filter_holds_is_bounded() {
    let origin = Origin::says("never").await;
    let filter = Filter::test("one", json!({"request_body": [{"do": "pause"}]}));
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
    let (sender, body) = in_steps();
    let mut client = proxy.client().await;
    let writing = async {
        let piece = bytes::Bytes::from(vec![b'x'; 64 * 1024]);
        let mut sent = 0;
        while sender.data(piece.clone()).await && sent < 64 {
            sent += 1;
        }
        drop(sender);
    };
    let asked = Request::post("/held").body(body).unwrap();
    let (answer, ()) = tokio::join!(client.attempt(asked), writing);
    let status = answer.map(|answer| answer.status().as_u16());
    // The refusal, or the connection's end when it came while the request was still being written.
    assert!(matches!(status, Ok(413) | Err(_)), "{status:?}");
    let line = proxy.logged("/held").await;
    assert_eq!((line["status"].as_u64(), line["details"].as_str()), (Some(413), Some("body_too_large")), "{line}");
}

#[tokio::test]
async fn many_streams_wait_at_once() {
    let (origin, proxy) = filtered(json!({"tick_ms": 20, "request_headers": [{"do": "pause_until_tick"}]})).await;
    let client = Client::http2(proxy.address().await).await;
    let (origin, mut tasks) = (Arc::new(origin), tokio::task::JoinSet::new());
    for index in 0..90 {
        let asked = client.concurrent(Request::get(format!("/{index}")).body(empty()).unwrap());
        tasks.spawn(async move { asked.await.unwrap().status().as_u16() });
    }
    let statuses = harness::within("every answer", tasks.join_all()).await;
    assert_eq!((statuses.iter().filter(|status| **status == 200).count(), origin.count()), (90, 90));
}
