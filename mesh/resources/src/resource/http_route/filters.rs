//! The upstream filters of a rule: what they change about a request or a response.

use std::sync::Arc;

use gateway_api::httproutes::{
    HttpRouteRulesFilters, HttpRouteRulesFiltersRequestMirror, HttpRouteRulesFiltersRequestMirrorBackendRef,
    HttpRouteRulesFiltersRequestRedirect, HttpRouteRulesFiltersRequestRedirectPath,
    HttpRouteRulesFiltersRequestRedirectPathType as RedirectPathType,
    HttpRouteRulesFiltersRequestRedirectScheme as Scheme, HttpRouteRulesFiltersType as FilterType,
    HttpRouteRulesFiltersUrlRewrite, HttpRouteRulesFiltersUrlRewritePath,
    HttpRouteRulesFiltersUrlRewritePathType as RewritePathType,
};
use weir_model::limits::MAX_MIRRORS;
use weir_model::{Fraction, HeaderEdits, PathRewrite, Redirect, Rewrite};

use crate::document::{Faults, Path};
use crate::grammar::{http, name};
use crate::resource::field::port;
use crate::resource::http_route::BackendRef;
use crate::resource::http_route::action::{WrittenRef, check_ref};
use crate::resource::http_route::edits::{WrittenEdits, check_edits};

/// The statuses that send the downstream elsewhere (Gateway API).
const REDIRECT_STATUSES: [i64; 5] = [301, 302, 303, 307, 308];

/// The status of a redirect that names none (Gateway API).
const DEFAULT_REDIRECT_STATUS: i64 = 302;

/// What all filters of a rule say together.
#[derive(Debug, Default)]
pub(crate) struct RuleFilters {
    pub(crate) request_headers: HeaderEdits,
    pub(crate) response_headers: HeaderEdits,
    /// With the index of its filter, as the next ones.
    pub(crate) redirect: Option<(Redirect, usize)>,
    pub(crate) rewrite: Option<(Rewrite, usize)>,
    pub(crate) mirrors: Vec<(BackendRef, Fraction, usize)>,
}

