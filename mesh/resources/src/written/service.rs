//! `Service`: where requests can go.

use schemars::JsonSchema;
use serde::Deserialize;

/// A set of endpoints that serve the same thing. In Kubernetes it is derived from core `Service` and `EndpointSlice`;
/// a reference to a core `Service` means this kind.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ServiceSpec {
    /// The ports that routes refer to. Each becomes a cluster named `namespace/service:port`.
    pub(crate) ports: Vec<PortSpec>,
    /// The addresses that serve it. An empty list is allowed: every request is then answered with 503.
    pub(crate) endpoints: Option<Vec<EndpointSpec>>,
    /// The name whose addresses serve it, instead of `endpoints`.
    pub(crate) dns: Option<DnsSpec>,
    /// Who its endpoints are. They are then reached by mutual TLS alone, and must prove it.
    pub(crate) identity: Option<IdentitySpec>,
}

/// Who the endpoints of a Service are.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct IdentitySpec {
    /// Their service account: `spiffe://<trust domain>/ns/<namespace of the Service>/sa/<this>`.
    pub(crate) service_account: String,
}

/// A port of a Service.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PortSpec {
    /// Its name; needed when there are several ports.
    pub(crate) name: Option<String>,
    /// The number that routes refer to. The port that an endpoint listens on is in its `address`.
    pub(crate) port: i64,
    /// What the endpoints speak; `HTTP` when left out.
    pub(crate) protocol: Option<Protocol>,
}

/// What endpoints speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    #[serde(rename = "HTTP")]
    Http,
    /// HTTP/2 without TLS, by prior knowledge.
    #[serde(rename = "HTTP2")]
    Http2,
    /// gRPC: as `HTTP2`.
    #[serde(rename = "GRPC")]
    Grpc,
    /// Bytes of any kind: for TCPRoutes alone.
    #[serde(rename = "TCP")]
    Tcp,
}

/// An address that serves a Service.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EndpointSpec {
    /// Its IP address and port: `127.0.0.1:9001` or `[::1]:9001`.
    pub(crate) address: String,
    /// Its share of the requests beside its siblings, 0 to 1000000; 1 when left out.
    pub(crate) weight: Option<i64>,
    /// The version of the service that it runs, as in `v1`.
    pub(crate) version: Option<String>,
    /// The name of the port it serves; every port when left out.
    pub(crate) port_name: Option<String>,
}

/// A name whose addresses serve a Service.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DnsSpec {
    /// The DNS name, resolved again and again.
    pub(crate) host: String,
    /// The port at each of its addresses.
    pub(crate) port: i64,
}
