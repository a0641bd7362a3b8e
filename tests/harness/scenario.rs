//! Scenarios: files with origins, resources, requests and expected responses.
//!
//! ```yaml
//! about: a sentence
//! origins: [reviews, ratings]          # each responds `NAME METHOD PATH`; ServiceEntry NAME, port 80
//! config: |                            # YAML documents, beside the Gateway `edge` and the ServiceEntries
//!   ...
//! steps:
//!   - request: {method: GET, path: /a, host: shop.example, headers: {x-a: "1"}, body: text}
//!     times: 1
//!     expect:
//!       status: 200
//!       headers: {location: /b}        # expected values; ~ = must be absent
//!       body: the complete body
//!       contains: a part of the body
//!       from: reviews                  # the origin that received the request; ~ = none
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

use crate::body::{BodyError, full};
use crate::client::{Client, ClientResponse};
use crate::origin::{Codec, Origin, ReceivedRequest};
use crate::proxy::Proxy;
use crate::resources::Resources;

/// A parsed scenario.
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
    request: ScenarioRequest,
    #[serde(default = "once")]
    times: usize,
    expect: Expected,
}

fn once() -> usize {
    1
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioRequest {
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

/// The proxy of a scenario.
#[derive(Debug, Clone, Copy)]
pub enum ProxyUnderTest<'a> {
    /// A `weir-proxy`.
    Weir(&'a Proxy),
    /// Another proxy, by its address. Bodies of its local replies and its access log are not compared.
    Other(SocketAddr),
}

/// The origins of a scenario, by name.
#[expect(missing_debug_implementations, reason = "an origin has no Debug")]
pub struct Origins(BTreeMap<String, Origin>);

/// Runs the scenario in a file.
pub async fn run(path: &Path) {
    let scenario = Scenario::read(path);
    let (origins, resources) = scenario.start().await;
    let proxy = Proxy::start(&resources).await;
    scenario.check(ProxyUnderTest::Weir(&proxy), &origins).await;
}

impl Scenario {
    /// Reads a file.
    pub fn read(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let scenario: Self = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name, ..scenario }
    }

    /// Starts the origins. Also returns the resources of a proxy in front of them.
    pub async fn start(&self) -> (Origins, Resources) {
        let mut origins = BTreeMap::new();
        let mut resources = Resources::new();
        for origin in &self.origins {
            let started = named_origin(origin.clone()).await;
            resources = resources.service(origin, &[started.address()]);
            origins.insert(origin.clone(), started);
        }
        (Origins(origins), resources.yaml(&self.config))
    }

    /// Sends the requests, and compares. Panics with every difference and its step.
    pub async fn check(&self, proxy: ProxyUnderTest<'_>, origins: &Origins) {
        let mut faults = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            for _ in 0..step.times {
                let location = format!("step {} ({} {})", index + 1, step.request.method, step.request.path);
                check(step, proxy, &origins.0, |fault| faults.push(format!("{location}: {fault}"))).await;
            }
        }
        assert!(faults.is_empty(), "{}: {}: {proxy:?}\n{}", self.name, self.about, faults.join("\n"));
    }
}

/// Starts an origin that responds with its name, the method and the path.
async fn named_origin(name: String) -> Origin {
    Origin::start(Codec::Http1, move |request| {
        let text = format!("{name} {} {}", request.method(), request.uri());
        async move {
            request.into_body().collect().await.map_err(|_| BodyError)?;
            Ok(http::Response::new(full(text)))
        }
    })
    .await
}

async fn check(
    step: &Step,
    proxy: ProxyUnderTest<'_>,
    origins: &BTreeMap<String, Origin>,
    mut fault: impl FnMut(String),
) {
    let before: BTreeMap<&str, usize> = origins.iter().map(|(name, origin)| (name.as_str(), origin.count())).collect();
    let (address, lines) = match proxy {
        ProxyUnderTest::Weir(proxy) => (proxy.address().await, proxy.access_log().len()),
        ProxyUnderTest::Other(address) => (address, 0),
    };
    let response = send(address, &step.request).await;
    let expected = &step.expect;
    let has_known_body = matches!(proxy, ProxyUnderTest::Weir(_)) || expected.from.is_some();
    if response.status != expected.status {
        fault(format!("status {} instead of {}: {}", response.status, expected.status, response.text()));
    }
    let header = |name: &str| {
        let value = response.header(name).map(str::to_owned);
        if matches!(proxy, ProxyUnderTest::Other(_)) && name == "location" {
            value.map(|url| without_default_port(&url))
        } else {
            value
        }
    };
    check_headers(&expected.headers, header, &mut fault);
    if has_known_body && expected.body.as_ref().is_some_and(|body| *body != response.text()) {
        fault(format!("body {:?}", response.text()));
    }
    if has_known_body && expected.contains.as_ref().is_some_and(|part| !response.text().contains(part)) {
        fault(format!("body {:?}", response.text()));
    }
    let receiver = origins.iter().find(|(name, origin)| origin.count() > before[name.as_str()]);
    let from = receiver.map(|(name, _)| name.clone());
    if from != expected.from {
        fault(format!("received by {from:?} instead of {:?}", expected.from));
    }
    if let (Some(expected), Some((_, origin))) = (&expected.received, receiver) {
        check_received(expected, &origin.last(), &mut fault);
    }
    if let ProxyUnderTest::Weir(proxy) = proxy
        && !expected.log.is_empty()
    {
        let path = &step.request.path;
        let line = crate::wait_until("a line of the access log", async || {
            proxy.access_log().into_iter().skip(lines).find(|line| line["path"] == *path)
        })
        .await;
        for (key, value) in expected.log.iter().filter(|(key, value)| line[*key] != **value) {
            fault(format!("{key} is {} instead of {value} in the access log: {line}", line[key]));
        }
    }
}

/// Removes the port from a URL if it is the scheme's default (RFC 3986 §6.2.3).
fn without_default_port(url: &str) -> String {
    let default = if url.starts_with("https:") { ":443" } else { ":80" };
    let end =
        url.find("://").and_then(|start| url[start + 3..].find('/').map(|end| start + 3 + end)).unwrap_or(url.len());
    let (authority, rest) = url.split_at(end);
    format!("{}{rest}", authority.strip_suffix(default).unwrap_or(authority))
}

async fn send(address: SocketAddr, spec: &ScenarioRequest) -> ClientResponse {
    let mut request = Request::builder().method(spec.method.as_str()).uri(&spec.path);
    if let Some(host) = &spec.host {
        request = request.header("host", host);
    }
    for (name, value) in &spec.headers {
        request = request.header(name, value);
    }
    let request = request.body(full(spec.body.clone())).expect("a valid request");
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

fn check_received(expected: &ExpectedReceived, received: &ReceivedRequest, fault: &mut impl FnMut(String)) {
    if expected.path.as_ref().is_some_and(|path| *path != received.path) {
        fault(format!("the origin received the path {}", received.path));
    }
    if expected.host.as_ref().is_some_and(|host| *host != received.authority) {
        fault(format!("the origin received the host {}", received.authority));
    }
    check_headers(&expected.headers, |name| received.header(name).map(str::to_owned), fault);
}
