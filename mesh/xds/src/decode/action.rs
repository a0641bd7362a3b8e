//! Decodes the action of a route: forward, redirect, or respond directly.

use std::sync::Arc;
use std::time::Duration;

use weir_model::limits::{DEFAULT_REQUEST_TIMEOUT, MAX_MIRRORS, MAX_TARGETS};
use weir_model::{
    ClusterName, DirectResponse, Forward, Fraction, Mirror, PathMatch, PathRewrite, Redirect, Rewrite, RouteAction,
    TargetVersion, Timeouts, Weight, WeightedCluster,
};

use super::field_cursor::{FieldCursor, unsupported};
use super::headers;
use super::metadata::WeirMetadata;
use super::retry::{self, DecodedRetry};
use super::value::duration;
use crate::encode::{NO_BACKEND_DETAIL, WHOLE_PATH, removed_prefix};
use crate::proto::{core, kinds, matcher, protobuf, route as pb};

/// Decodes an action. `own` are the fields under `weir.dev` in the route's metadata.
pub(super) fn action(
    action: pb::route::Action,
    path: &PathMatch,
    own: &mut WeirMetadata<'_>,
    cursor: &FieldCursor<'_>,
) -> Option<RouteAction> {
    match action {
        pb::route::Action::Route(to) => forward(to, path, own, &cursor.field("route")).map(RouteAction::Forward),
        pb::route::Action::Redirect(to) => redirect(to, path, &cursor.field("redirect")).map(RouteAction::Redirect),
        pb::route::Action::DirectResponse(answer) => respond(answer, own, &cursor.field("direct_response")),
        pb::route::Action::FilterAction(_) | pb::route::Action::NonForwardingAction(_) => {
            cursor.field("action").reject_value("is not supported", "use `route`, `redirect` or `direct_response`")
        }
    }
}

fn forward(
    to: pb::RouteAction,
    path: &PathMatch,
    own: &mut WeirMetadata<'_>,
    cursor: &FieldCursor<'_>,
) -> Option<Forward> {
    let pb::RouteAction {
        cluster_not_found_response_code: _, // Always 503.
        metadata_match,
        prefix_rewrite,
        regex_rewrite,
        path_rewrite_policy,
        path_rewrite,
        append_x_forwarded_host,
        timeout,
        idle_timeout,
        flush_timeout,
        early_data_policy,
        retry_policy,
        retry_policy_typed_config,
        request_mirror_policies,
        priority,
        rate_limits,
        include_vh_rate_limits,
        hash_policy,
        cors,
        max_grpc_timeout,
        grpc_timeout_offset,
        upgrade_configs,
        internal_redirect_policy,
        internal_redirect_action,
        max_internal_redirects: _, // Internal redirects are not supported.
        hedge_policy,
        max_stream_duration,
        cluster_specifier,
        host_rewrite_specifier,
    } = to;
    unsupported!(cursor; metadata_match, path_rewrite_policy, path_rewrite, append_x_forwarded_host, idle_timeout,
        flush_timeout, early_data_policy, retry_policy_typed_config, priority, rate_limits, include_vh_rate_limits,
        hash_policy, cors, grpc_timeout_offset, upgrade_configs, internal_redirect_policy,
        internal_redirect_action, hedge_policy, max_stream_duration);
    let targets =
        cursor.field("cluster_specifier").required(cluster_specifier).and_then(|specifier| targets(specifier, cursor));
    let request = timeout.and_then(|timeout| duration(timeout, &cursor.field("timeout")));
    let grpc_timeout = honors_grpc_timeout(max_grpc_timeout, request, &cursor.field("max_grpc_timeout"));
    let retry = match retry_policy {
        None => Some(DecodedRetry { policy: None, attempt_timeout: None }),
        Some(policy) => retry::policy(policy, own, &cursor.field("retry_policy")),
    };
    let mirrors = request_mirror_policies.into_iter().enumerate();
    let mirrors: Vec<Mirror> = mirrors
        .filter_map(|(index, policy)| mirror(policy, &cursor.field("request_mirror_policies").entry(index)))
        .collect();
    if mirrors.len() > MAX_MIRRORS {
        cursor.field("request_mirror_policies").reject("are too many", &format!("at most {MAX_MIRRORS}"));
    }
    let path = path_rewrite_from(PathRewriteFields { prefix: prefix_rewrite, regex: regex_rewrite }, path, cursor);
    let host = host_rewrite_specifier.and_then(|specifier| host_rewrite_from(specifier, cursor));
    let versions = own.objects("versions").into_iter().filter_map(version).collect();
    let DecodedRetry { policy: retry, attempt_timeout: backend_request } = retry?;
    Some(Forward {
        targets: targets?,
        versions,
        rewrite: Rewrite { host, path },
        mirrors,
        timeouts: Timeouts { request, backend_request, grpc_timeout },
        retry,
    })
}

