//! `BackendTrafficPolicy`: validation.

use std::time::Duration;

use weir_model::LbPolicy;
use weir_model::limits::{DEFAULT_CONNECT_TIMEOUT, DEFAULT_REQUEST_TIMEOUT};

use crate::limits::MAX_TARGET_REFS;
use crate::resource::field::{duration, is_bounded};
use crate::resource::service_ref::{CORE_SERVICE, SERVICE_ENTRY, is_service, renamed_service_hint, service_group};
use crate::spec::{
    BackendTrafficPolicySpec, LoadBalancerAlgorithm, LoadBalancerSpec, PolicyTimeouts, ServiceRef, WEIR_GROUP,
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
#[derive(Debug, Clone, Copy)]
pub(crate) struct BackendSettings {
    /// The load-balancing policy.
    pub(crate) balancing: LbPolicy,
    /// The timeout for opening a connection.
    pub(crate) connect_timeout: Duration,
    /// The timeout of a request if the route sets none; `None` for no limit.
    pub(crate) request_timeout: Option<Duration>,
}

impl Default for BackendSettings {
    fn default() -> Self {
        Self {
            balancing: LbPolicy::default(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            request_timeout: Some(DEFAULT_REQUEST_TIMEOUT),
        }
    }
}

/// Validates a BackendTrafficPolicy.
pub(crate) fn check(
    spec: BackendTrafficPolicySpec,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<BackendTrafficPolicy> {
    let BackendTrafficPolicySpec { target_refs, balancing, timeouts } = spec;
    let services = check_targets(target_refs, &path.field("targetRefs"), errors);
    let defaults = BackendSettings::default();
    let balancing = match balancing.map(|LoadBalancerSpec { algorithm }| algorithm) {
        None | Some(LoadBalancerAlgorithm::RoundRobin) => LbPolicy::RoundRobin,
        Some(LoadBalancerAlgorithm::LeastRequest) => LbPolicy::LeastRequest,
        Some(LoadBalancerAlgorithm::Random) => LbPolicy::Random,
    };
    let PolicyTimeouts { connect, request } = timeouts.unwrap_or_default();
    let at = path.field("timeouts");
    let connect_timeout = match connect {
        None => Some(defaults.connect_timeout),
        Some(text) => check_connect(&text, &at.field("connect"), errors),
    };
    let request_timeout = match request {
        None => Some(defaults.request_timeout),
        Some(text) => duration(&text, &at.field("request"), errors)
            .map(|timeout| Some(timeout).filter(|timeout| !timeout.is_zero())),
    };
    let settings = BackendSettings { balancing, connect_timeout: connect_timeout?, request_timeout: request_timeout? };
    Some(BackendTrafficPolicy { services: services?, settings })
}

fn check_connect(text: &str, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<Duration> {
    let connect = duration(text, path, errors)?;
    if connect.is_zero() {
        errors.add(path, "no time to connect", "use 1ms or more");
        return None;
    }
    Some(connect)
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
