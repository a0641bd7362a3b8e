//! The static configuration of a test's Envoy: filters in front of an origin, and clusters that filters may call.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::origin::Codec;

/// A Wasm filter in Envoy.
#[derive(Debug, Clone)]
pub struct EnvoyFilter {
    /// The filter's name.
    pub name: &'static str,
    /// The root id, which selects one of the module's filters.
    pub root_id: &'static str,
    /// The module's path.
    pub module: PathBuf,
    /// The configuration of the VM.
    pub vm_configuration: String,
    /// The configuration of the filter.
    pub configuration: String,
    /// The environment variables of the VM.
    pub environment: Vec<(&'static str, &'static str)>,
    /// More fields of `PluginConfig`.
    pub fields: Value,
}

impl EnvoyFilter {
    /// Returns a filter without module and configuration. The root id is its name.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            root_id: name,
            module: PathBuf::new(),
            vm_configuration: String::new(),
            configuration: String::new(),
            environment: Vec::new(),
            fields: json!({}),
        }
    }

    fn plugin(&self) -> Value {
        let text = |text: &str| typed("google.protobuf.StringValue", json!({"value": text}));
        let environment: serde_json::Map<String, Value> =
            self.environment.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let mut plugin = json!({
            "name": self.name, "root_id": self.root_id, "configuration": text(&self.configuration),
            "vm_config": {
                "vm_id": self.name, "runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": self.module}},
                "configuration": text(&self.vm_configuration), "environment_variables": {"key_values": environment},
            },
        });
        for (name, value) in self.fields.as_object().into_iter().flatten() {
            plugin[name] = value.clone();
        }
        plugin
    }
}

/// The static configuration of an Envoy.
#[derive(Debug, Clone)]
pub struct EnvoyConfig {
    /// The filters, in the order in which requests pass them.
    pub filters: Vec<EnvoyFilter>,
    /// The protocol of every cluster.
    pub codec: Codec,
    /// The endpoint of the cluster `target`.
    pub origin: SocketAddr,
    /// More clusters, by name and endpoint.
    pub clusters: Vec<(String, SocketAddr)>,
    /// The cluster to which all requests and connections go.
    pub target: &'static str,
    /// True for a TCP listener, false for HTTP.
    pub is_tcp: bool,
    /// The metadata of the route and of the cluster `target`.
    pub metadata: Value,
}

impl EnvoyConfig {
    /// Returns a configuration that forwards everything to an origin, without filters.
    pub fn forward_to(codec: Codec, origin: SocketAddr) -> Self {
        Self {
            filters: Vec::new(),
            codec,
            origin,
            clusters: Vec::new(),
            target: "origin",
            is_tcp: false,
            metadata: json!({}),
        }
    }

    pub(crate) fn bootstrap(&self) -> Value {
        let free_port = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
        let clusters = std::iter::once((self.target, self.origin))
            .chain(self.clusters.iter().map(|(name, address)| (name.as_str(), *address)));
        let network_filters = if self.is_tcp { self.tcp_filters() } else { vec![self.connection_manager()] };
        json!({
            "admin": {"address": free_port},
            "static_resources": {
                "listeners": [{
                    "name": "edge", "address": free_port, "filter_chains": [{"filters": network_filters}],
                }],
                "clusters": clusters.map(|(name, address)| self.cluster(name, address)).collect::<Vec<_>>(),
            },
        })
    }

    fn tcp_filters(&self) -> Vec<Value> {
        let wasm = |filter: &EnvoyFilter| {
            let kind = "envoy.extensions.filters.network.wasm.v3.Wasm";
            json!({"name": "envoy.filters.network.wasm", "typed_config": typed(kind, json!({"config": filter.plugin()}))})
        };
        let kind = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
        let proxy = typed(kind, json!({"stat_prefix": "edge", "cluster": self.target}));
        let proxy = json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy});
        self.filters.iter().map(wasm).chain([proxy]).collect()
    }

    fn connection_manager(&self) -> Value {
        let wasm = |filter: &EnvoyFilter| {
            let kind = "envoy.extensions.filters.http.wasm.v3.Wasm";
            json!({"name": "envoy.filters.http.wasm", "typed_config": typed(kind, json!({"config": filter.plugin()}))})
        };
        let mut chain: Vec<Value> = self.filters.iter().map(wasm).collect();
        let router = typed("envoy.extensions.filters.http.router.v3.Router", json!({}));
        chain.push(json!({"name": "envoy.filters.http.router", "typed_config": router}));
        let plain = json!({"match": {"prefix": "/"}, "name": "everything", "route": {"cluster": self.target}, "metadata": self.metadata});
        let host = json!({"name": "all", "domains": ["*"], "routes": [plain]});
        let manager = typed(
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            json!({
                "stat_prefix": "edge", "use_remote_address": true, "generate_request_id": true, "normalize_path": true,
                "route_config": {"virtual_hosts": [host]}, "http_filters": chain,
                "http_protocol_options": {"enable_trailers": true},
            }),
        );
        json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager})
    }

    fn cluster(&self, name: &str, address: SocketAddr) -> Value {
        let endpoint = json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
        let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": endpoint}}]}]);
        let metadata = if name == self.target { self.metadata.clone() } else { json!({}) };
        let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        let protocol = match self.codec {
            Codec::Http1 => json!({"http_protocol_options": {"enable_trailers": true}}),
            Codec::Http2 => json!({"http2_protocol_options": {}}),
        };
        json!({
            "name": name, "type": "STATIC", "connect_timeout": "5s", "metadata": metadata,
            "load_assignment": {"cluster_name": name, "endpoints": endpoints},
            "typed_extension_protocol_options": {options: typed(options, json!({"explicit_http_config": protocol}))},
        })
    }
}

/// Returns a message of type `kind` in an `Any`, in protobuf's JSON form.
fn typed(kind: &str, mut value: Value) -> Value {
    value["@type"] = json!(format!("type.googleapis.com/{kind}"));
    value
}
