//! Conversion of objects that an older release stored, with former kinds, fields or values.
//!
//! Revisions and checkpoints are not rewritten. Each object is converted when it is read. The first start commits the
//! converted objects as a revision, so the history shows the conversion and later reads find current names.

use std::sync::Arc;

use serde_json::Value;
use weir_resources::{ObjectId, upgrade_kind, upgrade_object};

use super::error::StoreError;
use super::revision::{ObjectChange, ObjectRef};

/// Returns the id of a stored object, by its current kind.
///
/// # Errors
/// The kind is unknown.
pub(super) fn object_id(object: &ObjectRef) -> Result<ObjectId, StoreError> {
    let unknown =
        || StoreError::Damaged(format!("there is no kind `{}`; was it written by a newer weir?", object.kind));
    upgrade_ref(object.clone()).id().ok_or_else(unknown)
}

/// Returns the object with current names. An object that has them already is not copied.
pub(super) fn upgrade_value(value: &Arc<Value>) -> Arc<Value> {
    let current = upgrade_object((**value).clone());
    if current == **value { Arc::clone(value) } else { Arc::new(current) }
}

/// Converts the object of a stored change, before and after.
pub(crate) fn upgrade_change(change: ObjectChange) -> ObjectChange {
    ObjectChange {
        object: upgrade_ref(change.object),
        before: change.before.as_ref().map(upgrade_value),
        after: change.after.as_ref().map(upgrade_value),
    }
}

fn upgrade_ref(mut object: ObjectRef) -> ObjectRef {
    object.kind = upgrade_kind(&object.kind).to_owned();
    object
}
