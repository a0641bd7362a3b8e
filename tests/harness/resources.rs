//! What a proxy serves, as YAML documents in one file: the few kinds that every test needs have a method each, the rest
//! is written out.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use crate::artefact::test_filter;

/// Resources, and the modules that lie beside them.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    text: String,
    listeners: Vec<String>,
    modules: Vec<(String, Vec<u8>)>,
}

/// Where a filter's module comes from.
#[derive(Debug, Clone)]
pub enum Module {
    /// A module that comes with the proxy.
    Builtin(&'static str),
    /// `tests/filter`, whose configuration says what it does.
    Test,
    /// Bytes, under a file name.
    Bytes(&'static str, Vec<u8>),
}

/// A `Filter` in front of the route `everything`.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Its name.
    pub name: &'static str,
    /// Its module.
    pub module: Module,
    /// Its configuration: a map, or a text that it gets as it is.
    pub config: Value,
    /// More fields of `spec`, as YAML in flow style: `failure: Open, priority: 1`.
    pub fields: Cow<'static, str>,
    /// The kind of the route that it is put before.
    pub kind: &'static str,
    /// The route.
    pub route: &'static str,
}

impl Filter {
    /// The test filter with a configuration.
    pub fn test(name: &'static str, config: Value) -> Self {
        Self { name, module: Module::Test, config, fields: Cow::Borrowed(""), kind: "HTTPRoute", route: "everything" }
    }

    /// Another module, without a configuration.
    pub fn of(name: &'static str, module: Module) -> Self {
        Self {
            name,
            module,
            config: serde_json::json!({}),
            fields: Cow::Borrowed(""),
            kind: "HTTPRoute",
            route: "everything",
        }
    }

    /// With more fields of `spec`.
    pub fn with(self, fields: impl Into<Cow<'static, str>>) -> Self {
        Self { fields: fields.into(), ..self }
    }

    /// Before a TCPRoute.
    pub fn before_tcp(self, route: &'static str) -> Self {
        Self { kind: "TCPRoute", route, ..self }
    }

    /// Before another route.
    pub fn before(self, route: &'static str) -> Self {
        Self { route, ..self }
    }
}

impl Resources {
    /// Nothing.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// A Gateway `edge` with one listener `http`.
    pub fn new() -> Self {
        Self::nothing().gateway("edge", &["http"])
    }

    /// [`Resources::new`], and everything goes to `origin`.
    pub fn forward_to(origin: SocketAddr) -> Self {
        Self::new().service("origin", &[origin]).route_everything()
    }

    /// A Gateway `edge` with one listener `tcp`, and every connection goes to `origin`.
    pub fn forward_tcp_to(origin: SocketAddr) -> Self {
        Self::nothing()
            .tcp_gateway()
            .tcp_service("origin", &[origin])
            .tcp_route("rules: [{backendRefs: [{name: origin, port: 80}]}]")
    }

    /// A Gateway `edge` with one listener `tcp`.
    pub fn tcp_gateway(self) -> Self {
        let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec:\n  \
             gatewayClassName: weir\n  listeners: [{name: tcp, port: 8000, protocol: TCP}]\n";
        self.yaml(gateway).bind("default/edge/tcp")
    }

    /// The TCPRoute `everything` on the Gateway `edge`; `spec` is the rest of its `spec`, as YAML.
    pub fn tcp_route(self, spec: &str) -> Self {
        self.yaml(&format!(
            "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\nmetadata: {{name: everything}}\nspec:\n  \
             parentRefs: [{{name: edge}}]\n  {spec}\n"
        ))
    }

    /// As [`Resources::forward_to`]; the origin speaks HTTP/2.
    pub fn forward_to_http2(origin: SocketAddr) -> Self {
        Self::new().http2_service("origin", &[origin]).route_everything()
    }

    /// As [`Resources::forward_to`], in the origin's protocol.
    pub fn forward(codec: crate::Codec, origin: SocketAddr) -> Self {
        match codec {
            crate::Codec::Http1 => Self::forward_to(origin),
            crate::Codec::Http2 => Self::forward_to_http2(origin),
        }
    }

