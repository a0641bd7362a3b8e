//! `AccessPolicy`: who may do what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::written::TargetRef;

/// Who may do what: compiled to the `auth` filter, which stands before the filters of the phase `Authz`. A request passes
/// when each policy that is for it lets it pass. A deny rule that matches refuses; when there are allow rules, one of them
/// must match; when there are credentials, the request must show a right one, or match an anonymous allow rule.
/// `plugins/auth/README.md` says how requests that can be read in two ways are judged.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AccessPolicySpec {
    /// What it is for, in its own namespace: a Gateway (all its requests), an HTTPRoute (the requests that it matches), a
    /// Service (the requests of every rule, in any namespace, that forwards to it or mirrors to it); the whole mesh when
    /// left out.
    pub(crate) target_refs: Option<Vec<TargetRef>>,
    /// What becomes of a request that it refuses; `Enforce` when left out.
    pub(crate) mode: Option<PolicyMode>,
    /// How requests prove who they are, beside the connection that they come on; nobody is asked when left out.
    pub(crate) credentials: Option<CredentialsSpec>,
    /// What is allowed and denied.
    pub(crate) rules: Option<Vec<AccessRule>>,
}

/// What becomes of a request that a policy refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum PolicyMode {
    /// It is refused, with 401 or 403.
    Enforce,
    /// It passes; `auth_shadow` in the access log and `filter_custom_auth_shadow_refused_total` say that it would not have.
    Shadow,
}

/// How requests prove who they are. Each field is as the `auth` filter has it.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CredentialsSpec {
    /// Shown to those who show none; `weir` when left out.
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

/// One rule. It matches when all of its fields do.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AccessRule {
    /// Stands in the answer and in the log: `a-z`, `0-9` and `-`.
    pub(crate) name: String,
    /// What it does.
    pub(crate) action: AccessAction,
    /// Of an allow rule: no credential is needed; false when left out.
    pub(crate) anonymous: Option<bool>,
    /// Any of these workloads has proved itself by mutual TLS; nobody has to when left out.
    pub(crate) workloads: Option<Vec<WorkloadRef>>,
    /// The connection comes from an address in any of these networks, like `10.0.0.0/8`; from anywhere when left out.
    pub(crate) networks: Option<Vec<String>>,
    /// Any of these consumers: who holds the API key, the user, the token's `sub`; everybody when left out.
    pub(crate) consumers: Option<Vec<String>>,
    /// A token of any of these issuers.
    pub(crate) issuers: Option<Vec<String>>,
    /// A token with all of these claims.
    pub(crate) claims: Option<Vec<ClaimSpec>>,
    /// Any of these methods, like `GET`; every one when left out.
    pub(crate) methods: Option<Vec<String>>,
    /// Any of these paths; every one when left out.
    pub(crate) paths: Option<Vec<PathSpec>>,
    /// All of these headers.
    pub(crate) headers: Option<Vec<HeaderSpec>>,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum AccessAction {
    /// Lets requests pass; when there is such a rule, what none of them matches is refused.
    Allow,
    /// Refuses requests, whatever is allowed.
    Deny,
}

/// A workload of the mesh.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WorkloadRef {
    /// Its namespace; the policy's own when left out.
    pub(crate) namespace: Option<String>,
    /// Its service account; every one of the namespace when left out.
    pub(crate) service_account: Option<String>,
}

/// A claim of a token; exactly one of the fields beside its name.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClaimSpec {
    /// Its name, with dots for claims in claims.
    pub(crate) claim: String,
    /// It is this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exact: Option<String>,
    /// It is one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) one_of: Option<Vec<String>>,
    /// It is a list with this element, or a text with this word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) contains: Option<String>,
    /// It is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) present: Option<bool>,
}

/// A path; exactly one of the fields.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PathSpec {
    /// This path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exact: Option<String>,
    /// This path, and what is below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefix: Option<String>,
}

/// A header; exactly one of the fields beside its name.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HeaderSpec {
    /// Its name.
    pub(crate) name: String,
    /// Its value is this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exact: Option<String>,
    /// Its value begins with this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefix: Option<String>,
    /// It is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) present: Option<bool>,
}
