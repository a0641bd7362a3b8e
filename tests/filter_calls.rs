//! Hostcalls of modules of other makers: callouts with unusual targets, trailers and cluster names, replies to replies,
//! properties with dots, and access logs without stream contexts. The filter is `tests/probe`.

use std::net::SocketAddr;
use std::sync::Arc;

use harness::{
    Codec, Filter, Module, Origin, Proxy, ProxyOptions, RawConnection, RawOrigin, Resources, probe, wait_until,
    wasm_from_wat,
};
use http::Response;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::json;

use crate::probe_script::{pairs, parse_log, quoted};

/// Returns the probe with a script.
fn scripted(script: &str, fields: &'static str) -> Filter {
    let module = std::fs::read(probe()).expect("the probe was built");
    Filter { config: json!(script), ..Filter::new("probe", Module::Bytes("probe.wasm", module)) }.with_fields(fields)
}

/// Starts an origin and a proxy with the probe in front of it.
async fn proxy_with(script: &str, more: impl FnOnce(Resources) -> Resources) -> (Origin, Proxy) {
    let origin = Origin::text("served").await;
    let proxy = Proxy::start(&more(Resources::forward_to(origin.address())).filter(scripted(script, ""))).await;
    (origin, proxy)
}

/// Waits for the probe's log lines of a request, until its context is deleted.
async fn probe_log(proxy: &Proxy, path: &str) -> Vec<String> {
    wait_until("the end of a request", async || {
        let lines = parse_log(&proxy.log()).remove(path)?;
        lines.iter().any(|line| line.starts_with("delete|over")).then_some(lines)
    })
    .await
}

/// Lines that a raw endpoint has received.
type Lines = Arc<Mutex<Vec<String>>>;

/// Starts an HTTP/1 endpoint that records the request lines as bytes, and responds with 204.
async fn recording_endpoint() -> (RawOrigin, Lines) {
    let lines = Lines::default();
    let recorded = Arc::clone(&lines);
    let origin = RawOrigin::start(move |mut wire: RawConnection| {
        let recorded = Arc::clone(&recorded);
        async move {
            while let Some(head) = wire.try_head().await {
                recorded.lock().push(head.lines().next().unwrap_or_default().to_owned());
                wire.send("HTTP/1.1 204 No Content\r\n\r\n").await;
            }
        }
    })
    .await;
    (origin, lines)
}

/// Returns a step that makes a callout to `target`, and steps that pause the request until its response.
fn callout(case: &str, cluster: &str, target: &str) -> String {
    let headers = pairs(&[(":method", "GET"), (":path", target), (":authority", "callee.test")]);
    format!(
        "{case} request_headers proxy_http_call {} {headers} \"\" \"\" 2000\n{case} request_headers return 1\n{case} \
         http_call_response proxy_set_effective_context ctx\n{case} http_call_response proxy_continue_stream 0\n",
        quoted(cluster)
    )
}

#[tokio::test]
async fn callout_target_is_sent_unchanged_over_http1() {
    let targets = [
        "http://callee.test/x?y=1",
        "x",
        "/a\"<>|\\^`{}",
        "?q=1",
        "/a#f",
        "/a?b#f",
        "*",
        "//a/../b",
        "/a%2Fb",
        "/\u{e9}",
    ];
    let (callee, lines) = recording_endpoint().await;
    let script: String =
        targets.iter().enumerate().map(|(index, target)| callout(&format!("/{index}"), "callee", target)).collect();
    let (_origin, proxy) = proxy_with(&script, |more| more.service("callee", &[callee.address()])).await;
    for (index, target) in targets.iter().enumerate() {
        assert_eq!(proxy.get(&format!("/{index}")).await.status, 200, "{target}: {}", proxy.log());
        assert_eq!(lines.lock().pop(), Some(format!("GET {target} HTTP/1.1")), "{target}");
    }
}

