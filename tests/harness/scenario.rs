//! One scenario: a file that says which origins there are, what the proxy serves, what is asked and what comes back.
//!
//! ```yaml
//! about: a sentence
//! origins: [reviews, ratings]          # each answers `NAME METHOD PATH`, and is a Service NAME with port 80
//! config: |                            # YAML documents; the Gateway `edge` and the Services are there already
//!   ...
//! steps:
//!   - request: {method: GET, path: /a, host: shop.example, headers: {x-a: "1"}, body: text}
//!     times: 1
//!     expect:
//!       status: 200
//!       headers: {location: /b}        # these and their values; ~ = must not be there
//!       body: the whole body
//!       contains: a part of it
//!       from: reviews                  # which origin received it; ~ = none
//!       received: {path: /a, host: shop.example, headers: {x-a: "1", x-b: ~}}
//!       log: {response_flags: NR}      # fields of the access log's line
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use http::Request;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::Value;

use crate::body::{Broken, full};
use crate::client::{Answer, Client};
use crate::origin::{Codec, Origin, Received};
use crate::proxy::Proxy;
use crate::resources::Resources;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    about: String,
    origins: Vec<String>,
    config: String,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    request: Asked,
    #[serde(default = "once")]
    times: usize,
    expect: Expected,
}

fn once() -> usize {
    1
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default = "get")]
    method: String,
    path: String,
    host: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
}

fn get() -> String {
    "GET".to_owned()
}

type Headers = BTreeMap<String, Option<String>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    status: u16,
    #[serde(default)]
    headers: Headers,
    body: Option<String>,
    contains: Option<String>,
    from: Option<String>,
    received: Option<ExpectedReceived>,
    #[serde(default)]
    log: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedReceived {
    path: Option<String>,
    host: Option<String>,
    #[serde(default)]
    headers: Headers,
}

/// Runs the scenario in a file. Every difference is told, with the step that showed it.
pub async fn run(path: &Path) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"));
    let scenario: Scenario = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut origins = BTreeMap::new();
    let mut resources = Resources::new();
    for origin in &scenario.origins {
        let started = named_origin(origin.clone()).await;
        resources = resources.service(origin, &[started.address()]);
        origins.insert(origin.clone(), started);
    }
    let proxy = Proxy::start(&resources.yaml(&scenario.config)).await;
    let mut faults = Vec::new();
    for (index, step) in scenario.steps.iter().enumerate() {
        for _ in 0..step.times {
            let place = format!("step {} ({} {})", index + 1, step.request.method, step.request.path);
            check(step, (&proxy, &origins), |fault| faults.push(format!("{place}: {fault}"))).await;
        }
    }
    assert!(faults.is_empty(), "{name}: {}:\n{}", scenario.about, faults.join("\n"));
}

/// Answers with its name and what it was asked for.
async fn named_origin(name: String) -> Origin {
    Origin::start(Codec::Http1, move |request| {
        let text = format!("{name} {} {}", request.method(), request.uri());
        async move {
            request.into_body().collect().await.map_err(|_| Broken)?;
            Ok(http::Response::new(full(text)))
        }
    })
    .await
}

async fn check(step: &Step, (proxy, origins): (&Proxy, &BTreeMap<String, Origin>), mut fault: impl FnMut(String)) {
    let before: BTreeMap<&str, usize> = origins.iter().map(|(name, origin)| (name.as_str(), origin.count())).collect();
    let lines = proxy.access_log().len();
    let answer = ask(proxy, &step.request).await;
    let expected = &step.expect;
    if answer.status != expected.status {
        fault(format!("status {} instead of {}: {}", answer.status, expected.status, answer.text()));
    }
    check_headers(&expected.headers, |name| answer.header(name).map(str::to_owned), &mut fault);
    if expected.body.as_ref().is_some_and(|body| *body != answer.text()) {
        fault(format!("body {:?}", answer.text()));
    }
    if expected.contains.as_ref().is_some_and(|part| !answer.text().contains(part)) {
        fault(format!("body {:?}", answer.text()));
    }
    let receiver = origins.iter().find(|(name, origin)| origin.count() > before[name.as_str()]);
    let from = receiver.map(|(name, _)| name.clone());
    if from != expected.from {
        fault(format!("received by {from:?} instead of {:?}", expected.from));
    }
    if let (Some(expected), Some((_, origin))) = (&expected.received, receiver) {
        check_received(expected, &origin.last(), &mut fault);
    }
    if !expected.log.is_empty() {
        let path = &step.request.path;
        let line = crate::until("a line of the access log", async || {
            proxy.access_log().into_iter().skip(lines).find(|line| line["path"] == *path)
        })
        .await;
        for (key, value) in expected.log.iter().filter(|(key, value)| line[*key] != **value) {
            fault(format!("{key} is {} instead of {value} in the access log: {line}", line[key]));
        }
    }
}

async fn ask(proxy: &Proxy, asked: &Asked) -> Answer {
    let mut request = Request::builder().method(asked.method.as_str()).uri(&asked.path);
    if let Some(host) = &asked.host {
        request = request.header("host", host);
    }
    for (name, value) in &asked.headers {
        request = request.header(name, value);
    }
    let request = request.body(full(asked.body.clone())).expect("a valid request");
    Client::http1(proxy.address().await).await.send(request).await
}

fn check_headers(expected: &Headers, actual: impl Fn(&str) -> Option<String>, fault: &mut impl FnMut(String)) {
    for (name, value) in expected {
        let actual = actual(name);
        if actual != *value {
            fault(format!("{name} is {actual:?} instead of {value:?}"));
        }
    }
}

fn check_received(expected: &ExpectedReceived, received: &Received, fault: &mut impl FnMut(String)) {
    if expected.path.as_ref().is_some_and(|path| *path != received.path) {
        fault(format!("the origin was asked for {}", received.path));
    }
    if expected.host.as_ref().is_some_and(|host| *host != received.authority) {
        fault(format!("the origin was asked as {}", received.authority));
    }
    check_headers(&expected.headers, |name| received.header(name).map(str::to_owned), fault);
}
