//! `metadata` of every kind.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// Which object this is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Metadata {
    /// The object's name, unique for its kind and namespace.
    pub(crate) name: String,
    /// The namespace it is in; `default` when left out.
    pub(crate) namespace: Option<String>,
    /// For people and their tools; nothing is decided by them.
    pub(crate) labels: Option<BTreeMap<String, String>>,
    /// For people and their tools; nothing is decided by them.
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    /// When the object was made, as Kubernetes writes it. Of two equal matches the older object's wins.
    pub(crate) creation_timestamp: Option<String>,
}