/// Checks the filters of a rule.
pub(crate) fn check(written: Vec<HttpRouteRulesFilters>, path: &Path<'_>, faults: &mut Faults) -> Option<RuleFilters> {
    let faults_before = faults.count();
    let mut filters = RuleFilters::default();
    let mut seen: Vec<&'static str> = Vec::new();
    for (index, filter) in written.into_iter().enumerate() {
        let at = path.entry(index);
        let (kind, field) = names(&filter.r#type);
        check_fields(&filter, field, &at, faults);
        if seen.contains(&kind) && kind != "RequestMirror" {
            faults.add(&at.field("type"), format!("a second {kind} in one rule"), "put both into one filter");
        }
        seen.push(kind);
        check_one(filter, index, &mut filters, &at, faults);
    }
    if filters.mirrors.len() > MAX_MIRRORS {
        faults.add(path, format!("{} mirrors", filters.mirrors.len()), format!("use at most {MAX_MIRRORS}"));
    }
    // What is missing here would look like a contradiction to the checks of the whole rule.
    Some(filters).filter(|_| faults.count() == faults_before)
}

fn check_one(
    filter: HttpRouteRulesFilters,
    index: usize,
    filters: &mut RuleFilters,
    path: &Path<'_>,
    faults: &mut Faults,
) {
    let HttpRouteRulesFilters {
        cors: _,
        extension_ref: _,
        request_header_modifier,
        request_mirror,
        request_redirect,
        response_header_modifier,
        r#type: _,
        url_rewrite,
    } = filter;
    if let Some(edits) = request_header_modifier {
        let set = edits.set.into_iter().flatten().map(|it| (it.name, it.value)).collect();
        let add = edits.add.into_iter().flatten().map(|it| (it.name, it.value)).collect();
        let written = WrittenEdits { set, add, remove: edits.remove.unwrap_or_default() };
        filters.request_headers = check_edits(&written, &path.field("requestHeaderModifier"), faults);
    }
    if let Some(edits) = response_header_modifier {
        let set = edits.set.into_iter().flatten().map(|it| (it.name, it.value)).collect();
        let add = edits.add.into_iter().flatten().map(|it| (it.name, it.value)).collect();
        let written = WrittenEdits { set, add, remove: edits.remove.unwrap_or_default() };
        filters.response_headers = check_edits(&written, &path.field("responseHeaderModifier"), faults);
    }
    if let Some(redirect) = request_redirect {
        let redirect = check_redirect(redirect, &path.field("requestRedirect"), faults);
        filters.redirect = redirect.map(|redirect| (redirect, index));
    }
    if let Some(rewrite) = url_rewrite {
        let rewrite = check_rewrite(rewrite, &path.field("urlRewrite"), faults);
        filters.rewrite = rewrite.map(|rewrite| (rewrite, index));
    }
    if let Some(mirror) = request_mirror {
        let mirror = check_mirror(mirror, &path.field("requestMirror"), faults);
        filters.mirrors.extend(mirror.map(|(backend, fraction)| (backend, fraction, index)));
    }
}

/// A filter's type and the field that belongs to it.
const fn names(kind: &FilterType) -> (&'static str, &'static str) {
    match kind {
        FilterType::RequestHeaderModifier => ("RequestHeaderModifier", "requestHeaderModifier"),
        FilterType::ResponseHeaderModifier => ("ResponseHeaderModifier", "responseHeaderModifier"),
        FilterType::RequestMirror => ("RequestMirror", "requestMirror"),
        FilterType::RequestRedirect => ("RequestRedirect", "requestRedirect"),
        FilterType::UrlRewrite => ("URLRewrite", "urlRewrite"),
        FilterType::ExtensionRef => ("ExtensionRef", "extensionRef"),
        FilterType::Cors => ("CORS", "cors"),
    }
}

fn check_fields(filter: &HttpRouteRulesFilters, expected: &str, path: &Path<'_>, faults: &mut Faults) {
    let present = [
        ("requestHeaderModifier", filter.request_header_modifier.is_some()),
        ("responseHeaderModifier", filter.response_header_modifier.is_some()),
        ("requestMirror", filter.request_mirror.is_some()),
        ("requestRedirect", filter.request_redirect.is_some()),
        ("urlRewrite", filter.url_rewrite.is_some()),
    ];
    for (field, is_present) in present {
        let (kind, _) = names(&filter.r#type);
        if field == expected && !is_present {
            faults.add(&path.field(field), "missing", format!("add `{field}`: a filter of type {kind} needs it"));
        }
        if field != expected && is_present {
            let reason = format!("does not belong to a filter of type {kind}");
            faults.add(&path.field(field), reason, "make it a filter of its own, or change `type`");
        }
    }
}

fn check_redirect(
    written: HttpRouteRulesFiltersRequestRedirect,
    path: &Path<'_>,
    faults: &mut Faults,
) -> Option<Redirect> {
    let HttpRouteRulesFiltersRequestRedirect { hostname, path: rewrite, port: number, scheme, status_code } = written;
    if hostname.is_none() && rewrite.is_none() && number.is_none() && scheme.is_none() {
        let hint = "add `scheme`, `hostname`, `port` or `path`";
        faults.add(path, "redirects to the same place again and again", hint);
    }
    let status = status_code.unwrap_or(DEFAULT_REDIRECT_STATUS);
    if !REDIRECT_STATUSES.contains(&status) {
        let hint = "use one of 301, 302, 303, 307, 308";
        faults.add(&path.field("statusCode"), format!("{status} is not a redirect"), hint);
    }
    check_hostname(hostname.as_deref(), &path.field("hostname"), faults);
    let rewrite = match rewrite {
        None => Some(None),
        Some(HttpRouteRulesFiltersRequestRedirectPath { replace_full_path, replace_prefix_match, r#type }) => {
            let kind = match r#type {
                RedirectPathType::ReplaceFullPath => RewriteKind::Full,
                RedirectPathType::ReplacePrefixMatch => RewriteKind::Prefix,
            };
            let written = WrittenPath { kind, full: replace_full_path, prefix: replace_prefix_match };
            check_path(written, &path.field("path"), faults).map(Some)
        }
    };
    let scheme = scheme.map(|scheme| match scheme {
        Scheme::Http => ("http", 80),
        Scheme::Https => ("https", 443),
    });
    let port = match (number, scheme) {
        (Some(number), _) => Some(port(number.into(), &path.field("port"), faults)?),
        // A scheme without a port means the scheme's own (Gateway API, `HTTPRequestRedirectFilter.port`).
        (None, Some((_, port))) => Some(port),
        (None, None) => None,
    };
    let scheme = scheme.map(|(scheme, _)| Arc::from(scheme));
    let status = u16::try_from(status).ok()?;
    Some(Redirect { scheme, host: hostname.map(Arc::from), port, path: rewrite?, status })
}

fn check_rewrite(written: HttpRouteRulesFiltersUrlRewrite, path: &Path<'_>, faults: &mut Faults) -> Option<Rewrite> {
    let HttpRouteRulesFiltersUrlRewrite { hostname, path: rewrite } = written;
    if hostname.is_none() && rewrite.is_none() {
        faults.add(path, "changes nothing", "add `hostname` or `path`, or remove the filter");
    }
    check_hostname(hostname.as_deref(), &path.field("hostname"), faults);
    let rewrite = match rewrite {
        None => None,
        Some(HttpRouteRulesFiltersUrlRewritePath { replace_full_path, replace_prefix_match, r#type }) => {
            let kind = match r#type {
                RewritePathType::ReplaceFullPath => RewriteKind::Full,
                RewritePathType::ReplacePrefixMatch => RewriteKind::Prefix,
            };
            let written = WrittenPath { kind, full: replace_full_path, prefix: replace_prefix_match };
            Some(check_path(written, &path.field("path"), faults)?)
        }
    };
    Some(Rewrite { host: hostname.map(Arc::from), path: rewrite })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RewriteKind {
    Full,
    Prefix,
}

struct WrittenPath {
    kind: RewriteKind,
    full: Option<String>,
    prefix: Option<String>,
}

fn check_path(written: WrittenPath, path: &Path<'_>, faults: &mut Faults) -> Option<PathRewrite> {
    let (field, value, other_field, other) = match written.kind {
        RewriteKind::Full => ("replaceFullPath", written.full, "replacePrefixMatch", written.prefix),
        RewriteKind::Prefix => ("replacePrefixMatch", written.prefix, "replaceFullPath", written.full),
    };
    if other.is_some() {
        let reason = "does not belong to this type".to_owned();
        faults.add(&path.field(other_field), reason, format!("write `{field}`, or change `type`"));
    }
    let Some(value) = value else {
        faults.add(&path.field(field), "missing", format!("add `{field}`: its type needs it"));
        return None;
    };
    let is_prefix = written.kind == RewriteKind::Prefix;
    // An empty text takes the prefix away, as `/` does (Gateway API, `HTTPPathModifier.replacePrefixMatch`).
    if !(is_prefix && value.is_empty())
        && let Err(objection) = http::path(&value)
    {
        faults.object(&path.field(field), objection);
        return None;
    }
    Some(match written.kind {
        RewriteKind::Full => PathRewrite::Full(Arc::from(value)),
        RewriteKind::Prefix => PathRewrite::Prefix(Arc::from(value.strip_suffix('/').unwrap_or(&value))),
    })
}

fn check_mirror(
    written: HttpRouteRulesFiltersRequestMirror,
    path: &Path<'_>,
    faults: &mut Faults,
) -> Option<(BackendRef, Fraction)> {
    let HttpRouteRulesFiltersRequestMirror { backend_ref, fraction, percent } = written;
    let HttpRouteRulesFiltersRequestMirrorBackendRef { group, kind, name, namespace, port } = backend_ref;
    let written = WrittenRef { group, kind, name, namespace, port };
    let backend = check_ref(written, &path.field("backendRef"), faults);
    let (field, numerator, denominator) = match (percent, fraction) {
        (Some(_), Some(_)) => {
            faults.add(&path.field("fraction"), "both `percent` and `fraction`", "keep one of the two");
            return None;
        }
        (None, None) => return Some((backend?, Fraction::ALL)),
        (Some(percent), None) => ("percent", percent, 100),
        (None, Some(fraction)) => ("fraction", fraction.numerator, fraction.denominator.unwrap_or(100)),
    };
    let (Ok(top), Ok(bottom)) = (u32::try_from(numerator), u32::try_from(denominator)) else {
        faults.add(&path.field(field), "a negative share of the requests", "use 0 (none) to 100 (all)");
        return None;
    };
    match Fraction::new(top, bottom) {
        Ok(fraction) => Some((backend?, fraction)),
        Err(_) if field == "percent" => {
            faults.add(&path.field(field), format!("{top} per cent is more than all"), "use 0 (none) to 100 (all)");
            None
        }
        Err(error) => {
            faults.object(&path.field(field), error.into());
            None
        }
    }
}

fn check_hostname(hostname: Option<&str>, path: &Path<'_>, faults: &mut Faults) {
    if let Some(hostname) = hostname
        && let Err(objection) = name::hostname(hostname)
    {
        faults.object(path, objection);
    }
}
