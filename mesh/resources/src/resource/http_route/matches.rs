//! The matches of a rule: paths, methods, headers, query parameters.

use std::sync::Arc;

use gateway_api::httproutes::{
    HttpRouteRulesMatches, HttpRouteRulesMatchesHeaders, HttpRouteRulesMatchesHeadersType, HttpRouteRulesMatchesMethod,
    HttpRouteRulesMatchesPath, HttpRouteRulesMatchesPathType, HttpRouteRulesMatchesQueryParams,
    HttpRouteRulesMatchesQueryParamsType,
};
use weir_model::limits::MAX_MATCHES;
use weir_model::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, StringMatch};

use crate::limits::MAX_RULE_MATCHES;
use crate::resource::field::{is_bounded, regex};
use crate::suggest::quoted;
use crate::syntax::{SyntaxError, http};
use crate::yaml::{FieldErrors, FieldPathRef};

/// Validates the matches of a rule. A rule without matches matches every request.
pub(crate) fn check(
    matches: Vec<HttpRouteRulesMatches>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<Vec<RouteMatch>> {
    if matches.is_empty() {
        return Some(vec![RouteMatch {
            path: PathMatch::Prefix(Arc::from("")),
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
        }]);
    }
    if !is_bounded(&matches, MAX_RULE_MATCHES, path, errors) {
        return None;
    }
    // Validates all matches before it fails, so that all errors are reported.
    let checked: Vec<_> =
        matches.into_iter().enumerate().map(|(index, one)| check_one(one, &path.entry(index), errors)).collect();
    checked.into_iter().collect()
}

fn check_one(raw: HttpRouteRulesMatches, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<RouteMatch> {
    let HttpRouteRulesMatches { headers, method, path: path_match, query_params } = raw;
    let path_match = match path_match {
        None => Some(PathMatch::Prefix(Arc::from(""))),
        Some(path_match) => check_path(path_match, &path.field("path"), errors),
    };
    let headers = check_headers(headers.unwrap_or_default(), &path.field("headers"), errors);
    let query = check_query(query_params.unwrap_or_default(), &path.field("queryParams"), errors);
    let method = method.map(|method| Arc::from(method_name(&method)));
    Some(RouteMatch { path: path_match?, method, headers: headers?, query: query? })
}

fn check_path(raw: HttpRouteRulesMatchesPath, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<PathMatch> {
    let HttpRouteRulesMatchesPath { r#type, value } = raw;
    let at = path.field("value");
    let value = value.as_deref().unwrap_or("/");
    if matches!(r#type, Some(HttpRouteRulesMatchesPathType::RegularExpression)) {
        return regex(value, &at, errors).map(PathMatch::Regex);
    }
    if let Err(error) = http::path(value) {
        errors.add_syntax_error(&at, error);
        return None;
    }
    Some(match r#type {
        Some(HttpRouteRulesMatchesPathType::Exact) => PathMatch::Exact(Arc::from(value)),
        // `/a/` and `/a` are the same prefix (Gateway API). The model stores it without the final slash.
        _ => PathMatch::Prefix(Arc::from(value.strip_suffix('/').unwrap_or(value))),
    })
}

/// Validates the matches on headers.
pub(crate) fn check_headers(
    raw: Vec<HttpRouteRulesMatchesHeaders>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<Vec<HeaderMatch>> {
    let raw = raw.into_iter().map(|HttpRouteRulesMatchesHeaders { name, r#type, value }| {
        let is_regex = matches!(r#type, Some(HttpRouteRulesMatchesHeadersType::RegularExpression));
        RawPair { name, value, is_regex }
    });
    let syntax = PairSyntax { noun: "header", name: http::header_name, value: exact_header };
    let checked = check_named(raw.collect(), &syntax, path, errors)?;
    Some(checked.into_iter().map(|(name, value)| HeaderMatch { name, value }).collect())
}

fn exact_header(value: &str) -> Result<Arc<str>, SyntaxError> {
    if value.is_empty() {
        return Err(SyntaxError::new("the value is empty", "write the value, or use RegularExpression with `.*`"));
    }
    http::header_value(value)
}

fn check_query(
    raw: Vec<HttpRouteRulesMatchesQueryParams>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<Vec<QueryMatch>> {
    let raw = raw.into_iter().map(|HttpRouteRulesMatchesQueryParams { name, r#type, value }| {
        let is_regex = matches!(r#type, Some(HttpRouteRulesMatchesQueryParamsType::RegularExpression));
        RawPair { name, value, is_regex }
    });
    let syntax = PairSyntax { noun: "parameter", name: http::query_name, value: http::query_value };
    let checked = check_named(raw.collect(), &syntax, path, errors)?;
    Some(checked.into_iter().map(|(name, value)| QueryMatch { name, value }).collect())
}

/// A header or query parameter and its value, as written.
struct RawPair {
    name: String,
    value: String,
    is_regex: bool,
}

/// The syntax of names and exact values.
struct PairSyntax {
    noun: &'static str,
    name: fn(&str) -> Result<Arc<str>, SyntaxError>,
    value: fn(&str) -> Result<Arc<str>, SyntaxError>,
}

fn check_named(
    raw: Vec<RawPair>,
    syntax: &PairSyntax,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<Vec<(Arc<str>, StringMatch)>> {
    if !is_bounded(&raw, MAX_MATCHES, path, errors) {
        return None;
    }
    let mut checked: Vec<(Arc<str>, StringMatch)> = Vec::with_capacity(raw.len());
    for (index, RawPair { name, value, is_regex }) in raw.into_iter().enumerate() {
        let at = path.entry(index);
        let name = match (syntax.name)(&name) {
            Ok(name) if checked.iter().any(|(other, _)| *other == name) => {
                let reason = format!("the {} {} is matched already", syntax.noun, quoted(&name));
                let hint = "one value only can be matched: use RegularExpression for several";
                errors.add(&at.field("name"), reason, hint);
                None
            }
            name => accepted(name, &at.field("name"), errors),
        };
        let at = at.field("value");
        let value = if is_regex {
            regex(&value, &at, errors).map(StringMatch::Regex)
        } else {
            accepted((syntax.value)(&value), &at, errors).map(StringMatch::Exact)
        };
        checked.extend(name.zip(value));
    }
    Some(checked)
}

fn accepted<T>(value: Result<T, SyntaxError>, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<T> {
    value.map_err(|error| errors.add_syntax_error(path, error)).ok()
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
