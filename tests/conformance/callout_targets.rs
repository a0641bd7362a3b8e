//! Targets of HTTP callouts (`:path`) to an HTTP/1 endpoint: the request lines that it receives from both proxies.

use std::net::SocketAddr;
use std::sync::Arc;

use harness::{
    Client, Codec, Envoy, EnvoyConfig, EnvoyFilter, Filter, Module, Origin, Proxy, RawConnection, RawOrigin, Resources,
    probe, wait_until,
};
use parking_lot::Mutex;
use serde_json::json;

use crate::probe_script::{pairs, parse_log};

/// Targets that both proxies send unchanged.
const SENT: [&str; 11] = [
    "/",
    "/a?b=c",
    "http://callee.test/x?y=1",
    "x",
    "/a\"<>|\\^`{}",
    "?q=1",
    "/a#f",
    "*",
    "//a/../b",
    "/a%2Fb",
    "/\u{e9}",
];

/// Targets that only Envoy sends, with bytes that end the target of a request line early.
const SENT_BY_ENVOY: [&str; 2] = ["/a b", ""];

/// Request lines that the endpoint has received.
type Lines = Arc<Mutex<Vec<String>>>;

async fn recording_endpoint(lines: &Lines) -> RawOrigin {
    let recorded = Arc::clone(lines);
    RawOrigin::start(move |mut wire: RawConnection| {
        let recorded = Arc::clone(&recorded);
        async move {
            while let Some(head) = wire.try_head().await {
                recorded.lock().push(head.lines().next().unwrap_or_default().to_owned());
                wire.send("HTTP/1.1 204 No Content\r\n\r\n").await;
            }
        }
    })
    .await
}

/// Sends a request for each target, and returns the request line of its callout. `None` if the callout was rejected.
async fn request_lines(proxy: SocketAddr, lines: &Lines, log: impl Fn() -> String) -> Vec<Option<String>> {
    let mut client = Client::http1(proxy).await;
    let mut received = Vec::new();
    for index in 0..SENT.len() + SENT_BY_ENVOY.len() {
        let path = format!("/case/{index}");
        assert_eq!(client.get(&path).await.status, 200);
        let status = wait_until("the end of a callout", async || {
            let lines = parse_log(&log()).remove(&path)?;
            let is_over = lines.iter().any(|line| line.starts_with("delete|over"));
            let status = lines.iter().find_map(|line| line.strip_prefix("request_headers|proxy_http_call|"))?;
            let is_answered = lines.iter().any(|line| line.starts_with("http_call_response|called"));
            (is_over && (is_answered || !status.starts_with('0'))).then(|| status.to_owned())
        })
        .await;
        let line = std::mem::take(&mut *lines.lock());
        assert!(line.len() <= 1, "{line:?}");
        received.push(line.into_iter().next().filter(|_| status.starts_with('0')));
    }
    received
}

#[tokio::test]
async fn callout_targets_equal_envoys_except_for_white_space() {
    let lines = Lines::default();
    let (callee, origin) = (recording_endpoint(&lines).await, Origin::text("served").await);
    let mut script = String::new();
    for (index, target) in SENT.iter().chain(&SENT_BY_ENVOY).enumerate() {
        let headers = pairs(&[(":method", "GET"), (":path", target), (":authority", "callee.test")]);
        script.push_str(&format!(
            "/case/{index} request_headers proxy_http_call \"default/callee:80\" {headers} \"\" \"\" 2000\n"
        ));
    }
    let filter = EnvoyFilter { module: probe().to_owned(), configuration: script.clone(), ..EnvoyFilter::new("probe") };
    let envoy = Envoy::run(&EnvoyConfig {
        filters: vec![filter],
        clusters: vec![("default/callee:80".to_owned(), callee.address())],
        ..EnvoyConfig::forward_to(Codec::Http1, origin.address())
    })
    .await;
    let in_envoy = request_lines(envoy.address(), &lines, || envoy.log()).await;
    let module = std::fs::read(probe()).expect("the probe was built");
    let filter = Filter { config: json!(script), ..Filter::new("probe", Module::Bytes("probe.wasm", module)) };
    let resources = Resources::forward_to(origin.address()).service("callee", &[callee.address()]).filter(filter);
    let weir = Proxy::start(&resources).await;
    let in_weir = request_lines(weir.address().await, &lines, || weir.log()).await;
    for (index, target) in SENT.iter().chain(&SENT_BY_ENVOY).enumerate() {
        let line = Some(format!("GET {target} HTTP/1.1"));
        assert_eq!(in_envoy[index], line, "{target:?} in Envoy");
        assert_eq!(in_weir[index], line.filter(|_| index < SENT.len()), "{target:?} in Weir");
    }
}
