//! Warnings: resources that are valid, and very likely not what their author intends. Called by the compiler with a
//! valid set of documents. A warning never rejects a change, because the resources may be part of a larger one.

pub(crate) mod backend_tls;
pub(crate) mod route_policies;
pub(crate) mod routing_targets;
pub(crate) mod cluster_aliases;
pub(crate) mod lookup;

use crate::limits::MAX_WARNINGS;
use crate::resolve::{ObjectIndex, ReferenceErrors, Resolved};

/// Returns the warnings of all documents, at most [`MAX_WARNINGS`].
pub(crate) fn check(objects: &ObjectIndex<'_>, resolved: &Resolved<'_>) -> ReferenceErrors {
    let mut warnings = ReferenceErrors::default();
    route_policies::check(objects, resolved, &mut warnings);
    routing_targets::check(objects, resolved, &mut warnings);
    cluster_aliases::check(objects, &mut warnings);
    backend_tls::check(resolved, &mut warnings);
    warnings.0.truncate(MAX_WARNINGS);
    warnings
}
