//! `TCPRoute` of the Gateway API (`v1alpha2`): written here, because the crate has it among its experimental types only,
//! all of which would be compiled for it.

use schemars::JsonSchema;
use serde::Deserialize;

/// Where the connections of TCP listeners go: bytes, whatever they mean. A listener has one TCPRoute; without any it does
/// not listen. Filters see the bytes if they name the TCPRoute in their `targetRefs`; those of a Gateway or of the whole
/// mesh, and AccessPolicies, are for requests.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TcpRouteSpec {
    /// The Gateways it attaches to, at least one.
    pub(crate) parent_refs: Option<Vec<TcpParentSpec>>,
    /// Where connections go: one rule.
    pub(crate) rules: Vec<TcpRuleSpec>,
}

/// A Gateway, or some of its listeners.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TcpParentSpec {
    /// `gateway.networking.k8s.io`, as when left out.
    pub(crate) group: Option<String>,
    /// `Gateway`, as when left out.
    pub(crate) kind: Option<String>,
    /// The Gateway's name.
    pub(crate) name: String,
    /// The Gateway's namespace; the route's own when left out.
    pub(crate) namespace: Option<String>,
    /// Only the listener on this port.
    pub(crate) port: Option<i32>,
    /// Only the listener of this name.
    pub(crate) section_name: Option<String>,
}

/// Where connections go.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TcpRuleSpec {
    /// For people.
    pub(crate) name: Option<String>,
    /// The Services; one is chosen for each connection.
    pub(crate) backend_refs: Vec<TcpBackendSpec>,
}

/// A Service, and its share.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TcpBackendSpec {
    /// `weir.dev`, or the empty text for a core Service, which means the same, as when left out.
    pub(crate) group: Option<String>,
    /// `Service`, as when left out.
    pub(crate) kind: Option<String>,
    /// The Service's name.
    pub(crate) name: String,
    /// The Service's namespace, which must let this one refer to it; the route's own when left out.
    pub(crate) namespace: Option<String>,
    /// The Service's port; must be there.
    pub(crate) port: Option<i32>,
    /// Its share beside its siblings, 0 to 1000000; 1 when left out.
    pub(crate) weight: Option<i32>,
}
