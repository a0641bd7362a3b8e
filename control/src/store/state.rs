//! All objects after a revision.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_resources::ObjectId;

use super::StoreError;
use super::revision::{ObjectName, Revision};

/// An object as it is kept.
#[derive(Debug, Clone)]
pub struct StoredObject {
    /// What it says.
    pub value: Arc<Value>,
    /// The revision that changed it last.
    pub revision: u64,
}

/// All objects, after a revision.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The last revision; 0 when there was none.
    pub revision: u64,
    /// The objects.
    pub objects: BTreeMap<ObjectId, StoredObject>,
    /// What the store's head says then: the revision, and which of several that may have had its number.
    pub(crate) head: Option<Vec<u8>>,
}

/// An object in a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CheckpointObject {
    pub(super) object: ObjectName,
    pub(super) value: Arc<Value>,
    pub(super) revision: u64,
}

impl State {
    /// What a revision changes.
    pub fn apply(&mut self, revision: &Revision) -> Result<(), StoreError> {
        for change in &revision.changes {
            let id = id_of(&change.object)?;
            match &change.after {
                Some(value) => {
                    let stored = StoredObject { value: Arc::clone(value), revision: revision.head.id };
                    self.objects.insert(id, stored);
                }
                None => drop(self.objects.remove(&id)),
            }
        }
        self.revision = revision.head.id;
        Ok(())
    }
}

pub(super) fn id_of(name: &ObjectName) -> Result<ObjectId, StoreError> {
    let unknown = || StoreError::Damaged(format!("there is no kind `{}`; was it written by a newer weir?", name.kind));
    name.id().ok_or_else(unknown)
}
