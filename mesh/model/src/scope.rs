//! The part of a snapshot that one proxy can reach: its listeners, and every resource that they lead to. Computed,
//! never configured.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::builder::SnapshotBuilder;
use crate::listener::Listener;
use crate::name::{ClusterName, PluginName};
use crate::plugin::Plugin;
use crate::route::{Route, RouteAction};
use crate::snapshot::Snapshot;
use crate::tls::{DownstreamTls, UpstreamTls};

impl Snapshot {
    /// Returns the snapshot of a proxy that serves the listeners for which `is_ours` is true.
    ///
    /// The result has their route tables and secrets, the plugins of their routes, and the clusters that these routes
    /// forward to or that these plugins name in their configurations (for callouts), with their secrets.
    pub fn reachable(&self, is_ours: impl Fn(&Listener) -> bool) -> Self {
        let mut builder = SnapshotBuilder::default();
        let mut clusters = BTreeSet::new();
        let mut plugins = BTreeSet::new();
        for listener in self.listeners.values().filter(|listener| is_ours(listener)) {
            builder.put_listener(Arc::clone(listener));
            let secrets = listener.tls.iter().flat_map(DownstreamTls::secrets);
            for secret in secrets.filter_map(|name| self.secrets.get(name)) {
                builder.put_secret(Arc::clone(secret));
            }
            let Some(table) = self.route_tables.get(&listener.route_table) else { continue };
            builder.put_route_table(Arc::clone(table));
            for route in table.virtual_hosts.iter().flat_map(|host| &*host.routes) {
                plugins.extend(route.chain.plugins());
                clusters.extend(route_clusters(route));
            }
        }
        for plugin in plugins.iter().filter_map(|name: &&PluginName| self.plugins.get(name)) {
            clusters.extend(self.clusters_named_in(plugin));
            builder.put_plugin(Arc::clone(plugin));
        }
        for (name, failed) in self.failed_plugins.iter().filter(|(name, _)| plugins.contains(name)) {
            builder.put_failed_plugin(name.clone(), failed.clone());
        }
        for cluster in clusters.iter().filter_map(|name| self.clusters.get(name)) {
            let secrets = cluster.tls.iter().flat_map(UpstreamTls::secrets);
            for secret in secrets.filter_map(|name| self.secrets.get(name)) {
                builder.put_secret(Arc::clone(secret));
            }
            builder.put_cluster(Arc::clone(cluster));
        }
        builder.complete().expect("every reference of a closed snapshot was put")
    }

    /// Returns the clusters whose names are in a plugin's configuration as complete quoted strings.
    fn clusters_named_in<'a>(&'a self, plugin: &Plugin) -> impl Iterator<Item = &'a ClusterName> {
        let configuration = String::from_utf8_lossy(&plugin.configuration).into_owned();
        let texts: BTreeSet<String> = configuration.split('"').map(str::to_owned).collect();
        self.clusters.keys().filter(move |name| texts.contains(name.as_str()))
    }
}

/// Returns the clusters that a route may forward a request to, mirrors and versions included.
fn route_clusters(route: &Route) -> impl Iterator<Item = &ClusterName> {
    let forward = match &route.action {
        RouteAction::Forward(forward) => Some(forward),
        RouteAction::Redirect(_) | RouteAction::Respond(_) | RouteAction::NoBackend => None,
    };
    forward.into_iter().flat_map(|forward| {
        let targets = forward.targets.iter().map(|target| &target.cluster);
        let versions = forward.versions.iter().map(|version| &version.cluster);
        targets.chain(versions).chain(forward.mirrors.iter().map(|mirror| &mirror.cluster))
    })
}