#[tokio::test]
async fn callout_target_that_cannot_be_sent_is_rejected_with_reason() {
    let (callee, lines) = recording_endpoint().await;
    let http2 = Origin::text("never").await;
    let cases = [
        ("callee", "/a b", "the byte 0x20 in :path"),
        ("callee", "/a\tb", "the byte 0x09 in :path"),
        ("callee", "", ":path is empty"),
        ("callee2", "http://callee.test/x?y=1", "over HTTP/2 :path must begin with `/`"),
        ("callee2", "x", "over HTTP/2 :path must begin with `/`"),
        ("callee2", "?q=1", "over HTTP/2 :path must begin with `/`"),
        ("callee2", "/a#f", "over HTTP/2 :path has no `#`"),
        ("callee2", "/a<b", "the byte 0x3c in :path"),
    ];
    for (cluster, target, reason) in cases {
        let script =
            callout("/x", cluster, target).replace("/x request_headers return 1", "/x request_headers return 0");
        let more =
            |more: Resources| more.service("callee", &[callee.address()]).http2_service("callee2", &[http2.address()]);
        let (_origin, proxy) = proxy_with(&script, more).await;
        assert_eq!(proxy.get("/x").await.status, 200);
        let log = probe_log(&proxy, "/x").await;
        assert!(log.iter().any(|line| line.starts_with("request_headers|proxy_http_call|2")), "{target:?}: {log:?}");
        assert!(proxy.log().contains(reason), "{target:?}: {}", proxy.log());
    }
    assert_eq!((lines.lock().len(), http2.count()), (0, 0));
}

#[tokio::test]
async fn invalid_callout_headers_are_named() {
    let call = |list: &[(&str, &str)]| {
        format!("/x request_headers proxy_http_call \"callee\" {} \"\" \"\" 2000\n", pairs(list))
    };
    let valid = [(":method", "GET"), (":path", "/"), (":authority", "a")];
    let with = |more: (&'static str, &'static str)| [valid[0], valid[1], valid[2], more];
    let cases = [
        (call(&valid[1..]), ":method is missing"),
        (call(&[valid[0], valid[2]]), ":path is missing"),
        (call(&valid[..2]), ":authority is missing"),
        (call(&[("b d", "1"), valid[0], valid[1], valid[2]]), "the header name \"b d\" is invalid"),
        (call(&with(("x-a", "1\n2"))), "the value of the header x-a is invalid"),
        (call(&[(":method", "G T"), valid[1], valid[2]]), ":method is invalid"),
    ];
    let callee = Origin::text("never").await;
    for (script, reason) in cases {
        let (_origin, proxy) = proxy_with(&script, |more| more.service("callee", &[callee.address()])).await;
        assert_eq!(proxy.get("/x").await.status, 200);
        probe_log(&proxy, "/x").await;
        assert!(proxy.log().contains(reason), "{reason}: {}", proxy.log());
    }
    assert_eq!(callee.count(), 0);
}

#[tokio::test]
async fn request_that_waits_for_refused_callout_is_ended_by_timeouts() {
    let policy = "apiVersion: weir.dev/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {name: idle}\nspec:\n  targetRefs: \
                  [{kind: Gateway, name: edge}]\n  timeouts: {streamIdle: 300ms}\n";
    let paused = callout("/x", "no-such-service", "/");
    for (timeouts, more, status) in [("{request: 300ms}", "", 504), ("{request: 0s}", policy, 408)] {
        let origin = Origin::text("never").await;
        let rule = format!("rules: [{{timeouts: {timeouts}, backendRefs: [{{name: origin, port: 80}}]}}]");
        let resources = Resources::new().service("origin", &[origin.address()]).route("everything", &rule);
        let resources = if more.is_empty() { resources } else { resources.yaml(more) };
        let proxy = Proxy::start(&resources.filter(scripted(&paused, ""))).await;
        assert_eq!((proxy.get("/x").await.status, origin.count()), (status, 0), "{timeouts}");
        assert!(proxy.log().contains("callout rejected"), "{}", proxy.log());
    }
}

/// Reads lines until their text ends with `end`.
async fn read_until(wire: &mut RawConnection, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        text.push_str(&wire.line().await);
    }
    text
}

#[tokio::test]
async fn callout_trailers_reach_http1_endpoint() {
    let (sender, mut received) = tokio::sync::mpsc::channel(4);
    let callee = RawOrigin::start(move |mut wire: RawConnection| {
        let sender = sender.clone();
        async move {
            while let Some(head) = wire.try_head().await {
                let message = head + &read_until(&mut wire, "\r\n0\r\nx-sum: 42\r\n\r\n").await;
                sender.send(message).await.ok();
                wire.send("HTTP/1.1 204 No Content\r\n\r\n").await;
            }
        }
    })
    .await;
    let (headers, trailers) =
        (pairs(&[(":method", "POST"), (":path", "/"), (":authority", "a")]), pairs(&[("x-sum", "42")]));
    let script = callout("/x", "callee", "/");
    let first = script.lines().next().unwrap();
    let call = format!("/x request_headers proxy_http_call \"callee\" {headers} \"body\" {trailers} 2000");
    let script = script.replace(first, &call);
    let (_origin, proxy) = proxy_with(&script, |more| more.service("callee", &[callee.address()])).await;
    assert_eq!(proxy.get("/x").await.status, 200);
    let message = harness::with_deadline("a callout with trailers", received.recv()).await.unwrap();
    assert!(message.contains("transfer-encoding: chunked\r\n") && message.contains("\r\n4\r\nbody\r\n"), "{message}");
    assert!(!message.contains("content-length"), "{message}");
}

