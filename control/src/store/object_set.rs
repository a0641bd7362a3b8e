//! The stored objects as of one revision.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_resources::ObjectId;

use super::error::StoreError;
use super::revision::{ObjectChange, ObjectRef, Revision, RevisionAction, RevisionMeta};
use super::upgrade::{object_id, upgrade_value};

/// A stored object.
#[derive(Debug, Clone)]
pub struct StoredObject {
    /// The object as it was applied.
    pub value: Arc<Value>,
    /// The last revision that changed it.
    pub revision: u64,
    /// The object as an older release stored it, with former names; `None` if `value` is stored.
    pub(super) former: Option<Arc<Value>>,
}

impl StoredObject {
    /// Reads an object of a revision or a checkpoint, with current names.
    pub(super) fn read(stored: &Arc<Value>, revision: u64) -> Self {
        let value = upgrade_value(stored);
        let former = (!Arc::ptr_eq(&value, stored)).then(|| Arc::clone(stored));
        Self { value, revision, former }
    }
}

/// All stored objects as of one revision.
#[derive(Debug, Clone, Default)]
pub struct ObjectSet {
    /// The last revision, or 0 before the first one.
    pub revision: u64,
    /// The objects by kind, namespace and name.
    pub objects: BTreeMap<ObjectId, StoredObject>,
    /// The value of the store's head: the last revision, and the key of its record. The key differs between two
    /// revisions with one number, which exist after the store was restored from a backup.
    pub(crate) head: Option<Vec<u8>>,
}

/// An object of a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CheckpointObject {
    pub(super) object: ObjectRef,
    pub(super) value: Arc<Value>,
    pub(super) revision: u64,
}

impl ObjectSet {
    /// Applies the changes of the next revision.
    pub fn apply(&mut self, revision: &Revision) -> Result<(), StoreError> {
        for change in &revision.changes {
            let id = object_id(&change.object)?;
            match &change.after {
                Some(value) => drop(self.objects.insert(id, StoredObject::read(value, revision.meta.id))),
                None => drop(self.objects.remove(&id)),
            }
        }
        self.revision = revision.meta.id;
        Ok(())
    }

    /// Returns the next revision, which stores the objects of an older release with current names. `None` if there are
    /// no such objects.
    pub(super) fn upgrade_revision(&self) -> Option<Revision> {
        let change = |(id, stored): (&ObjectId, &StoredObject)| {
            let before = stored.former.clone()?;
            Some(ObjectChange { object: id.into(), before: Some(before), after: Some(Arc::clone(&stored.value)) })
        };
        let changes: Vec<ObjectChange> = self.objects.iter().filter_map(change).collect();
        let meta = RevisionMeta {
            id: self.revision + 1,
            time: jiff::Timestamp::now(),
            author: "weir-control".to_owned(),
            message: Some("objects of an older release, converted to current kinds and fields".to_owned()),
            action: RevisionAction::Apply,
            objects: changes.len(),
        };
        (!changes.is_empty()).then_some(Revision { meta, changes })
    }
}
