//! Decodes route tables (RDS): virtual hosts, routes, and the filters that each route enables and disables. `action.rs`
//! decodes the actions of routes. `resource_cache.rs` builds filter chains, because the listener sets the order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use prost::Message;
use weir_model::limits::{MAX_MATCHES, MAX_PATH_MATCH_BYTES};
use weir_model::{
    FilterChain, HeaderMatch, HostMatch, PathMatch, QueryMatch, Rejection, ResourceId, ResourceKind, Route, RouteMatch,
    RouteName, RouteTableName, StringMatch,
};

use super::action;
use super::decode_resource;
use super::field_cursor::{FieldCursor, unsupported};
use super::headers;
use super::metadata::{self, WeirMetadata};
use super::value::{escaped, pattern, text_match};
use crate::proto::{self, protobuf, route as pb};

/// A decoded route table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecodedRouteTable {
    /// The name of the route table.
    pub(crate) name: RouteTableName,
    /// One host for each domain of each virtual host.
    pub(crate) hosts: Vec<DecodedHost>,
}

/// The routes of one domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecodedHost {
    /// The domain.
    pub(crate) host: HostMatch,
    /// The routes, shared by all domains of a virtual host.
    pub(crate) routes: Arc<[DecodedRoute]>,
}

/// A route without its filter chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecodedRoute {
    /// The route; its chain is empty.
    pub(crate) route: Route,
    /// By filter name: true enables it on this route, false disables it. Other filters are as the listener sets them.
    pub(crate) filters: BTreeMap<String, bool>,
    /// The name of the filter that applies the route's CORS policy, if it has one.
    pub(crate) cors_filter: Option<String>,
}

/// Decodes a `RouteConfiguration`.
pub(crate) fn route_table(name: &str, bytes: &[u8]) -> Result<DecodedRouteTable, Vec<Rejection>> {
    let resource = ResourceId { kind: ResourceKind::RouteTable, name: name.to_owned() };
    decode_resource(&resource, bytes, |message: pb::RouteConfiguration, cursor| {
        let name = cursor.field("name").checked(RouteTableName::new(&message.name))?;
        inline_route_table(message, name, cursor)
    })
}

/// Decodes a route table under this name.
pub(super) fn inline_route_table(
    message: pb::RouteConfiguration,
    name: RouteTableName,
    cursor: &FieldCursor<'_>,
) -> Option<DecodedRouteTable> {
    let pb::RouteConfiguration {
        name: _, // The parameter replaces it.
        virtual_hosts,
        vhds,
        internal_only_headers,
        response_headers_to_add,
        response_headers_to_remove,
        request_headers_to_add,
        request_headers_to_remove,
        most_specific_header_mutations_wins: _, // Only routes modify headers.
        validate_clusters: _,                   // A missing cluster has no endpoints.
        max_direct_response_body_size_bytes: _, // Direct responses have no body.
        cluster_specifier_plugins,
        request_mirror_policies,
        ignore_port_in_host_matching: _, // Always.
        vhost_header,
        ignore_path_parameters_in_path_matching,
        typed_per_filter_config,
        metadata,
        route_specifiers,
    } = message;
    unsupported!(cursor; vhds, internal_only_headers, response_headers_to_add, response_headers_to_remove,
        request_headers_to_add, request_headers_to_remove, cluster_specifier_plugins, request_mirror_policies,
        vhost_header, ignore_path_parameters_in_path_matching, route_specifiers);
    metadata::reject_own(metadata, cursor);
    let filters = filters(typed_per_filter_config, &BTreeMap::new(), cursor);
    let mut hosts: Vec<DecodedHost> = Vec::new();
    for (index, host) in virtual_hosts.into_iter().enumerate() {
        virtual_host(host, &filters, &mut hosts, &cursor.field("virtual_hosts").entry(index));
    }
    Some(DecodedRouteTable { name, hosts })
}

