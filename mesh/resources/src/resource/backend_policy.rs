//! `BackendPolicy`: how a Service's endpoints are used.

use std::time::Duration;

use weir_model::Balancing;
use weir_model::limits::{DEFAULT_CONNECT_TIMEOUT, DEFAULT_REQUEST_TIMEOUT};

use crate::document::{Faults, Path};
use crate::limits::MAX_TARGET_REFS;
use crate::resource::field::{duration, is_bounded};
use crate::resource::grants::is_service;
use crate::suggest::quoted;
use crate::written::{BackendPolicySpec, BalancingName, PolicyTimeouts, ServiceRef, WEIR_GROUP};

/// How the endpoints of Services are used.
#[derive(Debug)]
pub(crate) struct BackendPolicy {
    /// The names of the Services it is for.
    pub(crate) services: Vec<String>,
    /// What it says.
    pub(crate) settings: BackendSettings,
}

/// How a cluster's endpoints are used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BackendSettings {
    /// How one is picked.
    pub(crate) balancing: Balancing,
    /// Time to open a connection.
    pub(crate) connect_timeout: Duration,
    /// Time for a whole request and response where the route says nothing; `None` = no limit.
    pub(crate) request_timeout: Option<Duration>,
}

impl Default for BackendSettings {
    fn default() -> Self {
        Self {
            balancing: Balancing::default(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            request_timeout: Some(DEFAULT_REQUEST_TIMEOUT),
        }
    }
}

/// Checks the fields of a BackendPolicy.
pub(crate) fn check(spec: BackendPolicySpec, path: &Path<'_>, faults: &mut Faults) -> Option<BackendPolicy> {
    let BackendPolicySpec { target_refs, balancing, timeouts } = spec;
    let services = check_targets(target_refs, &path.field("targetRefs"), faults);
    let defaults = BackendSettings::default();
    let balancing = match balancing {
        None | Some(BalancingName::RoundRobin) => Balancing::RoundRobin,
        Some(BalancingName::LeastRequest) => Balancing::LeastRequest,
        Some(BalancingName::Random) => Balancing::Random,
    };
    let PolicyTimeouts { connect, request } = timeouts.unwrap_or_default();
    let at = path.field("timeouts");
    let connect_timeout = match connect {
        None => Some(defaults.connect_timeout),
        Some(text) => check_connect(&text, &at.field("connect"), faults),
    };
    let request_timeout = match request {
        None => Some(defaults.request_timeout),
        Some(text) => duration(&text, &at.field("request"), faults).map(|it| Some(it).filter(|it| !it.is_zero())),
    };
    let settings = BackendSettings { balancing, connect_timeout: connect_timeout?, request_timeout: request_timeout? };
    Some(BackendPolicy { services: services?, settings })
}

fn check_connect(text: &str, path: &Path<'_>, faults: &mut Faults) -> Option<Duration> {
    let connect = duration(text, path, faults)?;
    if connect.is_zero() {
        faults.add(path, "no time to connect", "use 1ms or more");
        return None;
    }
    Some(connect)
}

fn check_targets(targets: Vec<ServiceRef>, path: &Path<'_>, faults: &mut Faults) -> Option<Vec<String>> {
    if targets.is_empty() {
        faults.add(path, "no target", "name a Service");
    }
    if !is_bounded(&targets, MAX_TARGET_REFS, path, faults) {
        return None;
    }
    let mut services = Vec::with_capacity(targets.len());
    for (index, ServiceRef { group, kind, name }) in targets.into_iter().enumerate() {
        let at = path.entry(index);
        if !is_service(group.as_deref().unwrap_or(WEIR_GROUP), &kind) {
            let reason = format!("{} cannot have a BackendPolicy", quoted(&kind));
            faults.add(&at.field("kind"), reason, format!("write `group: {WEIR_GROUP}` and `kind: Service`"));
        }
        if services.contains(&name) {
            faults.add(&at, format!("Service {} is there already", quoted(&name)), "remove one of the two");
        }
        services.push(name);
    }
    Some(services)
}
