//! HTTP/1 messages that other proxies mishandle, byte by byte: each with the one right answer. Most came from public
//! reports about proxies.

use harness::{Codec, Origin, Proxy, RawConnection, RawOrigin, Resources, wait_until};
use serde_json::Value;
use std::time::Duration;

async fn proxy_to(address: std::net::SocketAddr) -> Proxy {
    Proxy::start(&Resources::forward_to(address)).await
}

/// Sends bytes on a new connection, and returns everything until the proxy closes it.
async fn exchange(proxy: &Proxy, bytes: &[u8]) -> String {
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send(bytes).await;
    wire.rest().await
}

fn details(line: &Value) -> &str {
    line["response_code_details"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn half_closed_downstream_gets_its_response() {
    let origin = RawOrigin::start(|mut wire| async move {
        wire.head().await;
        tokio::task::yield_now().await; // The end of the downstream's side is known before the response.
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    })
    .await;
    let proxy = proxy_to(origin.address()).await;
    for _ in 0..24 {
        let mut wire = RawConnection::connect(proxy.address().await).await;
        wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        wire.finish().await;
        let response = wire.rest().await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with("\r\n\r\nok"), "{response:?}");
    }
}

#[tokio::test]
async fn head_of_incomplete_response_is_sent() {
    let origin = RawOrigin::responding(b"HTTP/1.1 500 X\r\ncontent-length: 123\r\n\r\n").await;
    let proxy = proxy_to(origin.address()).await;
    let response = exchange(&proxy, b"GET /cut HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.1 500 X\r\n") && response.ends_with("\r\n\r\n"), "{response:?}");
    let line = proxy.access_log_for("/cut").await;
    assert_eq!((&line["status"], details(&line)), (&Value::from(500), "upstream_reset"), "{line}");
}

