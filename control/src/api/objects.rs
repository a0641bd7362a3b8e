//! One object as the API gives it: as it was written, with its status.

use serde_json::{Value, json};

use crate::access::Role;
use crate::api::hidden::without_secrets;
use crate::api::{Api, Caller};
use crate::publish::LiveObject;
use crate::status::{ObjectStatus, ProxyEntry};

/// An object with its status, as this caller may see it.
pub(crate) fn shown(api: &Api, caller: &Caller, object: &LiveObject, proxies: &[ProxyEntry]) -> Value {
    let written = object.value.as_deref();
    let mut value = match written {
        None => json!({"kind": object.id.kind.name()}),
        Some(written) if caller.0.role >= Role::Editor => written.clone(),
        Some(written) => without_secrets(written),
    };
    let mut status = json!(ObjectStatus::of(&object.id, object.since, proxies, &api.board));
    status["revision"] = json!(object.revision);
    status["file"] = json!(object.file.as_ref().map(|file| file.display().to_string()));
    status["generation"] = json!(object.since);
    value["status"] = status;
    value
}
