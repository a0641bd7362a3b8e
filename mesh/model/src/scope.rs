//! What of a snapshot a proxy can reach: its listeners, and everything that they lead to. Nobody writes it down.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::builder::SnapshotBuilder;
use crate::listener::Listener;
use crate::name::{ClusterName, PluginName};
use crate::plugin::Plugin;
use crate::route::{Route, RouteAction};
use crate::snapshot::Snapshot;
use crate::tls::DownstreamTls;

impl Snapshot {
    /// What a proxy with these listeners can reach: their route tables, the plugins of their routes, and the clusters
    /// that these routes forward to or these plugins name in their configurations (for calls of their own).
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
                clusters.extend(clusters_of(route));
            }
        }
        for plugin in plugins.iter().filter_map(|name: &&PluginName| self.plugins.get(name)) {
            clusters.extend(self.named_by(plugin));
            builder.put_plugin(Arc::clone(plugin));
        }
        for cluster in clusters.iter().filter_map(|name| self.clusters.get(name)) {
            builder.put_cluster(Arc::clone(cluster));
        }
        builder.complete().expect("whatever is referred to was put, since nothing dangles here")
    }

    /// The clusters whose names stand in a plugin's configuration, as texts of their own.
    fn named_by<'a>(&'a self, plugin: &Plugin) -> impl Iterator<Item = &'a ClusterName> {
        let configuration = String::from_utf8_lossy(&plugin.configuration).into_owned();
        let texts: BTreeSet<String> = configuration.split('"').map(str::to_owned).collect();
        self.clusters.keys().filter(move |name| texts.contains(name.as_str()))
    }
}

/// The clusters that a route may send a request to.
fn clusters_of(route: &Route) -> impl Iterator<Item = &ClusterName> {
    let forward = match &route.action {
        RouteAction::Forward(forward) => Some(forward),
        RouteAction::Redirect(_) | RouteAction::Respond(_) => None,
    };
    forward.into_iter().flat_map(|forward| {
        let targets = forward.targets.iter().map(|target| &target.cluster);
        let versions = forward.versions.iter().map(|version| &version.cluster);
        targets.chain(versions).chain(forward.mirrors.iter().map(|mirror| &mirror.cluster))
    })
}
