//! One object as the API gives it: as it was written, with its status.

use serde_json::{Value, json};
use weir_resources::Kind;

use crate::access::Role;
use crate::api::Caller;
use crate::api::hidden::without_secrets;
use crate::publish::LiveObject;
use crate::status::{ObjectStatus, Seen};

/// An object with its status, as this caller may see it.
pub(crate) fn shown(caller: &Caller, object: &LiveObject, proxies: &Seen) -> Value {
    let written = object.value.as_deref();
    let is_theirs = caller.0.is_for(&object.id.namespace);
    let mut value = match written {
        None => json!({"kind": object.id.kind.name()}),
        // What a Secret holds is for proxies alone.
        Some(written) if object.id.kind == Kind::Secret => without_secrets(written),
        Some(written) if caller.0.role >= Role::Editor && is_theirs => written.clone(),
        Some(written) => without_secrets(written),
    };
    let mut status = json!(ObjectStatus::of(&object.id, object.since, written, proxies));
    status["revision"] = json!(object.revision);
    status["file"] = json!(object.file.as_ref().map(|file| file.display().to_string()));
    status["generation"] = json!(object.since);
    value["status"] = status;
    value
}
