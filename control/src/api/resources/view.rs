//! The view of one object: the object as it was written, with its status.

use serde_json::{Value, json};
use weir_resources::Kind;

use crate::access::{Role, redact};
use crate::api::state::Principal;
use crate::publish::PublishedObject;
use crate::status::{ObjectStatus, StatusInputs};

/// Returns an object with its status. Secrets are redacted unless the principal may change the object.
pub(crate) fn to_view(principal: &Principal, object: &PublishedObject, inputs: &StatusInputs) -> Value {
    let Principal(token) = principal;
    let written = object.value.as_deref();
    let may_change = token.role >= Role::Editor && token.allows_namespace(&object.id.namespace);
    let mut value = match written {
        None => json!({"kind": object.id.kind.name()}),
        // The content of a Secret is for proxies only.
        Some(written) if object.id.kind == Kind::Secret => redact(written),
        Some(written) if may_change => written.clone(),
        Some(written) => redact(written),
    };
    let mut status = ObjectStatus::new(&object.id, object.since_generation, written, inputs);
    status.warnings.extend_from_slice(&object.warnings);
    let mut status = json!(status);
    status["revision"] = json!(object.revision);
    status["file"] = json!(object.file.as_ref().map(|file| file.display().to_string()));
    status["generation"] = json!(object.since_generation);
    value["status"] = status;
    value
}
