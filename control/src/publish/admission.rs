//! Admission rules for every change: permissions of the token, and metadata that the control plane sets on stored
//! objects.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use weir_model::{ModuleSource, Rejection, ResourceId, ResourceKind};
use weir_resources::{Compiled, ObjectId};

use crate::publish::change::{ChangeRequest, STORED};
use crate::publish::error::ChangeError;
use crate::snapshot_cache::EncodeError;
use crate::store::{ObjectChange, ObjectRef};

/// Checks that a token may change these objects. A token with namespaces may change objects of these namespaces only,
/// and no Filter or AuthorizationPolicy that applies to the whole mesh.
pub(super) fn check_permitted(changes: &[ObjectChange], request: &ChangeRequest) -> Result<(), ChangeError> {
    let Some(namespaces) = &request.namespaces else { return Ok(()) };
    let allowed = namespaces.join(", ");
    for ObjectChange { object, before, after } in changes {
        let ObjectRef { kind, namespace, name } = object;
        if !namespaces.contains(namespace) {
            let reason = format!("the token may change objects of {allowed} only, not {kind} {namespace}/{name}");
            return Err(ChangeError::Forbidden(reason));
        }
        let is_for_all = |value: &Arc<Value>| value.pointer("/spec/targetRefs").is_none_or(Value::is_null);
        if ["Filter", "AuthorizationPolicy"].contains(&kind.as_str()) && before.iter().chain(after).any(is_for_all) {
            let reason = format!(
                "{kind} {namespace}/{name} has no `targetRefs`: it is for the whole mesh, and the token \
                                  is for {allowed} only"
            );
            return Err(ChangeError::Forbidden(reason));
        }
    }
    Ok(())
}

/// Writes the namespace into an object, so that the stored text is complete on its own.
pub(super) fn set_namespace(id: &ObjectId, value: &mut Value) {
    if !id.namespace.is_empty()
        && let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.entry("namespace").or_insert_with(|| json!(&*id.namespace));
    }
}

/// The place of an object in the order of creation.
#[derive(Debug, Clone, Copy)]
pub(super) struct CreationOrder {
    /// The revision that creates it.
    pub(super) revision: u64,
    /// The position among the objects of its request, from 0.
    pub(super) index: usize,
}

/// Sets `metadata.creationTimestamp`, `creationRevision` and `creationIndex`: the stored values of an existing object,
/// else the present time and `order`. An object that an older release created has no revision.
///
/// Only the control plane sets them, because the older object wins between equal matches (Gateway API). A time alone
/// would not decide: two objects may have one second, and the clock may be set back. The values of a request are
/// ignored, as in Kubernetes, so that an object that was printed can be applied, also to another mesh.
pub(super) fn set_creation(before: Option<&Value>, after: &mut Value, order: CreationOrder) {
    const TIME: &str = "creationTimestamp";
    let known = |field: &str| before.and_then(|before| before.get("metadata")?.get(field).cloned());
    let Some(metadata) = after.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let now = || {
        let now = jiff::Timestamp::now();
        json!(now.round(jiff::Unit::Second).unwrap_or(now).to_string())
    };
    metadata.insert(TIME.to_owned(), known(TIME).unwrap_or_else(now));
    for (field, new) in [("creationRevision", json!(order.revision)), ("creationIndex", json!(order.index))] {
        match if before.is_some() { known(field) } else { Some(new) } {
            Some(value) => drop(metadata.insert(field.to_owned(), value)),
            None => drop(metadata.remove(field)),
        }
    }
}

/// Rejects stored Filters that name a module file. A stored Filter has no folder that the path could be relative to,
/// and the API must not read files of this machine.
pub(super) fn check_modules(compiled: &Compiled) -> Result<(), EncodeError> {
    let stored: Vec<_> =
        compiled.objects().filter(|(_, path, _)| *path == Path::new(STORED)).map(|object| object.0).collect();
    let plugins = compiled.snapshot.plugins.values();
    let is_bad = |plugin: &&Arc<weir_model::Plugin>| {
        let name = plugin.name.as_str().split_once('/').unwrap_or_default();
        let is_stored = stored.iter().any(|id| id.kind.name() == "Filter" && (&*id.namespace, &*id.name) == name);
        is_stored && matches!(plugin.module, ModuleSource::File(_))
    };
    let rejections: Vec<_> = plugins
        .filter(is_bad)
        .map(|plugin| Rejection {
            resource: ResourceId { kind: ResourceKind::Plugin, name: plugin.name.to_string() },
            field: "module".to_owned(),
            reason: "a Filter in the control plane has no folder that a file could be in".to_owned(),
            hint: "push the module with `weir bundle push` and use `bundle`, or put both into the folder of --config"
                .to_owned(),
        })
        .collect();
    if rejections.is_empty() { Ok(()) } else { Err(EncodeError::Rejected(rejections)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creation_is_set_once_and_values_of_requests_are_ignored() {
        let requested = json!({"metadata": {"name": "a", "creationTimestamp": "1970-01-01T00:00:00Z",
            "creationRevision": 1, "creationIndex": 1}});
        let mut created = requested.clone();
        set_creation(None, &mut created, CreationOrder { revision: 7, index: 2 });
        let order = |object: &Value| {
            (object["metadata"]["creationRevision"].as_u64(), object["metadata"]["creationIndex"].as_u64())
        };
        assert_eq!(order(&created), (Some(7), Some(2)));
        assert_ne!(created["metadata"]["creationTimestamp"], requested["metadata"]["creationTimestamp"]);
        let mut updated = requested.clone();
        set_creation(Some(&created), &mut updated, CreationOrder { revision: 9, index: 0 });
        assert_eq!(updated, created);
        // An older release has stored no revision.
        let old = json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}});
        let mut updated = requested;
        set_creation(Some(&old), &mut updated, CreationOrder { revision: 9, index: 0 });
        assert_eq!(updated, old);
    }
}
