//! `/clusters`, `/listeners`, `/plugins`: how each of them fares now, as JSON.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::StatusCode;
use serde::Serialize;
use weir_model::{ClusterName, FailurePolicy, Isolation, ListenerName, ModuleSource, PluginLimits, PluginName};

use crate::admin::Admin;
use crate::admin::server::{Page, json, text};
use crate::telemetry::PluginMetrics;
use crate::upstream::{Cluster, Endpoint};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterState<'a> {
    name: &'a ClusterName,
    requests: u64,
    failures: u64,
    retries: u64,
    in_flight: u64,
    connections: u64,
    connect_failures: u64,
    endpoints: Vec<EndpointState>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EndpointState {
    address: SocketAddr,
    weight: u32,
    version: Option<Arc<str>>,
    failures: u64,
    last_failure: Option<Arc<String>>,
}

/// The clusters that serve.
pub(super) fn clusters(admin: &Admin) -> Page {
    let active = admin.active.load();
    let mut clusters: Vec<_> = active.clusters.iter().map(|(name, cluster)| cluster_state(name, cluster)).collect();
    clusters.sort_by_key(|cluster| cluster.name);
    json(&clusters)
}

fn cluster_state<'a>(name: &'a ClusterName, cluster: &Cluster) -> ClusterState<'a> {
    let counts = cluster.counts();
    ClusterState {
        name,
        requests: counts.requests,
        failures: counts.failures,
        retries: counts.retries,
        in_flight: counts.in_flight,
        connections: counts.connections,
        connect_failures: counts.connect_failures,
        endpoints: cluster.endpoints().iter().map(|endpoint| endpoint_state(endpoint)).collect(),
    }
}

fn endpoint_state(endpoint: &Endpoint) -> EndpointState {
    EndpointState {
        address: endpoint.address,
        weight: endpoint.weight,
        version: endpoint.version.clone(),
        failures: endpoint.failures(),
        last_failure: endpoint.last_failure(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListenerPage<'a> {
    name: &'a ListenerName,
    address: SocketAddr,
    configured: SocketAddr,
    connections: u64,
}

/// What is listened on, with real addresses.
pub(super) fn listeners(admin: &Admin) -> Page {
    let listeners = admin.listeners.borrow();
    let connections = |name: &ListenerName| {
        let workers = admin.metrics.workers.iter();
        workers.map(|worker| worker.listener(name).connections.value()).sum()
    };
    let pages = listeners.iter().map(|listener| ListenerPage {
        name: &listener.name,
        address: listener.address,
        configured: listener.configured,
        connections: connections(&listener.name),
    });
    json(&pages.collect::<Vec<_>>())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PluginPage<'a> {
    name: &'a PluginName,
    module: &'a ModuleSource,
    module_hash: String,
    failure_policy: FailurePolicy,
    /// VMs that run on workers.
    vms: u64,
    /// VMs that are started and wait for their worker.
    spare_vms: usize,
    streams: u64,
    failures: u64,
    breaker_opened: u64,
    /// `running`; `policy` while its failure policy answers without calling it; `starting` when no VM is there yet.
    state: &'static str,
    isolation: Isolation,
    /// For how long its failure policy answers yet.
    breaker_open_ms: Option<u64>,
    /// Calls into it, and how long they took together.
    calls: u64,
    call_milliseconds: u64,
    /// Memory of the VMs that run.
    memory_bytes: u64,
    /// What its limits have stopped, by limit.
    limited: BTreeMap<&'static str, u64>,
    limits: &'a PluginLimits,
    restart_failures: u64,
    last_failure: Option<String>,
}

/// The plugins that serve.
pub(super) fn plugins(admin: &Admin) -> Page {
    let active = admin.active.load();
    let mut plugins = Vec::with_capacity(active.plugins.len());
    for (name, plugin) in &active.plugins {
        let counted: Vec<_> = admin.metrics.workers.iter().map(|worker| worker.plugin(name)).collect();
        let sum = |of: fn(&PluginMetrics) -> u64| counted.iter().map(|metrics| of(metrics)).sum::<u64>();
        let mut limited = BTreeMap::new();
        for (limit, count) in counted.iter().flat_map(|metrics| metrics.limited.values()) {
            *limited.entry(limit).or_default() += count;
        }
        let evicted = plugin.evicted_values();
        if evicted > 0 {
            limited.insert("sharedData", evicted);
        }
        let (vms, pause) = (plugin.stats.vms.load(Ordering::Relaxed), plugin.stats.breaker_pause());
        plugins.push(PluginPage {
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
            spare_vms: plugin.stock.waiting(),
            streams: sum(|metrics| metrics.streams.value()),
            failures: counted.iter().flat_map(|metrics| metrics.failures.values()).map(|(_, count)| count).sum(),
            breaker_opened: sum(|metrics| metrics.breaker_opened.value()),
            restart_failures: plugin.stock.restart_failures.load(Ordering::Relaxed),
            last_failure: plugin.stats.last_failure(),
        });
    }
    plugins.sort_by_key(|plugin| plugin.name);
    json(&plugins)
}

/// Closes the breakers of a plugin: its next request calls it again.
pub(super) fn reset_plugin(admin: &Admin, query: &str) -> Page {
    let Some(name) = query.split('&').find_map(|pair| pair.strip_prefix("name=")) else {
        return text(StatusCode::BAD_REQUEST, "say which plugin: name=NAMESPACE/NAME\n");
    };
    let name = name.replace("%2F", "/").replace("%2f", "/");
    let active = admin.active.load();
    match active.plugins.iter().find(|(known, _)| known.as_str() == name) {
        Some((name, plugin)) => {
            plugin.stats.reset_breakers();
            text(StatusCode::OK, &format!("the next request calls {name}\n"))
        }
        None => text(StatusCode::NOT_FOUND, "no plugin of that name serves; GET /plugins lists them\n"),
    }
}
