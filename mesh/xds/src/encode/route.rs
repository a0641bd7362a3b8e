//! Encodes a route table (RDS): virtual hosts, routes, and their actions.

use std::collections::HashMap;
use std::time::Duration;

use weir_model::limits::DEFAULT_REQUEST_TIMEOUT;
use weir_model::{
    CorsPolicy, Forward, HeaderMatch, HeaderModifier, HostMatch, Mirror, PathMatch, PathRewrite, QueryMatch, Redirect,
    Route, RouteAction, RouteMatch, RouteTable, StringMatch, Timeouts, VirtualHost, WeightedCluster,
};

use super::listener::CORS;
use super::metadata::{list, metadata, object, text, with_texts};
use super::{bool_value, duration, retry, uint32_value};
use crate::proto::protobuf::Any;
use crate::proto::{core, cors, kinds, matcher, pack, route as pb};

/// Regex that matches every path. Its substitution replaces the whole path.
pub(crate) const WHOLE_PATH: &str = "^/.*$";

/// Encodes a route table.
pub(crate) fn route_table(table: &RouteTable) -> pb::RouteConfiguration {
    pb::RouteConfiguration {
        name: table.name.to_string(),
        virtual_hosts: table.virtual_hosts.iter().map(virtual_host).collect(),
        ignore_port_in_host_matching: true,
        // Clusters are sent before routes. A route to a missing cluster is answered with 503, not rejected.
        validate_clusters: Some(bool_value(false)),
        ..pb::RouteConfiguration::default()
    }
}

fn virtual_host(host: &VirtualHost) -> pb::VirtualHost {
    let domain = match &host.host {
        HostMatch::Exact(name) => name.to_string(),
        HostMatch::Suffix(suffix) => format!("*{suffix}"),
        HostMatch::Any => "*".to_owned(),
    };
    pb::VirtualHost {
        name: domain.clone(),
        domains: vec![domain],
        routes: host.routes.iter().map(|shared| route(shared)).collect(),
        ..pb::VirtualHost::default()
    }
}

fn route(route: &Route) -> pb::Route {
    let enabled = || pb::FilterConfig { config: Some(Any::default()), ..pb::FilterConfig::default() };
    let plugins = route.chain.plugins().iter().map(|plugin| (plugin.to_string(), pack(&enabled())));
    let cors = route.cors.iter().map(|policy| (CORS.to_owned(), pack(&cors_policy(policy))));
    pb::Route {
        name: route.name.to_string(),
        r#match: Some(matches(&route.matches)),
        metadata: with_texts(own_metadata(&route.action), &route.metadata),
        typed_per_filter_config: plugins.chain(cors).collect::<HashMap<_, _>>(),
        request_headers_to_add: headers_to_add(&route.request_headers),
        request_headers_to_remove: names(&route.request_headers),
        response_headers_to_add: headers_to_add(&route.response_headers),
        response_headers_to_remove: names(&route.response_headers),
        action: Some(match &route.action {
            RouteAction::Forward(to) => pb::route::Action::Route(forward(to, &route.matches.path)),
            RouteAction::Redirect(to) => pb::route::Action::Redirect(redirect(to, &route.matches.path)),
            RouteAction::Respond(answer) => direct_response(answer.status),
            RouteAction::NoBackend => direct_response(500),
        }),
        ..pb::Route::default()
    }
}

fn cors_policy(policy: &CorsPolicy) -> cors::CorsPolicy {
    cors::CorsPolicy {
        allow_origin_string_match: policy.allow_origins.iter().map(string_matcher).collect(),
        allow_methods: policy.allow_methods.to_string(),
        allow_headers: policy.allow_headers.to_string(),
        expose_headers: policy.expose_headers.to_string(),
        max_age: policy.max_age.to_string(),
        allow_credentials: Some(bool_value(policy.allow_credentials)),
        forward_not_matching_preflights: Some(bool_value(policy.forwards_other_preflights)),
        ..cors::CorsPolicy::default()
    }
}

/// The detail, under `weir.dev`, of the direct response that stands for [`RouteAction::NoBackend`].
pub(crate) const NO_BACKEND_DETAIL: &str = "no_backend_weight";

fn direct_response(status: u16) -> pb::route::Action {
    pb::route::Action::DirectResponse(pb::DirectResponseAction {
        status: u32::from(status),
        ..pb::DirectResponseAction::default()
    })
}

/// The fields that Envoy does not have: versions that a routing mark selects, the least time before a retry, and the
/// detail of a direct response.
fn own_metadata(action: &RouteAction) -> Option<core::Metadata> {
    match action {
        RouteAction::Forward(to) => {
            let version = |version: &weir_model::TargetVersion| {
                object([
                    ("of", text(version.target.as_str())),
                    ("version", text(&version.version)),
                    ("cluster", text(version.cluster.as_str())),
                ])
            };
            let versions = &to.versions;
            let versions = (!versions.is_empty()).then(|| ("versions", list(versions.iter().map(version))));
            metadata(versions.into_iter().chain(retry::own_field(to)))
        }
        RouteAction::Respond(answer) => metadata([("detail", text(&answer.detail))]),
        RouteAction::NoBackend => metadata([("detail", text(NO_BACKEND_DETAIL))]),
        RouteAction::Redirect(_) => None,
    }
}

