//! One filter between a test and an origin.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::http::{self, Message};
use super::{Error, Origin, Proxy, TestFolder};

/// The listener of the resources below.
const LISTENER: &str = "default/edge/http";

/// A filter under test, not yet running.
#[derive(Debug)]
pub struct Harness {
    module: Module,
    config: String,
    extra: String,
    origin: Option<Origin>,
}

#[derive(Debug)]
enum Module {
    File(PathBuf),
    Builtin(String),
}

impl Harness {
    /// The module in this file; see [`build`](super::build).
    pub fn new(wasm: impl AsRef<Path>) -> Self {
        Self::of(Module::File(wasm.as_ref().to_path_buf()))
    }

    /// A module that comes with the proxy, like `auth`.
    pub fn builtin(name: &str) -> Self {
        Self::of(Module::Builtin(name.to_owned()))
    }

    fn of(module: Module) -> Self {
        Self { module, config: "{}".to_owned(), extra: String::new(), origin: None }
    }

    /// The filter's configuration, as JSON.
    pub fn config(mut self, json: &str) -> Self {
        json.clone_into(&mut self.config);
        self
    }

    /// More resources (YAML), like a `Service` that the filter calls or a second filter.
    pub fn resources(mut self, yaml: &str) -> Self {
        self.extra.push_str("---\n");
        self.extra.push_str(yaml);
        self
    }

    /// The origin to use instead of one that always says hello.
    pub fn origin(self, origin: Origin) -> Self {
        Self { origin: Some(origin), ..self }
    }

    /// Starts the proxy and waits until it serves. A configuration that the filter refuses is an error with the
    /// proxy's own words.
    pub fn start(self) -> Result<Running, Error> {
        let origin = self.origin.map_or_else(Origin::start, Ok)?;
        let folder = TestFolder::new()?;
        let module = match &self.module {
            Module::Builtin(name) => format!("{{builtin: {name}}}"),
            Module::File(file) => {
                let bytes = std::fs::read(file).map_err(|error| Error::of_file(file, &error))?;
                folder.write("filter.wasm", bytes)?;
                "{file: ./filter.wasm}".to_owned()
            }
        };
        let resources = Resources { origin, folder, module, extra: self.extra };
        resources.write(&self.config)?;
        let proxy = Proxy::start(resources.folder.path(), &[LISTENER])?;
        Ok(Running { proxy, resources })
    }
}

/// A filter under test, running.
#[derive(Debug)]
pub struct Running {
    proxy: Proxy,
    resources: Resources,
}

impl Running {
    /// A `GET` of `path`, to be sent.
    pub fn get(&self, path: &str) -> Pending<'_> {
        self.request("GET", path)
    }

    /// Any request, to be sent.
    pub fn request(&self, method: &str, path: &str) -> Pending<'_> {
        Pending { running: self, request: Message::request(method, path) }
    }

    /// Gives the filter another configuration by writing the file, as a person would. Wait for what it changes with
    /// [`Proxy::wait_until`].
    pub fn reconfigure(&self, json: &str) -> Result<(), Error> {
        self.resources.write(json)
    }

    /// The proxy: its log, its admin pages.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// What the proxy, and the filter through it, has logged.
    pub fn log(&self) -> String {
        self.proxy.log()
    }
}

/// A request, not yet sent.
#[derive(Debug)]
#[must_use = "a request is sent by `send`"]
pub struct Pending<'r> {
    running: &'r Running,
    request: Message,
}

impl Pending<'_> {
    /// Adds a header; the value may be any bytes.
    pub fn header(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        Self { request: self.request.with_header(name, value), ..self }
    }

    /// Sets the body.
    pub fn body(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.request.body = bytes.as_ref().to_vec();
        self
    }

    /// Sends it through the filter.
    pub fn send(self) -> Result<Answer, Error> {
        let Running { proxy, resources } = self.running;
        let listener = proxy.listener(LISTENER)?;
        while resources.origin.received().is_some() {} // What an earlier request left behind.
        let response = http::send(listener, &self.request);
        let response = response.map_err(|error| Error::new(format!("no answer: {error}\n{}", proxy.log())))?;
        Ok(Answer { response, upstream: resources.origin.received() })
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    response: Message,
    upstream: Option<Message>,
}

impl Answer {
    /// The status.
    pub fn status(&self) -> u16 {
        self.response.status()
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<String> {
        self.response.header(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        self.response.text()
    }

    /// The whole response.
    pub fn response(&self) -> &Message {
        &self.response
    }

    /// The request as the origin received it; `None` when it never got there.
    pub fn upstream(&self) -> Option<&Message> {
        self.upstream.as_ref()
    }
}

/// What the proxy serves, in a folder that it watches.
#[derive(Debug)]
struct Resources {
    origin: Origin,
    folder: TestFolder,
    module: String,
    extra: String,
}

impl Resources {
    fn write(&self, config: &str) -> Result<(), Error> {
        let config: Value = serde_json::from_str(config).map_err(|error| Error::new(format!("config: {error}")))?;
        let text = one_filter(self.origin.address(), &self.module, &config) + &self.extra;
        self.folder.write("resources.yaml", text).map(drop)
    }
}

/// One listener, one route, one filter, one service.
fn one_filter(origin: SocketAddr, module: &str, config: &Value) -> String {
    format!(
        "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge, namespace: default}}
spec:
  gatewayClassName: weir
  listeners: [{{name: http, port: 8080, protocol: HTTP}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: everything, namespace: default}}
spec:
  parentRefs: [{{name: edge}}]
  rules: [{{backendRefs: [{{name: origin, port: 80}}]}}]
---
apiVersion: weir.dev/v1alpha1
kind: Service
metadata: {{name: origin, namespace: default}}
spec:
  ports: [{{name: http, port: 80, protocol: HTTP}}]
  endpoints: [{{address: \"{origin}\"}}]
---
apiVersion: weir.dev/v1alpha1
kind: Filter
metadata: {{name: under-test, namespace: default}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: everything}}]
  module: {module}
  config: {config}
"
    )
}
