//! `ConfigMap`: texts by key, in Kubernetes' format.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::spec::metadata::Metadata;

/// Texts by key. A BackendTLSPolicy of the same namespace reads the CA certificates in `ca.crt`; other keys are
/// accepted and not used.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "what every document has is read elsewhere")]
pub(crate) struct ConfigMapDocument {
    /// `v1`
    pub(crate) api_version: String,
    /// `ConfigMap`
    pub(crate) kind: String,
    /// The object's identity.
    pub(crate) metadata: Metadata,
    /// The texts. `ca.crt` has CA certificates as PEM.
    pub(crate) data: Option<BTreeMap<String, String>>,
    /// Accepted for compatibility with Kubernetes; ignored.
    pub(crate) binary_data: Option<BTreeMap<String, String>>,
    /// Accepted for compatibility with Kubernetes; ignored.
    pub(crate) immutable: Option<bool>,
}
