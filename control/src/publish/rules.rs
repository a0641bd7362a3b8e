//! What holds for every change, whatever it says: who may change what, and what an object gets that is kept.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use weir_model::{ModuleSource, Rejection, ResourceId, ResourceKind};
use weir_resources::{Compiled, ObjectId, Refusal};

use crate::board::NotTold;
use crate::publish::{Refused, Request, STORED};
use crate::store::{ObjectChange, ObjectName};

/// What a token may change: objects of its namespaces, and none of them a Filter or AccessPolicy for the whole mesh.
pub(super) fn check_permitted(changes: &[ObjectChange], request: &Request) -> Result<(), Refused> {
    let Some(namespaces) = &request.namespaces else { return Ok(()) };
    let allowed = namespaces.join(", ");
    for ObjectChange { object, before, after } in changes {
        let ObjectName { kind, namespace, name } = object;
        if !namespaces.contains(namespace) {
            let reason = format!("the token may change objects of {allowed} only, not {kind} {namespace}/{name}");
            return Err(Refused::Forbidden(reason));
        }
        let is_for_all = |value: &Arc<Value>| value.pointer("/spec/targetRefs").is_none_or(Value::is_null);
        if ["Filter", "AccessPolicy"].contains(&kind.as_str()) && before.iter().chain(after).any(is_for_all) {
            let reason = format!(
                "{kind} {namespace}/{name} has no `targetRefs`: it is for the whole mesh, and the token \
                                  is for {allowed} only"
            );
            return Err(Refused::Forbidden(reason));
        }
    }
    Ok(())
}

/// What is stored says its namespace, so that it means the same wherever it is read.
pub(super) fn set_namespace(id: &ObjectId, value: &mut Value) {
    if !id.namespace.is_empty()
        && let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.entry("namespace").or_insert_with(|| json!(&*id.namespace));
    }
}

/// When an object was made decides between equal matches (Gateway API), so that nobody but us says it, and it is kept when
/// the object changes.
pub(super) fn set_creation(id: &ObjectId, before: Option<&Value>, after: &mut Value) -> Result<(), Refused> {
    const FIELD: &str = "creationTimestamp";
    let known = before.and_then(|before| before.get("metadata")?.get(FIELD).cloned());
    let Some(metadata) = after.get_mut("metadata").and_then(Value::as_object_mut) else { return Ok(()) };
    if metadata.get(FIELD).is_some_and(|given| known.as_ref() != Some(given)) {
        return Err(Refused::Invalid(vec![Refusal {
            object: Some(id.to_string()),
            field: format!("metadata.{FIELD}"),
            ..Refusal::unplaced("the control plane says when an object was made", "remove it")
        }]));
    }
    let now = || {
        let now = jiff::Timestamp::now();
        json!(now.round(jiff::Unit::Second).unwrap_or(now).to_string())
    };
    metadata.insert(FIELD.to_owned(), known.unwrap_or_else(now));
    Ok(())
}

/// A stored Filter has no folder that a file could be beside, and the API must not read this machine's files.
pub(super) fn check_modules(compiled: &Compiled) -> Result<(), NotTold> {
    let stored: Vec<_> = compiled.objects().filter(|(_, path, _)| *path == Path::new(STORED)).map(|it| it.0).collect();
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
            hint: "push the module with `weir plugin push` and use `bundle`, or put both into the folder of --config"
                .to_owned(),
        })
        .collect();
    if rejections.is_empty() { Ok(()) } else { Err(NotTold::Rejected(rejections)) }
}