fn virtual_host(
    host: pb::VirtualHost,
    filters_above: &BTreeMap<String, bool>,
    hosts: &mut Vec<DecodedHost>,
    cursor: &FieldCursor<'_>,
) {
    let pb::VirtualHost {
        name,
        domains,
        routes,
        matcher,
        require_tls,
        virtual_clusters: _, // Statistics only.
        rate_limits,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        cors,
        typed_per_filter_config,
        include_request_attempt_count,
        include_attempt_count_in_response,
        retry_policy,
        retry_policy_typed_config,
        hedge_policy,
        include_is_timeout_retry_header,
        per_request_buffer_limit_bytes,
        request_body_buffer_limit,
        request_mirror_policies,
        metadata,
        route_specifiers,
    } = host;
    unsupported!(cursor; matcher, require_tls, rate_limits, request_headers_to_add, request_headers_to_remove,
        response_headers_to_add, response_headers_to_remove, cors, include_request_attempt_count,
        include_attempt_count_in_response, retry_policy, retry_policy_typed_config, hedge_policy,
        include_is_timeout_retry_header, per_request_buffer_limit_bytes, request_body_buffer_limit,
        request_mirror_policies, route_specifiers);
    metadata::reject_own(metadata, cursor);
    let filters = filters(typed_per_filter_config, filters_above, cursor);
    let read = routes.into_iter().enumerate().filter_map(|(index, message)| {
        let unnamed = format!("{name}/{index}");
        route(message, &unnamed, &filters, &cursor.field("routes").entry(index))
    });
    let routes: Arc<[DecodedRoute]> = read.collect();
    for (index, domain) in domains.iter().enumerate() {
        let cursor = cursor.field("domains").entry(index);
        let Some(host) = host_match(domain, &cursor) else { continue };
        if hosts.iter().any(|other| other.host == host) {
            cursor.reject(&format!("`{domain}` is there twice"), "name each domain in one virtual host");
        }
        hosts.push(DecodedHost { host, routes: Arc::clone(&routes) });
    }
}

/// Decodes a domain: `*`, `*.example.com` or `example.com`. Ports are ignored.
fn host_match(domain: &str, cursor: &FieldCursor<'_>) -> Option<HostMatch> {
    let domain = domain.to_ascii_lowercase();
    if domain == "*" {
        return Some(HostMatch::Any);
    }
    let suffix = domain.strip_prefix('*');
    let name = suffix.unwrap_or(&domain);
    if name.is_empty() || name.contains('*') || suffix.is_some_and(|suffix| !suffix.starts_with('.')) {
        let hint = "use `*`, `*.example.com` or `example.com`";
        return cursor.reject_value(&format!("`{domain}` is no domain that is supported"), hint);
    }
    Some(match suffix {
        Some(suffix) => HostMatch::Suffix(suffix.into()),
        None => HostMatch::Exact(name.into()),
    })
}

/// Decodes the filters that one level enables and disables. They override those of the level above.
fn filters(
    configs: HashMap<String, protobuf::Any>,
    above: &BTreeMap<String, bool>,
    cursor: &FieldCursor<'_>,
) -> BTreeMap<String, bool> {
    let mut filters = above.clone();
    for (name, config) in configs {
        let cursor = cursor.field("typed_per_filter_config").entry(&name);
        if config.type_url != proto::type_url::<pb::FilterConfig>() {
            let hint = "only turn filters on and off, with envoy.config.route.v3.FilterConfig";
            cursor.reject(&format!("is a {}", config.type_url), hint);
            continue;
        }
        let Some(config) = cursor.checked(pb::FilterConfig::decode(&*config.value)) else { continue };
        let pb::FilterConfig { config, is_optional: _, disabled } = config;
        if !disabled && config.is_none_or(|config| !config.type_url.is_empty()) {
            cursor.field("config").reject("is not empty", "`config: {}` turns the filter on");
        }
        filters.insert(name, !disabled);
    }
    filters
}

