//! What is known about a cluster on all workers: its endpoints, and what has been counted. Made by `active` when a
//! cluster is new or its model changed, and kept across changes of configuration otherwise.
//!
//! Every worker counts in a shard of its own, so that counting is an uncontended store; readers add the shards up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use weir_model::Discovery;

use super::endpoints::EndpointSet;

/// One cluster's live state.
pub(crate) struct Cluster {
    /// Unlike any other's in this process, also for the same name with another model: what workers find pools by.
    id: u64,
    model: Arc<weir_model::Cluster>,
    endpoints: ArcSwap<EndpointSet>,
    /// Changes with `endpoints`; cheaper to compare for each request.
    generation: AtomicU64,
    /// One for each worker that has used the cluster.
    shards: ArcSwap<Vec<Arc<Shard>>>,
}

/// What one worker has counted for one cluster. Only that worker writes.
#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) requests: Counter,
    pub(super) failures: Counter,
    pub(super) retries: Counter,
    pub(super) connects: Counter,
    pub(super) connect_failures: Counter,
    pub(super) connections: Counter,
    pub(super) in_flight: Counter,
    pub(super) mirrors_dropped: Counter,
}

/// A number with one writer.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn increment(&self) {
        self.add(1);
    }

    pub(super) fn add(&self, count: u32) {
        self.0.store(self.read().wrapping_add(u64::from(count)), Ordering::Relaxed);
    }

    pub(super) fn decrement(&self) {
        self.0.store(self.read().wrapping_sub(1), Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What all workers have counted for one cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ClusterCounts {
    /// Requests sent, answered or not.
    pub(crate) requests: u64,
    /// Requests that got no response head from any endpoint.
    pub(crate) failures: u64,
    /// Attempts after the first one of a request.
    pub(crate) retries: u64,
    /// Connections opened, ever.
    pub(crate) connects: u64,
    /// Connections that could not be opened.
    pub(crate) connect_failures: u64,
    /// Connections open now.
    pub(crate) connections: u64,
    /// Requests whose response has not ended.
    pub(crate) in_flight: u64,
    /// Copies of requests that were given up because the mirror was too slow or too many were under way.
    pub(crate) mirrors_dropped: u64,
}

impl Cluster {
    /// The cluster with the endpoints of its model; one that is resolved has none until the resolver says so.
    pub(crate) fn new(model: Arc<weir_model::Cluster>) -> Arc<Self> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let endpoints = match &model.discovery {
            Discovery::Static(endpoints) => EndpointSet::new(endpoints, &EndpointSet::default()),
            Discovery::Dns { .. } => EndpointSet::default(),
        };
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            model,
            endpoints: ArcSwap::from_pointee(endpoints),
            generation: AtomicU64::new(0),
            shards: ArcSwap::default(),
        })
    }

    /// What was asked for.
    pub(crate) fn model(&self) -> &Arc<weir_model::Cluster> {
        &self.model
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The endpoints now.
    pub(crate) fn endpoints(&self) -> Guard<Arc<EndpointSet>> {
        self.endpoints.load()
    }

    /// Which endpoints `endpoints()` has at least; read before them.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Replaces the endpoints; called by one resolver at a time. Says whether anything changed.
    pub(crate) fn set_endpoints(&self, models: &[weir_model::Endpoint]) -> bool {
        let current = self.endpoints.load();
        if current.holds(models) {
            return false;
        }
        self.endpoints.store(Arc::new(EndpointSet::new(models, &current)));
        self.generation.fetch_add(1, Ordering::Release);
        true
    }

    /// A shard for one worker.
    pub(super) fn join(&self) -> Arc<Shard> {
        let shard = Arc::new(Shard::default());
        self.shards.rcu(|shards| {
            let mut shards = Vec::clone(shards);
            shards.push(Arc::clone(&shard));
            shards
        });
        shard
    }

    /// What all workers have counted.
    pub(crate) fn counts(&self) -> ClusterCounts {
        let mut counts = ClusterCounts::default();
        for shard in self.shards.load().iter() {
            counts.requests += shard.requests.read();
            counts.failures += shard.failures.read();
            counts.retries += shard.retries.read();
            counts.connects += shard.connects.read();
            counts.connect_failures += shard.connect_failures.read();
            counts.connections += shard.connections.read();
            counts.in_flight += shard.in_flight.read();
            counts.mirrors_dropped += shard.mirrors_dropped.read();
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_model::{ClusterName, Endpoint, Weight};

    #[test]
    fn endpoints_change_as_a_whole_and_shards_add_up() {
        let name = ClusterName::new("shop/reviews:80").unwrap();
        let cluster = Cluster::new(Arc::new(weir_model::Cluster::of_endpoints(name, Vec::new()).unwrap()));
        let models = [Endpoint { address: ([127, 0, 0, 1], 80).into(), weight: Weight::ONE, version: None }];
        let before = cluster.generation();
        assert!(cluster.set_endpoints(&models) && !cluster.set_endpoints(&models));
        assert_ne!(cluster.generation(), before);
        assert_eq!(cluster.endpoints().len(), 1);
        let (one, other) = (cluster.join(), cluster.join());
        one.requests.increment();
        other.requests.increment();
        other.in_flight.increment();
        other.in_flight.decrement();
        assert_eq!(cluster.counts(), ClusterCounts { requests: 2, ..ClusterCounts::default() });
    }
}
