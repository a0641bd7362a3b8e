//! Shared state of VMs across workers: data, queues and metrics, in one namespace per VM id.
//!
//! A host holds the [`Namespace`] of its plugin's VM id and serves hostcalls from it. A namespace lives as long as an
//! `Arc` of it. Every part is bounded and evicts the oldest entries instead of failing, because guests panic when these
//! calls fail.

mod data;
mod metrics;
mod queues;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

pub use data::SharedData;
pub use metrics::{Histogram, Metric, MetricTable, NamespaceMetrics};
pub use queues::{QueueNotifier, SharedQueues};

/// Namespaces by VM id.
type NamespaceTable = Mutex<HashMap<String, Weak<Namespace>>>;

/// All namespaces of a process. Cheap to clone.
#[derive(Clone, Default)]
pub struct SharedState {
    namespaces: Arc<NamespaceTable>,
    queues: Arc<SharedQueues>,
}

impl SharedState {
    /// Returns the namespace of a VM id, and creates it if no `Arc` of it is alive. It takes a lock: callers on the
    /// request path reuse the `Arc`.
    #[must_use]
    pub fn namespace(&self, vm_id: &str) -> Arc<Namespace> {
        let mut namespaces = self.namespaces.lock();
        if let Some(namespace) = namespaces.get(vm_id).and_then(Weak::upgrade) {
            return namespace;
        }
        namespaces.retain(|_, namespace| namespace.strong_count() > 0);
        let namespace = Arc::new(Namespace {
            vm_id: vm_id.to_owned(),
            data: SharedData::default(),
            metrics: NamespaceMetrics::default(),
            queues: Arc::clone(&self.queues),
            namespaces: Arc::clone(&self.namespaces),
        });
        namespaces.insert(vm_id.to_owned(), Arc::downgrade(&namespace));
        namespace
    }

    /// Returns the live namespaces.
    #[must_use]
    pub fn namespaces(&self) -> Vec<Arc<Namespace>> {
        self.namespaces.lock().values().filter_map(Weak::upgrade).collect()
    }
}

/// The shared state of the VMs of one VM id.
pub struct Namespace {
    vm_id: String,
    data: SharedData,
    metrics: NamespaceMetrics,
    queues: Arc<SharedQueues>,
    namespaces: Arc<NamespaceTable>,
}

impl Namespace {
    /// Returns the VM id.
    #[must_use]
    pub fn vm_id(&self) -> &str {
        &self.vm_id
    }

    /// Returns the shared data of this VM id.
    #[must_use]
    pub const fn data(&self) -> &SharedData {
        &self.data
    }

    /// Returns the metrics of this VM id.
    #[must_use]
    pub const fn metrics(&self) -> &NamespaceMetrics {
        &self.metrics
    }

    /// Returns the queues of all VM ids.
    #[must_use]
    pub fn queues(&self) -> &SharedQueues {
        &self.queues
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A namespace of the same VM id may have been created in the meantime. Then the queues belong to that one.
        let namespaces = self.namespaces.lock();
        if namespaces.get(&self.vm_id).is_some_and(|namespace| namespace.strong_count() > 0) {
            return;
        }
        self.queues.remove_namespace(&self.vm_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_ends_with_its_last_arc() {
        let state = SharedState::default();
        let first = state.namespace("a");
        first.data().set(b"key", b"value", 0).unwrap();
        let queue = first.queues().register("a", b"queue", Arc::new(|_| {}));
        let mut out = Vec::new();
        assert!(state.namespace("a").data().get(b"key", &mut out).is_ok());
        assert!(state.namespace("b").data().get(b"key", &mut out).is_err());
        assert_eq!(first.queues().resolve("a", b"queue"), Some(queue));
        drop(first);
        assert!(state.namespaces().is_empty());
        let again = state.namespace("a");
        assert!(again.data().get(b"key", &mut out).is_err());
        assert_eq!(again.queues().resolve("a", b"queue"), None);
    }
}
