//! Who failed and why: what the downstream is told, and what the access log says in words.

use harness::{Broken, Client, Codec, Origin, Proxy, Resources, Wire, WireOrigin, empty, full, in_steps, own_address};
use http::{Request, Response};
use serde_json::Value;

/// Asserts the access log's verdict.
fn assert_verdict(line: &Value, expected: (&str, &str, &str)) {
    let verdict = ["response_flags", "who_failed", "details"].map(|key| line[key].as_str().unwrap_or_default());
    assert_eq!(verdict, [expected.0, expected.1, expected.2], "{line}");
    assert_eq!(line["outcome"], "failed", "{line}");
    assert!(line["reason"].as_str().is_some_and(|reason| reason.contains(' ')), "in words: {line}");
}

#[tokio::test]
async fn an_endpoint_where_nobody_listens() {
    for downstream in [Codec::Http1, Codec::Http2] {
        let nobody = own_address();
        let proxy = Proxy::start(&Resources::forward_to(nobody)).await;
        let answer = Client::speaking(downstream, proxy.address().await).await.get("/refused").await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.text(), "no connection to the endpoint could be opened (upstream_connect_failed)\n");
        let line = proxy.logged("/refused").await;
        assert_verdict(&line, ("UF", "upstream", "upstream_connect_failed"));
        assert_eq!(line["endpoint"], nobody.to_string());
        assert!(line["cause"].as_str().unwrap().to_lowercase().contains("refused"), "{line}");
    }
}

#[tokio::test]
async fn a_dead_endpoint_is_stepped_over() {
    let (dead, living) = (own_address(), Origin::says("alive").await);
    let resources = Resources::new().service("origin", &[dead, living.address()]).route_everything();
    let proxy = Proxy::start(&resources).await;
    let mut client = proxy.client().await;
    for _ in 0..20 {
        assert_eq!(client.post("/", "body").await.text(), "alive");
    }
    assert_eq!(living.count(), 20);
}

#[tokio::test]
async fn a_service_without_endpoints() {
    let proxy = Proxy::start(&Resources::new().service("origin", &[]).route_everything()).await;
    let answer = proxy.get("/nobody").await;
    assert_eq!(answer.status, 503);
    assert_verdict(&proxy.logged("/nobody").await, ("UH", "upstream", "no_healthy_upstream"));
}

#[tokio::test]
async fn an_endpoint_that_closes_before_it_answers() {
    let origin = WireOrigin::start(|mut wire| async move {
        wire.head().await;
    })
    .await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    assert_eq!(proxy.client().await.post("/closed", "x").await.status, 503);
    assert_verdict(&proxy.logged("/closed").await, ("UC", "upstream", "upstream_reset"));
}

#[tokio::test]
async fn an_endpoint_that_resets_before_it_answers() {
    let origin = WireOrigin::start(|mut wire| async move {
        wire.head().await;
        wire.reset();
    })
    .await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    assert_eq!(proxy.client().await.post("/reset", "x").await.status, 503);
    assert_verdict(&proxy.logged("/reset").await, ("UC", "upstream", "upstream_reset"));
}

#[tokio::test]
async fn an_endpoint_that_does_not_speak_http() {
    let origin = WireOrigin::answering(b"220 smtp ready\r\n\r\n").await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    assert_eq!(proxy.client().await.post("/smtp", "x").await.status, 502);
    assert_verdict(&proxy.logged("/smtp").await, ("UPE", "upstream", "upstream_protocol_error"));
}

#[tokio::test]
async fn an_http1_endpoint_that_is_called_http2() {
    let origin = Origin::says("HTTP/1.1 only").await;
    let proxy = Proxy::start(&Resources::forward_to_http2(origin.address())).await;
    let status = proxy.get("/h2").await.status;
    assert!(matches!(status, 502 | 503), "{status}");
    let line = proxy.logged("/h2").await;
    assert_eq!((line["outcome"].as_str(), line["who_failed"].as_str()), (Some("failed"), Some("upstream")), "{line}");
}

