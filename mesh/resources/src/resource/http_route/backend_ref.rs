//! References of routes to Services: `backendRefs` and the `backendRef` of mirrors.

use crate::resource::field::port;
use crate::resource::service_ref::{CORE_SERVICE, SERVICE_ENTRY, is_service, renamed_service_hint, service_group};
use crate::spec::WEIR_GROUP;
use crate::suggest::quoted;
use crate::yaml::{FieldErrors, FieldPathRef};

/// A validated reference to a port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BackendRef {
    /// The Service's namespace; `None` for the route's own.
    pub(crate) namespace: Option<String>,
    /// The Service's name.
    pub(crate) name: String,
    /// The port.
    pub(crate) port: u16,
}

/// A reference as written. The Gateway API types differ by location.
pub(super) struct RawBackendRef {
    pub(super) group: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    pub(super) port: Option<i32>,
}

/// Validates a reference to a Service.
pub(super) fn check_ref(
    reference: RawBackendRef,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<BackendRef> {
    let RawBackendRef { group, kind, name, namespace, port: number } = reference;
    let (group, kind) = (group.unwrap_or_default(), kind.as_deref().unwrap_or(CORE_SERVICE));
    if let Some(hint) = renamed_service_hint(&group, kind) {
        errors.add(&path.field("kind"), format!("no kind {} in group `{WEIR_GROUP}`", quoted(kind)), hint);
    } else if !matches!(kind, CORE_SERVICE | SERVICE_ENTRY) {
        errors.add(&path.field("kind"), format!("requests are not forwarded to {}", quoted(kind)), "write `Service`");
    } else if !is_service(&group, kind) {
        let hint = match service_group(kind) {
            "" => "leave it out".to_owned(),
            group => format!("write `group: {group}`"),
        };
        errors.add(&path.field("group"), format!("{} is not the group of {kind}", quoted(&group)), hint);
    }
    let Some(number) = number else {
        errors.add(&path.field("port"), "missing", "add `port`: one of the Service's");
        return None;
    };
    let port = port(number.into(), &path.field("port"), errors)?;
    Some(BackendRef { namespace, name, port })
}
