//! Encodes retries: the policy of a route, and the budget of a cluster.

use weir_model::limits::DEFAULT_RETRIES;
use weir_model::{Forward, GatewayDuration, GrpcStatusSet, RetryBudget, RetryPolicy};

use super::metadata::text;
use super::{duration, uint32_value};
use crate::proto::protobuf::Value;
use crate::proto::{PreviousHosts, cluster as pb_cluster, core, kinds, matcher, pack, route as pb};

/// The conditions under which each request is sent again, with a policy or without one: no endpoint can have acted on
/// it.
pub(crate) const RETRY_ON: &str = "connect-failure,reset-before-request";

/// Envoy's name of the predicate that avoids the endpoints of earlier attempts.
pub(crate) const PREVIOUS_HOSTS: &str = "envoy.retry_host_predicates.previous_hosts";

/// The header with the time after which a request may be sent again.
pub(crate) const RETRY_AFTER: &str = "retry-after";

/// The expression of the idempotent methods (RFC 9110 §9.2.2).
pub(crate) const IDEMPOTENT: &str = "GET|HEAD|OPTIONS|TRACE|PUT|DELETE";

/// The words of Envoy's `retry_on` for gRPC statuses.
pub(crate) const GRPC_WORDS: [(&str, u32); 5] =
    [("cancelled", 1), ("deadline-exceeded", 4), ("internal", 13), ("resource-exhausted", 8), ("unavailable", 14)];

/// Envoy's attempts to pick another endpoint.
const HOST_SELECTIONS: i64 = 5;

/// Encodes the retries of a route.
pub(super) fn policy(to: &Forward) -> pb::RetryPolicy {
    let per_try_timeout = to.timeouts.backend_request.map(duration);
    let Some(policy) = to.retry.as_deref() else {
        return pb::RetryPolicy {
            retry_on: RETRY_ON.to_owned(),
            num_retries: Some(uint32_value(DEFAULT_RETRIES)),
            per_try_timeout,
            ..pb::RetryPolicy::default()
        };
    };
    let previous = pb::retry_policy::RetryHostPredicate {
        name: PREVIOUS_HOSTS.to_owned(),
        config_type: Some(pb::retry_policy::retry_host_predicate::ConfigType::TypedConfig(pack(&PreviousHosts {}))),
    };
    let reset_header = pb::retry_policy::ResetHeader {
        name: RETRY_AFTER.to_owned(),
        format: pb::retry_policy::ResetHeaderFormat::Seconds as i32,
    };
    pb::RetryPolicy {
        retry_on: conditions(policy),
        num_retries: Some(uint32_value(policy.retries)),
        per_try_timeout,
        retry_host_predicate: vec![previous],
        host_selection_retry_max_attempts: HOST_SELECTIONS,
        retriable_status_codes: policy.statuses.iter().map(u32::from).collect(),
        retry_back_off: Some(pb::retry_policy::RetryBackOff {
            base_interval: Some(duration(policy.backoff.base)),
            max_interval: Some(duration(policy.backoff.max)),
        }),
        rate_limited_retry_back_off: policy.max_retry_after.map(|max| pb::retry_policy::RateLimitedRetryBackOff {
            reset_headers: vec![reset_header],
            max_interval: Some(duration(max)),
        }),
        retriable_request_headers: policy.idempotent_only.then(idempotent_method).into_iter().collect(),
        ..pb::RetryPolicy::default()
    }
}

fn conditions(policy: &RetryPolicy) -> String {
    let grpc: GrpcStatusSet = policy.grpc_statuses;
    let mut words = vec![RETRY_ON];
    words.extend(policy.on_reset.then_some("reset"));
    words.extend((!policy.statuses.is_empty()).then_some("retriable-status-codes"));
    words.extend(GRPC_WORDS.iter().filter(|(_, status)| grpc.contains(*status)).map(|(word, _)| *word));
    words.join(",")
}

/// Returns the match of requests with an idempotent method. Envoy does not send any other request again, not even one
/// that reached no endpoint.
pub(crate) fn idempotent_method() -> pb::HeaderMatcher {
    let regex = matcher::RegexMatcher { regex: IDEMPOTENT.to_owned(), ..matcher::RegexMatcher::default() };
    let pattern = matcher::string_matcher::MatchPattern::SafeRegex(regex);
    let text = matcher::StringMatcher { match_pattern: Some(pattern), ..matcher::StringMatcher::default() };
    pb::HeaderMatcher {
        name: ":method".to_owned(),
        header_match_specifier: Some(pb::header_matcher::HeaderMatchSpecifier::StringMatch(text)),
        ..pb::HeaderMatcher::default()
    }
}

/// Returns the field of a route that Envoy does not have: the least time before a retry.
pub(super) fn own_field(to: &Forward) -> Option<(&'static str, Value)> {
    let minimum = to.retry.as_ref()?.backoff.minimum;
    (!minimum.is_zero()).then(|| ("retryBackoffMinimum", text(&GatewayDuration(minimum).to_string())))
}

/// Encodes the retry budget of a cluster. Envoy counts retries in flight, not those of an interval.
pub(super) fn budget(budget: &RetryBudget) -> pb_cluster::CircuitBreakers {
    use pb_cluster::circuit_breakers::{Thresholds, thresholds};
    pb_cluster::CircuitBreakers {
        thresholds: vec![Thresholds {
            priority: core::RoutingPriority::Default as i32,
            retry_budget: Some(thresholds::RetryBudget {
                budget_percent: Some(kinds::Percent { value: f64::from(budget.percent) }),
                min_retry_concurrency: Some(uint32_value(budget.min_count)),
                budget_interval: None, // With it, Envoy allows that share of the requests at the same time.
            }),
            ..Thresholds::default()
        }],
        ..pb_cluster::CircuitBreakers::default()
    }
}

/// Returns the fields of a cluster that Envoy does not have: the intervals of its retry budget.
pub(super) fn own_budget_fields(budget: &RetryBudget) -> impl Iterator<Item = (&'static str, Value)> {
    let default = RetryBudget::default();
    let field =
        |name: &'static str, time, default| (time != default).then(|| (name, text(&GatewayDuration(time).to_string())));
    let interval = field("retryInterval", budget.interval, default.interval);
    interval.into_iter().chain(field("minRetryInterval", budget.min_interval, default.min_interval))
}
