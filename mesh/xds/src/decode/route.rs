//! Route tables: virtual hosts, routes, and which filters each route turns on and off. What becomes of a request is in
//! `action.rs`. Which plugins a route's requests go through is settled in `held.rs`, because the order is the listener's.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use prost::Message;
use weir_model::limits::{MAX_MATCHES, MAX_PATH_MATCH_BYTES};
use weir_model::{
    FilterChain, HeaderEdits, HeaderMatch, HostMatch, PathMatch, QueryMatch, Rejection, ResourceId, ResourceKind,
    Route, RouteMatch, RouteName, RouteTableName, TextMatch,
};

use super::action;
use super::fault::{Spot, unsupported};
use super::metadata::{self, Entries};
use super::value::{escaped, pattern, text_match};
use super::whole;
use crate::proto::{self, core, protobuf, route as pb};

/// A route table as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecodedRouteTable {
    /// Its name.
    pub(crate) name: RouteTableName,
    /// Its hosts; one for each domain.
    pub(crate) hosts: Vec<DecodedHost>,
}

/// The routes of one host or family of hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecodedHost {
    /// Which hosts.
    pub(crate) host: HostMatch,
    /// Shared by all domains of a virtual host.
    pub(crate) routes: Arc<[DecodedRoute]>,
}

/// A route without its filter chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecodedRoute {
    /// The route; its chain is empty.
    pub(crate) route: Route,
    /// By the listener's name of a filter: whether it runs. Others run as the listener says.
    pub(crate) filters: BTreeMap<String, bool>,
}

/// Decodes a `RouteConfiguration`.
pub(crate) fn route_table(name: &str, bytes: &[u8]) -> Result<DecodedRouteTable, Vec<Rejection>> {
    let resource = ResourceId { kind: ResourceKind::RouteTable, name: name.to_owned() };
    whole(&resource, bytes, |message: pb::RouteConfiguration, spot| {
        let name = spot.field("name").checked(RouteTableName::new(&message.name))?;
        inline_route_table(message, name, spot)
    })
}

/// A route table of this name.
pub(super) fn inline_route_table(
    message: pb::RouteConfiguration,
    name: RouteTableName,
    spot: &Spot<'_>,
) -> Option<DecodedRouteTable> {
    let pb::RouteConfiguration {
        name: _, // The one that is given.
        virtual_hosts,
        vhds,
        internal_only_headers,
        response_headers_to_add,
        response_headers_to_remove,
        request_headers_to_add,
        request_headers_to_remove,
        most_specific_header_mutations_wins: _, // There is one level.
        validate_clusters: _,                   // A missing cluster is waited for.
        max_direct_response_body_size_bytes: _, // There are no bodies.
        cluster_specifier_plugins,
        request_mirror_policies,
        ignore_port_in_host_matching: _, // Always.
        vhost_header,
        ignore_path_parameters_in_path_matching,
        typed_per_filter_config,
        metadata,
        route_specifiers,
    } = message;
    unsupported!(spot; vhds, internal_only_headers, response_headers_to_add, response_headers_to_remove,
        request_headers_to_add, request_headers_to_remove, cluster_specifier_plugins, request_mirror_policies,
        vhost_header, ignore_path_parameters_in_path_matching, route_specifiers);
    metadata::nothing(metadata, spot);
    let filters = filters(typed_per_filter_config, &BTreeMap::new(), spot);
    let mut hosts: Vec<DecodedHost> = Vec::new();
    for (index, host) in virtual_hosts.into_iter().enumerate() {
        virtual_host(host, &filters, &mut hosts, &spot.field("virtual_hosts").entry(index));
    }
    Some(DecodedRouteTable { name, hosts })
}

