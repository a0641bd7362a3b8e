//! `metadata` of every kind.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// The object's identity, labels and annotations.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Metadata {
    /// The object's name, unique for its kind and namespace.
    pub(crate) name: String,
    /// The object's namespace. Default: `default`.
    pub(crate) namespace: Option<String>,
    /// For users and tools. Filters can read them; they select nothing.
    pub(crate) labels: Option<BTreeMap<String, String>>,
    /// For users and tools. Filters can read them.
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    /// The creation time, as Kubernetes writes it. Of two equally specific matches, that of the older object wins. The
    /// control plane sets it on objects that are applied, and ignores the value of a request.
    pub(crate) creation_timestamp: Option<String>,
    /// The revision that created the object, which decides which one is older, whatever the clock was. Set and ignored
    /// as `creationTimestamp`. Objects with a time alone are older than objects with a revision.
    pub(crate) creation_revision: Option<u64>,
    /// The object's position among those that its revision applied, from 0. Set and ignored as `creationTimestamp`.
    /// Default: 0.
    pub(crate) creation_index: Option<u64>,
}