/// Returns true if the `grpc-timeout` of a request limits it. Its maximum is the route's timeout.
fn honors_grpc_timeout(
    maximum: Option<protobuf::Duration>,
    request: Option<Duration>,
    cursor: &FieldCursor<'_>,
) -> bool {
    let Some(maximum) = maximum.and_then(|maximum| duration(maximum, cursor)) else { return false };
    if maximum != request.unwrap_or(DEFAULT_REQUEST_TIMEOUT) {
        cursor.reject("is not the route's `timeout`", "give both the same value; without `timeout`, 15 s");
    }
    true
}

fn version(mut entry: WeirMetadata<'_>) -> Option<TargetVersion> {
    let of = entry.required_text("of");
    let of = of.and_then(|name| entry.cursor().field("of").checked(ClusterName::new(&name)));
    let cluster = entry.required_text("cluster");
    let cluster = cluster.and_then(|name| entry.cursor().field("cluster").checked(ClusterName::new(&name)));
    let version = entry.required_text("version");
    entry.end();
    Some(TargetVersion { target: of?, version: Arc::from(version?), cluster: cluster? })
}

fn targets(specifier: pb::route_action::ClusterSpecifier, cursor: &FieldCursor<'_>) -> Option<Vec<WeightedCluster>> {
    use pb::route_action::ClusterSpecifier;
    let clusters = match specifier {
        ClusterSpecifier::Cluster(name) => {
            let cluster = cursor.field("cluster").checked(ClusterName::new(&name))?;
            return Some(vec![WeightedCluster::new(cluster, Weight::ONE)]);
        }
        ClusterSpecifier::WeightedClusters(clusters) => clusters,
        ClusterSpecifier::ClusterHeader(_)
        | ClusterSpecifier::ClusterSpecifierPlugin(_)
        | ClusterSpecifier::InlineClusterSpecifierPlugin(_) => {
            return cursor
                .field("cluster_specifier")
                .reject_value("is not supported", "use `cluster` or `weighted_clusters`");
        }
    };
    let cursor = cursor.field("weighted_clusters");
    let pb::WeightedCluster { clusters, total_weight: _, runtime_key_prefix: _, random_value_specifier } = clusters;
    unsupported!(cursor; random_value_specifier);
    let cursor = cursor.field("clusters");
    let decoded: Vec<_> =
        clusters.into_iter().enumerate().map(|(index, entry)| target(entry, &cursor.entry(index))).collect();
    let targets: Vec<WeightedCluster> = decoded.into_iter().collect::<Option<_>>()?;
    if targets.len() > MAX_TARGETS || targets.iter().all(|target| target.weight.get() == 0) {
        return cursor
            .reject_value("are too many, or all of weight 0", &format!("give 1 to {MAX_TARGETS} with weights"));
    }
    Some(targets)
}

fn target(target: pb::weighted_cluster::ClusterWeight, cursor: &FieldCursor<'_>) -> Option<WeightedCluster> {
    let pb::weighted_cluster::ClusterWeight {
        name,
        cluster_header,
        weight,
        metadata_match,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        typed_per_filter_config,
        host_rewrite_specifier,
    } = target;
    unsupported!(cursor; cluster_header, metadata_match, typed_per_filter_config, host_rewrite_specifier);
    let request_headers = headers::request_modifier(request_headers_to_add, request_headers_to_remove, cursor);
    let response_headers = headers::response_modifier(response_headers_to_add, response_headers_to_remove, cursor);
    let cluster = cursor.field("name").checked(ClusterName::new(&name));
    let weight = Weight::new(weight.map_or(0, |weight| weight.value));
    if weight.is_none() {
        cursor.field("weight").reject("is too large", "at most 1000000");
    }
    Some(WeightedCluster { cluster: cluster?, weight: weight?, request_headers, response_headers })
}