    /// A Gateway; each listener has a port of its own, which `--bind` makes a free one.
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

    /// Any documents.
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

    /// A listener that a document names, given a free port.
    pub fn listener(mut self, name: &str) -> Self {
        self.listeners.push(name.to_owned());
        self
    }

    /// A Service with port 80.
    pub fn service(self, name: &str, endpoints: &[SocketAddr]) -> Self {
        self.service_speaking(name, "HTTP", endpoints)
    }

    /// A Service with port 80 whose endpoints speak HTTP/2.
    pub fn http2_service(self, name: &str, endpoints: &[SocketAddr]) -> Self {
        self.service_speaking(name, "HTTP2", endpoints)
    }

    /// A Service with port 80 for bytes.
    pub fn tcp_service(self, name: &str, endpoints: &[SocketAddr]) -> Self {
        self.service_speaking(name, "TCP", endpoints)
    }

    fn service_speaking(self, name: &str, protocol: &str, endpoints: &[SocketAddr]) -> Self {
        let endpoints: Vec<_> = endpoints.iter().map(|address| format!("{{address: \"{address}\"}}")).collect();
        self.yaml(&format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  \
             ports: [{{name: http, port: 80, protocol: {protocol}}}]\n  endpoints: [{}]\n",
            endpoints.join(", ")
        ))
    }

    /// The HTTPRoute `everything` to the Service `origin`, an HTTP/2 one; both with more `metadata`, as YAML in flow style.
    pub fn labelled_http2(origin: SocketAddr, metadata: &str) -> Self {
        let add = |text: &str, name: &str| {
            text.replace(&format!("{{name: {name}}}\nspec"), &format!("{{name: {name}, {metadata}}}\nspec"))
        };
        let plain = Self::forward_to_http2(origin);
        let text = add(&add(&plain.text, "origin"), "everything");
        Self { text, ..plain }
    }

    /// The HTTPRoute `everything`, to the Service `origin`.
    pub fn route_everything(self) -> Self {
        self.route("everything", "rules: [{backendRefs: [{name: origin, port: 80}]}]")
    }

    /// An HTTPRoute on the Gateway `edge`; `spec` is the rest of its `spec`, as YAML.
    pub fn route(self, name: &str, spec: &str) -> Self {
        let spec = spec.trim_matches('\n').lines().map(|line| format!("  {line}\n")).collect::<String>();
        self.yaml(&format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec:\n  \
             parentRefs: [{{name: edge}}]\n{spec}"
        ))
    }

    /// A Filter, with its module.
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
        // A JSON string is a YAML string, too.
        let config_field = if config.is_string() { "configText" } else { "config" };
        self.yaml(&format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {{name: {name}}}\nspec: {{targetRefs: \
             [{{group: gateway.networking.k8s.io, kind: {kind}, name: {route}}}], module: {module}, {config_field}: \
             {config}{comma}{fields}}}\n"
        ))
    }

    fn module_file(&mut self, name: &str, bytes: Vec<u8>) -> String {
        self.modules.retain(|(known, _)| known != name);
        self.modules.push((name.to_owned(), bytes));
        format!("{{file: ./{name}}}")
    }

    /// A file beside the resources.
    pub fn file(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.module_file(name, bytes.into());
        self
    }

    /// A listener of [`Resources::yaml`] whose port `--bind` makes a free one.
    pub fn bind(mut self, listener: &str) -> Self {
        self.listeners.push(listener.to_owned());
        self
    }

    /// The listeners, named like `default/edge/http`.
    pub fn listeners(&self) -> &[String] {
        &self.listeners
    }

    /// All documents.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Writes the documents to `resources.yaml`, and the modules beside it.
    pub fn write_to(&self, folder: &Path) {
        self.write_modules_to(folder);
        fs::write(folder.join("resources.yaml"), &self.text).expect("the folder can be written");
    }

    /// Writes the modules, each in one step, those that differ from what is there.
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
