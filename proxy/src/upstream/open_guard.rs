//! `OpenConnectionGuard`: counts the open connections to an endpoint.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::cluster::WorkerCounters;

/// Counts a connection as open, in its pool and in its cluster, until it is dropped.
pub(super) struct OpenConnectionGuard {
    pool_connections: Rc<Cell<usize>>,
    counters: Arc<WorkerCounters>,
}

impl OpenConnectionGuard {
    pub(super) fn new(pool_connections: &Rc<Cell<usize>>, counters: &Arc<WorkerCounters>) -> Self {
        pool_connections.set(pool_connections.get() + 1);
        counters.connections.increment();
        Self { pool_connections: Rc::clone(pool_connections), counters: Arc::clone(counters) }
    }
}

impl Drop for OpenConnectionGuard {
    fn drop(&mut self) {
        self.pool_connections.set(self.pool_connections.get() - 1);
        self.counters.connections.decrement();
    }
}
