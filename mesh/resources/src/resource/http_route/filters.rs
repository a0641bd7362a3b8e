//! The Gateway API filters of a rule: header modifiers, redirect, rewrite, mirrors.

use std::sync::Arc;

use gateway_api::httproutes::{
    HttpRouteRulesBackendRefsFilters, HttpRouteRulesFilters, HttpRouteRulesFiltersRequestMirror,
    HttpRouteRulesFiltersRequestMirrorBackendRef, HttpRouteRulesFiltersRequestRedirect,
    HttpRouteRulesFiltersRequestRedirectPath, HttpRouteRulesFiltersRequestRedirectPathType as RedirectPathType,
    HttpRouteRulesFiltersRequestRedirectScheme as Scheme, HttpRouteRulesFiltersType as FilterType,
    HttpRouteRulesFiltersUrlRewrite, HttpRouteRulesFiltersUrlRewritePath,
    HttpRouteRulesFiltersUrlRewritePathType as RewritePathType,
};
use weir_model::limits::MAX_MIRRORS;
use weir_model::{CorsPolicy, Fraction, HeaderModifier, PathRewrite, Redirect, Rewrite};

use crate::resource::field::{port, same_form};
use crate::resource::http_route::backend_ref::{BackendRef, RawBackendRef, check_ref};
use crate::resource::http_route::cors;
use crate::resource::http_route::header_modifier::{RawHeaderEdits, check_header_modifier};
use crate::syntax::{http, name};
use crate::yaml::{FieldErrors, FieldPathRef};

/// The status codes of a redirect (Gateway API).
const REDIRECT_STATUSES: [i64; 5] = [301, 302, 303, 307, 308];

/// The default status code of a redirect (Gateway API).
const DEFAULT_REDIRECT_STATUS: i64 = 302;

/// The filters of a rule, combined.
#[derive(Debug, Default)]
pub(crate) struct RuleFilters {
    pub(crate) request_headers: HeaderModifier,
    pub(crate) response_headers: HeaderModifier,
    /// The redirect, and the index of its filter.
    pub(crate) redirect: Option<(Redirect, usize)>,
    /// The rewrite, and the index of its filter.
    pub(crate) rewrite: Option<(Rewrite, usize)>,
    /// The cross-origin requests that are allowed.
    pub(crate) cors: Option<Arc<CorsPolicy>>,
    /// Backend, share of requests, and index of the filter.
    pub(crate) mirrors: Vec<(BackendRef, Fraction, usize)>,
}

