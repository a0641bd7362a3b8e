//! `BackendTrafficPolicy`: validation.

use std::sync::Arc;
use std::time::Duration;

use weir_model::limits::{
    DEFAULT_CONNECT_TIMEOUT, DEFAULT_REQUEST_TIMEOUT, MAX_KEEPALIVE_PROBES, MAX_KEEPALIVE_SECONDS,
    MAX_RETRY_BUDGET_COUNT, MAX_RETRY_BUDGET_INTERVAL,
};
use weir_model::{LbPolicy, OutlierDetection, RetryBudget, TcpKeepalive, UpstreamProtocolOptions};

use crate::limits::MAX_TARGET_REFS;
use crate::resource::field::is_bounded;
use crate::resource::outlier_detection;
use crate::resource::protocol_options::{
    check_age, check_head, check_max_requests, check_optional, check_positive, check_within,
};
use crate::resource::service_ref::{CORE_SERVICE, SERVICE_ENTRY, is_service, renamed_service_hint, service_group};
use crate::spec::{
    BackendHttp1Spec, BackendTrafficPolicySpec, LoadBalancerAlgorithm, LoadBalancerSpec, MinRetryRateSpec,
    PolicyTimeouts, RetryBudgetSpec, RetryConstraintSpec, ServiceRef, TcpKeepaliveSpec, WEIR_GROUP,
};
use crate::suggest::quoted;
use crate::yaml::{FieldErrors, FieldPathRef};

/// A validated BackendTrafficPolicy.
#[derive(Debug)]
pub(crate) struct BackendTrafficPolicy {
    /// The names of the target Services.
    pub(crate) services: Vec<String>,
    /// The settings.
    pub(crate) settings: BackendSettings,
}

/// Settings of a cluster.
#[derive(Debug, Clone)]
pub(crate) struct BackendSettings {
    /// The load-balancing policy.
    pub(crate) balancing: LbPolicy,
    /// The timeout for opening a connection.
    pub(crate) connect_timeout: Duration,
    /// The timeout of a request if the route sets none; `None` for no limit.
    pub(crate) request_timeout: Option<Duration>,
    /// The outlier detection.
    pub(crate) outlier_detection: Option<Arc<OutlierDetection>>,
    /// The share of requests that may be retries; `None` for the default.
    pub(crate) retry_budget: Option<Arc<RetryBudget>>,
    /// The TCP keepalive.
    pub(crate) tcp_keepalive: TcpKeepalive,
    /// Bounds and timeouts of connections.
    pub(crate) options: UpstreamProtocolOptions,
}

