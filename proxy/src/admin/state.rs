//! `/clusters`, `/listeners`, `/plugins`: how each of them fares now, as JSON.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;
use weir_model::{ClusterName, FailurePolicy, ListenerName, ModuleSource, PluginName};

use crate::admin::Admin;
use crate::admin::server::{Page, json};
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
    restart_failures: u64,
    last_failure: Option<String>,
}

/// The plugins that serve.
pub(super) fn plugins(admin: &Admin) -> Page {
    let active = admin.active.load();
    let mut plugins = Vec::with_capacity(active.plugins.len());
    for (name, plugin) in &active.plugins {
        let counted: Vec<_> = admin.metrics.workers.iter().map(|worker| worker.plugin(name)).collect();
        plugins.push(PluginPage {
            name,
            module: &plugin.model.module,
            module_hash: active.modules.get(name).map(ToString::to_string).unwrap_or_default(),
            failure_policy: plugin.model.failure,
            vms: plugin.stats.vms.load(Ordering::Relaxed),
            spare_vms: plugin.waiting_vms(),
            streams: counted.iter().map(|metrics| metrics.streams.value()).sum(),
            failures: counted.iter().flat_map(|metrics| metrics.failures.values()).map(|(_, count)| count).sum(),
            breaker_opened: counted.iter().map(|metrics| metrics.breaker_opened.value()).sum(),
            restart_failures: plugin.stats.restart_failures.load(Ordering::Relaxed),
            last_failure: plugin.stats.last_failure(),
        });
    }
    plugins.sort_by_key(|plugin| plugin.name);
    json(&plugins)
}
