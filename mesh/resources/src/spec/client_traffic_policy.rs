//! `ClientTrafficPolicy`: bounds and timeouts of the connections that Gateways accept.

use schemars::JsonSchema;
use serde::Deserialize;

/// Bounds and timeouts of the HTTP connections that Gateways accept. Of several policies the one with `sectionName`
/// wins, then the one of the Gateway, then the one without `targetRefs`; they are not merged. A change applies to new
/// connections.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClientTrafficPolicySpec {
    /// The policy's Gateways, in its own namespace. Default: all Gateways of the mesh.
    pub(crate) target_refs: Option<Vec<GatewayTargetRef>>,
    /// Bounds of requests and connections.
    pub(crate) http1: Option<ClientHttp1Spec>,
    /// The protocols that a request may switch to by `Upgrade`, or by extended CONNECT of HTTP/2 (RFC 8441). A request
    /// for another protocol is answered with 403. `[]` allows none. Default: `[websocket]`.
    pub(crate) upgrades: Option<Vec<String>>,
    /// Timeouts of requests and connections.
    pub(crate) timeouts: Option<ClientTimeouts>,
}

/// A target of a ClientTrafficPolicy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct GatewayTargetRef {
    /// `gateway.networking.k8s.io`, which is the default.
    pub(crate) group: Option<String>,
    /// `Gateway`.
    pub(crate) kind: String,
    /// The Gateway's name.
    pub(crate) name: String,
    /// The name of one of its listeners. Listeners that share a port share their policy. Default: all listeners.
    pub(crate) section_name: Option<String>,
}

/// Bounds of requests and connections.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClientHttp1Spec {
    /// The bytes of a request's head, in steps of `1Ki`. Also bounds the headers of HTTP/2, as in Envoy. A larger head
    /// is answered with 431. Default: `64Ki`.
    pub(crate) max_head_bytes: Option<String>,
    /// The number of a request's headers. Also holds for HTTP/2, as in Envoy. Default: 100.
    pub(crate) max_headers: Option<u32>,
    /// The bytes of a request's target. A longer target is answered with 414. Default: `32Ki`.
    pub(crate) max_target_bytes: Option<String>,
    /// The requests of one connection; its last response has `connection: close`. An HTTP/2 connection ends with
    /// GOAWAY, after about as many. Default: no limit.
    pub(crate) max_requests_per_connection: Option<u32>,
    /// If true, HTTP/1 requests are forwarded with the upper and lower case of their header names, for endpoints that
    /// distinguish it. Names that the proxy or a filter adds are in lower case. Default: `false`, all in lower case.
    pub(crate) preserve_header_case: Option<bool>,
}

/// Timeouts of requests and connections, as in `500ms` or `1m30s`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClientTimeouts {
    /// From the first byte of a request's head to its last; a TLS handshake has the same time. A slower one is answered
    /// with 408. Default: `15s`.
    pub(crate) request_head: Option<String>,
    /// Without a byte of a request or response, until the request is aborted. `0s` disables the limit. Default: `5m`.
    pub(crate) stream_idle: Option<String>,
    /// Without a request, until the connection is closed. `0s` disables the limit. Default: `1m15s`.
    pub(crate) connection_idle: Option<String>,
    /// The age of a connection, after which it ends with its current request. Default: no limit.
    pub(crate) connection_age: Option<String>,
}