fn mirror(policy: pb::route_action::RequestMirrorPolicy, cursor: &FieldCursor<'_>) -> Option<Mirror> {
    let pb::route_action::RequestMirrorPolicy {
        cluster,
        cluster_header,
        runtime_fraction,
        trace_sampled: _,                     // Mirrored requests are not traced.
        disable_shadow_host_suffix_append: _, // The host is never modified.
        request_headers_mutations,
        host_rewrite_literal,
    } = policy;
    unsupported!(cursor; cluster_header, request_headers_mutations, host_rewrite_literal);
    let fraction = match runtime_fraction {
        None => Some(Fraction::ALL),
        Some(core::RuntimeFractionalPercent { default_value, runtime_key: _ }) => {
            let cursor = cursor.field("runtime_fraction").field("default_value");
            let kinds::FractionalPercent { numerator, denominator } = cursor.required(default_value)?;
            let denominator = match kinds::fractional_percent::DenominatorType::try_from(denominator) {
                Ok(kinds::fractional_percent::DenominatorType::Hundred) => 100,
                Ok(kinds::fractional_percent::DenominatorType::TenThousand) => 10_000,
                Ok(kinds::fractional_percent::DenominatorType::Million) => 1_000_000,
                Err(_) => return cursor.field("denominator").reject_value("is not known", ""),
            };
            cursor.checked(Fraction::new(numerator, denominator))
        }
    };
    let cluster = cursor.field("cluster").checked(ClusterName::new(&cluster));
    Some(Mirror { cluster: cluster?, fraction: fraction? })
}

/// The fields of an action that rewrite the path.
struct PathRewriteFields {
    prefix: String,
    regex: Option<matcher::RegexMatchAndSubstitute>,
}

fn path_rewrite_from(fields: PathRewriteFields, path: &PathMatch, cursor: &FieldCursor<'_>) -> Option<PathRewrite> {
    let PathRewriteFields { prefix, regex } = fields;
    if let Some(matcher::RegexMatchAndSubstitute { pattern, substitution }) = regex {
        let cursor = cursor.field("regex_rewrite");
        let matcher::RegexMatcher { regex, engine_type: _ } = cursor.required(pattern)?;
        let substitution = substitution.replace("\\\\", "\\");
        if regex == WHOLE_PATH {
            return Some(PathRewrite::Full(substitution.into()));
        }
        if matches!(path, PathMatch::Prefix(prefix) if regex == removed_prefix(prefix)) && substitution == "/" {
            return Some(PathRewrite::Prefix("".into()));
        }
        let hint = format!("use `prefix_rewrite`, or `{WHOLE_PATH}` for the whole path");
        return cursor.reject_value(&format!("`{regex}` is not supported"), &hint);
    }
    if prefix.is_empty() {
        return None;
    }
    prefix_rewrite_from(&prefix, path, &cursor.field("prefix_rewrite"))
}

/// Decodes a prefix rewrite. Envoy replaces the matched prefix literally. So when `/` is matched, the new prefix must
/// end with `/`, or it would be joined with the first segment.
fn prefix_rewrite_from(new: &str, path: &PathMatch, cursor: &FieldCursor<'_>) -> Option<PathRewrite> {
    if !new.starts_with('/') {
        return cursor.reject_value(&format!("`{new}` does not begin with `/`"), "");
    }
    match path {
        PathMatch::Prefix(old) if old.is_empty() => match new.strip_suffix('/') {
            Some(new) => Some(PathRewrite::Prefix(new.into())),
            None => cursor.reject_value("does not end with `/`", "`/` is what it replaces"),
        },
        PathMatch::Prefix(_) => Some(PathRewrite::Prefix(new.trim_end_matches('/').into())),
        PathMatch::Exact(_) => Some(PathRewrite::Full(new.into())),
        PathMatch::Regex(_) => cursor.reject_value("needs a prefix by segments", "match by `path_separated_prefix`"),
    }
}

