//! Runs the cases in a real Envoy and in Weir. One process of each serves all cases; each case has its own connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use harness::{
    Body, Client, Codec, Envoy, EnvoyConfig, EnvoyFilter, Filter, Module, Origin, Proxy, Resources, empty, full, probe,
    wait_until, with_deadline, with_trailers,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpStream;

use crate::case::{Case, RequestSpec};
use crate::case_result::{self, CaseResult, header_lines};
use crate::probe_script;

/// Settings that all cases of a run share.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunConfig {
    /// True if a paused headers callback stops the headers only. False if it stops the whole message.
    pub(crate) pauses_headers_only: bool,
    /// Script lines that belong to no case.
    pub(crate) root: Vec<String>,
}

/// Requests that reached the origin, as lines, by the number of their case.
type UpstreamLog = Arc<Mutex<BTreeMap<usize, Vec<String>>>>;

/// Runs the cases in both proxies and returns each case's result in Envoy and in Weir. Envoy's is `None` if its
/// behavior is undefined.
pub(crate) async fn run(
    config: &RunConfig,
    cases: &[Case],
    undefined: impl Fn(&str) -> bool,
) -> Vec<(Option<CaseResult>, CaseResult)> {
    let script = script(config, cases);
    let log = UpstreamLog::default();
    let origin = recording_origin(&log).await;
    let callout = callout_origin().await;
    let envoy = Envoy::run(&envoy_config(config, &script, origin.address(), callout.address())).await;
    let defined: Vec<usize> = (0..cases.len()).filter(|number| !undefined(&cases[*number].name)).collect();
    let mut envoy_results = send_cases(cases, &defined, &log, envoy.address(), || envoy.log()).await;
    let weir = Proxy::start(&weir_resources(config, &script, origin.address(), callout.address())).await;
    let all: Vec<usize> = (0..cases.len()).collect();
    let mut weir_results = send_cases(cases, &all, &log, weir.address().await, || weir.log()).await;
    let results = |number: usize| (envoy_results.remove(&number), weir_results.remove(&number).unwrap_or_default());
    all.into_iter().map(results).collect()
}

fn script(config: &RunConfig, cases: &[Case]) -> String {
    let mut script = config.root.join("\n");
    for (number, case) in cases.iter().enumerate() {
        for step in &case.steps {
            script.push_str(&format!("\n{} {step}", case_path(number)));
        }
    }
    script
}

fn case_path(number: usize) -> String {
    format!("/case/{number}")
}

fn envoy_config(config: &RunConfig, script: &str, origin: SocketAddr, callout: SocketAddr) -> EnvoyConfig {
    let filter = EnvoyFilter {
        root_id: "root",
        module: probe().to_owned(),
        configuration: script.to_owned(),
        fields: json!({
            "vm_config": {
                "vm_id": "default/vm:shared", "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"filename": probe()}},
                "environment_variables": {"key_values": {"ONE": "1"}},
            },
            "allow_on_headers_stop_iteration": config.pauses_headers_only,
        }),
        ..EnvoyFilter::new("default/probe")
    };
    EnvoyConfig {
        filters: vec![filter],
        clusters: vec![("default/callout:80".to_owned(), callout)],
        target: "default/origin:80",
        metadata: json!({"filter_metadata": {"labels": {"team": "shop"}}}),
        ..EnvoyConfig::forward_to(Codec::Http2, origin)
    }
}

fn weir_resources(config: &RunConfig, script: &str, origin: SocketAddr, callout: SocketAddr) -> Resources {
    let module = std::fs::read(probe()).expect("the probe was built");
    let pause = if config.pauses_headers_only { "HoldHeaders" } else { "HoldAll" };
    let filter = Filter { config: json!(script), ..Filter::new("probe", Module::Bytes("probe.wasm", module)) };
    let fields = format!(
        "rootId: root, vm: {{id: shared, environment: {{ONE: '1'}}}}, headerPause: {pause}, limits: {{logBytesPerSecond: 64Mi, \
         callTimeout: 1s}}"
    );
    Resources::labeled_http2(origin, "labels: {team: shop}")
        .http2_service("callout", &[callout])
        .filter(filter.with_fields(fields))
}

