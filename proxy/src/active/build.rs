//! The synchronous half of making a configuration ready: clusters and routes, shared with the configuration before
//! where they are equal. Called by `config` for every update; bounded by the size of the snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use weir_model::{ClusterName, ListenerName, Snapshot};

use crate::active::ActiveConfig;
use crate::hashing::FastMap;
use crate::route::RouteTable;
use crate::upstream::Cluster;

/// A configuration whose plugins are not there yet.
pub(crate) struct Prepared {
    /// What was asked for.
    pub(crate) snapshot: Arc<Snapshot>,
    /// The routes of each listener.
    pub(crate) route_tables: FastMap<ListenerName, Arc<RouteTable>>,
    /// Live clusters.
    pub(crate) clusters: HashMap<ClusterName, Arc<Cluster>>,
    /// Those of them that the configuration before does not have.
    pub(crate) new_clusters: Vec<Arc<Cluster>>,
}

/// Builds what can be built without waiting.
pub(crate) fn prepare(snapshot: Arc<Snapshot>, previous: &ActiveConfig) -> Prepared {
    let mut clusters = HashMap::with_capacity(snapshot.clusters.len());
    let mut new_clusters = Vec::new();
    for (name, model) in &snapshot.clusters {
        let same = previous.clusters.get(name).filter(|cluster| cluster.model() == model);
        let cluster = same.map_or_else(
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
    Prepared { snapshot, route_tables, clusters, new_clusters }
}

fn route_tables(
    snapshot: &Snapshot,
    clusters: &HashMap<ClusterName, Arc<Cluster>>,
    previous: &ActiveConfig,
) -> FastMap<ListenerName, Arc<RouteTable>> {
    let listeners = snapshot.listeners.values();
    let tables = listeners.filter_map(|listener| {
        // The snapshot is closed: the table of each listener is there.
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
    fn equal_clusters_are_shared() {
        let name = |name: &str| ClusterName::new(name).unwrap();
        let cluster = |text: &str| weir_model::Cluster::of_endpoints(name(text), Vec::new()).unwrap();
        let snapshot = |changed: bool| {
            let mut builder = SnapshotBuilder::default();
            builder.put_cluster(Arc::new(cluster("same")));
            let mut other = cluster("other");
            if changed {
                other.balancing = weir_model::Balancing::Random;
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
