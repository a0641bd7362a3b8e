//! Group and kind of references to Services. A reference to the core `Service` (group empty) and a reference to a
//! `ServiceEntry` (group `weir.dev`) resolve to the same object, the ServiceEntry of that name.

use crate::schema::renamed::renamed_hint;
use crate::spec::{Kind, WEIR_GROUP};

/// The kind of core Services.
pub(crate) const CORE_SERVICE: &str = "Service";

/// The kind of ServiceEntries.
pub(crate) const SERVICE_ENTRY: &str = Kind::ServiceEntry.name();

/// Returns true if group and kind refer to a core Service or a ServiceEntry.
pub(crate) fn is_service(group: &str, kind: &str) -> bool {
    matches!(kind, CORE_SERVICE | SERVICE_ENTRY) && group == service_group(kind)
}

/// Returns the group of a kind of Service.
pub(crate) fn service_group(kind: &str) -> &'static str {
    if kind == SERVICE_ENTRY { WEIR_GROUP } else { "" }
}

/// Returns the hint for a reference by the former kind `Service` of the group `weir.dev`; `None` for another reference.
pub(crate) fn renamed_service_hint(group: &str, kind: &str) -> Option<String> {
    (group == WEIR_GROUP && kind == CORE_SERVICE).then(|| renamed_hint(CORE_SERVICE, SERVICE_ENTRY))
}
