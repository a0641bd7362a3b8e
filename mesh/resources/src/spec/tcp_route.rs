//! `TCPRoute` of the Gateway API (`v1` and `v1alpha2`, which have the same fields). Defined here because the
//! `gateway-api` crate has it only among its experimental types, which would all be compiled.

use schemars::JsonSchema;
use serde::Deserialize;

/// The destination of the connections of TCP listeners. A TCP listener has exactly one TCPRoute; without one it does
/// not listen. Filters process the bytes if they name the TCPRoute in their `targetRefs`. Filters of a Gateway or of
/// the whole mesh and AuthorizationPolicies apply to requests only.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TcpRouteSpec {
    /// The Gateways that the route attaches to, at least one.
    pub(crate) parent_refs: Option<Vec<TcpParentSpec>>,
    /// The destination: exactly one rule.
    pub(crate) rules: Vec<TcpRuleSpec>,
}

/// A Gateway, or some of its listeners.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TcpParentSpec {
    /// `gateway.networking.k8s.io`, which is the default.
    pub(crate) group: Option<String>,
    /// `Gateway`, which is the default.
    pub(crate) kind: Option<String>,
    /// The Gateway's name.
    pub(crate) name: String,
    /// The Gateway's namespace. Default: the route's own.
    pub(crate) namespace: Option<String>,
    /// Restricts the reference to the listener on this port.
    pub(crate) port: Option<i32>,
    /// Restricts the reference to the listener of this name.
    pub(crate) section_name: Option<String>,
}

/// The destination of connections.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TcpRuleSpec {
    /// A name for users.
    pub(crate) name: Option<String>,
    /// The Services; each connection goes to one of them.
    pub(crate) backend_refs: Vec<TcpBackendSpec>,
}

/// A Service and its weight.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TcpBackendSpec {
    /// The group of the kind. Default: empty, the group of the core `Service`.
    pub(crate) group: Option<String>,
    /// `Service`, which is the default, or `ServiceEntry`.
    pub(crate) kind: Option<String>,
    /// The Service's name.
    pub(crate) name: String,
    /// The Service's namespace. Another namespace than the route's own requires a ReferenceGrant. Default: the route's
    /// own.
    pub(crate) namespace: Option<String>,
    /// The Service's port; required.
    pub(crate) port: Option<i32>,
    /// The weight among the `backendRefs`, 0 to 1000000. Default: 1.
    pub(crate) weight: Option<i32>,
}
