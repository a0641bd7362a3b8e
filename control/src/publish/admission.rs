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

/// Sets `metadata.creationTimestamp`: the stored value of an existing object, else the present time.
///
/// Only the control plane sets it, because the older object wins between equal matches (Gateway API). The value of a
/// request is ignored, as in Kubernetes, so that an object that was printed can be applied, also to another mesh.
pub(super) fn set_creation(before: Option<&Value>, after: &mut Value) {
    const FIELD: &str = "creationTimestamp";
    let known = before.and_then(|before| before.get("metadata")?.get(FIELD).cloned());
    let Some(metadata) = after.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let now = || {
        let now = jiff::Timestamp::now();
        json!(now.round(jiff::Unit::Second).unwrap_or(now).to_string())
    };
    metadata.insert(FIELD.to_owned(), known.unwrap_or_else(now));
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
