//! A revision: one change of the objects that were applied, with who made it and what was there before.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_resources::ObjectId;

/// What a revision did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Objects were applied.
    Apply,
    /// Objects were deleted.
    Delete,
    /// Everything became as it was after an earlier revision.
    Rollback {
        /// That revision.
        to: u64,
    },
}

/// Who made a revision, when, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionHead {
    /// Its number; each is one more than the one before.
    pub id: u64,
    /// When it was made (RFC 3339).
    #[schemars(with = "String")]
    pub time: jiff::Timestamp,
    /// The name of the token that made it.
    pub author: String,
    /// Why, as the author says.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// What it did.
    pub action: Action,
    /// How many objects it changed.
    pub objects: usize,
}

/// A revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// Who, when and why.
    #[serde(flatten)]
    pub head: RevisionHead,
    /// What it changed.
    pub changes: Vec<ObjectChange>,
}

/// What became of one object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectChange {
    /// Which object.
    pub object: ObjectName,
    /// What it said before; nothing when it is new.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub before: Option<Arc<Value>>,
    /// What it says from then on; nothing when it is gone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<Arc<Value>>,
}

/// Which object, in words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectName {
    /// Its kind: `HTTPRoute`.
    pub kind: String,
    /// Its namespace; empty for a kind without.
    #[serde(default)]
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl From<&ObjectId> for ObjectName {
    fn from(id: &ObjectId) -> Self {
        let (kind, namespace, name) = (id.kind.name(), &*id.namespace, &*id.name);
        Self { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl ObjectName {
    /// The object; `None` when there is no such kind.
    pub fn id(&self) -> Option<ObjectId> {
        ObjectId::new(&self.kind, &self.namespace, &self.name)
    }
}