/// Returns a hostcall that sends a local reply with one header.
fn reply(status: u16, name: &str, value: &str) -> String {
    format!("proxy_send_local_response {status} \"\" \"text of {status}\" {} -1", pairs(&[(name, value)]))
}

#[tokio::test]
async fn reply_to_own_reply_replaces_it() {
    let script = format!(
        "/x request_headers {}\n/x request_headers return 1\n/x response_headers {}\n/x response_headers return 1\n",
        reply(552, "x-a", "1"),
        reply(553, "x-b", "2")
    );
    let (origin, proxy) = proxy_with(&script, |more| more).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    for _ in 0..2 {
        wire.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let (head, body) = wire.response().await;
        assert!(head.starts_with("HTTP/1.1 553 \r\n"), "{head}");
        assert!(head.contains("\r\nx-b: 2\r\n") && !head.contains("x-a"), "{head}");
        assert_eq!(body, "text of 553");
    }
    assert_eq!(origin.count(), 0);
    let log = probe_log(&proxy, "/x").await;
    assert_eq!(log.iter().filter(|line| line.starts_with("response_headers|called")).count(), 2, "{log:?}");
}

#[tokio::test]
async fn reply_with_unknown_status_has_no_reason_phrase() {
    let script = format!("/x request_headers {}\n/x request_headers return 1\n", reply(552, "x-a", "1"));
    let (_origin, proxy) = proxy_with(&script, |more| more).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let (head, body) = wire.response().await;
    assert!(head.starts_with("HTTP/1.1 552 \r\n"), "{head}");
    assert_eq!(body, "text of 552");
}

#[tokio::test]
async fn property_of_one_segment_is_found_by_its_whole_name_only() {
    let script = "/x request_headers proxy_set_property \"request.url\" \"v4\"\n\
                  /x request_headers proxy_get_property \"request.url\"\n\
                  /x request_headers proxy_get_property \"request.path\"\n\
                  /x request_headers proxy_get_property \"xds.node.id\"\n\
                  /x request_headers proxy_get_property \"request\\0url\"\n\
                  /x request_headers proxy_get_property \"request\\0path\"\n";
    let (_origin, proxy) = proxy_with(script, |more| more).await;
    assert_eq!(proxy.get("/x").await.status, 200);
    let log = probe_log(&proxy, "/x").await;
    let found: Vec<&str> =
        log.iter().filter_map(|line| line.strip_prefix("request_headers|proxy_get_property|")).collect();
    assert_eq!(found, ["0 \"v4\"", "1 unwritten", "1 unwritten", "1 unwritten", "0 \"/x\""], "{log:?}");
}

#[tokio::test]
async fn access_logger_without_stream_contexts_logs_on_root_context() {
    let origin = Origin::text("served").await;
    let module = wasm_from_wat(include_str!("wat/logs_on_root.wat"));
    for (name, isolation) in [("one", "Worker"), ("two", "Stream")] {
        let filter = Filter::new(name, Module::Bytes("logs.wasm", module.clone()))
            .with_fields(format!("phase: Log, isolation: {isolation}"));
        let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
        for path in ["/logged-1", "/logged-2"] {
            assert_eq!(proxy.get(path).await.status, 200);
            proxy.wait_for_log(path).await;
        }
        assert!(!proxy.log().contains("filter failed"), "{isolation}: {}", proxy.log());
    }
}

#[tokio::test]
async fn length_of_whole_unchanged_body_is_declared() {
    // The probe exports every callback and changes no body.
    let (origin, proxy) = proxy_with("", |more| more).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    for number in 1..=3 {
        wire.send("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nas it was").await;
        let (head, body) = wire.response().await;
        assert!(head.contains("\r\ncontent-length: 6\r\n") && !head.contains("chunked"), "{head}");
        assert_eq!((body.as_str(), origin.count()), ("served", number));
        let received = origin.last();
        assert_eq!((received.header("content-length"), received.header("transfer-encoding")), (Some("9"), None));
    }
}