fn virtual_host(
    host: pb::VirtualHost,
    filters_above: &BTreeMap<String, bool>,
    hosts: &mut Vec<DecodedHost>,
    spot: &Spot<'_>,
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
    unsupported!(spot; matcher, require_tls, rate_limits, request_headers_to_add, request_headers_to_remove,
        response_headers_to_add, response_headers_to_remove, cors, include_request_attempt_count,
        include_attempt_count_in_response, retry_policy, retry_policy_typed_config, hedge_policy,
        include_is_timeout_retry_header, per_request_buffer_limit_bytes, request_body_buffer_limit,
        request_mirror_policies, route_specifiers);
    metadata::nothing(metadata, spot);
    let filters = filters(typed_per_filter_config, filters_above, spot);
    let read = routes.into_iter().enumerate().filter_map(|(index, message)| {
        let unnamed = format!("{name}/{index}");
        route(message, &unnamed, &filters, &spot.field("routes").entry(index))
    });
    let routes: Arc<[DecodedRoute]> = read.collect();
    for (index, domain) in domains.iter().enumerate() {
        let spot = spot.field("domains").entry(index);
        let Some(host) = host_match(domain, &spot) else { continue };
        if hosts.iter().any(|other| other.host == host) {
            spot.refuse(&format!("`{domain}` is there twice"), "name each domain in one virtual host");
        }
        hosts.push(DecodedHost { host, routes: Arc::clone(&routes) });
    }
}

/// `*`, `*.example.com` or `example.com`; ports are not compared.
fn host_match(domain: &str, spot: &Spot<'_>) -> Option<HostMatch> {
    let domain = domain.to_ascii_lowercase();
    if domain == "*" {
        return Some(HostMatch::Any);
    }
    let suffix = domain.strip_prefix('*');
    let name = suffix.unwrap_or(&domain);
    if name.is_empty() || name.contains('*') || suffix.is_some_and(|suffix| !suffix.starts_with('.')) {
        let hint = "use `*`, `*.example.com` or `example.com`";
        return spot.none(&format!("`{domain}` is no domain that is supported"), hint);
    }
    Some(match suffix {
        Some(suffix) => HostMatch::Suffix(suffix.into()),
        None => HostMatch::Exact(name.into()),
    })
}

/// What a level turns on and off, on top of the level above.
fn filters(
    configs: HashMap<String, protobuf::Any>,
    above: &BTreeMap<String, bool>,
    spot: &Spot<'_>,
) -> BTreeMap<String, bool> {
    let mut filters = above.clone();
    for (name, config) in configs {
        let spot = spot.field("typed_per_filter_config").entry(&name);
        if config.type_url != proto::type_url::<pb::FilterConfig>() {
            let hint = "only turn filters on and off, with envoy.config.route.v3.FilterConfig";
            spot.refuse(&format!("is a {}", config.type_url), hint);
            continue;
        }
        let Some(config) = spot.checked(pb::FilterConfig::decode(&*config.value)) else { continue };
        let pb::FilterConfig { config, is_optional: _, disabled } = config;
        if !disabled && config.is_none_or(|config| !config.type_url.is_empty()) {
            spot.field("config").refuse("is not empty", "`config: {}` turns the filter on");
        }
        filters.insert(name, !disabled);
    }
    filters
}

