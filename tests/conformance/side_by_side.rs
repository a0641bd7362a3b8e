//! Runs cases in a real Envoy and in Weir: one of each for all cases, a connection for each.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use harness::{
    Body, Client, Codec, Envoy, EnvoyFilter, EnvoyPlan, Filter, Module, Origin, Proxy, Resources, empty, full, probe,
    until, with_trailers, within,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpStream;

use crate::case::{Case, Sent};
use crate::guest;
use crate::outcome::{self, Outcome, headers};

/// What is the same for all cases of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrangement {
    /// What "pause" holds back in a headers callback.
    pub(crate) holds_headers_only: bool,
    /// Script lines that belong to no case.
    pub(crate) root: Vec<String>,
}

/// Requests that reached an upstream, by the case they belong to.
type Seen = Arc<Mutex<BTreeMap<usize, Vec<String>>>>;

/// The cases' outcomes: Envoy's, none where what it does is undefined; and Weir's.
pub(crate) async fn run(
    arrangement: &Arrangement,
    cases: &[Case],
    undefined: impl Fn(&str) -> bool,
) -> Vec<(Option<Outcome>, Outcome)> {
    let script = script(arrangement, cases);
    let seen = Seen::default();
    let origin = origin(&seen).await;
    let callout = callout().await;
    let plan = plan(arrangement, &script, (origin.address(), callout.address()));
    let envoy = Envoy::run(&plan).await;
    let defined: Vec<usize> = (0..cases.len()).filter(|number| !undefined(&cases[*number].name)).collect();
    let mut theirs = play((cases, &defined), &seen, envoy.address(), || envoy.log()).await;
    let resources = resources(arrangement, &script, (origin.address(), callout.address()));
    let weir = Proxy::start(&resources).await;
    let all: Vec<usize> = (0..cases.len()).collect();
    let mut ours = play((cases, &all), &seen, weir.address().await, || weir.log()).await;
    let outcome = |number: usize| (theirs.remove(&number), ours.remove(&number).unwrap_or_default());
    all.into_iter().map(outcome).collect()
}

fn script(arrangement: &Arrangement, cases: &[Case]) -> String {
    let mut script = arrangement.root.join("\n");
    for (number, case) in cases.iter().enumerate() {
        for step in &case.steps {
            script.push_str(&format!("\n{} {step}", path(number)));
        }
    }
    script
}

fn path(number: usize) -> String {
    format!("/case/{number}")
}

fn plan(arrangement: &Arrangement, script: &str, (origin, callout): (SocketAddr, SocketAddr)) -> EnvoyPlan {
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
            "allow_on_headers_stop_iteration": arrangement.holds_headers_only,
        }),
        ..EnvoyFilter::of("default/probe")
    };
    EnvoyPlan {
        filters: vec![filter],
        clusters: vec![("default/callout:80".to_owned(), callout)],
        target: "default/origin:80",
        metadata: json!({"filter_metadata": {"labels": {"team": "shop"}}}),
        ..EnvoyPlan::to(Codec::Http2, origin)
    }
}

fn resources(arrangement: &Arrangement, script: &str, (origin, callout): (SocketAddr, SocketAddr)) -> Resources {
    let module = std::fs::read(probe()).expect("the probe was built");
    let pause = if arrangement.holds_headers_only { "HoldHeaders" } else { "HoldAll" };
    let filter = Filter { config: json!(script), ..Filter::of("probe", Module::Bytes("probe.wasm", module)) };
    let fields = format!(
        "rootId: root, vm: {{id: shared, environment: {{ONE: '1'}}}}, headerPause: {pause}, limits: {{logPerSecond: 64Mi, \
         callTime: 1s}}"
    );
    Resources::labelled_http2(origin, "labels: {team: shop}")
        .http2_service("callout", &[callout])
        .filter(filter.with(fields))
}

