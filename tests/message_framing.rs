//! Framing that filters and HTTP/2 peers could break: lengths that a filter sets, trailers that belong in a head, and a
//! request's body that outlives its exchange.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use harness::{
    Body, BodyError, Client, Codec, Filter, Origin, Proxy, RawConnection, RawOrigin, Resources, body_channel, full,
    spawn_background, wait_until, with_trailers,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// The body of every response whose length a filter changes.
const BODY: &str = "hello";

/// Takes a complete response with [`BODY`] from the front of `text`. Returns false if the response is not complete.
/// Panics if it is complete and has another body.
fn take_response(text: &mut &str) -> bool {
    let current = *text;
    let Some((head, rest)) = current.split_once("\r\n\r\n") else { return false };
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{current}");
    let values = |name: &str| -> Vec<&str> {
        let fields = head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(field, _)| *field == name).map(|(_, value)| value).collect()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    let expected = match (&lengths[..], &codings[..]) {
        ([length], []) => {
            let length: usize = length.parse().unwrap_or_else(|_| panic!("no length: {head}"));
            if rest.len() < length {
                return false;
            }
            assert_eq!(length, BODY.len(), "a complete response with another length: {current}");
            BODY.to_owned()
        }
        ([], ["chunked"]) => format!("5\r\n{BODY}\r\n0\r\n\r\n"),
        _ => panic!("no single framing: {head}"),
    };
    if expected.starts_with(rest) && rest.len() < expected.len() {
        return false;
    }
    *text = rest.strip_prefix(&*expected).unwrap_or_else(|| panic!("another body: {rest:?}"));
    true
}

/// Starts an origin whose responses have a `content-length`, or are chunked if the path ends with `/chunked`.
async fn hello_origin() -> RawOrigin {
    RawOrigin::start(|mut wire| async move {
        while let Some(head) = wire.try_head().await {
            let response = match head.contains("/chunked ") {
                true => format!("transfer-encoding: chunked\r\n\r\n5\r\n{BODY}\r\n0\r\n\r\n"),
                false => format!("content-length: 5\r\n\r\n{BODY}"),
            };
            wire.send(format!("HTTP/1.1 200 OK\r\n{response}")).await;
        }
    })
    .await
}

/// Sends two pipelined requests, and returns the number of their complete responses.
async fn complete_responses(proxy: &Proxy, path: &str) -> usize {
    let mut wire = RawConnection::connect(proxy.address().await).await;
    let request = |end: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n{end}\r\n");
    wire.send(request("") + &request("connection: close\r\n")).await;
    let text = wire.rest().await;
    let mut rest = text.as_str();
    let mut complete = 0;
    while take_response(&mut rest) {
        complete += 1;
    }
    assert!(complete < 2 || rest.is_empty(), "bytes that belong to no response: {rest:?}");
    complete
}

/// Returns the steps of a case, for requests below `/cINDEX/`.
fn steps_of_case(index: usize, steps: &[Value]) -> Vec<Value> {
    let on_path = |step: &Value| {
        let mut step = step.clone();
        step["path"] = json!(format!("/c{index}/"));
        step
    };
    steps.iter().map(on_path).collect()
}

/// Starts a proxy with a filter that runs the steps of each case in a callback.
async fn proxy_with_cases(origin: SocketAddr, callback: &str, cases: &[Vec<Value>]) -> Proxy {
    let all: Vec<Value> = cases.iter().enumerate().flat_map(|(index, steps)| steps_of_case(index, steps)).collect();
    let filter = Filter::test("length", json!({ callback: all }));
    Proxy::start(&Resources::forward_to(origin).filter(filter)).await
}

fn set(name: &str, value: &str) -> Value {
    json!({"do": "set", "name": name, "value": value})
}

fn add(name: &str, value: &str) -> Value {
    json!({"do": "add", "name": name, "value": value})
}

#[tokio::test]
async fn content_length_of_filter_that_is_no_number_is_replaced() {
    let origin = hello_origin().await;
    let length = "content-length";
    let cases = [
        vec![set(length, "abc")],
        vec![set(length, "-5")],
        vec![set(length, "+5")],
        vec![set(length, "5, 5")],
        vec![set(length, "5 5")],
        vec![set(length, "0x5")],
        vec![set(length, "99999999999999999999999")],
        vec![set(length, "5"), add(length, "6")],
        vec![set(length, "5"), add(length, "5")],
        vec![set(length, "abc"), add(length, "5")],
        vec![set(length, "5"), set("transfer-encoding", "chunked")],
        vec![set("transfer-encoding", "gzip, chunked")],
        vec![json!({"do": "remove", "name": length})],
    ];
    let proxy = proxy_with_cases(origin.address(), "response_headers", &cases).await;
    for (index, steps) in cases.iter().enumerate() {
        for path in ["length", "chunked"] {
            let complete = complete_responses(&proxy, &format!("/c{index}/{path}")).await;
            assert_eq!(complete, 2, "{path} with {steps:?}");
        }
    }
}