fn host_rewrite_from(specifier: pb::route_action::HostRewriteSpecifier, cursor: &FieldCursor<'_>) -> Option<Arc<str>> {
    match specifier {
        pb::route_action::HostRewriteSpecifier::HostRewriteLiteral(host)
        | pb::route_action::HostRewriteSpecifier::HostRewrite(host) => {
            let is_plain = host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@".contains(&byte));
            if host.is_empty() || !is_plain {
                return cursor.field("host_rewrite_literal").reject_value(&format!("`{host}` is no host"), "");
            }
            Some(host.into())
        }
        pb::route_action::HostRewriteSpecifier::AutoHostRewrite(protobuf::BoolValue { value: false }) => None,
        pb::route_action::HostRewriteSpecifier::AutoHostRewrite(_)
        | pb::route_action::HostRewriteSpecifier::HostRewriteHeader(_)
        | pb::route_action::HostRewriteSpecifier::HostRewritePathRegex(_) => {
            cursor.field("host_rewrite_specifier").reject_value("is not supported", "use `host_rewrite_literal`")
        }
    }
}

fn redirect(to: pb::RedirectAction, matched: &PathMatch, cursor: &FieldCursor<'_>) -> Option<Redirect> {
    use pb::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
    let pb::RedirectAction {
        host_redirect,
        port_redirect,
        response_code,
        strip_query,
        scheme_rewrite_specifier,
        path_rewrite_specifier,
    } = to;
    unsupported!(cursor; strip_query);
    let scheme = match scheme_rewrite_specifier {
        None | Some(SchemeRewriteSpecifier::HttpsRedirect(false)) => None,
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some(Arc::from("https")),
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) if matches!(&*scheme, "http" | "https") => {
            Some(Arc::from(scheme))
        }
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => {
            return cursor
                .field("scheme_redirect")
                .reject_value(&format!("`{scheme}` is no scheme"), "use http or https");
        }
    };
    let path = match path_rewrite_specifier {
        None => None,
        Some(PathRewriteSpecifier::PathRedirect(path)) if path.contains('?') => {
            return cursor.field("path_redirect").reject_value("has a query", "the request's own query is kept");
        }
        Some(PathRewriteSpecifier::PathRedirect(path)) => Some(PathRewrite::Full(path.into())),
        Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => {
            Some(prefix_rewrite_from(&prefix, matched, &cursor.field("prefix_rewrite"))?)
        }
        Some(PathRewriteSpecifier::RegexRewrite(_) | PathRewriteSpecifier::PathRewrite(_)) => {
            return cursor
                .field("regex_rewrite")
                .reject_value("is not supported", "use `path_redirect` or `prefix_rewrite`");
        }
    };
    let port = u16::try_from(port_redirect);
    let status = match RedirectResponseCode::try_from(response_code) {
        Ok(RedirectResponseCode::MovedPermanently) => 301,
        Ok(RedirectResponseCode::Found) => 302,
        Ok(RedirectResponseCode::SeeOther) => 303,
        Ok(RedirectResponseCode::TemporaryRedirect) => 307,
        Ok(RedirectResponseCode::PermanentRedirect) => 308,
        Err(_) => return cursor.field("response_code").reject_value("is not known", ""),
    };
    let port = cursor.field("port_redirect").checked(port)?;
    let host = (!host_redirect.is_empty()).then(|| Arc::from(host_redirect));
    Some(Redirect { scheme, host, port: (port != 0).then_some(port), path, status })
}

fn respond(
    answer: pb::DirectResponseAction,
    own: &mut WeirMetadata<'_>,
    cursor: &FieldCursor<'_>,
) -> Option<RouteAction> {
    let pb::DirectResponseAction { status, body, body_format } = answer;
    unsupported!(cursor; body, body_format);
    let detail = own.text("detail").unwrap_or_else(|| "direct_response".to_owned());
    match u16::try_from(status) {
        Ok(500) if detail == NO_BACKEND_DETAIL => Some(RouteAction::NoBackend),
        Ok(status @ 200..=599) => Some(RouteAction::Respond(DirectResponse { status, detail: Arc::from(detail) })),
        _ => cursor.field("status").reject_value(&format!("{status} is no status"), "from 200 to 599"),
    }
}
