//! Decodes retries: the policy of a route, and the budget of a cluster.

use std::sync::Arc;
use std::time::Duration;

use weir_model::limits::{DEFAULT_RETRIES, MAX_RETRIES, MAX_RETRY_BUDGET_COUNT, MAX_RETRY_BUDGET_INTERVAL};
use weir_model::{GatewayDuration, GrpcStatusSet, RetryBackoff, RetryBudget, RetryPolicy, StatusSet};

use super::field_cursor::{FieldCursor, unsupported};
use super::metadata::WeirMetadata;
use super::value::duration;
use crate::encode::{GRPC_WORDS, PREVIOUS_HOSTS, RETRY_AFTER, RETRY_ON, idempotent_method};
use crate::proto::{cluster as pb_cluster, core, protobuf, route as pb};

/// The retries of a route, and the timeout of each of its attempts.
pub(super) struct DecodedRetry {
    /// `None` if only requests are sent again on which no endpoint can have acted.
    pub(super) policy: Option<Arc<RetryPolicy>>,
    pub(super) attempt_timeout: Option<Duration>,
}

/// Decodes a retry policy. `own` are the fields under `weir.dev` in the route's metadata.
pub(super) fn policy(
    policy: pb::RetryPolicy,
    own: &mut WeirMetadata<'_>,
    cursor: &FieldCursor<'_>,
) -> Option<DecodedRetry> {
    let pb::RetryPolicy {
        retry_on,
        num_retries,
        per_try_timeout,
        per_try_idle_timeout,
        retry_priority,
        retry_host_predicate,
        retry_options_predicates,
        host_selection_retry_max_attempts: _, // Another endpoint is always found if there is one.
        retriable_status_codes,
        retry_back_off,
        rate_limited_retry_back_off,
        retriable_headers,
        retriable_request_headers,
        refresh_cluster_on_retry,
    } = policy;
    unsupported!(cursor; per_try_idle_timeout, retry_priority, retry_options_predicates, retriable_headers,
        refresh_cluster_on_retry);
    if retry_host_predicate.iter().any(|predicate| predicate.name != PREVIOUS_HOSTS) {
        let hint = format!("only `{PREVIOUS_HOSTS}` is, and always");
        cursor.field("retry_host_predicate").reject("is not supported", &hint);
    }
    let conditions = Conditions::decode(&retry_on, &retriable_status_codes, cursor);
    let retries = num_retries.map(|number| number.value);
    if retries.is_some_and(|retries| retries > MAX_RETRIES) {
        cursor.field("num_retries").reject("is too large", &format!("at most {MAX_RETRIES}"));
    }
    let backoff = retry_back_off.map_or(Some(RetryBackoff::default()), |backoff| {
        let cursor = cursor.field("retry_back_off");
        let base = duration(cursor.field("base_interval").required(backoff.base_interval)?, &cursor)?;
        let max = backoff.max_interval.map(|max| duration(max, &cursor.field("max_interval")));
        Some(RetryBackoff { max: max.unwrap_or(Some(base.saturating_mul(10)))?, ..RetryBackoff::at_least(base) })
    });
    let minimum = minimum_backoff(own);
    let max_retry_after = rate_limited_retry_back_off
        .and_then(|limited| retry_after(limited, &cursor.field("rate_limited_retry_back_off")));
    let idempotent_only = match &*retriable_request_headers {
        [] => false,
        [only] if *only == idempotent_method() => true,
        _ => {
            let hint = "only the idempotent methods can be selected, as this control plane does it";
            cursor.field("retriable_request_headers").reject("is not supported", hint);
            false
        }
    };
    let attempt_timeout = match per_try_timeout {
        None => None,
        Some(timeout) => Some(duration(timeout, &cursor.field("per_try_timeout"))?),
    };
    let Conditions { on_reset, statuses, grpc_statuses } = conditions?;
    let is_default = !on_reset && statuses.is_empty() && grpc_statuses.is_empty();
    if is_default && retries.is_none_or(|retries| retries == DEFAULT_RETRIES) {
        return Some(DecodedRetry { policy: None, attempt_timeout });
    }
    let policy = RetryPolicy {
        retries: retries.unwrap_or(1), // As in Envoy.
        on_reset,
        statuses,
        grpc_statuses,
        idempotent_only,
        backoff: RetryBackoff { minimum: minimum?, ..backoff? },
        max_retry_after,
    };
    Some(DecodedRetry { policy: Some(Arc::new(policy)), attempt_timeout })
}

/// The conditions for a retry after an endpoint may have acted on the request.
#[derive(Default)]
struct Conditions {
    on_reset: bool,
    statuses: StatusSet,
    grpc_statuses: GrpcStatusSet,
}