#[tokio::test]
async fn wrong_content_length_of_filter_completes_no_wrong_response() {
    let origin = hello_origin().await;
    let cases = ["3", "6", "18446744073709551615"].map(|value| vec![set("content-length", value)]);
    let proxy = proxy_with_cases(origin.address(), "response_headers", &cases).await;
    for (index, steps) in cases.iter().enumerate() {
        for path in ["length", "chunked"] {
            // Either the length is replaced, or the connection closes: `take_response` panics for everything else.
            let complete = complete_responses(&proxy, &format!("/c{index}/{path}")).await;
            assert!(complete == 2 || complete == 0, "{path} with {steps:?}: {complete} responses");
        }
    }
}

#[tokio::test]
async fn content_length_of_filter_does_not_change_request() {
    let origin = Origin::echo(Codec::Http1).await;
    let cases = ["abc", "2", "50"].map(|value| vec![set("content-length", value)]);
    let proxy = proxy_with_cases(origin.address(), "request_headers", &cases).await;
    let mut client = proxy.client().await;
    for (index, steps) in cases.iter().enumerate() {
        for _ in 0..2 {
            let response = client.post(&format!("/c{index}/"), "a body").await;
            assert_eq!((response.status, response.text().as_str()), (200, "a body"), "{steps:?}");
        }
        let received = origin.last();
        assert!(received.header("content-length").is_none_or(|length| length == "6"), "{:?}", received.headers);
    }
}

/// Returns trailers of which only `x-own` may be forwarded (RFC 9110 §6.5.1).
fn mixed_trailers() -> HeaderMap {
    let fields = [
        ("content-length", "3"),
        ("authorization", "Basic YTpi"),
        ("host", "b"),
        ("set-cookie", "a=b"),
        ("x-own", "1"),
    ];
    let field = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    fields.map(field).into_iter().collect()
}

fn names(trailers: Option<&HeaderMap>) -> Vec<String> {
    trailers.into_iter().flat_map(HeaderMap::keys).map(ToString::to_string).collect()
}

/// Starts an origin that records the names of each request's trailers, and responds with [`mixed_trailers`].
async fn trailer_origin(codec: Codec) -> (Arc<Mutex<Vec<Vec<String>>>>, Origin) {
    let received = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&received);
    let origin = Origin::start(codec, move |request| {
        let shared = Arc::clone(&shared);
        async move {
            let whole = request.into_body().collect().await.map_err(|_| BodyError)?;
            shared.lock().push(names(whole.trailers()));
            let mut response = Response::new(with_trailers("response", mixed_trailers()));
            response.headers_mut().insert("trailer", HeaderValue::from_static("x-own"));
            Ok(response)
        }
    })
    .await;
    (received, origin)
}

#[tokio::test]
async fn trailers_that_belong_in_head_do_not_pass_from_http2() {
    for (downstream, upstream) in
        [(Codec::Http1, Codec::Http2), (Codec::Http2, Codec::Http1), (Codec::Http2, Codec::Http2)]
    {
        let (received, origin) = trailer_origin(upstream).await;
        let proxy = Proxy::start(&Resources::forward(upstream, origin.address())).await;
        let mut client = Client::connect(downstream, proxy.address().await).await;
        let request = Request::post("/").header("te", "trailers").header("trailer", "x-own");
        let response = client.send(request.body(with_trailers("body", mixed_trailers())).unwrap()).await;
        let case = format!("from {downstream:?} to {upstream:?}");
        assert_eq!(response.text(), "response", "{case}");
        // hyper's HTTP/1 sends no forbidden trailers by itself.
        if downstream == Codec::Http2 {
            assert_eq!(*received.lock(), [["x-own"]], "{case}: the request's trailers");
        }
        if upstream == Codec::Http2 {
            assert_eq!(names(response.trailers.as_ref()), ["x-own"], "{case}: the response's trailers");
        }
    }
}