/// Sends the requests of the chosen cases and collects their results. Blocks until the filter has deleted the context
/// of the last request.
async fn send_cases(
    cases: &[Case],
    chosen: &[usize],
    upstream_log: &UpstreamLog,
    proxy: SocketAddr,
    log: impl Fn() -> String,
) -> BTreeMap<usize, CaseResult> {
    upstream_log.lock().clear();
    let mut results = BTreeMap::new();
    let mut previous = "the start";
    for number in chosen {
        let response = send(proxy, *number, &cases[*number].request).await;
        let is_gone = response.as_ref().is_err_and(|error| error.contains("is gone"));
        assert!(!is_gone, "the proxy is gone after {previous}:\n{}", log().lines().last().unwrap_or_default());
        results.insert(*number, case_result::response_lines(response));
        previous = &cases[*number].name;
    }
    let guest_log = wait_until("the filter to delete the context of every request", async || {
        let guest_log = probe_script::parse_log(&log());
        let is_deleted = |number: &usize| {
            let lines = guest_log.get(&case_path(*number));
            lines.is_some_and(|lines| lines.iter().any(|line| line.starts_with("delete|over")))
        };
        chosen.iter().all(is_deleted).then_some(guest_log)
    })
    .await;
    let mut upstream_lines = std::mem::take(&mut *upstream_log.lock());
    for (number, lines) in &mut results {
        let (case, path) = (&cases[*number], case_path(*number));
        lines.extend(upstream_lines.remove(number).into_iter().flatten());
        let guest_lines = guest_log.get(&path).into_iter().flatten();
        lines.extend(guest_lines.map(|line| case_result::guest_line(line, case.is_volatile)));
        lines.retain(|line| !case.ignores_callout_responses || !case_result::is_callout_response(line));
        lines.iter_mut().for_each(|line| *line = line.replace(&path, "/case"));
    }
    results
}

async fn send(proxy: SocketAddr, number: usize, spec: &RequestSpec) -> Result<harness::ClientResponse, String> {
    let body: Body = match (spec.body, spec.trailers) {
        ("", false) => empty(),
        (body, false) => full(body),
        (body, true) => with_trailers(body, trailer("x-sent-trailer")),
    };
    let uri = format!("http://case.test{}{}", case_path(number), spec.query);
    let request = Request::builder().method(spec.method).uri(uri);
    let request = spec.headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.header("te", "trailers").body(body).expect("a case's request is valid");
    let stream = TcpStream::connect(proxy).await.map_err(|error| format!("the proxy is gone: {error}"))?;
    let mut client = Client::http2_over(stream, proxy).await;
    let response = client.try_send(request).await.map_err(|error| error.to_string())?;
    with_deadline("a whole response", harness::read(response)).await.map_err(|error| error.to_string())
}

fn trailer(name: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static("yes"))])
}

/// Returns the number of the case that a request belongs to, from its path.
fn case_number(request: &Request<Incoming>) -> Option<usize> {
    request.uri().path().strip_prefix("/case/")?.parse().ok()
}

async fn recording_origin(log: &UpstreamLog) -> Origin {
    let log = Arc::clone(log);
    Origin::start(Codec::Http2, move |request| {
        let log = Arc::clone(&log);
        async move {
            let number = case_number(&request);
            let lines = request_lines(request).await.ok_or(harness::BodyError)?;
            if let Some(number) = number {
                log.lock().entry(number).or_default().extend(lines);
            }
            let response = Response::builder().header("x-origin", "yes").header("x-two", "a").header("x-two", "b");
            Ok(response.body(with_trailers("response-body", trailer("x-origin-trailer"))).expect("a valid response"))
        }
    })
    .await
}

async fn request_lines(request: Request<Incoming>) -> Option<Vec<String>> {
    let (parts, body) = request.into_parts();
    let authority = parts.uri.authority().map(ToString::to_string).unwrap_or_default();
    let mut lines = vec![format!("origin {} {authority} {}", parts.method, parts.uri.path_and_query()?)];
    lines.extend(header_lines("origin header", &parts.headers));
    let collected = body.collect().await.ok()?;
    let trailers = collected.trailers().cloned();
    lines.push(format!("origin body {}", probe_script::quoted(collected.to_bytes())));
    lines.extend(trailers.iter().flat_map(|trailers| header_lines("origin trailer", trailers)));
    Some(lines)
}

/// Starts the origin of HTTP and gRPC callouts. An HTTP response repeats the request's body, and its trailers if there
/// are any.
pub(crate) async fn callout_origin() -> Origin {
    Origin::start(Codec::Http2, |request| async move {
        let path = request.uri().path().to_owned();
        let collected = request.into_body().collect().await.map_err(|_| harness::BodyError)?;
        let is_grpc = path.starts_with("/test.Service/");
        let response = Response::builder().header("x-callout", "yes");
        if !is_grpc {
            let trailer_lines = collected.trailers().map(|trailers| header_lines(" trailer", trailers).concat());
            let text =
                [&b"answer to "[..], &collected.to_bytes(), trailer_lines.unwrap_or_default().as_bytes()].concat();
            return Ok(response.body(with_trailers(text, trailer("x-callout-trailer"))).expect("a valid response"));
        }
        let mut trailers = trailer("x-callout-trailer");
        let status = if path.ends_with("/Fail") { "7" } else { "0" };
        trailers.insert("grpc-status", HeaderValue::from_static(status));
        trailers.insert("grpc-message", HeaderValue::from_static("said-so"));
        let message: &[u8] = b"\0\0\0\0\x06answer";
        Ok(response.header("content-type", "application/grpc").body(with_trailers(message, trailers)).expect("valid"))
    })
    .await
}
