//! `/clusters`, `/listeners`, `/plugins`: the current state of these resources, as JSON.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use http::StatusCode;
use serde::Serialize;
use weir_model::{
    ClusterName, EndpointAddress, FailurePolicy, Isolation, ListenerName, ModuleSource, PluginLimits, PluginName,
};

use crate::admin::response::{AdminResponse, json, text};
use crate::admin::state::AdminState;
use crate::telemetry::{PluginMetrics, rfc3339};
use crate::upstream::{Cluster, Endpoint, time_since_start};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterStatus<'a> {
    name: &'a ClusterName,
    requests: u64,
    failures: u64,
    retries: u64,
    in_flight: u64,
    connections: u64,
    connect_failures: u64,
    tls_failures: u64,
    endpoints: Vec<EndpointStatus>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EndpointStatus {
    address: EndpointAddress,
    weight: u32,
    version: Option<Arc<str>>,
    failures: u64,
    last_failure: Option<Arc<String>>,
    /// Absent unless the endpoint is ejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    ejected: Option<EjectionStatus>,
}

/// An ejection by outlier detection.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EjectionStatus {
    cause: &'static str,
    /// The remaining time.
    remaining_ms: u64,
    /// The time at which it ends (RFC 3339).
    until: String,
}

/// `GET /clusters`: the clusters of the active configuration.
pub(super) fn clusters(state: &AdminState, _query: &str) -> AdminResponse {
    let active = state.active.load();
    let mut clusters: Vec<_> = active.clusters.iter().map(|(name, cluster)| cluster_status(name, cluster)).collect();
    clusters.sort_by_key(|cluster| cluster.name);
    json(&clusters)
}

fn cluster_status<'a>(name: &'a ClusterName, cluster: &Cluster) -> ClusterStatus<'a> {
    let counts = cluster.counts();
    ClusterStatus {
        name,
        requests: counts.requests,
        failures: counts.failures,
        retries: counts.retries,
        in_flight: counts.in_flight,
        connections: counts.connections,
        connect_failures: counts.connect_failures,
        tls_failures: counts.tls_failures,
        endpoints: cluster.endpoints().iter().map(|endpoint| endpoint_status(endpoint)).collect(),
    }
}

fn endpoint_status(endpoint: &Endpoint) -> EndpointStatus {
    EndpointStatus {
        address: endpoint.address.clone(),
        weight: endpoint.weight,
        version: endpoint.version.clone(),
        failures: endpoint.failures(),
        last_failure: endpoint.last_failure(),
        ejected: endpoint.ejection().map(|(until, cause)| {
            let remaining = until.saturating_sub(time_since_start());
            EjectionStatus {
                cause: cause.name(),
                remaining_ms: u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX),
                until: rfc3339(SystemTime::now() + remaining),
            }
        }),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListenerStatus<'a> {
    name: &'a ListenerName,
    address: SocketAddr,
    configured: SocketAddr,
    connections: u64,
}

/// `GET /listeners`: the bound listeners with their real addresses.
pub(super) fn listeners(state: &AdminState, _query: &str) -> AdminResponse {
    let listeners = state.listeners.borrow();
    let connections = |name: &ListenerName| {
        let workers = state.metrics.workers.iter();
        workers.map(|worker| worker.listener(name).connections.value()).sum()
    };
    let pages = listeners.iter().map(|listener| ListenerStatus {
        name: &listener.name,
        address: listener.address,
        configured: listener.configured,
        connections: connections(&listener.name),
    });
    json(&pages.collect::<Vec<_>>())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PluginStatus<'a> {
    name: &'a PluginName,
    module: &'a ModuleSource,
    module_hash: String,
    failure_policy: FailurePolicy,
    /// VMs that run on workers.
    vms: u64,
    /// Started VMs that are not assigned to a worker yet.
    spare_vms: usize,
    streams: u64,
    failures: u64,
    breaker_opened: u64,
    /// `running`; `policy` while the failure policy applies without calling the plugin; `starting` while no VM runs.
    state: &'static str,
    isolation: Isolation,
    /// The remaining time with an open breaker, in milliseconds.
    breaker_open_ms: Option<u64>,
    /// Calls into the plugin.
    calls: u64,
    /// The CPU time of all calls.
    call_milliseconds: u64,
    /// The memory of running VMs.
    memory_bytes: u64,
    /// The number of times each limit was exceeded, by limit.
    limited: BTreeMap<&'static str, u64>,
    limits: &'a PluginLimits,
    restart_failures: u64,
    last_failure: Option<String>,
    /// The reason why a newer version of the plugin does not load. This version serves.
    load_failure: Option<&'a str>,
}

