//! Resources of a proxy, as YAML documents in one file. The kinds that most tests need have a method each; tests write
//! the others as YAML.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use crate::artifact::test_filter;

/// YAML documents, and the files in their folder.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    text: String,
    listeners: Vec<String>,
    modules: Vec<(String, Vec<u8>)>,
}

/// The source of a filter's module.
#[derive(Debug, Clone)]
pub enum Module {
    /// A shipped module.
    Builtin(&'static str),
    /// The module of `tests/filter`, which runs the steps of its configuration.
    Test,
    /// A file name and the module's bytes.
    Bytes(&'static str, Vec<u8>),
}

/// A `Filter` that targets a route; by default the HTTPRoute `everything`.
#[derive(Debug, Clone)]
pub struct Filter {
    /// The filter's name.
    pub name: &'static str,
    /// The filter's module.
    pub module: Module,
    /// The filter's configuration: a map for `config`, or a text for `configString`.
    pub config: Value,
    /// More fields of `spec`, as YAML in flow style: `failurePolicy: FailOpen, priority: 1`.
    pub fields: Cow<'static, str>,
    /// The kind of the route that it targets.
    pub kind: &'static str,
    /// The name of the route that it targets.
    pub route: &'static str,
}

impl Filter {
    /// Returns a filter of the module of `tests/filter`, with a configuration.
    pub fn test(name: &'static str, config: Value) -> Self {
        Self { name, module: Module::Test, config, fields: Cow::Borrowed(""), kind: "HTTPRoute", route: "everything" }
    }

    /// Returns a filter of a module, with an empty configuration.
    pub fn new(name: &'static str, module: Module) -> Self {
        Self {
            name,
            module,
            config: serde_json::json!({}),
            fields: Cow::Borrowed(""),
            kind: "HTTPRoute",
            route: "everything",
        }
    }

    /// Returns the filter with more fields of `spec`.
    pub fn with_fields(self, fields: impl Into<Cow<'static, str>>) -> Self {
        Self { fields: fields.into(), ..self }
    }

    /// Returns the filter with a TCPRoute as its target.
    pub fn targeting_tcp(self, route: &'static str) -> Self {
        Self { kind: "TCPRoute", route, ..self }
    }

    /// Returns the filter with another HTTPRoute as its target.
    pub fn targeting(self, route: &'static str) -> Self {
        Self { route, ..self }
    }
}

impl Resources {
    /// Returns no resources.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Returns a Gateway `edge` with one listener `http`.
    pub fn new() -> Self {
        Self::empty().gateway("edge", &["http"])
    }

    /// Returns [`Resources::new`] with a route that forwards everything to `origin`.
    pub fn forward_to(origin: SocketAddr) -> Self {
        Self::new().service("origin", &[origin]).route_everything()
    }

    /// Returns a Gateway `edge` with one listener `tcp`, and a route that forwards every connection to `origin`.
    pub fn forward_tcp_to(origin: SocketAddr) -> Self {
        Self::empty()
            .tcp_gateway()
            .tcp_service("origin", &[origin])
            .tcp_route("rules: [{backendRefs: [{name: origin, port: 80}]}]")
    }

    /// Adds a Gateway `edge` with one listener `tcp`.
    pub fn tcp_gateway(self) -> Self {
        let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec:\n  \
             gatewayClassName: weir\n  listeners: [{name: tcp, port: 8000, protocol: TCP}]\n";
        self.yaml(gateway).bind("default/edge/tcp")
    }

    /// Adds the TCPRoute `everything` on the Gateway `edge`; `spec` is the rest of its `spec`, as YAML.
    pub fn tcp_route(self, spec: &str) -> Self {
        self.yaml(&format!(
            "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\nmetadata: {{name: everything}}\nspec:\n  \
             parentRefs: [{{name: edge}}]\n  {spec}\n"
        ))
    }

    /// Returns [`Resources::forward_to`] for an HTTP/2 origin.
    pub fn forward_to_http2(origin: SocketAddr) -> Self {
        Self::new().http2_service("origin", &[origin]).route_everything()
    }

    /// Returns [`Resources::forward_to`] for an origin of the protocol `codec`.
    pub fn forward(codec: crate::Codec, origin: SocketAddr) -> Self {
        match codec {
            crate::Codec::Http1 => Self::forward_to(origin),
            crate::Codec::Http2 => Self::forward_to_http2(origin),
        }
    }

    /// Adds a Gateway. Each listener has its own port, which the argument `--bind` replaces by a free one.
    pub fn gateway(mut self, name: &str, listeners: &[&str]) -> Self {
        let mut text = format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec:\n  \
             gatewayClassName: weir\n  listeners:\n"
        );
        for listener in listeners {
            let port = 8000 + self.listeners.len();
            self.listeners.push(format!("default/{name}/{listener}"));
            let _ = writeln!(text, "    - {{name: {listener}, port: {port}, protocol: HTTP}}");
        }
        self.yaml(&text)
    }

    /// Adds YAML documents.
    pub fn yaml(mut self, documents: &str) -> Self {
        if !self.text.is_empty() {
            self.text.push_str("---\n");
        }
        self.text.push_str(documents.trim_start_matches('\n'));
        if !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self
    }

    /// Adds a ServiceEntry with port 80.
    pub fn service(self, name: &str, endpoints: &[SocketAddr]) -> Self {
        self.service_with_protocol(name, ", protocol: HTTP", endpoints)
    }

    /// Adds a ServiceEntry with port 80 for HTTP/2 endpoints.
    pub fn http2_service(self, name: &str, endpoints: &[SocketAddr]) -> Self {
        self.service_with_protocol(name, ", protocol: HTTP2", endpoints)
    }

    /// Adds a ServiceEntry with port 80 without a protocol.
    pub fn service_without_protocol(self, name: &str, endpoints: &[SocketAddr]) -> Self {
        self.service_with_protocol(name, "", endpoints)
    }

    /// Adds a ServiceEntry with port 80 for TCP endpoints.
    pub fn tcp_service(self, name: &str, endpoints: &[SocketAddr]) -> Self {
        self.service_with_protocol(name, ", protocol: TCP", endpoints)
    }

    fn service_with_protocol(self, name: &str, protocol: &str, endpoints: &[SocketAddr]) -> Self {
        let endpoints: Vec<_> = endpoints.iter().map(|address| format!("{{address: \"{address}\"}}")).collect();
        self.yaml(&format!(
            "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec:\n  \
             ports: [{{name: http, port: 80{protocol}}}]\n  endpoints: [{}]\n",
            endpoints.join(", ")
        ))
    }

    /// Returns [`Resources::forward_to_http2`] with more `metadata` in the route and the ServiceEntry, as YAML in flow
    /// style.
    pub fn labeled_http2(origin: SocketAddr, metadata: &str) -> Self {
        let add = |text: &str, name: &str| {
            text.replace(&format!("{{name: {name}}}\nspec"), &format!("{{name: {name}, {metadata}}}\nspec"))
        };
        let plain = Self::forward_to_http2(origin);
        let text = add(&add(&plain.text, "origin"), "everything");
        Self { text, ..plain }
    }

    /// Adds the HTTPRoute `everything`, to the ServiceEntry `origin`.
    pub fn route_everything(self) -> Self {
        self.route("everything", "rules: [{backendRefs: [{name: origin, port: 80}]}]")
    }

    /// Adds an HTTPRoute on the Gateway `edge`; `spec` is the rest of its `spec`, as YAML.
    pub fn route(self, name: &str, spec: &str) -> Self {
        let spec = spec.trim_matches('\n').lines().map(|line| format!("  {line}\n")).collect::<String>();
        self.yaml(&format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec:\n  \
             parentRefs: [{{name: edge}}]\n{spec}"
        ))
    }

