//! A cluster's state that all workers share: its endpoints and its counters. `active` creates it for a new or changed
//! cluster, and reuses it across configuration updates otherwise.
//!
//! Every worker writes its own counters, so that counting is an uncontended store. Readers add them up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use parking_lot::{Mutex, MutexGuard};
use weir_model::Discovery;

use super::endpoints::EndpointSet;
use super::retry_budget::RetryBudget;
use crate::error::ProxyError;
use crate::telemetry::{Counter, Gauge};
use crate::tls::ClientTls;

/// The state of one cluster.
pub(crate) struct Cluster {
    /// Unique in this process, also among clusters of one name with different models. Workers find their pools by it.
    id: u64,
    model: Arc<weir_model::Cluster>,
    endpoints: ArcSwap<EndpointSet>,
    /// The settings of TLS with servers outside the mesh.
    tls: ArcSwapOption<ClientTls>,
    /// Changes whenever `endpoints` or `tls` does, or an endpoint is ejected or used again. Cheaper to compare on each request.
    generation: AtomicU64,
    /// The counters of each worker that has used the cluster.
    worker_counters: ArcSwap<Vec<Arc<WorkerCounters>>>,
    /// Absent until a worker uses the cluster: most of many thousands are never used.
    retry_budget: OnceLock<Box<RetryBudget>>,
    ejections: Ejections,
}

/// The ejections of a cluster's endpoints so far. One is decided at a time.
#[derive(Default)]
pub(super) struct Ejections {
    lock: Mutex<()>,
    count: AtomicU64,
}

impl Ejections {
    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock()
    }

    pub(super) fn count(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// One worker's counters of one cluster. Only that worker writes.
#[derive(Debug, Default)]
pub(super) struct WorkerCounters {
    pub(super) requests: Counter,
    pub(super) failures: Counter,
    pub(super) retries: Counter,
    pub(super) connects: Counter,
    pub(super) connect_failures: Counter,
    pub(super) tls_failures: Counter,
    pub(super) connections: Gauge,
    pub(super) in_flight: Gauge,
    pub(super) mirrors_dropped: Counter,
    pub(super) retries_over_budget: Counter,
}

impl WorkerCounters {
    /// Counts a connection that could not be opened.
    pub(super) fn count_connect_failure(&self, error: &ProxyError) {
        self.connect_failures.increment();
        if matches!(error, ProxyError::TlsFailed(_)) {
            self.tls_failures.increment();
        }
    }
}

/// The sums of all workers' counters of one cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ClusterCounts {
    /// Requests sent, with or without a response.
    pub(crate) requests: u64,
    /// Requests without a response head from any endpoint.
    pub(crate) failures: u64,
    /// Attempts after the first one of a request.
    pub(crate) retries: u64,
    /// Connections attempted since the start.
    pub(crate) connects: u64,
    /// Connections that could not be opened.
    pub(crate) connect_failures: u64,
    /// Connections that could not be opened, because the TLS handshake failed.
    pub(crate) tls_failures: u64,
    /// Open connections.
    pub(crate) connections: u64,
    /// Requests in flight, until the response has ended.
    pub(crate) in_flight: u64,
    /// Mirrored requests that were dropped, because the mirror was too slow or too many were in flight.
    pub(crate) mirrors_dropped: u64,
    /// Retries that were not made, because the retry budget was spent.
    pub(crate) retries_over_budget: u64,
    /// Ejections of endpoints.
    pub(crate) ejections: u64,
}