fn route(
    message: pb::Route,
    unnamed: &str,
    filters_above: &BTreeMap<String, bool>,
    cursor: &FieldCursor<'_>,
) -> Option<DecodedRoute> {
    let pb::Route {
        name,
        r#match,
        metadata,
        decorator: _, // Names a trace span.
        typed_per_filter_config,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        tracing,
        per_request_buffer_limit_bytes,
        stat_prefix: _, // Metrics have fixed names.
        request_body_buffer_limit,
        route_specifiers,
        action,
    } = message;
    unsupported!(cursor; tracing, per_request_buffer_limit_bytes, request_body_buffer_limit, route_specifiers);
    let texts = metadata::texts(metadata.as_ref());
    let mut own = WeirMetadata::of(metadata, cursor);
    let matches =
        cursor.field("match").required(r#match).and_then(|matches| route_match(matches, &cursor.field("match")));
    let action = cursor.field("action").required(action);
    let action =
        action.zip(matches.as_ref()).and_then(|(pb, matches)| action::action(pb, &matches.path, &mut own, cursor));
    own.end();
    let name = if name.is_empty() { unnamed } else { &name };
    let name = cursor.field("name").checked(RouteName::new(&name.replace(char::is_whitespace, "_")));
    let request_headers = headers::request_modifier(request_headers_to_add, request_headers_to_remove, cursor);
    let response_headers = headers::response_modifier(response_headers_to_add, response_headers_to_remove, cursor);
    let is_cors =
        |(_, config): &(String, protobuf::Any)| config.type_url == proto::type_url::<proto::cors::CorsPolicy>();
    let (cors, configs): (Vec<_>, Vec<_>) = typed_per_filter_config.into_iter().partition(is_cors);
    let policy = |(name, config): (String, protobuf::Any)| {
        let policy = super::cors::policy(&config, &cursor.field("typed_per_filter_config").entry(&name))?;
        Some((name, Arc::new(policy)))
    };
    let (cors_filter, cors) = cors.into_iter().next().and_then(policy).unzip();
    let route = Route {
        name: name?,
        matches: matches?,
        chain: FilterChain::default(),
        request_headers,
        response_headers,
        cors,
        action: action?,
        metadata: texts,
    };
    let filters = filters(configs.into_iter().collect(), filters_above, cursor);
    Some(DecodedRoute { route, filters, cors_filter })
}

fn route_match(matches: pb::RouteMatch, cursor: &FieldCursor<'_>) -> Option<RouteMatch> {
    let pb::RouteMatch {
        case_sensitive,
        runtime_fraction,
        headers,
        query_parameters,
        cookies,
        grpc,
        tls_context,
        dynamic_metadata,
        filter_state,
        path_specifier,
    } = matches;
    let case_sensitive = case_sensitive.is_some_and(|sensitive| !sensitive.value);
    unsupported!(cursor; case_sensitive, runtime_fraction, cookies, grpc, tls_context, dynamic_metadata, filter_state);
    let path = cursor.field("path_specifier").required(path_specifier).and_then(|path| path_match(path, cursor));
    if headers.len() > MAX_MATCHES + 1 || query_parameters.len() > MAX_MATCHES {
        cursor.reject("has too many headers or query parameters", &format!("at most {MAX_MATCHES} of each"));
    }
    let mut method = None;
    let mut header_matches = Vec::new();
    for (index, header) in headers.into_iter().enumerate() {
        let cursor = cursor.field("headers").entry(index);
        match header_match(header, &cursor) {
            Some(HeaderMatch { name, value }) if *name == *":method" => match value {
                StringMatch::Exact(text) if method.is_none() => method = Some(text),
                StringMatch::Exact(_) | StringMatch::Regex(_) => {
                    cursor.reject("is not one method", "give one, as `exact`");
                }
            },
            Some(HeaderMatch { name, .. }) if name.starts_with(':') && *name != *":authority" => {
                cursor.field("name").reject(&format!("`{name}` is not matched"), "match the path by its own field");
            }
            Some(HeaderMatch { name, value }) if *name == *":authority" => {
                header_matches.push(HeaderMatch { name: "host".into(), value });
            }
            Some(header) => header_matches.push(header),
            None => {}
        }
    }
    let query = query_parameters.into_iter().enumerate();
    let query = query.filter_map(|(index, query)| query_match(query, &cursor.field("query_parameters").entry(index)));
    Some(RouteMatch { path: path?, method, headers: header_matches, query: query.collect() })
}

fn path_match(path: pb::route_match::PathSpecifier, cursor: &FieldCursor<'_>) -> Option<PathMatch> {
    use pb::route_match::PathSpecifier;
    let bounded = |text: &str, cursor: &FieldCursor<'_>| {
        if text.len() > MAX_PATH_MATCH_BYTES {
            cursor.reject("is too long", &format!("at most {MAX_PATH_MATCH_BYTES} bytes"));
        }
        if !text.starts_with('/') {
            cursor.reject(&format!("`{text}` does not begin with `/`"), "");
        }
    };
    match path {
        PathSpecifier::Path(text) => {
            bounded(&text, &cursor.field("path"));
            Some(PathMatch::Exact(text.into()))
        }
        PathSpecifier::PathSeparatedPrefix(text) => {
            bounded(&text, &cursor.field("path_separated_prefix"));
            Some(PathMatch::Prefix(text.trim_end_matches('/').into()))
        }
        PathSpecifier::Prefix(text) if text == "/" || text.is_empty() => Some(PathMatch::Prefix("".into())),
        PathSpecifier::Prefix(text) => {
            let cursor = cursor.field("prefix");
            bounded(&text, &cursor);
            // Envoy's `prefix` matches characters, not segments: `/a` matches `/ab`.
            let regex = weir_model::matcher::Regex::new(&format!("{}(?s:.*)", escaped(&text)));
            cursor.checked(regex).map(PathMatch::Regex)
        }
        PathSpecifier::SafeRegex(regex) => pattern(regex, &cursor.field("safe_regex")).map(PathMatch::Regex),
        PathSpecifier::ConnectMatcher(_) => {
            cursor.field("connect_matcher").reject_value("is not supported", "CONNECT is not forwarded")
        }
        PathSpecifier::PathMatchPolicy(_) => {
            cursor.field("path_match_policy").reject_value("is not supported", "use `safe_regex`")
        }
    }
}

