//! `GRPCRoute`: validation. A route of methods is a route of paths: `/package.Service/Method`.

use std::sync::Arc;

use gateway_api::grpcroutes::{
    GrpcRouteParentRefs, GrpcRouteRules, GrpcRouteRulesBackendRefs, GrpcRouteRulesMatches, GrpcRouteRulesMatchesMethod,
    GrpcRouteRulesMatchesMethodType, GrpcRouteSpec,
};
use gateway_api::httproutes::{HttpRouteParentRefs, HttpRouteRulesBackendRefs};
use weir_model::matcher::Regex;
use weir_model::{PathMatch, RouteMatch};

use crate::limits::{MAX_GRPC_NAME_BYTES, MAX_RULE_MATCHES};
use crate::resource::field::{is_bounded, regex, same_form};
use crate::resource::http_route::{
    HttpRoute, MethodLengths, RawRule, Rule, RuleMatches, RuleParts, check_backends, check_hosts, check_parents,
    check_rules, combine, filters, matches,
};
use crate::suggest::quoted;
use crate::yaml::{FieldErrors, FieldPathRef};

/// The regular expression of a service or a method that is not named.
const ANY_PART: &str = "[^/]+";

/// Validates a GRPCRoute.
pub(crate) fn check(spec: GrpcRouteSpec, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<HttpRoute> {
    let GrpcRouteSpec { hostnames, parent_refs, rules } = spec;
    let hosts = check_hosts(&hostnames.unwrap_or_default(), &path.field("hostnames"), errors);
    let parents = parent_refs.unwrap_or_default().into_iter().map(as_parent).collect();
    let parents = check_parents(parents, &path.field("parentRefs"), errors);
    let rules = check_rules(rules.unwrap_or_default(), &path.field("rules"), errors);
    Some(HttpRoute { hosts: hosts?, parents: parents?, rules: rules? })
}

fn as_parent(raw: GrpcRouteParentRefs) -> HttpRouteParentRefs {
    let GrpcRouteParentRefs { group, kind, name, namespace, port, section_name } = raw;
    HttpRouteParentRefs { group, kind, name, namespace, port, section_name }
}

fn as_backend(raw: GrpcRouteRulesBackendRefs) -> HttpRouteRulesBackendRefs {
    let GrpcRouteRulesBackendRefs { filters, group, kind, name, namespace, port, weight } = raw;
    let filters = filters.map(|filters| filters.into_iter().map(same_form).collect());
    HttpRouteRulesBackendRefs { filters, group, kind, name, namespace, port, weight }
}

impl RawRule for GrpcRouteRules {
    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    fn check(self, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<Rule> {
        let Self { backend_refs, filters, matches, name: _ } = self;
        let matches = check_matches(matches.unwrap_or_default(), &path.field("matches"), errors);
        let filters = filters.unwrap_or_default().into_iter().map(same_form).collect();
        let filters = filters::check(filters, &path.field("filters"), errors);
        let backends = backend_refs.unwrap_or_default().into_iter().map(as_backend).collect();
        let backends = check_backends(backends, &path.field("backendRefs"), errors);
        combine(RuleParts { matches, filters, backends, timeouts: None, retry: None }, path, errors)
    }
}

/// Validates the matches of a rule. A rule without matches matches every request.
fn check_matches(
    matches: Vec<GrpcRouteRulesMatches>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<RuleMatches> {
    if matches.is_empty() {
        let (path, lengths) = any_method();
        let matches = vec![RouteMatch { path, method: None, headers: Vec::new(), query: Vec::new() }];
        return Some(RuleMatches { matches, methods: vec![lengths] });
    }
    if !is_bounded(&matches, MAX_RULE_MATCHES, path, errors) {
        return None;
    }
    // Validates all matches before it fails, so that all errors are reported.
    let checked: Vec<_> =
        matches.into_iter().enumerate().map(|(index, one)| check_match(one, &path.entry(index), errors)).collect();
    let checked: Vec<_> = checked.into_iter().collect::<Option<_>>()?;
    let (matches, methods) = checked.into_iter().unzip();
    Some(RuleMatches { matches, methods })
}

fn check_match(
    raw: GrpcRouteRulesMatches,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<(RouteMatch, MethodLengths)> {
    let GrpcRouteRulesMatches { headers, method } = raw;
    let headers = headers.unwrap_or_default().into_iter().map(same_form).collect();
    let headers = matches::check_headers(headers, &path.field("headers"), errors);
    let method = match method {
        None => Some(any_method()),
        Some(method) => check_method(method, &path.field("method"), errors),
    };
    let (path_match, lengths) = method?;
    Some((RouteMatch { path: path_match, method: None, headers: headers?, query: Vec::new() }, lengths))
}

fn any_method() -> (PathMatch, MethodLengths) {
    (PathMatch::Prefix(Arc::from("")), MethodLengths { service: 0, method: 0 })
}

/// Validates a match on service and method (Gateway API, `GRPCMethodMatch`).
fn check_method(
    raw: GrpcRouteRulesMatchesMethod,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<(PathMatch, MethodLengths)> {
    let GrpcRouteRulesMatchesMethod { method, service, r#type } = raw;
    let (service, method) = (service.filter(|service| !service.is_empty()), method.filter(|method| !method.is_empty()));
    let length = |text: &Option<String>| text.as_ref().map_or(0, |text| text.chars().count());
    let lengths = MethodLengths { service: length(&service), method: length(&method) };
    if service.is_none() && method.is_none() {
        let hint = "name one of them, or leave `method` out to match every method";
        errors.add(path, "neither `service` nor `method`", hint);
        return None;
    }
    let is_regex = matches!(r#type, Some(GrpcRouteRulesMatchesMethodType::RegularExpression));
    let faults_before = errors.count();
    for (field, text) in [("service", &service), ("method", &method)] {
        let Some(text) = text else { continue };
        check_part(&Part { field, text, is_regex }, &path.field(field), errors);
    }
    if errors.count() != faults_before {
        return None;
    }
    let path_match = match (service.as_deref(), method.as_deref()) {
        (Some(service), Some(method)) if !is_regex => PathMatch::Exact(format!("/{service}/{method}").into()),
        (Some(service), None) if !is_regex => PathMatch::Prefix(format!("/{service}").into()),
        (service, method) => {
            let (service, method) = (service.unwrap_or(ANY_PART), method.unwrap_or(ANY_PART));
            let pattern = format!("/(?:{service})/(?:{method})");
            let regex = Regex::new(&pattern);
            let invalid = |error: String| errors.add(path, format!("together: {error}"), "make it shorter");
            PathMatch::Regex(regex.map_err(invalid).ok()?)
        }
    };
    Some((path_match, lengths))
}

/// A service or a method, as written.
struct Part<'a> {
    field: &'static str,
    text: &'a str,
    is_regex: bool,
}

/// Validates a service or a method: the characters that the Gateway API's schema allows, or a regular expression.
fn check_part(part: &Part<'_>, path: &FieldPathRef<'_>, errors: &mut FieldErrors) {
    let Part { field, text, is_regex } = *part;
    if is_regex {
        regex(text, path, errors);
        return;
    }
    let is_word = |word: &str| {
        !word.is_empty()
            && !word.starts_with(|first: char| first.is_ascii_digit())
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let is_valid = match field {
        "service" => text.strip_prefix('.').unwrap_or(text).split('.').all(is_word),
        _ => is_word(text),
    };
    if !is_valid || text.len() > MAX_GRPC_NAME_BYTES {
        let hint = match field {
            "service" => "write the package and the service, as in `shop.v1.Cart`",
            _ => "write the method alone, as in `GetItem`",
        };
        errors.add(path, format!("{} is not a gRPC {field}", quoted(text)), hint);
    }
}

#[cfg(test)]
mod tests {
    use gateway_api::grpcroutes::{
        GrpcRouteRulesBackendRefsFilters, GrpcRouteRulesFilters, GrpcRouteRulesMatchesHeaders,
    };
    use gateway_api::httproutes::{
        HttpRouteRulesBackendRefsFilters, HttpRouteRulesFilters, HttpRouteRulesMatchesHeaders,
    };
    use schemars::JsonSchema;
    use serde_json::Value;

    /// Asserts that every field and every choice of `small` is one of `large`, too.
    fn assert_part_of(small: &Value, large: &Value, path: &str) {
        for (name, inner) in small["properties"].as_object().into_iter().flatten() {
            let other = &large["properties"][name];
            assert!(!other.is_null(), "{path}.{name}");
            assert_part_of(inner, other, &format!("{path}.{name}"));
        }
        for name in large["required"].as_array().into_iter().flatten() {
            assert!(small["required"].as_array().is_some_and(|required| required.contains(name)), "{path}: {name}");
        }
        for choice in small["enum"].as_array().into_iter().flatten() {
            assert!(large["enum"].as_array().is_some_and(|choices| choices.contains(choice)), "{path}: {choice}");
        }
    }

    fn inlined<T: JsonSchema>() -> Value {
        let mut settings = schemars::generate::SchemaSettings::default();
        settings.inline_subschemas = true;
        settings.into_generator().into_root_schema_for::<T>().to_value()
    }

    #[test]
    fn types_of_same_form_have_same_fields() {
        let rule = inlined::<HttpRouteRulesFilters>();
        assert!(rule["properties"].as_object().is_some_and(|fields| fields.len() >= 7), "{rule}");
        assert_part_of(&inlined::<GrpcRouteRulesFilters>(), &rule, "filters");
        assert_part_of(&inlined::<HttpRouteRulesBackendRefsFilters>(), &rule, "backendRefs.filters");
        let backend = inlined::<HttpRouteRulesBackendRefsFilters>();
        assert_part_of(&inlined::<GrpcRouteRulesBackendRefsFilters>(), &backend, "grpc.backendRefs.filters");
        let headers = inlined::<HttpRouteRulesMatchesHeaders>();
        assert_part_of(&inlined::<GrpcRouteRulesMatchesHeaders>(), &headers, "headers");
    }
}
