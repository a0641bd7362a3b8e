//! Which requests a rule is for: paths, methods, headers, query parameters.

use std::sync::Arc;

use gateway_api::httproutes::{
    HttpRouteRulesMatches, HttpRouteRulesMatchesHeaders, HttpRouteRulesMatchesHeadersType, HttpRouteRulesMatchesMethod,
    HttpRouteRulesMatchesPath, HttpRouteRulesMatchesPathType, HttpRouteRulesMatchesQueryParams,
    HttpRouteRulesMatchesQueryParamsType,
};
use weir_model::limits::MAX_MATCHES;
use weir_model::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, TextMatch};

use crate::document::{Faults, Path};
use crate::grammar::{Objection, http};
use crate::limits::MAX_RULE_MATCHES;
use crate::resource::field::{is_bounded, regex};
use crate::suggest::quoted;

/// Checks the matches of a rule; a rule without any matches every request.
pub(crate) fn check(
    matches: Vec<HttpRouteRulesMatches>,
    path: &Path<'_>,
    faults: &mut Faults,
) -> Option<Vec<RouteMatch>> {
    if matches.is_empty() {
        return Some(vec![RouteMatch {
            path: PathMatch::Prefix(Arc::from("")),
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
        }]);
    }
    if !is_bounded(&matches, MAX_RULE_MATCHES, path, faults) {
        return None;
    }
    // All of them are checked before the first that is wrong ends it.
    let checked: Vec<_> =
        matches.into_iter().enumerate().map(|(index, one)| check_one(one, &path.entry(index), faults)).collect();
    checked.into_iter().collect()
}

fn check_one(written: HttpRouteRulesMatches, path: &Path<'_>, faults: &mut Faults) -> Option<RouteMatch> {
    let HttpRouteRulesMatches { headers, method, path: path_match, query_params } = written;
    let path_match = match path_match {
        None => Some(PathMatch::Prefix(Arc::from(""))),
        Some(path_match) => check_path(path_match, &path.field("path"), faults),
    };
    let headers = check_headers(headers.unwrap_or_default(), &path.field("headers"), faults);
    let query = check_query(query_params.unwrap_or_default(), &path.field("queryParams"), faults);
    let method = method.map(|method| Arc::from(method_name(&method)));
    Some(RouteMatch { path: path_match?, method, headers: headers?, query: query? })
}

fn check_path(written: HttpRouteRulesMatchesPath, path: &Path<'_>, faults: &mut Faults) -> Option<PathMatch> {
    let HttpRouteRulesMatchesPath { r#type, value } = written;
    let at = path.field("value");
    let value = value.as_deref().unwrap_or("/");
    if matches!(r#type, Some(HttpRouteRulesMatchesPathType::RegularExpression)) {
        return regex(value, &at, faults).map(PathMatch::Regex);
    }
    if let Err(objection) = http::path(value) {
        faults.object(&at, objection);
        return None;
    }
    Some(match r#type {
        Some(HttpRouteRulesMatchesPathType::Exact) => PathMatch::Exact(Arc::from(value)),
        // `/a/` and `/a` are the same prefix (Gateway API), and the model holds it without the slash.
        _ => PathMatch::Prefix(Arc::from(value.strip_suffix('/').unwrap_or(value))),
    })
}

fn check_headers(
    written: Vec<HttpRouteRulesMatchesHeaders>,
    path: &Path<'_>,
    faults: &mut Faults,
) -> Option<Vec<HeaderMatch>> {
    let written = written.into_iter().map(|HttpRouteRulesMatchesHeaders { name, r#type, value }| {
        let is_regex = matches!(r#type, Some(HttpRouteRulesMatchesHeadersType::RegularExpression));
        Written { name, value, is_regex }
    });
    let grammar = Grammar { what: "header", name: http::header_name, value: exact_header };
    let checked = check_named(written.collect(), &grammar, path, faults)?;
    Some(checked.into_iter().map(|(name, value)| HeaderMatch { name, value }).collect())
}

fn exact_header(value: &str) -> Result<Arc<str>, Objection> {
    if value.is_empty() {
        return Err(Objection::new("the value is empty", "write the value, or use RegularExpression with `.*`"));
    }
    http::header_value(value)
}

fn check_query(
    written: Vec<HttpRouteRulesMatchesQueryParams>,
    path: &Path<'_>,
    faults: &mut Faults,
) -> Option<Vec<QueryMatch>> {
    let written = written.into_iter().map(|HttpRouteRulesMatchesQueryParams { name, r#type, value }| {
        let is_regex = matches!(r#type, Some(HttpRouteRulesMatchesQueryParamsType::RegularExpression));
        Written { name, value, is_regex }
    });
    let grammar = Grammar { what: "parameter", name: http::query_name, value: http::query_value };
    let checked = check_named(written.collect(), &grammar, path, faults)?;
    Some(checked.into_iter().map(|(name, value)| QueryMatch { name, value }).collect())
}

/// A header or query parameter and its value, as written.
struct Written {
    name: String,
    value: String,
    is_regex: bool,
}

/// How names and plain values of headers or query parameters have to look.
struct Grammar {
    what: &'static str,
    name: fn(&str) -> Result<Arc<str>, Objection>,
    value: fn(&str) -> Result<Arc<str>, Objection>,
}

fn check_named(
    written: Vec<Written>,
    grammar: &Grammar,
    path: &Path<'_>,
    faults: &mut Faults,
) -> Option<Vec<(Arc<str>, TextMatch)>> {
    if !is_bounded(&written, MAX_MATCHES, path, faults) {
        return None;
    }
    let mut checked: Vec<(Arc<str>, TextMatch)> = Vec::with_capacity(written.len());
    for (index, Written { name, value, is_regex }) in written.into_iter().enumerate() {
        let at = path.entry(index);
        let name = match (grammar.name)(&name) {
            Ok(name) if checked.iter().any(|(other, _)| *other == name) => {
                let reason = format!("the {} {} is matched already", grammar.what, quoted(&name));
                let hint = "one value only can be matched: use RegularExpression for several";
                faults.add(&at.field("name"), reason, hint);
                None
            }
            name => accepted(name, &at.field("name"), faults),
        };
        let at = at.field("value");
        let value = if is_regex {
            regex(&value, &at, faults).map(TextMatch::Regex)
        } else {
            accepted((grammar.value)(&value), &at, faults).map(TextMatch::Exact)
        };
        checked.extend(name.zip(value));
    }
    Some(checked)
}

fn accepted<T>(value: Result<T, Objection>, path: &Path<'_>, faults: &mut Faults) -> Option<T> {
    value.map_err(|objection| faults.object(path, objection)).ok()
}

const fn method_name(method: &HttpRouteRulesMatchesMethod) -> &'static str {
    match method {
        HttpRouteRulesMatchesMethod::Get => "GET",
        HttpRouteRulesMatchesMethod::Head => "HEAD",
        HttpRouteRulesMatchesMethod::Post => "POST",
        HttpRouteRulesMatchesMethod::Put => "PUT",
        HttpRouteRulesMatchesMethod::Delete => "DELETE",
        HttpRouteRulesMatchesMethod::Connect => "CONNECT",
        HttpRouteRulesMatchesMethod::Options => "OPTIONS",
        HttpRouteRulesMatchesMethod::Trace => "TRACE",
        HttpRouteRulesMatchesMethod::Patch => "PATCH",
    }
}