fn route(
    message: pb::Route,
    unnamed: &str,
    filters_above: &BTreeMap<String, bool>,
    spot: &Spot<'_>,
) -> Option<DecodedRoute> {
    let pb::Route {
        name,
        r#match,
        metadata,
        decorator: _, // The name of a span.
        typed_per_filter_config,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        tracing,
        per_request_buffer_limit_bytes,
        stat_prefix: _, // Our statistics have names of their own.
        request_body_buffer_limit,
        route_specifiers,
        action,
    } = message;
    unsupported!(spot; tracing, per_request_buffer_limit_bytes, request_body_buffer_limit, route_specifiers);
    let texts = metadata::texts(metadata.as_ref());
    let mut own = Entries::of(metadata, spot);
    let matches = spot.field("match").required(r#match).and_then(|matches| route_match(matches, &spot.field("match")));
    let action = spot.field("action").required(action);
    let action =
        action.zip(matches.as_ref()).and_then(|(it, matches)| action::action(it, &matches.path, &mut own, spot));
    own.end();
    let name = if name.is_empty() { unnamed } else { &name };
    let name = spot.field("name").checked(RouteName::new(&name.replace(char::is_whitespace, "_")));
    let request_headers = (request_headers_to_add, request_headers_to_remove);
    let response_headers = (response_headers_to_add, response_headers_to_remove);
    let route = Route {
        name: name?,
        matches: matches?,
        chain: FilterChain::default(),
        request_headers: header_edits(request_headers, ("request_headers_to_add", "request_headers_to_remove"), spot),
        response_headers: header_edits(
            response_headers,
            ("response_headers_to_add", "response_headers_to_remove"),
            spot,
        ),
        action: action?,
        metadata: texts,
    };
    Some(DecodedRoute { route, filters: filters(typed_per_filter_config, filters_above, spot) })
}

fn route_match(matches: pb::RouteMatch, spot: &Spot<'_>) -> Option<RouteMatch> {
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
    unsupported!(spot; case_sensitive, runtime_fraction, cookies, grpc, tls_context, dynamic_metadata, filter_state);
    let path = spot.field("path_specifier").required(path_specifier).and_then(|path| path_match(path, spot));
    if headers.len() > MAX_MATCHES + 1 || query_parameters.len() > MAX_MATCHES {
        spot.refuse("has too many headers or query parameters", &format!("at most {MAX_MATCHES} of each"));
    }
    let mut method = None;
    let mut header_matches = Vec::new();
    for (index, header) in headers.into_iter().enumerate() {
        let spot = spot.field("headers").entry(index);
        match header_match(header, &spot) {
            Some(HeaderMatch { name, value }) if *name == *":method" => match value {
                TextMatch::Exact(text) if method.is_none() => method = Some(text),
                TextMatch::Exact(_) | TextMatch::Regex(_) => spot.refuse("is not one method", "give one, as `exact`"),
            },
            Some(HeaderMatch { name, .. }) if name.starts_with(':') && *name != *":authority" => {
                spot.field("name").refuse(&format!("`{name}` is not matched"), "match the path by its own field");
            }
            Some(HeaderMatch { name, value }) if *name == *":authority" => {
                header_matches.push(HeaderMatch { name: "host".into(), value });
            }
            Some(header) => header_matches.push(header),
            None => {}
        }
    }
    let query = query_parameters.into_iter().enumerate();
    let query = query.filter_map(|(index, query)| query_match(query, &spot.field("query_parameters").entry(index)));
    Some(RouteMatch { path: path?, method, headers: header_matches, query: query.collect() })
}

fn path_match(path: pb::route_match::PathSpecifier, spot: &Spot<'_>) -> Option<PathMatch> {
    use pb::route_match::PathSpecifier;
    let bounded = |text: &str, spot: &Spot<'_>| {
        if text.len() > MAX_PATH_MATCH_BYTES {
            spot.refuse("is too long", &format!("at most {MAX_PATH_MATCH_BYTES} bytes"));
        }
        if !text.starts_with('/') {
            spot.refuse(&format!("`{text}` does not begin with `/`"), "");
        }
    };
    match path {
        PathSpecifier::Path(text) => {
            bounded(&text, &spot.field("path"));
            Some(PathMatch::Exact(text.into()))
        }
        PathSpecifier::PathSeparatedPrefix(text) => {
            bounded(&text, &spot.field("path_separated_prefix"));
            Some(PathMatch::Prefix(text.trim_end_matches('/').into()))
        }
        PathSpecifier::Prefix(text) if text == "/" || text.is_empty() => Some(PathMatch::Prefix("".into())),
        PathSpecifier::Prefix(text) => {
            let spot = spot.field("prefix");
            bounded(&text, &spot);
            // By characters, not by segments: `/a` is the beginning of `/ab`.
            let regex = weir_model::matcher::Regex::new(&format!("{}(?s:.*)", escaped(&text)));
            spot.checked(regex).map(PathMatch::Regex)
        }
        PathSpecifier::SafeRegex(regex) => pattern(regex, &spot.field("safe_regex")).map(PathMatch::Regex),
        PathSpecifier::ConnectMatcher(_) => {
            spot.field("connect_matcher").none("is not supported", "CONNECT is not forwarded")
        }
        PathSpecifier::PathMatchPolicy(_) => {
            spot.field("path_match_policy").none("is not supported", "use `safe_regex`")
        }
    }
}

fn header_match(header: pb::HeaderMatcher, spot: &Spot<'_>) -> Option<HeaderMatch> {
    use pb::header_matcher::HeaderMatchSpecifier;
    let pb::HeaderMatcher { name, invert_match, treat_missing_header_as_empty, header_match_specifier } = header;
    unsupported!(spot; invert_match, treat_missing_header_as_empty);
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
            return spot.field("present_match").none("is false", "that a header is absent cannot be matched yet");
        }
        Some(HeaderMatchSpecifier::RangeMatch(_)) => {
            return spot.field("range_match").none("is not supported", "use `string_match`");
        }
    };
    let value = text_match(matcher, &spot.field("string_match"))?;
    Some(HeaderMatch { name: name.to_ascii_lowercase().into(), value })
}

