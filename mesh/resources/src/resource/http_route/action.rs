//! The action of a rule: forward or redirect, and the fields that exclude each other.

use std::sync::Arc;

use gateway_api::httproutes::HttpRouteRulesTimeouts;
use weir_model::{
    Fraction, GatewayDuration, PathMatch, PathRewrite, Redirect, RetryPolicy, Rewrite, RouteMatch, Timeouts,
};

use crate::resource::field::duration;
use crate::resource::http_route::backend_ref::BackendRef;
use crate::resource::http_route::backends::RuleBackend;
use crate::resource::http_route::filters::RuleFilters;
use crate::yaml::{FieldErrors, FieldPathRef};

/// The action on a matching request.
#[derive(Debug)]
pub(crate) enum RuleAction {
    /// The request is answered with a redirect.
    Redirect(Redirect),
    /// The request is forwarded to a Service.
    Forward {
        /// The weighted backends, at least one.
        backends: Vec<RuleBackend>,
        /// Mirrors: backend, share of requests, and index of the filter.
        mirrors: Vec<(BackendRef, Fraction, usize)>,
        /// The rewrite of host and path.
        rewrite: Rewrite,
        /// The timeouts.
        timeouts: Timeouts,
        /// The retries, for requests with an idempotent method.
        retry: Option<Arc<RetryPolicy>>,
    },
}

/// The parts of a rule that only forwarding uses.
pub(super) struct ActionParts {
    /// The weighted backends.
    pub(super) backends: Vec<RuleBackend>,
    /// The timeouts.
    pub(super) timeouts: Option<Timeouts>,
    /// The retries.
    pub(super) retry: Option<Arc<RetryPolicy>>,
}

/// Validates the combination of the parts of a rule, and returns its action.
pub(super) fn check(
    filters: RuleFilters,
    ActionParts { backends, timeouts, retry }: ActionParts,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<RuleAction> {
    let list = path.field("filters");
    let RuleFilters { redirect, rewrite, mirrors, cors: _, request_headers: _, response_headers: _ } = filters;
    let Some((redirect, _)) = redirect else {
        if backends.is_empty() {
            let hint = "add `backendRefs: [{name: web, port: 80}]`, or a filter of type RequestRedirect";
            errors.add(path, "a rule without `backendRefs`", hint);
            return None;
        }
        let rewrite = rewrite.map(|(rewrite, _)| rewrite).unwrap_or_default();
        let timeouts = timeouts.unwrap_or_default();
        return Some(RuleAction::Forward { backends, mirrors, rewrite, timeouts, retry });
    };
    let reason = "a rule that redirects forwards nothing";
    if !backends.is_empty() {
        errors.add(&path.field("backendRefs"), reason, "remove `backendRefs`, or the RequestRedirect filter");
    }
    if let Some((_, index)) = rewrite {
        errors.add(&list.entry(index), reason, "remove the URLRewrite filter, or the RequestRedirect filter");
    }
    for (_, _, index) in &mirrors {
        errors.add(&list.entry(*index), reason, "remove the RequestMirror filter, or the RequestRedirect filter");
    }
    if timeouts.is_some() {
        errors.add(&path.field("timeouts"), reason, "remove `timeouts`, or the RequestRedirect filter");
    }
    if retry.is_some() {
        errors.add(&path.field("retry"), reason, "remove `retry`, or the RequestRedirect filter");
    }
    Some(RuleAction::Redirect(redirect))
}

/// Checks that a prefix is only replaced where one is matched (Gateway API, `HTTPPathModifier`).
pub(super) fn check_prefixes(
    filters: &RuleFilters,
    matches: &[RouteMatch],
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) {
    let replaces = |rewrite: Option<&PathRewrite>| matches!(rewrite, Some(PathRewrite::Prefix(_)));
    let redirect = filters.redirect.as_ref().filter(|(redirect, _)| replaces(redirect.path.as_ref()));
    let rewrite = filters.rewrite.as_ref().filter(|(rewrite, _)| replaces(rewrite.path.as_ref()));
    let found =
        [redirect.map(|(_, index)| (*index, "requestRedirect")), rewrite.map(|(_, index)| (*index, "urlRewrite"))];
    if matches.iter().all(|one| matches!(one.path, PathMatch::Prefix(_))) {
        return;
    }
    for (index, field) in found.into_iter().flatten() {
        let list = path.field("filters");
        let filter = list.entry(index);
        let filter = filter.field(field);
        let at = filter.field("path");
        let hint = "use ReplaceFullPath, or match with PathPrefix alone in this rule";
        errors.add(&at.field("type"), "a match of this rule has no prefix to replace", hint);
    }
}

/// Validates the timeouts of a rule.
pub(super) fn check_timeouts(
    reference: HttpRouteRulesTimeouts,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<Timeouts> {
    let HttpRouteRulesTimeouts { backend_request, request } = reference;
    let request_at = path.field("request");
    let backend_at = path.field("backendRequest");
    let request = match request {
        None => Some(None),
        Some(text) => duration(&text, &request_at, errors).map(Some),
    };
    let backend_request = match backend_request {
        None => Some(None),
        Some(text) => duration(&text, &backend_at, errors).map(Some),
    };
    let (request, backend_request) = (request?, backend_request?);
    if let (Some(whole), Some(attempt)) = (request, backend_request)
        && !whole.is_zero()
        && attempt > whole
    {
        let reason =
            format!("{} is longer than the whole request's {}", GatewayDuration(attempt), GatewayDuration(whole));
        errors.add(&backend_at, reason, "make it at most as long as `request`");
        return None;
    }
    // `0s` disables a timeout (GEP-1742). For a single attempt that equals a missing value.
    let backend_request = backend_request.filter(|timeout| !timeout.is_zero());
    Some(Timeouts { request, backend_request, ..Timeouts::default() })
}
