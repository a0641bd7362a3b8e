//! `AuthorizationPolicy`: rules that allow and deny requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rules that allow and deny requests. A policy compiles to the `auth` filter, which runs before the Filters of the
/// phase `Authz`. A request passes when each policy that applies to it allows it. A matching deny rule rejects the
/// request. If the policy has allow rules, one of them must match. If the policy has credentials, the request must
/// present a valid credential, or match an anonymous allow rule. `plugins/auth/README.md` describes the decision for
/// ambiguous requests.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AuthorizationPolicySpec {
    /// The policy's targets, in its own namespace: a Gateway (all its requests), an HTTPRoute (the requests that it
    /// matches), or a Service (the requests of every rule, in any namespace, that forwards or mirrors to it). Default:
    /// the whole mesh. To guard paths of a Service, target the Service or the Gateway: a spelling like `/admin;x` may take
    /// another HTTPRoute to the same Service, without the policy of the HTTPRoute for `/admin`.
    pub(crate) target_refs: Option<Vec<AuthorizationTargetRef>>,
    /// The effect on a request that the policy rejects. Default: `Enforce`.
    pub(crate) mode: Option<PolicyMode>,
    /// The credentials that requests must present, in addition to the identity of the connection. A `secretRef` in place
    /// of a text stands for a value of a Secret. Default: none.
    pub(crate) credentials: Option<CredentialsSpec>,
    /// The rules.
    pub(crate) rules: Option<Vec<AuthorizationRule>>,
}

/// A target of an AuthorizationPolicy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AuthorizationTargetRef {
    /// The group of the kind. Default: the kind's own.
    pub(crate) group: Option<String>,
    /// `Gateway` (all its requests), `HTTPRoute` or `GRPCRoute` (the requests that it matches) or `Service` (the requests forwarded or
    /// mirrored to it).
    pub(crate) kind: String,
    /// The object's name.
    pub(crate) name: String,
}

/// The effect on a request that a policy rejects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum PolicyMode {
    /// The request is rejected with 401 or 403.
    Enforce,
    /// The request passes. The access log field `auth_dry_run` and the metric
    /// `weir_filter_custom_auth_dry_run_denied_total` record that the policy would reject it.
    DryRun,
}

/// The credentials that requests must present. Each field has the format of the `auth` filter. `{secretRef: {name: NAME,
/// key: KEY}}` at any depth stands for a value of a Secret in the policy's namespace.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CredentialsSpec {
    /// The realm of the `WWW-Authenticate` header in a 401 response. Default: `weir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) realm: Option<String>,
    /// JSON Web Tokens: `providers`, `header`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jwt: Option<serde_json::Map<String, serde_json::Value>>,
    /// API keys: `keys`, `header`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) api_keys: Option<serde_json::Map<String, serde_json::Value>>,
    /// HTTP basic: `users`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) basic: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A rule. It matches a request when all of its fields match.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AuthorizationRule {
    /// The rule's name in the response and in the log: `a-z`, `0-9` and `-`.
    pub(crate) name: String,
    /// The rule's effect.
    pub(crate) action: AuthorizationAction,
    /// In an allow rule: no credential is required. Default: false.
    pub(crate) anonymous: Option<bool>,
    /// Workloads of the mesh, proved by mutual TLS; one must match. Default: any peer, also an unauthenticated one.
    pub(crate) principals: Option<Vec<Principal>>,
    /// Networks like `10.0.0.0/8`; the connection's source address must be in one of them. Default: any address.
    pub(crate) ip_blocks: Option<Vec<String>>,
    /// Consumers: the owner of the API key, the user name, or the token's `sub`; one must match. Default: any consumer.
    pub(crate) consumers: Option<Vec<String>>,
    /// Token issuers; one must match.
    pub(crate) issuers: Option<Vec<String>>,
    /// Token claims; all must match.
    pub(crate) claims: Option<Vec<ClaimSpec>>,
    /// Methods, like `GET`; one must match. Default: any method.
    pub(crate) methods: Option<Vec<String>>,
    /// Paths; one must match. Default: any path.
    pub(crate) paths: Option<Vec<PathSpec>>,
    /// Headers; all must match.
    pub(crate) headers: Option<Vec<HeaderSpec>>,
}

/// The effect of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum AuthorizationAction {
    /// Allows matching requests. If a policy has such a rule, a request that matches none of them is rejected.
    Allow,
    /// Rejects matching requests, also those that another rule allows.
    Deny,
}

/// A workload of the mesh.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Principal {
    /// The workload's namespace. Default: the policy's own.
    pub(crate) namespace: Option<String>,
    /// The workload's service account. Default: any account of the namespace.
    pub(crate) service_account: Option<String>,
}

/// A claim of a token: its name, and exactly one of the other fields.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClaimSpec {
    /// The claim's name; dots separate nested claims.
    pub(crate) claim: String,
    /// The claim has this value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exact: Option<String>,
    /// The claim has one of these values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) one_of: Option<Vec<String>>,
    /// The claim is a list with this element, or a text with this word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) contains: Option<String>,
    /// The claim is present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) present: Option<bool>,
}

/// A path: exactly one of the fields.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PathSpec {
    /// The whole path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exact: Option<String>,
    /// A path prefix: the path itself and all paths below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefix: Option<String>,
}

/// A header: its name, and exactly one of the other fields.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HeaderSpec {
    /// The header's name.
    pub(crate) name: String,
    /// The header has this value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exact: Option<String>,
    /// The header's value starts with this text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefix: Option<String>,
    /// The header is present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) present: Option<bool>,
}
