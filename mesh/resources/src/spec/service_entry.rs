//! `ServiceEntry`: a service registered by hand, with its endpoints or its DNS name.

use schemars::JsonSchema;
use serde::Deserialize;

/// A service with its endpoints. A reference to a core `Service` resolves to the ServiceEntry of the same name. In
/// Kubernetes it is derived from core `Service` and `EndpointSlice`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ServiceEntrySpec {
    /// The ports that routes refer to. Each becomes a cluster named `namespace/service:port`.
    pub(crate) ports: Vec<PortSpec>,
    /// The addresses of the endpoints. If the list is empty, every request is answered with 503.
    pub(crate) endpoints: Option<Vec<EndpointSpec>>,
    /// A DNS name, resolved to the endpoints. Excludes `endpoints`.
    pub(crate) dns: Option<DnsSpec>,
    /// The identity of the endpoints. The proxy then uses mutual TLS only and verifies this identity.
    pub(crate) identity: Option<IdentitySpec>,
}

/// The identity of a service's endpoints.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct IdentitySpec {
    /// The service account: `spiffe://<trust domain>/ns/<namespace of the ServiceEntry>/sa/<this>`.
    pub(crate) service_account: String,
}

/// A port of a ServiceEntry.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PortSpec {
    /// The port's name; required if there are several ports.
    pub(crate) name: Option<String>,
    /// The number that routes refer to. The port that an endpoint listens on is in its `address`.
    pub(crate) port: i64,
    /// The endpoints' protocol. Default: `HTTP2` for a port that a GRPCRoute forwards to; for a port with a
    /// BackendTLSPolicy the one that the server selects by ALPN; otherwise `HTTP`.
    pub(crate) protocol: Option<Protocol>,
    /// The endpoints' protocol by its name in Kubernetes: `http`, `kubernetes.io/h2c` (HTTP/2 without TLS),
    /// `kubernetes.io/ws` (HTTP/1.1) or `grpc`. Excludes `protocol`.
    pub(crate) app_protocol: Option<String>,
}

/// A protocol of endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    #[serde(rename = "HTTP")]
    Http,
    /// HTTP/2 without TLS, by prior knowledge.
    #[serde(rename = "HTTP2")]
    Http2,
    /// gRPC, which uses HTTP/2 as with `HTTP2`.
    #[serde(rename = "GRPC")]
    Grpc,
    /// Bytes of any kind: for TCPRoutes only.
    #[serde(rename = "TCP")]
    Tcp,
}

/// An endpoint.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EndpointSpec {
    /// The IP address and port: `127.0.0.1:9001` or `[::1]:9001`. Or a Unix socket on the host of the proxy:
    /// `unix:///run/app.sock`, with an absolute path of at most 107 bytes.
    pub(crate) address: String,
    /// The weight among the endpoints, 0 to 1000000. Default: 1.
    pub(crate) weight: Option<i64>,
    /// The version of the service that the endpoint runs, as in `v1`.
    pub(crate) version: Option<String>,
    /// The name of the port that the endpoint serves. Default: every port.
    pub(crate) port_name: Option<String>,
}

/// A DNS name that resolves to the endpoints.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DnsSpec {
    /// The DNS name. Each of its IPv4 and IPv6 addresses is an endpoint. The proxy resolves it again when the TTL of the
    /// answer has passed. If that fails, the endpoints stay.
    pub(crate) host: String,
    /// The port of every resolved address.
    pub(crate) port: i64,
}