#[tokio::test]
async fn every_rejected_request_is_answered_logged_and_closed() {
    let origin = Origin::echo(Codec::Http1).await;
    let proxy = proxy_to(origin.address()).await;
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: 1\r\n".repeat(100));
    let post = "POST / HTTP/1.1\r\nhost: a\r\n";
    let coded = |coding: &str| format!("{post}transfer-encoding: {coding}\r\n\r\n0\r\n\r\n");
    let sized = |length: &str| format!("{post}content-length: {length}\r\n\r\nhello");
    let rows: Vec<(Vec<u8>, u16, &str)> = vec![
        (b"GET /x?q={\"a\":1} HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), 400, "http1_target"),
        (b"GET /a<b> HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), 400, "http1_target"),
        (b"GET /\xff HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), 400, "http1_target"),
        (sized("+5").into(), 400, "http1_content_length"),
        (sized("5, 6").into(), 400, "http1_conflicting_lengths"),
        (sized("5\r\ncontent-length: 05").into(), 400, "http1_conflicting_lengths"),
        (sized("5\r\ntransfer-encoding: chunked").into(), 400, "http1_length_and_transfer_coding"),
        (coded("chunked, chunked").into(), 400, "http1_chunked_not_last"),
        (coded("chunked\r\ntransfer-encoding: chunked").into(), 400, "http1_chunked_not_last"),
        (coded("identity, chunked").into(), 501, "http1_transfer_coding"),
        (coded("gzip, chunked").into(), 501, "http1_transfer_coding"),
        (format!("{post}transfer-encoding : chunked\r\n\r\n0\r\n\r\n").into(), 400, "http1_field_name"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: 1\x002\r\n\r\n".to_vec(), 400, "http1_field_value"),
        (b"GET / HTTP/1.1\r\nhost: a\n\r\n".to_vec(), 400, "http1_bare_line_feed"),
        (many.into(), 431, "http1_too_many_fields"),
    ];
    for (index, (request, status, detail)) in rows.into_iter().enumerate() {
        // A second request, which must not be read as one.
        let mut bytes = request;
        bytes.extend_from_slice(b"GET /second HTTP/1.1\r\nhost: a\r\n\r\n");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let response = exchange(&proxy, &bytes).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{text:?}: {response:?}");
        assert_eq!(response.matches("HTTP/1.1 ").count(), 1, "{text:?}: {response:?}");
        assert!(
            response.contains("connection: close\r\n") && response.ends_with(&format!("({detail})\n")),
            "{text:?}: {response:?}"
        );
        let lines = wait_until("the line of each request", async || {
            let lines = proxy.access_log();
            (lines.len() > index).then_some(lines)
        })
        .await;
        assert_eq!((lines.len(), details(&lines[index])), (index + 1, detail), "{text:?}: {}", lines[index]);
        assert_eq!(lines[index]["who_failed"], "Downstream");
        let counted =
            format!("weir_downstream_request_failures_total{{listener=\"default/edge/http\",reason=\"{detail}\"}}");
        let same = lines.iter().filter(|line| details(line) == detail).count();
        assert_eq!(proxy.metric(&counted).await, same as f64, "{counted}");
    }
    assert_eq!(origin.count(), 0, "{:?}", origin.received());
}

#[tokio::test]
async fn bad_chunks_are_answered_logged_and_closed() {
    let origin = Origin::start(Codec::Http1, |request| async move {
        let mut body = request.into_body();
        while let Some(Ok(_)) = http_body_util::BodyExt::frame(&mut body).await {}
        Ok(http::Response::new(harness::full("read")))
    })
    .await;
    let proxy = proxy_to(origin.address()).await;
    let extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(20_000));
    let second = "GET /second HTTP/1.1\r\nhost: a\r\n\r\n";
    for (index, (chunks, status, detail)) in [
        ("0x5\r\nhello\r\n0\r\n\r\n", 400, "http1_chunk_size"),
        ("+5\r\nhello\r\n0\r\n\r\n", 400, "http1_chunk_size"),
        (" 5\r\nhello\r\n0\r\n\r\n", 400, "http1_chunk_size"),
        ("5g\r\nhello\r\n0\r\n\r\n", 400, "http1_chunk_size"),
        ("5\nhello\r\n0\r\n\r\n", 400, "http1_chunk_size"),
        ("00000000000000005\r\nhello\r\n0\r\n\r\n", 400, "http1_chunk_size"),
        ("5\r\nhello0\r\n\r\n", 400, "http1_chunk_end"),
        ("5;\0\r\nhello\r\n0\r\n\r\n", 400, "http1_chunk_extension"),
        ("5\r\nhello\r\n0\r\ngarbage\r\n\r\n", 400, "http1_field_name"),
        ("5\r\nhello\r\n0\r\n\n", 400, "http1_bare_line_feed"),
        ("0\r\nX: 1\n\n", 400, "http1_bare_line_feed"),
        (&extension, 400, "http1_chunk_extensions_too_large"),
    ]
    .into_iter()
    .enumerate()
    {
        let request =
            format!("POST /{index} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}{second}");
        let response = exchange(&proxy, request.as_bytes()).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{chunks:?}: {response:?}");
        assert_eq!(response.matches("HTTP/1.1 ").count(), 1, "{chunks:?}: {response:?}");
        let line = proxy.access_log_for(&format!("/{index}")).await;
        assert_eq!((details(&line), &line["who_failed"]), (detail, &Value::from("Downstream")), "{chunks:?}: {line}");
    }
    assert!(proxy.access_log().iter().all(|line| line["path"] != "/second"), "no second request is served");
}

#[tokio::test]
async fn unannounced_trailers_pass_in_both_directions() {
    let origin = RawOrigin::start(|mut wire| async move {
        let head = wire.head().await;
        assert!(!head.contains("trailer:"), "{head}");
        let mut body = String::new();
        while !body.ends_with("\r\n\r\n") {
            body.push_str(&wire.line().await);
        }
        let echoed = body.contains("x-up: 1").to_string();
        let (chunk, trailer) = (format!("{:x}\r\n{echoed}\r\n", echoed.len()), "0\r\nx-down: 2\r\n\r\n");
        wire.send(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunk}{trailer}")).await;
    })
    .await;
    let proxy = proxy_to(origin.address()).await;
    let request = b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
                    5\r\nhello\r\n0\r\nX-Up: 1\r\nhost: b\r\n\r\n";
    let response = exchange(&proxy, request).await;
    assert!(response.ends_with("4\r\ntrue\r\n0\r\nx-down: 2\r\n\r\n"), "{response:?}");
}

#[tokio::test]
async fn early_response_of_endpoint_that_stops_reading_is_delivered() {
    let origin = RawOrigin::start(|mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig").await;
        wire.reset(); // As the kernel does for a socket with unread data.
    })
    .await;
    let proxy = proxy_to(origin.address()).await;
    for _ in 0..12 {
        let mut request = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 150000\r\n\r\n".to_vec();
        request.resize(request.len() + 150_000, b'x');
        let mut wire = RawConnection::connect(proxy.address().await).await;
        wire.send(&request).await;
        let (head, body) = wire.response().await;
        assert!(head.starts_with("HTTP/1.1 413 Content Too Large\r\n") && body == "big", "{head:?} {body:?}");
    }
}

#[tokio::test]
async fn reason_phrase_and_length_of_unusual_responses_pass() {
    for (response, expected) in [
        (
            &b"HTTP/1.1 999 Out of range\r\ncontent-length: 0\r\n\r\n"[..],
            "HTTP/1.1 999 Out of range\r\ncontent-length: 0\r\n",
        ),
        (b"HTTP/1.1 200 Fine\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1 200 Fine\r\ncontent-length: 0\r\n"),
        (
            b"HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n",
        ),
    ] {
        let origin = RawOrigin::responding(response).await;
        let proxy = proxy_to(origin.address()).await;
        let answer = exchange(&proxy, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert!(answer.starts_with(expected) && answer.ends_with("\r\n\r\n"), "{answer:?}");
    }
}

#[tokio::test]
async fn informational_responses_are_forwarded() {
    let origin = RawOrigin::responding(
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\nkeep-alive: 1\r\n\r\n\
          HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    let proxy = proxy_to(origin.address()).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(wire.head().await, "HTTP/1.1 102 Processing\r\n\r\n");
    assert_eq!(wire.head().await, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
    assert_eq!(wire.response().await.1, "ok");
    let old = exchange(&proxy, b"GET / HTTP/1.0\r\nhost: a\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.1 200 OK\r\n"), "RFC 9110 §15.2: not to an HTTP/1.0 client: {old:?}");
}

#[tokio::test]
async fn half_sent_heads_use_little_memory() {
    const HEADS: u64 = 3_000;
    let origin = Origin::text("ok").await;
    let proxy = proxy_to(origin.address()).await;
    assert_eq!(proxy.get("/").await.status, 200);
    let before = proxy.memory("VmRSS");
    let mut wires = Vec::new();
    for _ in 0..HEADS {
        let mut wire = RawConnection::connect(proxy.address().await).await;
        wire.send("GET / HTTP/1.1\r\nhost: a\r\nx-half: ").await;
        wires.push(wire);
    }
    let open = "weir_downstream_connections{listener=\"default/edge/http\"}";
    proxy.wait_for_metric(open, |open| open >= HEADS as f64).await;
    let each = proxy.memory("VmRSS").saturating_sub(before) / HEADS;
    assert!(each < 4 * 1024, "{each} bytes for each half-sent head");
    assert_eq!(proxy.get("/").await.status, 200);
}

#[tokio::test]
async fn well_framed_request_that_is_not_valid_is_answered_and_logged() {
    let origin = Origin::text("never").await;
    let proxy = proxy_to(origin.address()).await;
    let absolute = "GET http://a/c HTTP/1.1\r\n\r\n"; // RFC 9112 §3.2: `host` is required with any target.
    let expectation = "POST /e HTTP/1.1\r\nhost: a\r\nexpect: 200-ok\r\ncontent-length: 5\r\n\r\n";
    for (request, path, status, detail) in
        [(absolute, "/c", 400, "bad_request"), (expectation, "/e", 417, "expectation_failed")]
    {
        let mut wire = RawConnection::connect(proxy.address().await).await;
        wire.send(request).await;
        let (head, body) = wire.response().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert!(body.ends_with(&format!("({detail})\n")) || body.contains("no host"), "{body}");
        assert_eq!(details(&proxy.access_log_for(path).await), detail);
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn slow_head_is_answered_with_408_and_logged() {
    let origin = Origin::text("never").await;
    let proxy = proxy_to(origin.address()).await;
    let mut silent = RawConnection::connect(proxy.address().await).await;
    let response = exchange(&proxy, b"GET /slow HTTP/1.1\r\nhost: a\r\nx: ").await;
    assert!(response.starts_with("HTTP/1.1 408 ") && response.contains("connection: close\r\n"), "{response:?}");
    assert_eq!(details(&proxy.access_log_for("/slow").await), "request_head_timeout");
    assert_eq!(silent.rest().await, "", "a connection without a byte of a request is closed without one");
    assert_eq!(proxy.access_log().len(), 1);
}

/// Answers each request of a connection with its path; `/slow` after a while.
async fn answer_with_path(mut wire: RawConnection) {
    while let Some(head) = wire.try_head().await {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        if path == "/slow" {
            tokio::time::sleep(Duration::from_millis(400)).await; // The time that the endpoint takes.
        }
        let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len());
        if !wire.try_send(response.as_bytes()).await {
            return;
        }
    }
}

#[tokio::test]
async fn response_of_abandoned_request_is_not_read_by_the_next() {
    let origin = RawOrigin::start(answer_with_path).await;
    let route = "rules: [{timeouts: {request: 100ms}, backendRefs: [{name: origin, port: 80}]}]";
    let resources = Resources::new().service("origin", &[origin.address()]).route("short", route);
    let proxy = Proxy::start(&resources).await;
    let mut client = proxy.client().await;
    for _ in 0..4 {
        assert_eq!(client.get("/first").await.text(), "/first");
        let mut gone = RawConnection::connect(proxy.address().await).await;
        gone.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
        gone.reset();
        assert_eq!(client.get("/slow").await.status, 504);
        for path in ["/a", "/b", "/c"] {
            assert_eq!(client.get(path).await.text(), path);
        }
    }
}
