//! The weighted backends of a rule: `backendRefs`, with the filters of each.

use gateway_api::httproutes::HttpRouteRulesBackendRefs;
use weir_model::limits::MAX_TARGETS;
use weir_model::{HeaderModifier, Weight};

use crate::resource::field::is_bounded;
use crate::resource::http_route::backend_ref::{BackendRef, RawBackendRef, check_ref};
use crate::resource::http_route::filters;
use crate::resource::service_entry::check_weight;
use crate::yaml::{FieldErrors, FieldPathRef};

/// A weighted backend of a rule.
#[derive(Debug)]
pub(crate) struct RuleBackend {
    /// The reference.
    pub(crate) reference: BackendRef,
    /// The weight.
    pub(crate) weight: Weight,
    /// Changes to the headers of requests that are forwarded to it.
    pub(crate) request_headers: HeaderModifier,
    /// Changes to the headers of its responses.
    pub(crate) response_headers: HeaderModifier,
}

/// Validates the weighted backends of a rule; `None` if one is invalid.
pub(crate) fn check_backends(
    reference: Vec<HttpRouteRulesBackendRefs>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<Vec<RuleBackend>> {
    if !is_bounded(&reference, MAX_TARGETS, path, errors) {
        return None;
    }
    let mut backends = Vec::with_capacity(reference.len());
    let mut is_whole = true;
    for (index, backend) in reference.into_iter().enumerate() {
        let at = path.entry(index);
        let HttpRouteRulesBackendRefs { filters, group, kind, name, namespace, port, weight } = backend;
        let filters = filters::check_backend(filters.unwrap_or_default(), &at.field("filters"), errors);
        let weight = check_weight(weight.map(i64::from), &at.field("weight"), errors);
        let backend = check_ref(RawBackendRef { group, kind, name, namespace, port }, &at, errors);
        match (backend, weight, filters) {
            (Some(reference), Some(weight), Some((request_headers, response_headers))) => {
                backends.push(RuleBackend { reference, weight, request_headers, response_headers });
            }
            _ => is_whole = false,
        }
    }
    Some(backends).filter(|_| is_whole)
}