fn header_match(header: pb::HeaderMatcher, cursor: &FieldCursor<'_>) -> Option<HeaderMatch> {
    use pb::header_matcher::HeaderMatchSpecifier;
    let pb::HeaderMatcher { name, invert_match, treat_missing_header_as_empty, header_match_specifier } = header;
    unsupported!(cursor; invert_match, treat_missing_header_as_empty);
    let simple = |pattern| proto::matcher::StringMatcher { match_pattern: Some(pattern), ignore_case: false };
    use proto::matcher::string_matcher::MatchPattern;
    let matcher = match header_match_specifier {
        None | Some(HeaderMatchSpecifier::PresentMatch(true)) => simple(MatchPattern::Prefix(String::new())),
        Some(HeaderMatchSpecifier::StringMatch(matcher)) => matcher,
        Some(HeaderMatchSpecifier::ExactMatch(text)) => simple(MatchPattern::Exact(text)),
        Some(HeaderMatchSpecifier::PrefixMatch(text)) => simple(MatchPattern::Prefix(text)),
        Some(HeaderMatchSpecifier::SuffixMatch(text)) => simple(MatchPattern::Suffix(text)),
        Some(HeaderMatchSpecifier::ContainsMatch(text)) => simple(MatchPattern::Contains(text)),
        Some(HeaderMatchSpecifier::SafeRegexMatch(regex)) => simple(MatchPattern::SafeRegex(regex)),
        Some(HeaderMatchSpecifier::PresentMatch(false)) => {
            return cursor
                .field("present_match")
                .reject_value("is false", "that a header is absent cannot be matched yet");
        }
        Some(HeaderMatchSpecifier::RangeMatch(_)) => {
            return cursor.field("range_match").reject_value("is not supported", "use `string_match`");
        }
    };
    let value = text_match(matcher, &cursor.field("string_match"))?;
    Some(HeaderMatch { name: name.to_ascii_lowercase().into(), value })
}

fn query_match(query: pb::QueryParameterMatcher, cursor: &FieldCursor<'_>) -> Option<QueryMatch> {
    use pb::query_parameter_matcher::QueryParameterMatchSpecifier;
    let pb::QueryParameterMatcher { name, query_parameter_match_specifier } = query;
    let matcher = match query_parameter_match_specifier {
        Some(QueryParameterMatchSpecifier::StringMatch(matcher)) => matcher,
        None | Some(QueryParameterMatchSpecifier::PresentMatch(true)) => proto::matcher::StringMatcher {
            match_pattern: Some(proto::matcher::string_matcher::MatchPattern::Prefix(String::new())),
            ignore_case: false,
        },
        Some(QueryParameterMatchSpecifier::PresentMatch(false)) => {
            return cursor
                .field("present_match")
                .reject_value("is false", "that a parameter is absent cannot be matched yet");
        }
    };
    Some(QueryMatch { name: name.into(), value: text_match(matcher, &cursor.field("string_match"))? })
}