#[tokio::test]
async fn trailers_that_belong_in_head_do_not_pass_through_filter() {
    // Also with a filter that reads trailers, and with one that sets a forbidden one.
    let (received, origin) = trailer_origin(Codec::Http2).await;
    let steps = json!([{"do": "set", "name": "x-filter", "value": "1"}]);
    let filter = Filter::test("trailers", json!({"request_trailers": steps, "response_trailers": steps}));
    let proxy = Proxy::start(&Resources::forward_to_http2(origin.address()).filter(filter)).await;
    let mut client = Client::http2(proxy.address().await).await;
    let request = Request::post("/").header("te", "trailers");
    let response = client.send(request.body(with_trailers("body", mixed_trailers())).unwrap()).await;
    let mut forwarded = [received.lock().concat(), names(response.trailers.as_ref())];
    forwarded.iter_mut().for_each(|names| names.sort());
    assert_eq!(forwarded, [["x-filter", "x-own"], ["x-filter", "x-own"]]);
}

/// The body of a request, as an origin received it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ReceivedBody {
    path: String,
    bytes: Vec<u8>,
    is_complete: bool,
}

async fn read_body(path: String, mut body: Incoming) -> ReceivedBody {
    let mut bytes = Vec::new();
    loop {
        match body.frame().await {
            None => return ReceivedBody { path, bytes, is_complete: true },
            Some(Err(_)) => return ReceivedBody { path, bytes, is_complete: false },
            Some(Ok(frame)) => bytes.extend(frame.into_data().unwrap_or_default()),
        }
    }
}

/// Responds to `/early` before it reads the request, and to other paths with the request's body.
async fn respond_early_or_echo(
    request: Request<Incoming>,
    bodies: Arc<Mutex<Vec<ReceivedBody>>>,
) -> Result<Response<Body>, BodyError> {
    let path = request.uri().path().to_owned();
    if path == "/early" {
        let reading = async move {
            let received = read_body(path, request.into_body()).await;
            bodies.lock().push(received);
        };
        spawn_background(reading);
        return Ok(Response::new(full("early")));
    }
    let received = read_body(path, request.into_body()).await;
    let echo = Bytes::from(received.bytes.clone());
    bodies.lock().push(received);
    Ok(Response::new(full(echo)))
}

#[tokio::test]
async fn body_that_outlives_exchange_reads_no_other_request() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&bodies);
    let respond = move |request| respond_early_or_echo(request, Arc::clone(&shared));
    let origin = Origin::start(Codec::Http2, respond).await;
    let proxy = Proxy::start(&Resources::forward_to_http2(origin.address())).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    for round in 1..=20 {
        wire.send("POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nfirs").await;
        assert_eq!(wire.response().await.1, "early");
        wire.send("t-restPOST /second HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nsecond").await;
        assert_eq!(wire.response().await.1, "second");
        let seen = wait_until("both bodies", async || Some(bodies.lock().clone()).filter(|all| all.len() == 2 * round));
        let seen = seen.await;
        let second = ReceivedBody { path: "/second".to_owned(), bytes: b"second".to_vec(), is_complete: true };
        assert_eq!(seen.iter().filter(|body| **body == second).count(), round, "{seen:?}");
        for early in seen.iter().filter(|body| body.path == "/early") {
            assert!(!early.is_complete && b"firs".starts_with(&early.bytes), "its stream is reset: {early:?}");
        }
    }
    assert_eq!(origin.connections(), 1, "a reset stream leaves the connection usable");
}

/// Responds to each head at once. Records a request behind an incomplete one.
async fn respond_to_heads(mut wire: RawConnection, is_reused: Arc<AtomicBool>) {
    while let Some(head) = wire.try_head().await {
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        if head.starts_with("POST /early ") && wire.try_head().await.is_some() {
            is_reused.store(true, Ordering::Release);
        }
    }
}

#[tokio::test]
async fn connection_with_incomplete_request_serves_no_other() {
    let reused = Arc::new(AtomicBool::new(false));
    let shared = Arc::clone(&reused);
    let origin = RawOrigin::start(move |wire| respond_to_heads(wire, Arc::clone(&shared))).await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut client = Client::http2(proxy.address().await).await;
    for _ in 0..8 {
        let (sender, body) = body_channel();
        sender.data("begun").await;
        let response = client.send(Request::post("/early").body(body).unwrap()).await;
        assert_eq!(response.text(), "ok");
        assert_eq!(client.get("/next").await.text(), "ok");
        drop(sender);
    }
    assert!(!reused.load(Ordering::Acquire), "a request was sent behind an incomplete one");
}
