//! A revision: one committed change of objects, with its author and the objects before and after.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_resources::ObjectId;

/// The operation that made a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RevisionAction {
    /// Objects were applied.
    Apply,
    /// Objects were deleted.
    Delete,
    /// All objects were restored to an earlier revision.
    Rollback {
        /// The restored revision.
        to: u64,
    },
}

/// The metadata of a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionMeta {
    /// The number of the revision; numbers are consecutive.
    pub id: u64,
    /// The time of the commit (RFC 3339).
    #[schemars(with = "String")]
    pub time: jiff::Timestamp,
    /// The name of the token that the change was requested with.
    pub author: String,
    /// The reason for the change, written by its author.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// The operation.
    pub action: RevisionAction,
    /// The number of changed objects.
    pub objects: usize,
}

/// A revision with its changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// Number, time, author and operation.
    #[serde(flatten)]
    pub meta: RevisionMeta,
    /// The changed objects.
    pub changes: Vec<ObjectChange>,
}

/// The change of one object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectChange {
    /// The object.
    pub object: ObjectRef,
    /// The object before the change; absent if it was created.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub before: Option<Arc<Value>>,
    /// The object after the change; absent if it was deleted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<Arc<Value>>,
}

/// The kind, namespace and name of an object, as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectRef {
    /// The kind: `HTTPRoute`.
    pub kind: String,
    /// The namespace; empty for a cluster-scoped kind.
    #[serde(default)]
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl From<&ObjectId> for ObjectRef {
    fn from(id: &ObjectId) -> Self {
        let (kind, namespace, name) = (id.kind.name(), &*id.namespace, &*id.name);
        Self { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl ObjectRef {
    /// Returns the object's id; `None` if the kind is unknown.
    pub fn id(&self) -> Option<ObjectId> {
        ObjectId::new(&self.kind, &self.namespace, &self.name)
    }
}