impl Cluster {
    /// Returns a cluster with the endpoints of its model. A DNS cluster has none until its name is resolved.
    pub(crate) fn new(model: Arc<weir_model::Cluster>) -> Arc<Self> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let endpoints = match &model.discovery {
            Discovery::Static(endpoints) => EndpointSet::new(endpoints, &model, &EndpointSet::default()),
            Discovery::Dns { .. } => EndpointSet::default(),
        };
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            model,
            endpoints: ArcSwap::from_pointee(endpoints),
            tls: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            worker_counters: ArcSwap::default(),
            retry_budget: OnceLock::new(),
            ejections: Ejections::default(),
        })
    }

    /// Returns the cluster's model.
    pub(crate) fn model(&self) -> &Arc<weir_model::Cluster> {
        &self.model
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Returns the current endpoints.
    pub(crate) fn endpoints(&self) -> Guard<Arc<EndpointSet>> {
        self.endpoints.load()
    }

    /// Returns the settings of TLS with servers; `None` if the cluster has none.
    pub(super) fn tls(&self) -> Option<Arc<ClientTls>> {
        self.tls.load_full()
    }

    /// Replaces the settings of TLS with servers. Connections that are opened from now on use them, and idle ones that
    /// were opened with others are closed.
    pub(crate) fn set_tls(&self, tls: &Arc<ClientTls>) {
        if self.tls.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, tls)) {
            return;
        }
        self.tls.store(Some(Arc::clone(tls)));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Returns the generation of endpoints and TLS. Read it before them: they are then at least as new.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Replaces the endpoints. Returns whether anything changed. Called by one resolver at a time.
    pub(crate) fn set_endpoints(&self, models: &[weir_model::Endpoint]) -> bool {
        let current = self.endpoints.load();
        if current.is_same(models) {
            return false;
        }
        self.endpoints.store(Arc::new(EndpointSet::new(models, &self.model, &current)));
        self.generation.fetch_add(1, Ordering::Release);
        true
    }

    pub(super) fn ejections(&self) -> &Ejections {
        &self.ejections
    }

    /// Notes that an endpoint is left out from now on, or is used again.
    pub(super) fn availability_changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Takes one retry from the budget. Returns false if it is spent.
    pub(super) fn take_retry(&self) -> bool {
        self.retry_budget().take(self.requests())
    }

    /// Notes the requests so far in the retry budget. Called every now and then by each worker.
    pub(super) fn note_requests(&self) {
        self.retry_budget().note(self.requests());
    }

    fn retry_budget(&self) -> &RetryBudget {
        self.retry_budget
            .get_or_init(|| Box::new(RetryBudget::new(self.model.retry_budget.as_deref().copied().unwrap_or_default())))
    }

    fn requests(&self) -> u64 {
        self.worker_counters.load().iter().map(|worker| worker.requests.value()).sum()
    }

    /// Adds counters for one worker.
    pub(super) fn register_worker(&self) -> Arc<WorkerCounters> {
        self.retry_budget(); // From now on requests are counted.
        let counters = Arc::new(WorkerCounters::default());
        self.worker_counters.rcu(|workers| {
            let mut workers = Vec::clone(workers);
            workers.push(Arc::clone(&counters));
            workers
        });
        counters
    }

    /// Returns the sums of all workers' counters.
    pub(crate) fn counts(&self) -> ClusterCounts {
        let ejections = self.ejections.count.load(Ordering::Relaxed);
        let mut counts = ClusterCounts { ejections, ..ClusterCounts::default() };
        for worker in self.worker_counters.load().iter() {
            counts.requests += worker.requests.value();
            counts.failures += worker.failures.value();
            counts.retries += worker.retries.value();
            counts.connects += worker.connects.value();
            counts.connect_failures += worker.connect_failures.value();
            counts.tls_failures += worker.tls_failures.value();
            counts.connections += worker.connections.value();
            counts.in_flight += worker.in_flight.value();
            counts.mirrors_dropped += worker.mirrors_dropped.value();
            counts.retries_over_budget += worker.retries_over_budget.value();
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use weir_model::{ClusterName, Endpoint, Weight};

    #[test]
    fn endpoints_are_replaced_and_worker_counters_add_up() {
        let name = ClusterName::new("shop/reviews:80").unwrap();
        let cluster = Cluster::new(Arc::new(weir_model::Cluster::of_endpoints(name, Vec::new()).unwrap()));
        let models =
            [Endpoint { address: SocketAddr::from(([127, 0, 0, 1], 80)).into(), weight: Weight::ONE, version: None }];
        let before = cluster.generation();
        assert!(cluster.set_endpoints(&models) && !cluster.set_endpoints(&models));
        assert_ne!(cluster.generation(), before);
        assert_eq!(cluster.endpoints().len(), 1);
        let (one, other) = (cluster.register_worker(), cluster.register_worker());
        one.requests.increment();
        other.requests.increment();
        other.in_flight.increment();
        other.in_flight.decrement();
        assert_eq!(cluster.counts(), ClusterCounts { requests: 2, ..ClusterCounts::default() });
    }
}
