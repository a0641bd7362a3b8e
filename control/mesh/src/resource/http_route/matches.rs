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
    if !is_bounded(&written, MAX_MATCHES, path, faults) {
        return None;
    }
    let mut headers: Vec<HeaderMatch> = Vec::with_capacity(written.len());
    for (index, HttpRouteRulesMatchesHeaders { name, r#type, value }) in written.into_iter().enumerate() {
        let at = path.entry(index);
        let name = match http::header_name(&name) {
            Ok(name) if headers.iter().any(|other| other.name == name) => {
                let reason = format!("the header {} is matched already", quoted(&name));
                faults.add(
                    &at.field("name"),
                    reason,
                    "one value only can be matched: use RegularExpression for several",
                );
                None
            }
            Ok(name) => Some(name),
            Err(objection) => {
                faults.object(&at.field("name"), objection);
                None
            }
        };
        let at = at.field("value");
        let value = match r#type {
            Some(HttpRouteRulesMatchesHeadersType::RegularExpression) => {
                regex(&value, &at, faults).map(TextMatch::Regex)
            }
            Some(HttpRouteRulesMatchesHeadersType::Exact) | None => match exact_header(&value) {
                Ok(value) => Some(TextMatch::Exact(value)),
                Err(objection) => {
                    faults.object(&at, objection);
                    None
                }
            },
        };
        if let (Some(name), Some(value)) = (name, value) {
            headers.push(HeaderMatch { name, value });
        }
    }
    Some(headers)
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
    if !is_bounded(&written, MAX_MATCHES, path, faults) {
        return None;
    }
    let mut query: Vec<QueryMatch> = Vec::with_capacity(written.len());
    for (index, HttpRouteRulesMatchesQueryParams { name, r#type, value }) in written.into_iter().enumerate() {
        let at = path.entry(index);
        let name = match http::query_name(&name) {
            Ok(name) if query.iter().any(|other| other.name == name) => {
                let reason = format!("the parameter {} is matched already", quoted(&name));
                faults.add(
                    &at.field("name"),
                    reason,
                    "one value only can be matched: use RegularExpression for several",
                );
                None
            }
            Ok(name) => Some(name),
            Err(objection) => {
                faults.object(&at.field("name"), objection);
                None
            }
        };
        let at = at.field("value");
        let value = match r#type {
            Some(HttpRouteRulesMatchesQueryParamsType::RegularExpression) => {
                regex(&value, &at, faults).map(TextMatch::Regex)
            }
            Some(HttpRouteRulesMatchesQueryParamsType::Exact) | None => match http::query_value(&value) {
                Ok(value) => Some(TextMatch::Exact(value)),
                Err(objection) => {
                    faults.object(&at, objection);
                    None
                }
            },
        };
        if let (Some(name), Some(value)) = (name, value) {
            query.push(QueryMatch { name, value });
        }
    }
    Some(query)
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
