//! The builder of a [`Snapshot`]: resources are added, and `complete` checks that every name in them resolves.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cluster::Cluster;
use crate::listener::Listener;
use crate::name::{ClusterName, ListenerName, PluginName, RouteTableName, SecretName};
use crate::plugin::{FailedPlugin, FailurePolicy, Plugin};
use crate::rejection::{Rejection, ResourceId, ResourceKind};
use crate::route::{Route, RouteAction, RouteTable};
use crate::secret::Secret;
use crate::snapshot::{ContentHash, Snapshot};
use crate::tls::{DownstreamTls, UpstreamTls};

/// The resources of a future snapshot. Adding a resource with the name of another replaces it.
#[derive(Debug, Clone, Default)]
pub struct SnapshotBuilder {
    listeners: BTreeMap<ListenerName, Arc<Listener>>,
    route_tables: BTreeMap<RouteTableName, Arc<RouteTable>>,
    clusters: BTreeMap<ClusterName, Arc<Cluster>>,
    plugins: BTreeMap<PluginName, Arc<Plugin>>,
    secrets: BTreeMap<SecretName, Arc<Secret>>,
    failed_plugins: BTreeMap<PluginName, FailedPlugin>,
}

impl SnapshotBuilder {
    /// Adds or replaces a listener.
    pub fn put_listener(&mut self, listener: Arc<Listener>) {
        self.listeners.insert(listener.name.clone(), listener);
    }

    /// Adds or replaces a route table.
    pub fn put_route_table(&mut self, route_table: Arc<RouteTable>) {
        self.route_tables.insert(route_table.name.clone(), route_table);
    }

    /// Adds or replaces a cluster.
    pub fn put_cluster(&mut self, cluster: Arc<Cluster>) {
        self.clusters.insert(cluster.name.clone(), cluster);
    }

    /// Adds or replaces a plugin.
    pub fn put_plugin(&mut self, plugin: Arc<Plugin>) {
        self.plugins.insert(plugin.name.clone(), plugin);
    }

    /// Adds or replaces a plugin whose newest version does not load. Chains may name it if its failure policy is Open.
    pub fn put_failed_plugin(&mut self, name: PluginName, failed: FailedPlugin) {
        self.failed_plugins.insert(name, failed);
    }

    /// Adds or replaces a secret.
    pub fn put_secret(&mut self, secret: Arc<Secret>) {
        self.secrets.insert(secret.name.clone(), secret);
    }

    /// Returns the snapshot.
    ///
    /// # Errors
    /// One rejection for every name that is referred to and missing.
    pub fn complete(self) -> Result<Snapshot, Vec<Rejection>> {
        let mut missing = Vec::new();
        for listener in self.listeners.values() {
            if !self.route_tables.contains_key(&listener.route_table) {
                missing.push(dangling(ResourceKind::Listener, &listener.name, "routeTable", &listener.route_table));
            }
            for secret in listener.tls.iter().flat_map(DownstreamTls::secrets) {
                if !self.secrets.contains_key(secret) {
                    missing.push(dangling(ResourceKind::Listener, &listener.name, "tls", secret));
                }
            }
        }
        for table in self.route_tables.values() {
            for (host, virtual_host) in table.virtual_hosts.iter().enumerate() {
                for (index, route) in virtual_host.routes.iter().enumerate() {
                    let field = format!("virtualHosts[{host}].routes[{index}]");
                    self.check_route(table, route, &field, &mut missing);
                }
            }
        }
        for cluster in self.clusters.values() {
            for secret in cluster.tls.iter().flat_map(UpstreamTls::secrets) {
                if !self.secrets.contains_key(secret) {
                    missing.push(dangling(ResourceKind::Cluster, &cluster.name, "tls", secret));
                }
            }
        }
        if !missing.is_empty() {
            return Err(missing);
        }
        let version = ContentHash::of(&(
            (&self.listeners, &self.route_tables, &self.clusters, &self.plugins, &self.secrets),
            &self.failed_plugins,
        ));
        let Self { listeners, route_tables, clusters, plugins, secrets, failed_plugins } = self;
        Ok(Snapshot { version, listeners, route_tables, clusters, plugins, secrets, failed_plugins })
    }

    fn check_route(&self, table: &RouteTable, route: &Route, field: &str, missing: &mut Vec<Rejection>) {
        for (index, plugin) in route.chain.plugins().iter().enumerate() {
            let is_skipped = |failed: &FailedPlugin| failed.failure == FailurePolicy::Open;
            if !self.plugins.contains_key(plugin) && !self.failed_plugins.get(plugin).is_some_and(is_skipped) {
                let field = format!("{field}.chain[{index}]");
                missing.push(dangling(ResourceKind::RouteTable, &table.name, &field, plugin));
            }
        }
        let RouteAction::Forward(forward) = &route.action else { return };
        let targets = forward.targets.iter().map(|target| &target.cluster);
        let versions = forward.versions.iter().map(|version| &version.cluster);
        for cluster in targets.chain(versions).chain(forward.mirrors.iter().map(|mirror| &mirror.cluster)) {
            if !self.clusters.contains_key(cluster) {
                missing.push(dangling(ResourceKind::RouteTable, &table.name, &format!("{field}.action"), cluster));
            }
        }
    }
}

fn dangling(kind: ResourceKind, name: &impl ToString, field: &str, missing: &impl ToString) -> Rejection {
    Rejection {
        resource: ResourceId { kind, name: name.to_string() },
        field: field.to_owned(),
        reason: format!("`{}` is not there", missing.to_string()),
        hint: String::new(),
    }
}
