//! What becomes of a rule's requests: exactly one of forwarding and redirecting, and what cannot go together.

use gateway_api::httproutes::{HttpRouteRulesBackendRefs, HttpRouteRulesTimeouts};
use weir_model::limits::MAX_TARGETS;
use weir_model::{HumanDuration, PathMatch, PathRewrite, RouteMatch, Timeouts, Weight};

use crate::document::{Faults, Path};
use crate::resource::field::{duration, is_bounded, port};
use crate::resource::grants::is_service;
use crate::resource::http_route::filters::RuleFilters;
use crate::resource::http_route::{BackendRef, RuleAction};
use crate::resource::service::check_weight;
use crate::suggest::quoted;
use crate::written::Kind;

/// Decides what becomes of a rule's requests.
pub(super) fn check(
    filters: RuleFilters,
    backends: Vec<(BackendRef, Weight)>,
    timeouts: Option<Timeouts>,
    path: &Path<'_>,
    faults: &mut Faults,
) -> Option<RuleAction> {
    let list = path.field("filters");
    let RuleFilters { redirect, rewrite, mirrors, request_headers: _, response_headers: _ } = filters;
    let Some((redirect, _)) = redirect else {
        if backends.is_empty() {
            let hint = "add `backendRefs: [{name: web, port: 80}]`, or a filter of type RequestRedirect";
            faults.add(path, "a rule without `backendRefs`", hint);
            return None;
        }
        let rewrite = rewrite.map(|(rewrite, _)| rewrite).unwrap_or_default();
        let timeouts = timeouts.unwrap_or(Timeouts { request: None, backend_request: None });
        return Some(RuleAction::Forward { backends, mirrors, rewrite, timeouts });
    };
    let reason = "a rule that redirects forwards nothing";
    if !backends.is_empty() {
        faults.add(&path.field("backendRefs"), reason, "remove `backendRefs`, or the RequestRedirect filter");
    }
    if let Some((_, index)) = rewrite {
        faults.add(&list.entry(index), reason, "remove the URLRewrite filter, or the RequestRedirect filter");
    }
    for (_, _, index) in &mirrors {
        faults.add(&list.entry(*index), reason, "remove the RequestMirror filter, or the RequestRedirect filter");
    }
    if timeouts.is_some() {
        faults.add(&path.field("timeouts"), reason, "remove `timeouts`, or the RequestRedirect filter");
    }
    Some(RuleAction::Redirect(redirect))
}

/// A prefix can be replaced only where a prefix is matched (Gateway API, `HTTPPathModifier`).
pub(super) fn check_prefixes(filters: &RuleFilters, matches: &[RouteMatch], path: &Path<'_>, faults: &mut Faults) {
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
        faults.add(&at.field("type"), "a match of this rule has no prefix to replace", hint);
    }
}

/// A reference to a Service as it was written; upstream has a type for each place.
pub(super) struct WrittenRef {
    pub(super) group: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    pub(super) port: Option<i32>,
}

/// Checks a reference to a Service.
pub(super) fn check_ref(written: WrittenRef, path: &Path<'_>, faults: &mut Faults) -> Option<BackendRef> {
    let WrittenRef { group, kind, name, namespace, port: number } = written;
    let (group, kind) = (group.unwrap_or_default(), kind.as_deref().unwrap_or(Kind::Service.name()));
    if kind != Kind::Service.name() {
        faults.add(&path.field("kind"), format!("requests are not forwarded to {}", quoted(kind)), "write `Service`");
    } else if !is_service(&group, kind) {
        let hint = "write `weir.dev`, or leave it out";
        faults.add(&path.field("group"), format!("{} is not the group of Service", quoted(&group)), hint);
    }
    let Some(number) = number else {
        faults.add(&path.field("port"), "missing", "add `port`: one of the Service's");
        return None;
    };
    let port = port(number.into(), &path.field("port"), faults)?;
    Some(BackendRef { namespace, name, port })
}

/// Checks the Services that a rule forwards to.
pub(crate) fn check_backends(
    written: Vec<HttpRouteRulesBackendRefs>,
    path: &Path<'_>,
    faults: &mut Faults,
) -> Option<Vec<(BackendRef, Weight)>> {
    if !is_bounded(&written, MAX_TARGETS, path, faults) {
        return None;
    }
    let mut backends = Vec::with_capacity(written.len());
    let mut is_whole = true;
    for (index, backend) in written.into_iter().enumerate() {
        let at = path.entry(index);
        let HttpRouteRulesBackendRefs { filters: _, group, kind, name, namespace, port, weight } = backend;
        let weight = check_weight(weight.map(i64::from), &at.field("weight"), faults);
        let backend = check_ref(WrittenRef { group, kind, name, namespace, port }, &at, faults);
        match (backend, weight) {
            (Some(backend), Some(weight)) => backends.push((backend, weight)),
            _ => is_whole = false,
        }
    }
    Some(backends).filter(|_| is_whole)
}

/// Checks how long a rule's requests may take.
pub(super) fn check_timeouts(
    written: HttpRouteRulesTimeouts,
    path: &Path<'_>,
    faults: &mut Faults,
) -> Option<Timeouts> {
    let HttpRouteRulesTimeouts { backend_request, request } = written;
    let request_at = path.field("request");
    let backend_at = path.field("backendRequest");
    let request = match request {
        None => Some(None),
        Some(text) => duration(&text, &request_at, faults).map(Some),
    };
    let backend_request = match backend_request {
        None => Some(None),
        Some(text) => duration(&text, &backend_at, faults).map(Some),
    };
    let (request, backend_request) = (request?, backend_request?);
    if let (Some(whole), Some(attempt)) = (request, backend_request)
        && !whole.is_zero()
        && attempt > whole
    {
        let reason = format!("{} is longer than the whole request's {}", HumanDuration(attempt), HumanDuration(whole));
        faults.add(&backend_at, reason, "make it at most as long as `request`");
        return None;
    }
    // `0s` is no limit (GEP-1742); for one attempt that is the same as saying nothing.
    Some(Timeouts { request, backend_request: backend_request.filter(|it| !it.is_zero()) })
}