fn matches(matches: &RouteMatch) -> pb::RouteMatch {
    use pb::route_match::PathSpecifier;
    let path = match &matches.path {
        PathMatch::Exact(path) => PathSpecifier::Path(path.to_string()),
        PathMatch::Prefix(prefix) if prefix.is_empty() => PathSpecifier::Prefix("/".to_owned()),
        PathMatch::Prefix(prefix) => PathSpecifier::PathSeparatedPrefix(prefix.to_string()),
        PathMatch::Regex(regex) => PathSpecifier::SafeRegex(pattern(regex.pattern())),
    };
    let method = matches.method.iter().map(|method| {
        let exact = StringMatch::Exact(method.clone());
        header_matcher(":method", &exact)
    });
    let header = |header: &HeaderMatch| header_matcher(&header.name, &header.value);
    let query = |query: &QueryMatch| pb::QueryParameterMatcher {
        name: query.name.to_string(),
        query_parameter_match_specifier: Some(pb::query_parameter_matcher::QueryParameterMatchSpecifier::StringMatch(
            string_matcher(&query.value),
        )),
    };
    pb::RouteMatch {
        headers: method.chain(matches.headers.iter().map(header)).collect(),
        query_parameters: matches.query.iter().map(query).collect(),
        path_specifier: Some(path),
        ..pb::RouteMatch::default()
    }
}

fn header_matcher(name: &str, value: &StringMatch) -> pb::HeaderMatcher {
    pb::HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(pb::header_matcher::HeaderMatchSpecifier::StringMatch(string_matcher(value))),
        ..pb::HeaderMatcher::default()
    }
}

fn string_matcher(text: &StringMatch) -> matcher::StringMatcher {
    let pattern = match text {
        StringMatch::Exact(text) => matcher::string_matcher::MatchPattern::Exact(text.to_string()),
        StringMatch::Regex(regex) => matcher::string_matcher::MatchPattern::SafeRegex(pattern(regex.pattern())),
    };
    matcher::StringMatcher { match_pattern: Some(pattern), ..matcher::StringMatcher::default() }
}

fn pattern(regex: &str) -> matcher::RegexMatcher {
    matcher::RegexMatcher { regex: regex.to_owned(), ..matcher::RegexMatcher::default() }
}