impl Default for BackendSettings {
    fn default() -> Self {
        Self {
            balancing: LbPolicy::default(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            request_timeout: Some(DEFAULT_REQUEST_TIMEOUT),
            outlier_detection: None,
            retry_budget: None,
            tcp_keepalive: TcpKeepalive::default(),
            options: UpstreamProtocolOptions::default(),
        }
    }
}

/// Validates a BackendTrafficPolicy.
pub(crate) fn check(
    spec: BackendTrafficPolicySpec,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<BackendTrafficPolicy> {
    let BackendTrafficPolicySpec {
        target_refs,
        balancing,
        outlier_detection,
        retry_constraint,
        http1,
        tcp_keepalive,
        timeouts,
    } = spec;
    let services = check_targets(target_refs, &path.field("targetRefs"), errors);
    let defaults = BackendSettings::default();
    let balancing = match balancing.map(|LoadBalancerSpec { algorithm }| algorithm) {
        None | Some(LoadBalancerAlgorithm::RoundRobin) => LbPolicy::RoundRobin,
        Some(LoadBalancerAlgorithm::LeastRequest) => LbPolicy::LeastRequest,
        Some(LoadBalancerAlgorithm::Random) => LbPolicy::Random,
    };
    let outlier_detection = match outlier_detection {
        None => Some(None),
        Some(spec) => outlier_detection::check(spec, &path.field("outlierDetection"), errors).map(Some),
    };
    let retry_budget = check_retry_constraint(retry_constraint, &path.field("retryConstraint"), errors);
    let tcp_keepalive = check_keepalive(tcp_keepalive, &path.field("tcpKeepalive"), errors);
    let PolicyTimeouts { connect, request, connection_idle, connection_age } = timeouts.unwrap_or_default();
    let at = path.field("timeouts");
    let connect_timeout = match connect {
        None => Some(defaults.connect_timeout),
        Some(text) => check_positive(&text, &at.field("connect"), errors),
    };
    let request_timeout = check_optional(request, defaults.request_timeout, &at.field("request"), errors);
    let idle_timeout =
        check_optional(connection_idle, defaults.options.idle_timeout, &at.field("connectionIdle"), errors);
    let max_age = check_age(connection_age, &at, errors);
    let at = path.field("http1");
    let BackendHttp1Spec { max_head_bytes, max_headers, max_requests_per_connection, preserve_header_case } =
        http1.unwrap_or_default();
    let head = check_head(max_head_bytes.as_deref(), max_headers, &at, errors);
    let max_requests = check_max_requests(max_requests_per_connection, &at, errors);
    let options = UpstreamProtocolOptions {
        head: head?,
        preserve_header_case: preserve_header_case.unwrap_or(defaults.options.preserve_header_case),
        max_requests,
        idle_timeout: idle_timeout?.0,
        max_age,
    };
    let (connect_timeout, request_timeout) = (connect_timeout?, request_timeout?.0.or(Some(Duration::ZERO)));
    let settings = BackendSettings {
        balancing,
        connect_timeout,
        request_timeout,
        outlier_detection: outlier_detection?,
        retry_budget: retry_budget?.shared(),
        tcp_keepalive: tcp_keepalive?,
        options,
    };
    Some(BackendTrafficPolicy { services: services?, settings })
}

fn check_retry_constraint(
    spec: Option<RetryConstraintSpec>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<RetryBudget> {
    let default = RetryBudget::default();
    let RetryConstraintSpec { budget, min_retry_rate } = spec.unwrap_or_default();
    let (RetryBudgetSpec { percent, interval }, at) = (budget.unwrap_or_default(), path.field("budget"));
    let percent = percent.unwrap_or(default.percent);
    let bounds = || Duration::from_secs(1)..=MAX_RETRY_BUDGET_INTERVAL;
    let interval = check_within(interval, default.interval, bounds(), &at.field("interval"), errors);
    if percent > 100 {
        errors.add(&at.field("percent"), format!("{percent} of 100 requests"), "0 to 100");
    }
    let (MinRetryRateSpec { count, interval: min_interval }, at) =
        (min_retry_rate.unwrap_or_default(), path.field("minRetryRate"));
    let min_count = count.unwrap_or(default.min_count);
    let min_interval = check_within(min_interval, default.min_interval, bounds(), &at.field("interval"), errors);
    if min_count > MAX_RETRY_BUDGET_COUNT {
        errors.add(&at.field("count"), "out of bounds", format!("0 to {MAX_RETRY_BUDGET_COUNT}"));
    }
    if let (Some(interval), Some(min_interval)) = (interval, min_interval)
        && min_interval > interval
    {
        errors.add(&at.field("interval"), "longer than `budget.interval`", "make it at most as long");
        return None;
    }
    let is_valid = percent <= 100 && min_count <= MAX_RETRY_BUDGET_COUNT;
    Some(RetryBudget { percent, interval: interval?, min_count, min_interval: min_interval? }).filter(|_| is_valid)
}

/// Validates a TCP keepalive. The kernel counts in whole seconds.
fn check_keepalive(
    spec: Option<TcpKeepaliveSpec>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<TcpKeepalive> {
    let TcpKeepaliveSpec { idle_time, interval, probes } = spec.unwrap_or_default();
    let default = TcpKeepalive::default();
    let idle_seconds = check_seconds(idle_time, default.idle_seconds, &path.field("idleTime"), errors);
    let interval_seconds = check_seconds(interval, default.interval_seconds, &path.field("interval"), errors);
    let probes = probes.unwrap_or(default.probes);
    if !(1..=MAX_KEEPALIVE_PROBES).contains(&probes) {
        errors.add(&path.field("probes"), "out of bounds", format!("1 to {MAX_KEEPALIVE_PROBES}"));
        return None;
    }
    Some(TcpKeepalive { idle_seconds: idle_seconds?, interval_seconds: interval_seconds?, probes })
}

/// Validates a time of whole seconds within the kernel's bounds.
fn check_seconds(text: Option<String>, default: u32, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<u32> {
    let Some(text) = text else { return Some(default) };
    let time = check_positive(&text, path, errors)?;
    let seconds = u32::try_from(time.as_secs()).ok().filter(|seconds| *seconds <= MAX_KEEPALIVE_SECONDS);
    match seconds.filter(|_| time.subsec_nanos() == 0) {
        Some(seconds) => Some(seconds),
        None => {
            errors.add(path, "no whole seconds within bounds", format!("`1s` to `{MAX_KEEPALIVE_SECONDS}s`"));
            None
        }
    }
}

fn check_targets(targets: Vec<ServiceRef>, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<Vec<String>> {
    if targets.is_empty() {
        errors.add(path, "no target", "name a Service");
    }
    if !is_bounded(&targets, MAX_TARGET_REFS, path, errors) {
        return None;
    }
    let mut services = Vec::with_capacity(targets.len());
    for (index, ServiceRef { group, kind, name }) in targets.into_iter().enumerate() {
        let at = path.entry(index);
        let group = group.as_deref().unwrap_or_else(|| service_group(&kind));
        if let Some(hint) = renamed_service_hint(group, &kind) {
            errors.add(&at.field("kind"), format!("no kind {} in group `{WEIR_GROUP}`", quoted(&kind)), hint);
        } else if !is_service(group, &kind) {
            let reason = format!("{} cannot have a BackendTrafficPolicy", quoted(&kind));
            errors.add(&at.field("kind"), reason, format!("write `kind: {CORE_SERVICE}`, or `kind: {SERVICE_ENTRY}`"));
        }
        if services.contains(&name) {
            errors.add(&at, format!("Service {} is there already", quoted(&name)), "remove one of the two");
        }
        services.push(name);
    }
    Some(services)
}