    /// Adds a Filter, and the file of its module.
    pub fn filter(mut self, filter: Filter) -> Self {
        let Filter { name, module, config, fields, kind, route } = filter;
        let module = match module {
            Module::Builtin(builtin) => format!("{{builtin: {builtin}}}"),
            Module::Test => {
                let bytes = fs::read(test_filter()).expect("the test filter was built");
                self.module_file("test_filter.wasm", bytes)
            }
            Module::Bytes(file, bytes) => self.module_file(file, bytes),
        };
        let comma = if fields.is_empty() { "" } else { ", " };
        // YAML accepts JSON strings.
        let config_field = if config.is_string() { "configString" } else { "config" };
        self.yaml(&format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {{name: {name}}}\nspec: {{targetRefs: \
             [{{group: gateway.networking.k8s.io, kind: {kind}, name: {route}}}], module: {module}, {config_field}: \
             {config}{comma}{fields}}}\n"
        ))
    }

    fn module_file(&mut self, name: &str, bytes: Vec<u8>) -> String {
        self.modules.retain(|(file, _)| file != name);
        self.modules.push((name.to_owned(), bytes));
        format!("{{file: ./{name}}}")
    }

    /// Adds a file to the folder of the resources.
    pub fn file(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.module_file(name, bytes.into());
        self
    }

    /// Adds an argument `--bind` that replaces the port of a listener, such as `default/edge/http`, by a free one.
    pub fn bind(mut self, listener: &str) -> Self {
        self.listeners.push(listener.to_owned());
        self
    }

    /// Returns the listeners with an argument `--bind`, such as `default/edge/http`.
    pub fn listeners(&self) -> &[String] {
        &self.listeners
    }

    /// Returns all documents.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Writes the documents to `resources.yaml`, and the files, to a folder.
    pub fn write_to(&self, folder: &Path) {
        self.write_modules_to(folder);
        fs::write(folder.join("resources.yaml"), &self.text).expect("the folder can be written");
    }

    /// Writes the files that differ from those in the folder, each atomically.
    pub(crate) fn write_modules_to(&self, folder: &Path) {
        for (name, bytes) in &self.modules {
            let path = folder.join(name);
            if fs::read(&path).is_ok_and(|present| present == *bytes) {
                continue;
            }
            let draft = path.with_extension("draft");
            fs::write(&draft, bytes).expect("the folder can be written");
            fs::rename(draft, path).expect("the folder can be written");
        }
    }
}
