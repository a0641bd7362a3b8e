//! Warnings about BackendTLSPolicies with targets to which another one applies.

use crate::resolve::backend_tls::OverriddenTarget;
use crate::resolve::{ReferenceErrors, Resolved};
use crate::suggest::quoted;
use crate::yaml::FieldPathRef;

/// Adds a warning for each target of a policy to which an older policy applies.
pub(crate) fn check(resolved: &Resolved<'_>, warnings: &mut ReferenceErrors) {
    let root = FieldPathRef::ROOT;
    let spec = root.field("spec");
    let list = spec.field("targetRefs");
    for OverriddenTarget { document, target, by } in &resolved.backend_tls.overridden {
        let reason = format!("not applied: {} is older, or precedes it by name", quoted(&by.to_string()));
        warnings.add(*document, &list.entry(*target), reason, "remove this target, or the other policy");
    }
}