/// Sends the chosen cases' requests, waits until the filter has forgotten the last one, and puts together what was seen.
async fn play(
    (cases, chosen): (&[Case], &[usize]),
    seen: &Seen,
    proxy: SocketAddr,
    log: impl Fn() -> String,
) -> BTreeMap<usize, Outcome> {
    seen.lock().clear();
    let mut answers = BTreeMap::new();
    let mut before = "the start";
    for number in chosen {
        let answer = send(proxy, *number, &cases[*number].sent).await;
        let is_gone = answer.as_ref().is_err_and(|error| error.contains("is gone"));
        assert!(!is_gone, "the proxy is gone after {before}:\n{}", log().lines().last().unwrap_or_default());
        answers.insert(*number, outcome::answer(answer));
        before = &cases[*number].name;
    }
    let said = until("the filter to have forgotten every request", async || {
        let said = guest::said(&log());
        let forgotten = |number: &usize| {
            said.get(&path(*number)).is_some_and(|lines| lines.iter().any(|line| line.starts_with("delete|over")))
        };
        chosen.iter().all(forgotten).then_some(said)
    })
    .await;
    let mut seen = std::mem::take(&mut *seen.lock());
    for (number, lines) in &mut answers {
        let case = &cases[*number];
        lines.extend(seen.remove(number).into_iter().flatten());
        lines.extend(said.get(&path(*number)).into_iter().flatten().map(|line| outcome::said(line, case.is_volatile)));
        lines.retain(|line| !case.leaves_answers_out || !outcome::is_answer(line));
        lines.iter_mut().for_each(|line| *line = line.replace(&path(*number), "/case"));
    }
    answers
}

async fn send(proxy: SocketAddr, number: usize, sent: &Sent) -> Result<harness::Answer, String> {
    let body: Body = match (sent.body, sent.trailers) {
        ("", false) => empty(),
        (body, false) => full(body),
        (body, true) => with_trailers(body, trailer("x-sent-trailer")),
    };
    let request = Request::builder().method(sent.method).uri(format!("http://case.test{}{}", path(number), sent.query));
    let request = sent.headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.header("te", "trailers").body(body).expect("a case's request is valid");
    let stream = TcpStream::connect(proxy).await.map_err(|error| format!("the proxy is gone: {error}"))?;
    let mut client = Client::http2_over(stream, proxy).await;
    let response = client.attempt(request).await.map_err(|error| error.to_string())?;
    within("a whole answer", harness::read(response)).await.map_err(|error| error.to_string())
}

fn trailer(name: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static("yes"))])
}

/// The number of the case that a request belongs to: by its path, or by a header that the path was put into.
fn case_of(request: &Request<Incoming>) -> Option<usize> {
    request.uri().path().strip_prefix("/case/")?.parse().ok()
}

async fn origin(seen: &Seen) -> Origin {
    let seen = Arc::clone(seen);
    Origin::start(Codec::Http2, move |request| {
        let seen = Arc::clone(&seen);
        async move {
            let number = case_of(&request);
            let lines = received("origin", request).await.ok_or(harness::Broken)?;
            if let Some(number) = number {
                seen.lock().entry(number).or_default().extend(lines);
            }
            let response = Response::builder().header("x-origin", "yes").header("x-two", "a").header("x-two", "b");
            Ok(response.body(with_trailers("response-body", trailer("x-origin-trailer"))).expect("a valid response"))
        }
    })
    .await
}

async fn received(who: &str, request: Request<Incoming>) -> Option<Vec<String>> {
    let (parts, body) = request.into_parts();
    let authority = parts.uri.authority().map(ToString::to_string).unwrap_or_default();
    let mut lines = vec![format!("{who} {} {authority} {}", parts.method, parts.uri.path_and_query()?)];
    lines.extend(headers(&format!("{who} header"), &parts.headers));
    let whole = body.collect().await.ok()?;
    let trailers = whole.trailers().cloned();
    lines.push(format!("{who} body {}", guest::quoted(whole.to_bytes())));
    lines.extend(trailers.iter().flat_map(|trailers| headers(&format!("{who} trailer"), trailers)));
    Some(lines)
}

/// Answers callouts, HTTP and gRPC.
pub(crate) async fn callout() -> Origin {
    Origin::start(Codec::Http2, |request| async move {
        let path = request.uri().path().to_owned();
        let whole = request.into_body().collect().await.map_err(|_| harness::Broken)?.to_bytes();
        let is_grpc = path.starts_with("/test.Service/");
        let response = Response::builder().header("x-callout", "yes");
        if !is_grpc {
            let body = with_trailers([b"answer to ", &whole[..]].concat(), trailer("x-callout-trailer"));
            return Ok(response.body(body).expect("a valid response"));
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