/// A plugin of which no version is loaded.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FailedPluginStatus<'a> {
    name: &'a PluginName,
    failure_policy: FailurePolicy,
    /// `notLoaded`.
    state: &'static str,
    /// Streams that went on without the plugin.
    skipped_streams: u64,
    /// The reason why the plugin does not load.
    load_failure: &'a str,
}

/// One entry of `/plugins`.
#[derive(Serialize)]
#[serde(untagged)]
enum PluginEntry<'a> {
    Loaded(Box<PluginStatus<'a>>),
    Failed(FailedPluginStatus<'a>),
}

impl PluginEntry<'_> {
    fn name(&self) -> &PluginName {
        match self {
            Self::Loaded(status) => status.name,
            Self::Failed(status) => status.name,
        }
    }
}

/// `GET /plugins`: the plugins of the active configuration.
pub(super) fn plugins(state: &AdminState, _query: &str) -> AdminResponse {
    let active = state.active.load();
    let mut plugins = Vec::with_capacity(active.plugins.len());
    for (name, plugin) in &active.plugins {
        let counted: Vec<_> = state.metrics.workers.iter().map(|worker| worker.plugin(name)).collect();
        let sum = |read: fn(&PluginMetrics) -> u64| counted.iter().map(|metrics| read(metrics)).sum::<u64>();
        let mut limited = BTreeMap::new();
        for (limit, count) in counted.iter().flat_map(|metrics| metrics.limited.values()) {
            *limited.entry(limit).or_default() += count;
        }
        let evicted = plugin.evicted_values();
        if evicted > 0 {
            limited.insert("sharedData", evicted);
        }
        let (vms, pause) = (plugin.stats.vms.load(Ordering::Relaxed), plugin.stats.breaker_pause());
        plugins.push(PluginEntry::Loaded(Box::new(PluginStatus {
            state: match pause {
                Some(_) => "policy",
                None if vms == 0 && plugin.model.isolation != Isolation::Stream => "starting",
                None => "running",
            },
            isolation: plugin.model.isolation,
            breaker_open_ms: pause.map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)),
            calls: sum(|metrics| metrics.calls.value()),
            call_milliseconds: sum(|metrics| metrics.call_nanoseconds.value()) / 1_000_000,
            memory_bytes: sum(|metrics| metrics.memory.value()),
            limited,
            limits: &plugin.model.limits,
            name,
            module: &plugin.model.module,
            module_hash: active.modules.get(name).map(ToString::to_string).unwrap_or_default(),
            failure_policy: plugin.model.failure,
            vms,
            spare_vms: plugin.pool().spare_count(),
            streams: sum(|metrics| metrics.streams.value()),
            failures: counted.iter().flat_map(|metrics| metrics.failures.values()).map(|(_, count)| count).sum(),
            breaker_opened: sum(|metrics| metrics.breaker_opened.value()),
            restart_failures: plugin.pool().restart_failures.load(Ordering::Relaxed),
            last_failure: plugin.stats.last_failure(),
            load_failure: active.failed_plugins.get(name).map(|failed| &*failed.reason),
        })));
    }
    for (name, failed) in active.failed_plugins.iter().filter(|(name, _)| !active.plugins.contains_key(name)) {
        let workers = state.metrics.workers.iter();
        plugins.push(PluginEntry::Failed(FailedPluginStatus {
            name,
            failure_policy: failed.failure,
            state: "notLoaded",
            skipped_streams: workers.map(|worker| worker.plugin(name).skipped.value()).sum(),
            load_failure: &failed.reason,
        }));
    }
    plugins.sort_by(|one, other| one.name().cmp(other.name()));
    json(&plugins)
}

/// `POST /plugins/reset?name=`: closes the breakers of a plugin, so that the next request calls it again.
pub(super) fn reset_plugin(state: &AdminState, query: &str) -> AdminResponse {
    let Some(name) = query.split('&').find_map(|pair| pair.strip_prefix("name=")) else {
        return text(StatusCode::BAD_REQUEST, "name the plugin: name=NAMESPACE/NAME\n");
    };
    let name = name.replace("%2F", "/").replace("%2f", "/");
    let active = state.active.load();
    match active.plugins.iter().find(|(known, _)| known.as_str() == name) {
        Some((name, plugin)) => {
            plugin.stats.reset_breakers();
            text(StatusCode::OK, &format!("the next request calls {name}\n"))
        }
        None => {
            text(StatusCode::NOT_FOUND, "the active configuration has no plugin of that name; GET /plugins lists all\n")
        }
    }
}