/// Validates the filters of a rule.
pub(crate) fn check(
    raw: Vec<HttpRouteRulesFilters>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<RuleFilters> {
    let faults_before = errors.count();
    let mut filters = RuleFilters::default();
    let mut seen: Vec<&'static str> = Vec::new();
    for (index, filter) in raw.into_iter().enumerate() {
        let at = path.entry(index);
        let (kind, field) = names(&filter.r#type);
        check_fields(&filter, field, &at, errors);
        if seen.contains(&kind) && kind != "RequestMirror" {
            errors.add(&at.field("type"), format!("a second {kind} in one rule"), "put both into one filter");
        }
        seen.push(kind);
        check_one(filter, index, &mut filters, &at, errors);
    }
    if filters.mirrors.len() > MAX_MIRRORS {
        errors.add(path, format!("{} mirrors", filters.mirrors.len()), format!("use at most {MAX_MIRRORS}"));
    }
    // With an invalid filter left out, later checks would report false conflicts.
    Some(filters).filter(|_| errors.count() == faults_before)
}

/// Validates the filters of a backend, and returns the changes to the headers of requests and of responses.
/// `schema::unsupported` rejects the other types.
pub(crate) fn check_backend(
    raw: Vec<HttpRouteRulesBackendRefsFilters>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<(HeaderModifier, HeaderModifier)> {
    let filters = check(raw.into_iter().map(same_form).collect(), path, errors)?;
    Some((filters.request_headers, filters.response_headers))
}

fn check_one(
    filter: HttpRouteRulesFilters,
    index: usize,
    filters: &mut RuleFilters,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) {
    let HttpRouteRulesFilters {
        cors: raw_cors,
        extension_ref: _,
        request_header_modifier,
        request_mirror,
        request_redirect,
        response_header_modifier,
        r#type: _,
        url_rewrite,
    } = filter;
    if let Some(modifier) = request_header_modifier {
        let set = modifier.set.into_iter().flatten().map(|header| (header.name, header.value)).collect();
        let add = modifier.add.into_iter().flatten().map(|header| (header.name, header.value)).collect();
        let raw = RawHeaderEdits { set, add, remove: modifier.remove.unwrap_or_default() };
        filters.request_headers = check_header_modifier(&raw, &path.field("requestHeaderModifier"), errors);
    }
    if let Some(modifier) = response_header_modifier {
        let set = modifier.set.into_iter().flatten().map(|header| (header.name, header.value)).collect();
        let add = modifier.add.into_iter().flatten().map(|header| (header.name, header.value)).collect();
        let raw = RawHeaderEdits { set, add, remove: modifier.remove.unwrap_or_default() };
        filters.response_headers = check_header_modifier(&raw, &path.field("responseHeaderModifier"), errors);
    }
    if let Some(redirect) = request_redirect {
        let redirect = check_redirect(redirect, &path.field("requestRedirect"), errors);
        filters.redirect = redirect.map(|redirect| (redirect, index));
    }
    if let Some(rewrite) = url_rewrite {
        let rewrite = check_rewrite(rewrite, &path.field("urlRewrite"), errors);
        filters.rewrite = rewrite.map(|rewrite| (rewrite, index));
    }
    if let Some(raw_cors) = raw_cors {
        filters.cors = cors::check(raw_cors, &path.field("cors"), errors).map(Arc::new);
    }
    if let Some(mirror) = request_mirror {
        let mirror = check_mirror(mirror, &path.field("requestMirror"), errors);
        filters.mirrors.extend(mirror.map(|(backend, fraction)| (backend, fraction, index)));
    }
}

/// Returns the name of a filter type and of its field.
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

fn check_fields(filter: &HttpRouteRulesFilters, expected: &str, path: &FieldPathRef<'_>, errors: &mut FieldErrors) {
    let present = [
        ("requestHeaderModifier", filter.request_header_modifier.is_some()),
        ("responseHeaderModifier", filter.response_header_modifier.is_some()),
        ("requestMirror", filter.request_mirror.is_some()),
        ("requestRedirect", filter.request_redirect.is_some()),
        ("urlRewrite", filter.url_rewrite.is_some()),
        ("cors", filter.cors.is_some()),
    ];
    for (field, is_present) in present {
        let (kind, _) = names(&filter.r#type);
        if field == expected && !is_present {
            errors.add(&path.field(field), "missing", format!("add `{field}`: a filter of type {kind} needs it"));
        }
        if field != expected && is_present {
            let reason = format!("does not belong to a filter of type {kind}");
            errors.add(&path.field(field), reason, "make it a filter of its own, or change `type`");
        }
    }
}

fn check_redirect(
    raw: HttpRouteRulesFiltersRequestRedirect,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<Redirect> {
    let HttpRouteRulesFiltersRequestRedirect { hostname, path: rewrite, port: number, scheme, status_code } = raw;
    let status = status_code.unwrap_or(DEFAULT_REDIRECT_STATUS);
    if !REDIRECT_STATUSES.contains(&status) {
        let hint = "use one of 301, 302, 303, 307, 308";
        errors.add(&path.field("statusCode"), format!("{status} is not a redirect"), hint);
    }
    check_hostname(hostname.as_deref(), &path.field("hostname"), errors);
    let rewrite = match rewrite {
        None => Some(None),
        Some(HttpRouteRulesFiltersRequestRedirectPath { replace_full_path, replace_prefix_match, r#type }) => {
            let kind = match r#type {
                RedirectPathType::ReplaceFullPath => RewriteKind::Full,
                RedirectPathType::ReplacePrefixMatch => RewriteKind::Prefix,
            };
            let raw = RawPathModifier { kind, full: replace_full_path, prefix: replace_prefix_match };
            check_path(raw, &path.field("path"), errors).map(Some)
        }
    };
    let scheme = scheme.map(|scheme| match scheme {
        Scheme::Http => ("http", 80),
        Scheme::Https => ("https", 443),
    });
    let port = match (number, scheme) {
        (Some(number), _) => Some(port(number.into(), &path.field("port"), errors)?),
        // The default port is that of the scheme (Gateway API, `HTTPRequestRedirectFilter.port`).
        (None, Some((_, port))) => Some(port),
        (None, None) => None,
    };
    let scheme = scheme.map(|(scheme, _)| Arc::from(scheme));
    let status = u16::try_from(status).ok()?;
    Some(Redirect { scheme, host: hostname.map(Arc::from), port, path: rewrite?, status })
}

fn check_rewrite(
    raw: HttpRouteRulesFiltersUrlRewrite,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<Rewrite> {
    let HttpRouteRulesFiltersUrlRewrite { hostname, path: rewrite } = raw;
    if hostname.is_none() && rewrite.is_none() {
        errors.add(path, "changes nothing", "add `hostname` or `path`, or remove the filter");
    }
    check_hostname(hostname.as_deref(), &path.field("hostname"), errors);
    let rewrite = match rewrite {
        None => None,
        Some(HttpRouteRulesFiltersUrlRewritePath { replace_full_path, replace_prefix_match, r#type }) => {
            let kind = match r#type {
                RewritePathType::ReplaceFullPath => RewriteKind::Full,
                RewritePathType::ReplacePrefixMatch => RewriteKind::Prefix,
            };
            let raw = RawPathModifier { kind, full: replace_full_path, prefix: replace_prefix_match };
            Some(check_path(raw, &path.field("path"), errors)?)
        }
    };
    Some(Rewrite { host: hostname.map(Arc::from), path: rewrite })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RewriteKind {
    Full,
    Prefix,
}

struct RawPathModifier {
    kind: RewriteKind,
    full: Option<String>,
    prefix: Option<String>,
}

fn check_path(raw: RawPathModifier, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<PathRewrite> {
    let (field, value, other_field, other) = match raw.kind {
        RewriteKind::Full => ("replaceFullPath", raw.full, "replacePrefixMatch", raw.prefix),
        RewriteKind::Prefix => ("replacePrefixMatch", raw.prefix, "replaceFullPath", raw.full),
    };
    if other.is_some() {
        let reason = "does not belong to this type".to_owned();
        errors.add(&path.field(other_field), reason, format!("write `{field}`, or change `type`"));
    }
    let Some(value) = value else {
        errors.add(&path.field(field), "missing", format!("add `{field}`: its type needs it"));
        return None;
    };
    let is_prefix = raw.kind == RewriteKind::Prefix;
    // An empty value removes the prefix, as `/` does (Gateway API, `HTTPPathModifier.replacePrefixMatch`).
    if !(is_prefix && value.is_empty())
        && let Err(error) = http::path(&value)
    {
        errors.add_syntax_error(&path.field(field), error);
        return None;
    }
    Some(match raw.kind {
        RewriteKind::Full => PathRewrite::Full(Arc::from(value)),
        RewriteKind::Prefix => PathRewrite::Prefix(Arc::from(value.strip_suffix('/').unwrap_or(&value))),
    })
}

fn check_mirror(
    raw: HttpRouteRulesFiltersRequestMirror,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<(BackendRef, Fraction)> {
    let HttpRouteRulesFiltersRequestMirror { backend_ref, fraction, percent } = raw;
    let HttpRouteRulesFiltersRequestMirrorBackendRef { group, kind, name, namespace, port } = backend_ref;
    let raw = RawBackendRef { group, kind, name, namespace, port };
    let backend = check_ref(raw, &path.field("backendRef"), errors);
    let (field, numerator, denominator) = match (percent, fraction) {
        (Some(_), Some(_)) => {
            errors.add(&path.field("fraction"), "both `percent` and `fraction`", "keep one of the two");
            return None;
        }
        (None, None) => return Some((backend?, Fraction::ALL)),
        (Some(percent), None) => ("percent", percent, 100),
        (None, Some(fraction)) => ("fraction", fraction.numerator, fraction.denominator.unwrap_or(100)),
    };
    let (Ok(top), Ok(bottom)) = (u32::try_from(numerator), u32::try_from(denominator)) else {
        errors.add(&path.field(field), "a negative share of the requests", "use 0 (none) to 100 (all)");
        return None;
    };
    match Fraction::new(top, bottom) {
        Ok(fraction) => Some((backend?, fraction)),
        Err(_) if field == "percent" => {
            errors.add(&path.field(field), format!("{top} per cent is more than all"), "use 0 (none) to 100 (all)");
            None
        }
        Err(error) => {
            errors.add_syntax_error(&path.field(field), error.into());
            None
        }
    }
}

fn check_hostname(hostname: Option<&str>, path: &FieldPathRef<'_>, errors: &mut FieldErrors) {
    if let Some(hostname) = hostname
        && let Err(error) = name::hostname(hostname)
    {
        errors.add_syntax_error(path, error);
    }
}
