//! `BackendPolicy`: how a Service's endpoints are used.

use schemars::JsonSchema;
use serde::Deserialize;

/// How the endpoints of Services are used. A Service has one policy at most.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BackendPolicySpec {
    /// The Services it is for, in its own namespace.
    pub(crate) target_refs: Vec<ServiceRef>,
    /// How an endpoint is picked; `RoundRobin` when left out.
    pub(crate) balancing: Option<BalancingName>,
    /// How long things may take.
    pub(crate) timeouts: Option<PolicyTimeouts>,
}

/// A Service that a policy is for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ServiceRef {
    /// `weir.dev`, or the empty text for a core Service, which means the same; `weir.dev` when left out.
    pub(crate) group: Option<String>,
    /// `Service`.
    pub(crate) kind: String,
    /// The Service's name.
    pub(crate) name: String,
}

/// How an endpoint is picked among its siblings.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub(crate) enum BalancingName {
    /// Each in turn, as often as its weight says.
    RoundRobin,
    /// The less busy of two picked at random.
    LeastRequest,
    /// At random, by weight.
    Random,
}

/// How long things may take, as in `500ms` or `1m30s`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PolicyTimeouts {
    /// To open a connection to an endpoint; `5s` when left out.
    pub(crate) connect: Option<String>,
    /// For a whole request and response, where the HTTPRoute's rule says nothing; `0s` = no limit, `15s` when left out.
    pub(crate) request: Option<String>,
}