#[tokio::test]
async fn length_of_changed_body_is_its_own() {
    let script = "/x request_body proxy_set_buffer_bytes 0 0 100 \"longer than it was\"\n\
                  /x response_body proxy_set_buffer_bytes 1 0 100 \"short\"\n";
    let origin = Origin::echo(Codec::Http1).await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(scripted(script, ""))).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    for _ in 0..2 {
        wire.send("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nas it was").await;
        let head = wire.head().await;
        let body = match head.contains("chunked") {
            true => wire.chunked().await,
            false => wire.exactly(5).await,
        };
        assert_eq!(body, b"short", "{head}");
        let length = origin.last().header("content-length").map(str::to_owned);
        assert!(length.is_none() || length.as_deref() == Some("18"), "{length:?}");
    }
}

/// Returns a Filter's field that gives the Service `callee` other names.
const CLUSTERS: &str = "clusters: {web_service: {name: callee, port: 80}, \"outbound|80||host\": {name: callee, port: 80}, \
                        grpc_service: {name: calls, port: 80}}, allow: {services: [\"callee:80\", \"calls\"]}";

async fn grpc_endpoint() -> Origin {
    Origin::start(Codec::Http2, |request| async move {
        request.into_body().collect().await.map_err(|_| harness::BodyError)?;
        let trailers = http::HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            http::HeaderValue::from_static("0"),
        )]);
        let body = harness::with_trailers(&b"\0\0\0\0\x06answer"[..], trailers);
        Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
    })
    .await
}

fn with_clusters(origin: SocketAddr, callee: SocketAddr, calls: SocketAddr) -> Resources {
    let grpc = "/grpc request_headers proxy_grpc_call \"grpc_service\" \"test.Service\" \"Unary\" \"\" \"message\" 2000\n\
                /grpc request_headers return 1\n/grpc grpc_receive proxy_set_effective_context ctx\n\
                /grpc grpc_receive proxy_continue_stream 0\n";
    let script = callout("/a", "web_service", "/from-a") + &callout("/b", "outbound|80||host", "/from-b") + grpc;
    Resources::forward_to(origin)
        .service("callee", &[callee])
        .http2_service("calls", &[calls])
        .filter(scripted(&script, CLUSTERS))
}

#[tokio::test]
async fn callouts_reach_clusters_by_alias() {
    let (origin, callee, calls) = (Origin::text("served").await, Origin::text("called").await, grpc_endpoint().await);
    let proxy = Proxy::start(&with_clusters(origin.address(), callee.address(), calls.address())).await;
    for (path, callee_path) in [("/a", "/from-a"), ("/b", "/from-b")] {
        assert_eq!(proxy.get(path).await.text(), "served", "{}", proxy.log());
        assert_eq!(callee.last().path, callee_path);
    }
    assert_eq!(proxy.get("/grpc").await.text(), "served", "{}", proxy.log());
    assert_eq!(calls.last().path, "/test.Service/Unary");
}

/// Returns a module with `memory` pages and a table of `elements`.
fn sized_module(memory: u32, elements: u32) -> Vec<u8> {
    wasm_from_wat(&format!(
        "(module (memory (export \"memory\") {memory}) (table {elements} funcref) (func (export \
         \"proxy_abi_version_0_2_1\")) (func (export \"proxy_on_memory_allocate\") (param i32) (result i32) i32.const \
         1024) (func (export \"proxy_on_context_create\") (param i32 i32)))"
    ))
}

#[tokio::test]
async fn large_table_is_within_default_limit() {
    let origin = Origin::text("served").await;
    let filter = Filter::new("large", Module::Bytes("large.wasm", sized_module(1, 20_083)));
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
    assert_eq!(proxy.get("/").await.text(), "served");
}

#[tokio::test]
async fn module_beyond_limit_is_rejected_with_limit_and_needed_value() {
    let origin = Origin::text("never").await;
    let cases = [
        (
            sized_module(1_024, 1),
            "",
            "needs 65536 KiB of memory, and the limit is 16384 KiB",
            "`limits.memory` to 64Mi",
        ),
        (
            sized_module(1, 20_083),
            "limits: {tableElements: 20000}",
            "needs 20083 table elements, and the limit is 20000",
            "`limits.tableElements` to 20083",
        ),
    ];
    for (module, fields, reason, hint) in cases {
        let filter = Filter::new("large", Module::Bytes("large.wasm", module)).with_fields(fields);
        let resources = Resources::forward_to(origin.address()).filter(filter);
        let (status, log) = Proxy::fail_to_start(&resources, ProxyOptions::default()).await;
        assert!(!status.success() && log.contains(reason) && log.contains(hint), "{reason}: {log}");
        assert!(log.contains("spec.limits"), "{log}");
    }
}