#[tokio::test]
async fn two_answers_framed_in_two_ways() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nabc",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: abc\r\n\r\nabc",
    ] {
        let origin = WireOrigin::answering(answer).await;
        let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
        let status = proxy.client().await.post("/odd", "x").await.status;
        assert_eq!(status, 502, "{}", String::from_utf8_lossy(answer));
        assert_verdict(&proxy.logged("/odd").await, ("UPE", "upstream", "upstream_protocol_error"));
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    for downstream in [Codec::Http1, Codec::Http2] {
        for answer in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart"[..],
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n",
        ] {
            let origin = WireOrigin::answering(answer).await;
            let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
            let mut client = Client::speaking(downstream, proxy.address().await).await;
            let response = client.attempt(Request::post("/part").body(full("x")).unwrap()).await;
            let broken = match response {
                Ok(response) => harness::within("the end", harness::read(response)).await.is_err(),
                Err(_) => true, // Head and reset arrived together.
            };
            assert!(broken, "{downstream:?}");
            assert_verdict(&proxy.logged("/part").await, ("UC", "upstream", "upstream_reset"));
        }
    }
}

#[tokio::test]
async fn a_stale_connection_costs_nothing() {
    // Answers once per connection, then closes without saying so.
    let origin = WireOrigin::start(|mut wire| async move {
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
async fn a_request_is_never_sent_twice_once_its_body_has_begun() {
    let heads = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&heads);
    let origin = WireOrigin::start(move |mut wire| {
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
    let (sender, body) = in_steps();
    sender.data("four").await;
    let answer = proxy.client().await.send(Request::post("/once").body(body).unwrap()).await;
    assert_eq!((answer.status, heads.load(std::sync::atomic::Ordering::Acquire)), (503, 1));
    assert_eq!(proxy.logged("/once").await["attempts"], 1);
}

#[tokio::test]
async fn a_downstream_that_leaves_is_the_one_who_failed() {
    let origin = Origin::start(Codec::Http1, |_| std::future::pending::<Result<Response<_>, Broken>>()).await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut wire = Wire::connect(proxy.address().await).await;
    wire.send("GET /left HTTP/1.1\r\nhost: a\r\n\r\n").await;
    origin.wait_for(1).await;
    wire.reset();
    assert_verdict(&proxy.logged("/left").await, ("DC", "downstream", "downstream_gone"));
    harness::until("the upstream's connection to end", async || (origin.open_connections() == 0).then_some(())).await;
}

#[tokio::test]
async fn an_http2_stream_that_is_cancelled_ends_upstream_too() {
    for upstream in [Codec::Http1, Codec::Http2] {
        let (ended, mut seen) = tokio::sync::watch::channel(false);
        let origin = Origin::start(upstream, move |_| {
            let (sender, body) = in_steps();
            let ended = ended.clone();
            harness::beside(async move {
                sender.data("beginning").await;
                sender.closed().await;
                ended.send_replace(true);
            });
            std::future::ready(Ok(Response::new(body)))
        })
        .await;
        let proxy = Proxy::start(&Resources::forward(upstream, origin.address())).await;
        let client = Client::http2(proxy.address().await).await;
        let asked = client.concurrent(Request::get("/cancelled").body(empty()).unwrap());
        let response = harness::within("a head", asked).await.unwrap();
        drop(response);
        harness::within("the origin to notice", seen.wait_for(|ended| *ended)).await.unwrap();
        assert_verdict(&proxy.logged("/cancelled").await, ("DC", "downstream", "downstream_gone"));
    }
}

#[tokio::test]
async fn an_answer_before_the_request_is_whole() {
    for (downstream, upstream) in [(Codec::Http1, Codec::Http1), (Codec::Http2, Codec::Http2)] {
        let origin = Origin::start(upstream, |_| async {
            let response = Response::builder().status(413).header("connection", "close");
            Ok(response.body(full("too much")).unwrap())
        })
        .await;
        let proxy = Proxy::start(&Resources::forward(upstream, origin.address())).await;
        let mut client = Client::speaking(downstream, proxy.address().await).await;
        let (sender, body) = in_steps();
        sender.data("some").await;
        let answer = client.send(Request::post("/early").body(body).unwrap()).await;
        assert_eq!((answer.status, answer.text().as_str()), (413, "too much"), "{downstream:?}");
        drop(sender);
    }
}