fn headers_to_add(modifier: &HeaderModifier) -> Vec<core::HeaderValueOption> {
    use core::header_value_option::HeaderAppendAction;
    let option = |(name, value): &(std::sync::Arc<str>, std::sync::Arc<str>), action: HeaderAppendAction| {
        core::HeaderValueOption {
            header: Some(core::HeaderValue {
                key: name.to_string(),
                // In Envoy `%` starts a command operator.
                value: value.replace('%', "%%"),
                ..core::HeaderValue::default()
            }),
            append_action: action as i32,
            keep_empty_value: true,
            ..core::HeaderValueOption::default()
        }
    };
    let edits = modifier.edits();
    let set = edits.set.iter().map(|it| option(it, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = edits.add.iter().map(|it| option(it, HeaderAppendAction::AppendIfExistsOrAdd));
    set.chain(add).collect()
}

fn names(modifier: &HeaderModifier) -> Vec<String> {
    modifier.edits().remove.iter().map(ToString::to_string).collect()
}

#[expect(deprecated, reason = "`max_grpc_timeout`")]
fn forward(to: &Forward, matched: &PathMatch) -> pb::RouteAction {
    let (prefix_rewrite, regex_rewrite) = match (&to.rewrite.path, matched) {
        (None, _) => (String::new(), None),
        (Some(PathRewrite::Full(path)), _) => (String::new(), Some(replacement(WHOLE_PATH, path))),
        // The empty prefix is encoded as `/`, so the `/` of the path is replaced, too.
        (Some(PathRewrite::Prefix(new)), PathMatch::Prefix(old)) if old.is_empty() => (format!("{new}/"), None),
        // A plain prefix rewrite would make `//x` of `/old/x`.
        (Some(PathRewrite::Prefix(new)), PathMatch::Prefix(old)) if new.is_empty() => {
            (String::new(), Some(replacement(&removed_prefix(old), "/")))
        }
        (Some(PathRewrite::Prefix(new)), _) => (new.to_string(), None),
    };
    let host = to.rewrite.host.as_ref().map(|host| host.to_string());
    pb::RouteAction {
        prefix_rewrite,
        regex_rewrite,
        timeout: to.timeouts.request.map(duration),
        max_grpc_timeout: max_grpc_timeout(&to.timeouts).map(duration),
        retry_policy: Some(retry::policy(to)),
        request_mirror_policies: to.mirrors.iter().map(mirror).collect(),
        cluster_specifier: Some(targets(&to.targets)),
        host_rewrite_specifier: host.map(pb::route_action::HostRewriteSpecifier::HostRewriteLiteral),
        ..pb::RouteAction::default()
    }
}

/// Returns the maximum of a `grpc-timeout`: the route's timeout. Deprecated in Envoy, but `max_stream_duration` turns the
/// route's timeout off.
fn max_grpc_timeout(timeouts: &Timeouts) -> Option<Duration> {
    timeouts.grpc_timeout.then(|| timeouts.request.unwrap_or(DEFAULT_REQUEST_TIMEOUT))
}

/// Encodes a regex rewrite to a literal path. A backslash would start the number of a capture group, so it is escaped.
fn replacement(regex: &str, path: &str) -> matcher::RegexMatchAndSubstitute {
    matcher::RegexMatchAndSubstitute { pattern: Some(pattern(regex)), substitution: path.replace('\\', "\\\\") }
}

/// Returns the regex of a prefix and the slashes after it.
pub(crate) fn removed_prefix(prefix: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "/-_~!@%&=:;,<>'\"`".contains(character);
    let mut regex = String::from("^");
    for character in prefix.chars() {
        if character.is_ascii() && !is_plain(character) {
            regex.push('\\');
        }
        regex.push(character);
    }
    regex.push_str("/*");
    regex
}

fn targets(targets: &[WeightedCluster]) -> pb::route_action::ClusterSpecifier {
    let weighted = |target: &WeightedCluster| pb::weighted_cluster::ClusterWeight {
        name: target.cluster.to_string(),
        weight: Some(uint32_value(target.weight.get())),
        request_headers_to_add: headers_to_add(&target.request_headers),
        request_headers_to_remove: names(&target.request_headers),
        response_headers_to_add: headers_to_add(&target.response_headers),
        response_headers_to_remove: names(&target.response_headers),
        ..pb::weighted_cluster::ClusterWeight::default()
    };
    match targets {
        [target] if target.weight == weir_model::Weight::ONE && target.is_plain() => {
            pb::route_action::ClusterSpecifier::Cluster(target.cluster.to_string())
        }
        _ => pb::route_action::ClusterSpecifier::WeightedClusters(pb::WeightedCluster {
            clusters: targets.iter().map(weighted).collect(),
            ..pb::WeightedCluster::default()
        }),
    }
}

fn mirror(mirror: &Mirror) -> pb::route_action::RequestMirrorPolicy {
    let (numerator, denominator) = (mirror.fraction.numerator(), mirror.fraction.denominator());
    let scales = [
        (100, kinds::fractional_percent::DenominatorType::Hundred),
        (10_000, kinds::fractional_percent::DenominatorType::TenThousand),
        (1_000_000, kinds::fractional_percent::DenominatorType::Million),
    ];
    // A fraction that no denominator expresses exactly is rounded down to millionths.
    let exact = scales.into_iter().find(|(scale, _)| u64::from(numerator) * scale % u64::from(denominator) == 0);
    let (scale, kind) = exact.unwrap_or(scales[2]);
    let scaled = u64::from(numerator) * scale / u64::from(denominator);
    let share =
        kinds::FractionalPercent { numerator: u32::try_from(scaled).unwrap_or(u32::MAX), denominator: kind as i32 };
    pb::route_action::RequestMirrorPolicy {
        cluster: mirror.cluster.to_string(),
        runtime_fraction: Some(core::RuntimeFractionalPercent { default_value: Some(share), ..Default::default() }),
        disable_shadow_host_suffix_append: true,
        ..pb::route_action::RequestMirrorPolicy::default()
    }
}

fn redirect(to: &Redirect, matched: &PathMatch) -> pb::RedirectAction {
    use pb::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
    let code = match to.status {
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::MovedPermanently,
    };
    let path = to.path.as_ref().map(|path| match path {
        PathRewrite::Full(path) => PathRewriteSpecifier::PathRedirect(path.to_string()),
        PathRewrite::Prefix(new) => {
            let replaces_slash = matches!(matched, PathMatch::Prefix(old) if old.is_empty());
            let end = if replaces_slash || new.is_empty() { "/" } else { "" };
            PathRewriteSpecifier::PrefixRewrite(format!("{new}{end}"))
        }
    });
    pb::RedirectAction {
        host_redirect: to.host.as_ref().map(ToString::to_string).unwrap_or_default(),
        port_redirect: to.port.map_or(0, u32::from),
        response_code: code as i32,
        scheme_rewrite_specifier: to
            .scheme
            .as_ref()
            .map(|scheme| SchemeRewriteSpecifier::SchemeRedirect(scheme.to_string())),
        path_rewrite_specifier: path,
        ..pb::RedirectAction::default()
    }
}
