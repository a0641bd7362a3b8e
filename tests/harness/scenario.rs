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
use std::net::SocketAddr;
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

/// What a file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    #[serde(skip)]
    name: String,
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

/// The proxy that a scenario is run through.
#[derive(Debug, Clone, Copy)]
pub enum Front<'a> {
    /// One of ours.
    Weir(&'a Proxy),
    /// Somebody else's, where it listens: it has other words for what it answers by itself, and another log.
    Other(SocketAddr),
}

/// The origins of a scenario.
#[expect(missing_debug_implementations, reason = "origins have none")]
pub struct ScenarioOrigins(BTreeMap<String, Origin>);

/// Runs the scenario in a file.
pub async fn run(path: &Path) {
    let scenario = Scenario::read(path);
    let (origins, resources) = scenario.start().await;
    let proxy = Proxy::start(&resources).await;
    scenario.check(Front::Weir(&proxy), &origins).await;
}

impl Scenario {
    /// Reads a file.
    pub fn read(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let scenario: Self = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name, ..scenario }
    }

    /// Starts its origins; also what a proxy in front of them serves.
    pub async fn start(&self) -> (ScenarioOrigins, Resources) {
        let mut origins = BTreeMap::new();
        let mut resources = Resources::new();
        for origin in &self.origins {
            let started = named_origin(origin.clone()).await;
            resources = resources.service(origin, &[started.address()]);
            origins.insert(origin.clone(), started);
        }
        (ScenarioOrigins(origins), resources.yaml(&self.config))
    }

    /// Asks and compares. Every difference is told, with the step that showed it.
    pub async fn check(&self, front: Front<'_>, origins: &ScenarioOrigins) {
        let mut faults = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            for _ in 0..step.times {
                let place = format!("step {} ({} {})", index + 1, step.request.method, step.request.path);
                check(step, (front, &origins.0), |fault| faults.push(format!("{place}: {fault}"))).await;
            }
        }
        assert!(faults.is_empty(), "{}: {}: {front:?}\n{}", self.name, self.about, faults.join("\n"));
    }
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

async fn check(step: &Step, (front, origins): (Front<'_>, &BTreeMap<String, Origin>), mut fault: impl FnMut(String)) {
    let before: BTreeMap<&str, usize> = origins.iter().map(|(name, origin)| (name.as_str(), origin.count())).collect();
    let (address, lines) = match front {
        Front::Weir(proxy) => (proxy.address().await, proxy.access_log().len()),
        Front::Other(address) => (address, 0),
    };
    let answer = ask(address, &step.request).await;
    let expected = &step.expect;
    let has_our_words = matches!(front, Front::Weir(_)) || expected.from.is_some();
    if answer.status != expected.status {
        fault(format!("status {} instead of {}: {}", answer.status, expected.status, answer.text()));
    }
    let said = |name: &str| {
        let value = answer.header(name).map(str::to_owned);
        if matches!(front, Front::Other(_)) && name == "location" {
            value.map(|url| without_default_port(&url))
        } else {
            value
        }
    };
    check_headers(&expected.headers, said, &mut fault);
    if has_our_words && expected.body.as_ref().is_some_and(|body| *body != answer.text()) {
        fault(format!("body {:?}", answer.text()));
    }
    if has_our_words && expected.contains.as_ref().is_some_and(|part| !answer.text().contains(part)) {
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
    if let Front::Weir(proxy) = front
        && !expected.log.is_empty()
    {
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

/// The same URL, in fewer letters (RFC 3986 §6.2.3).
fn without_default_port(url: &str) -> String {
    let default = if url.starts_with("https:") { ":443" } else { ":80" };
    let end =
        url.find("://").and_then(|start| url[start + 3..].find('/').map(|end| start + 3 + end)).unwrap_or(url.len());
    let (authority, rest) = url.split_at(end);
    format!("{}{rest}", authority.strip_suffix(default).unwrap_or(authority))
}

async fn ask(address: SocketAddr, asked: &Asked) -> Answer {
    let mut request = Request::builder().method(asked.method.as_str()).uri(&asked.path);
    if let Some(host) = &asked.host {
        request = request.header("host", host);
    }
    for (name, value) in &asked.headers {
        request = request.header(name, value);
    }
    let request = request.body(full(asked.body.clone())).expect("a valid request");
    Client::http1(address).await.send(request).await
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