fn query_match(query: pb::QueryParameterMatcher, spot: &Spot<'_>) -> Option<QueryMatch> {
    use pb::query_parameter_matcher::QueryParameterMatchSpecifier;
    let pb::QueryParameterMatcher { name, query_parameter_match_specifier } = query;
    let matcher = match query_parameter_match_specifier {
        Some(QueryParameterMatchSpecifier::StringMatch(matcher)) => matcher,
        None | Some(QueryParameterMatchSpecifier::PresentMatch(true)) => proto::matcher::StringMatcher {
            match_pattern: Some(proto::matcher::string_matcher::MatchPattern::Prefix(String::new())),
            ignore_case: false,
        },
        Some(QueryParameterMatchSpecifier::PresentMatch(false)) => {
            return spot.field("present_match").none("is false", "that a parameter is absent cannot be matched yet");
        }
    };
    Some(QueryMatch { name: name.into(), value: text_match(matcher, &spot.field("string_match"))? })
}

type Edits = (Vec<core::HeaderValueOption>, Vec<String>);

fn header_edits((to_add, to_remove): Edits, (added, removed): (&str, &str), spot: &Spot<'_>) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    for (index, option) in to_add.into_iter().enumerate() {
        header_edit(option, &mut edits, &spot.field(added).entry(index));
    }
    for (index, name) in to_remove.into_iter().enumerate() {
        let spot = spot.field(removed).entry(index);
        edits.remove.extend(header_name(&name, &spot));
    }
    edits
}

fn header_edit(option: core::HeaderValueOption, edits: &mut HeaderEdits, spot: &Spot<'_>) {
    use core::header_value_option::HeaderAppendAction;
    let core::HeaderValueOption { header, append, append_action, keep_empty_value } = option;
    let Some(core::HeaderValue { key, value, raw_value }) = spot.field("header").required(header) else { return };
    let value_spot = spot.field("header").field("value");
    let value = if value.is_empty() { String::from_utf8(raw_value).unwrap_or_default() } else { value };
    let Some(name) = header_name(&key, &spot.field("header").field("key")) else { return };
    if value.is_empty() && !keep_empty_value {
        value_spot.refuse("is empty", "an empty value needs `keep_empty_value: true`");
    }
    let plain = value.replace("%%", "");
    if plain.contains('%') {
        value_spot.refuse("has a variable", "write `%%` for a percent sign; variables are not supported");
    }
    if value.bytes().any(|byte| byte < b' ' && byte != b'\t' || byte == 0x7f) {
        value_spot.refuse("has a control character", "leave it out");
    }
    let value = value.replace("%%", "%").into();
    let action = match append {
        // Deprecated, and still what many write.
        Some(protobuf::BoolValue { value: false }) => Ok(HeaderAppendAction::OverwriteIfExistsOrAdd),
        Some(protobuf::BoolValue { value: true }) => Ok(HeaderAppendAction::AppendIfExistsOrAdd),
        None => HeaderAppendAction::try_from(append_action),
    };
    match action {
        Ok(HeaderAppendAction::AppendIfExistsOrAdd) => edits.add.push((name, value)),
        Ok(HeaderAppendAction::OverwriteIfExistsOrAdd) => edits.set.push((name, value)),
        Ok(HeaderAppendAction::AddIfAbsent | HeaderAppendAction::OverwriteIfExists) | Err(_) => {
            let hint = "use APPEND_IF_EXISTS_OR_ADD or OVERWRITE_IF_EXISTS_OR_ADD";
            spot.field("append_action").refuse("is not supported", hint);
        }
    }
}

/// A header that may be changed, in lower case (RFC 9110 §5.6.2).
fn header_name(name: &str, spot: &Spot<'_>) -> Option<Arc<str>> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return spot.none(&format!("`{name}` is no header name"), "pseudo headers are changed by a rewrite");
    }
    Some(name.to_ascii_lowercase().into())
}
