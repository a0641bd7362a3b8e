//! The synchronous part of building an active configuration: clusters and routes, shared with the previous
//! configuration where they are equal. Called by `config` for every update; its time is bounded by the size of the
//! snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use weir_model::{ClusterName, ListenerName, Snapshot};

use crate::active::active_config::ActiveConfig;
use crate::fast_hash::FastMap;
use crate::route::RouteTable;
use crate::upstream::Cluster;

/// A configuration whose plugins are not started yet.
pub(crate) struct PreparedConfig {
    /// The snapshot to build.
    pub(crate) snapshot: Arc<Snapshot>,
    /// The route table of each listener.
    pub(crate) route_tables: FastMap<ListenerName, Arc<RouteTable>>,
    /// The live clusters.
    pub(crate) clusters: HashMap<ClusterName, Arc<Cluster>>,
    /// The clusters that the previous configuration does not have.
    pub(crate) new_clusters: Vec<Arc<Cluster>>,
}

/// Builds clusters and route tables. Does not wait.
pub(crate) fn prepare(snapshot: Arc<Snapshot>, previous: &ActiveConfig) -> PreparedConfig {
    let mut clusters = HashMap::with_capacity(snapshot.clusters.len());
    let mut new_clusters = Vec::new();
    for (name, model) in &snapshot.clusters {
        let unchanged = previous.clusters.get(name).filter(|cluster| cluster.model() == model);
        let cluster = unchanged.map_or_else(
            || {
                let cluster = Cluster::new(Arc::clone(model));
                new_clusters.push(Arc::clone(&cluster));
                cluster
            },
            Arc::clone,
        );
        clusters.insert(name.clone(), cluster);
    }
    let route_tables = route_tables(&snapshot, &clusters, previous);
    PreparedConfig { snapshot, route_tables, clusters, new_clusters }
}

fn route_tables(
    snapshot: &Snapshot,
    clusters: &HashMap<ClusterName, Arc<Cluster>>,
    previous: &ActiveConfig,
) -> FastMap<ListenerName, Arc<RouteTable>> {
    let listeners = snapshot.listeners.values();
    let tables = listeners.filter_map(|listener| {
        // The snapshot is closed: the table of each listener exists.
        let model = snapshot.route_tables.get(&listener.route_table)?;
        let before = previous.route_tables.get(&listener.name);
        let table = RouteTable::build(model, clusters, before.map(Arc::as_ref));
        Some((listener.name.clone(), Arc::new(table)))
    });
    tables.collect()
}

#[cfg(test)]
mod tests {
    use weir_model::SnapshotBuilder;

    use super::*;

    #[test]
    fn unchanged_cluster_is_shared_with_previous_config() {
        let name = |name: &str| ClusterName::new(name).unwrap();
        let cluster = |text: &str| weir_model::Cluster::of_endpoints(name(text), Vec::new()).unwrap();
        let snapshot = |changed: bool| {
            let mut builder = SnapshotBuilder::default();
            builder.put_cluster(Arc::new(cluster("same")));
            let mut other = cluster("other");
            if changed {
                other.lb_policy = weir_model::LbPolicy::Random;
            }
            builder.put_cluster(Arc::new(other));
            Arc::new(builder.complete().unwrap())
        };
        let first = prepare(snapshot(false), &ActiveConfig::empty());
        assert_eq!(first.new_clusters.len(), 2);
        let before = ActiveConfig { clusters: first.clusters, ..ActiveConfig::empty() };
        let second = prepare(snapshot(true), &before);
        let shared = |text| Arc::ptr_eq(&second.clusters[&name(text)], &before.clusters[&name(text)]);
        assert!(shared("same") && !shared("other"));
        assert_eq!(second.new_clusters.len(), 1);
    }
}
