//! A harness with one filter in `weir-proxy`, between the test and an origin.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::http::{self, Message};
use super::{Error, Origin, Proxy, TempDir};

/// The listener in `filter_resources`.
const LISTENER: &str = "default/edge/http";

/// Configures a filter under test. `start` runs it.
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
    /// Tests the module in this file; see [`build`](super::build).
    pub fn new(wasm: impl AsRef<Path>) -> Self {
        Self::with_module(Module::File(wasm.as_ref().to_path_buf()))
    }

    /// Tests a module that is built into the proxy, like `auth`.
    pub fn builtin(name: &str) -> Self {
        Self::with_module(Module::Builtin(name.to_owned()))
    }

    fn with_module(module: Module) -> Self {
        Self { module, config: "{}".to_owned(), extra: String::new(), origin: None }
    }

    /// Sets the filter's configuration, as JSON.
    pub fn config(mut self, json: &str) -> Self {
        json.clone_into(&mut self.config);
        self
    }

    /// Adds resources (YAML), like a `Service` that the filter calls, or a second filter.
    pub fn resources(mut self, yaml: &str) -> Self {
        self.extra.push_str("---\n");
        self.extra.push_str(yaml);
        self
    }

    /// Sets the origin, in place of one that always responds with a greeting.
    pub fn origin(self, origin: Origin) -> Self {
        Self { origin: Some(origin), ..self }
    }

    /// Starts the proxy and blocks until it serves.
    ///
    /// # Errors
    /// Returns the proxy's log when it does not start, for example because the filter rejects its configuration.
    pub fn start(self) -> Result<Running, Error> {
        let origin = self.origin.map_or_else(Origin::start, Ok)?;
        let folder = TempDir::new()?;
        let module = match &self.module {
            Module::Builtin(name) => format!("{{builtin: {name}}}"),
            Module::File(file) => {
                let bytes = std::fs::read(file).map_err(|error| Error::file(file, &error))?;
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

/// A running filter under test.
#[derive(Debug)]
pub struct Running {
    proxy: Proxy,
    resources: Resources,
}

impl Running {
    /// Prepares a `GET` of `path`.
    pub fn get(&self, path: &str) -> Pending<'_> {
        self.request("GET", path)
    }

    /// Prepares a request with any method.
    pub fn request(&self, method: &str, path: &str) -> Pending<'_> {
        Pending { running: self, request: Message::request(method, path) }
    }

    /// Changes the filter's configuration in the resource file. It does not wait for the effect; see
    /// [`Proxy::wait_until`].
    pub fn reconfigure(&self, json: &str) -> Result<(), Error> {
        self.resources.write(json)
    }

    /// Returns the proxy, for its log and its admin pages.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Returns the log of the proxy, which includes the filter's.
    pub fn log(&self) -> String {
        self.proxy.log()
    }
}

/// A request that is not sent yet.
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

    /// Sends the request through the filter and blocks until the response is complete.
    pub fn send(self) -> Result<Response, Error> {
        let Running { proxy, resources } = self.running;
        let listener = proxy.listener(LISTENER)?;
        while resources.origin.received().is_some() {} // Drops requests that earlier tests did not read.
        let response = http::send(listener, &self.request);
        let response = response.map_err(|error| Error::new(format!("no response: {error}\n{}", proxy.log())))?;
        Ok(Response { response, upstream: resources.origin.received() })
    }
}

/// The response to a request, and the request that reached the origin.
#[derive(Debug)]
pub struct Response {
    response: Message,
    upstream: Option<Message>,
}

impl Response {
    /// Returns the status.
    pub fn status(&self) -> u16 {
        self.response.status()
    }

    /// Returns the first value of a header.
    pub fn header(&self, name: &str) -> Option<String> {
        self.response.header(name)
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        self.response.text()
    }

    /// Returns the whole response.
    pub fn response(&self) -> &Message {
        &self.response
    }

    /// Returns the request as the origin received it; `None` when it did not reach the origin.
    pub fn upstream(&self) -> Option<&Message> {
        self.upstream.as_ref()
    }
}

/// The resources that the proxy watches, in a temporary folder.
#[derive(Debug)]
struct Resources {
    origin: Origin,
    folder: TempDir,
    module: String,
    extra: String,
}

impl Resources {
    fn write(&self, config: &str) -> Result<(), Error> {
        let config: Value = serde_json::from_str(config).map_err(|error| Error::new(format!("config: {error}")))?;
        let text = filter_resources(self.origin.address(), &self.module, &config) + &self.extra;
        self.folder.write("resources.yaml", text).map(drop)
    }
}

/// Returns resources with one listener, route, filter and service.
fn filter_resources(origin: SocketAddr, module: &str, config: &Value) -> String {
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
kind: ServiceEntry
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