impl Conditions {
    /// Decodes `retry_on` and `retriable_status_codes`.
    fn decode(retry_on: &str, codes: &[u32], cursor: &FieldCursor<'_>) -> Option<Self> {
        let mut this = Self::default();
        let mut is_known = true;
        for word in retry_on.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            is_known &= this.add(word, codes, cursor);
        }
        if !is_known {
            let hint = "use connect-failure, refused-stream, reset-before-request, reset, 5xx, gateway-error, \
                        retriable-4xx, retriable-status-codes, or the status of a gRPC response";
            return cursor.field("retry_on").reject_value(&format!("`{retry_on}` is not supported"), hint);
        }
        Some(this)
    }

    /// Adds a word of `retry_on`. Returns false if it is not known.
    fn add(&mut self, word: &str, codes: &[u32], cursor: &FieldCursor<'_>) -> bool {
        let mut insert = |statuses: &mut dyn Iterator<Item = u16>| {
            statuses.for_each(|status| {
                self.statuses.insert(status);
            });
        };
        match word {
            "5xx" => insert(&mut (500..=599)),
            "gateway-error" => insert(&mut (502..=504)),
            "retriable-4xx" => insert(&mut std::iter::once(409)),
            "retriable-status-codes" => {
                for (index, code) in codes.iter().enumerate() {
                    if !u16::try_from(*code).is_ok_and(|status| self.statuses.insert(status)) {
                        let cursor = cursor.field("retriable_status_codes").entry(index);
                        cursor.reject(&format!("{code} is no error status"), "400 to 599");
                    }
                }
            }
            "reset" | "refused-stream" => {}
            _ if RETRY_ON.split(',').any(|known| known == word) => {}
            _ => match GRPC_WORDS.iter().find(|(known, _)| *known == word) {
                Some((_, status)) => self.grpc_statuses.insert(*status),
                None => return false,
            },
        }
        self.on_reset |= matches!(word, "5xx" | "gateway-error" | "reset");
        true
    }
}

fn minimum_backoff(own: &mut WeirMetadata<'_>) -> Option<Duration> {
    let Some(text) = own.text("retryBackoffMinimum") else { return Some(Duration::ZERO) };
    let minimum = text.parse::<GatewayDuration>().map_err(|error| error.reason);
    own.cursor().field("retryBackoffMinimum").checked(minimum).map(|minimum| minimum.0)
}

/// Decodes the longest time that a `retry-after` may ask for.
fn retry_after(limited: pb::retry_policy::RateLimitedRetryBackOff, cursor: &FieldCursor<'_>) -> Option<Duration> {
    let pb::retry_policy::RateLimitedRetryBackOff { reset_headers, max_interval } = limited;
    let is_supported = |header: &pb::retry_policy::ResetHeader| {
        header.name.eq_ignore_ascii_case(RETRY_AFTER)
            && header.format == pb::retry_policy::ResetHeaderFormat::Seconds as i32
    };
    if !reset_headers.iter().all(is_supported) {
        cursor.field("reset_headers").reject("is not supported", "only `retry-after` in seconds is");
    }
    // Envoy's default.
    max_interval.map_or(Some(Duration::from_secs(300)), |max| duration(max, &cursor.field("max_interval")))
}

/// Decodes the retry budget of a cluster. `own` are the fields under `weir.dev` in the cluster's metadata.
pub(super) fn budget(
    breakers: Option<pb_cluster::CircuitBreakers>,
    own: &mut WeirMetadata<'_>,
    cursor: &FieldCursor<'_>,
) -> Option<RetryBudget> {
    let default = RetryBudget::default();
    let interval = budget_interval("retryInterval", default.interval, own);
    let min_interval = budget_interval("minRetryInterval", default.min_interval, own);
    let mut budget = RetryBudget { interval: interval?, min_interval: min_interval?, ..default };
    let Some(pb_cluster::CircuitBreakers { thresholds, per_host_thresholds }) = breakers else { return Some(budget) };
    unsupported!(cursor; per_host_thresholds);
    let mut is_valid = true;
    for (index, threshold) in thresholds.into_iter().enumerate() {
        let cursor = cursor.field("thresholds").entry(index);
        let pb_cluster::circuit_breakers::Thresholds {
            priority,
            max_connections,
            max_pending_requests,
            max_requests,
            max_retries,
            retry_budget,
            track_remaining: _, // Metrics have fixed names.
            max_connection_pools,
        } = threshold;
        unsupported!(cursor; max_connections, max_pending_requests, max_requests, max_retries, max_connection_pools);
        if priority != core::RoutingPriority::Default as i32 {
            cursor.field("priority").reject("is not supported", "use DEFAULT");
        }
        let Some(retry_budget) = retry_budget else { continue };
        let cursor = cursor.field("retry_budget");
        if let Some(interval) = retry_budget.budget_interval {
            let cursor = cursor.field("budget_interval");
            let bounds = Duration::from_secs(1)..=MAX_RETRY_BUDGET_INTERVAL;
            match duration(interval, &cursor) {
                Some(Duration::ZERO) | None => {}
                Some(interval) if bounds.contains(&interval) => budget.interval = interval,
                Some(_) => cursor.reject("is out of bounds", "1s to 1h, or 0"),
            }
        }
        if let Some(percent) = retry_budget.budget_percent {
            match (0..=100).find(|whole| f64::from(*whole) == percent.value) {
                Some(whole) => budget.percent = whole,
                None => cursor.field("budget_percent").reject("is no whole number from 0 to 100", ""),
            }
        }
        if let Some(protobuf::UInt32Value { value }) = retry_budget.min_retry_concurrency {
            budget.min_count = value;
            is_valid &= value <= MAX_RETRY_BUDGET_COUNT;
        }
        if !is_valid {
            cursor.field("min_retry_concurrency").reject("is too large", &format!("at most {MAX_RETRY_BUDGET_COUNT}"));
        }
    }
    Some(budget)
}

fn budget_interval(name: &str, default: Duration, own: &mut WeirMetadata<'_>) -> Option<Duration> {
    let Some(text) = own.text(name) else { return Some(default) };
    let interval = text.parse::<GatewayDuration>().map_err(|error| error.reason);
    let cursor = own.cursor().field(name);
    let interval = cursor.checked(interval)?.0;
    match (Duration::from_secs(1)..=MAX_RETRY_BUDGET_INTERVAL).contains(&interval) {
        true => Some(interval),
        false => cursor.reject_value("is out of bounds", "1s to 1h"),
    }
}
