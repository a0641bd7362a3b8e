//! What VMs share across workers, ready-made for hosts: data, queues and metrics, in one namespace per VM id.
//!
//! A host keeps the [`Namespace`] of its plugin's VM id and answers hostcalls from it. A namespace lives as long as
//! somebody holds it. Every part is bounded and drops the oldest instead of refusing, because guests panic when these
//! calls fail.

mod data;
mod metrics;
mod queues;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

pub use data::SharedData;
pub use metrics::{Histogram, Metric, MetricTable, Metrics};
pub use queues::{Notify, SharedQueues};

/// Namespaces by VM id.
type Table = Mutex<HashMap<String, Weak<Namespace>>>;

/// All namespaces of a process. Cheap to clone.
#[derive(Clone, Default)]
pub struct SharedState {
    namespaces: Arc<Table>,
    queues: Arc<SharedQueues>,
}

impl SharedState {
    /// The namespace of a VM id, made when nobody holds it. Not for the request path: keep it.
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
            metrics: Metrics::default(),
            queues: Arc::clone(&self.queues),
            namespaces: Arc::clone(&self.namespaces),
        });
        namespaces.insert(vm_id.to_owned(), Arc::downgrade(&namespace));
        namespace
    }

    /// The namespaces that somebody holds now.
    #[must_use]
    pub fn namespaces(&self) -> Vec<Arc<Namespace>> {
        self.namespaces.lock().values().filter_map(Weak::upgrade).collect()
    }
}

/// What the VMs of one VM id share.
pub struct Namespace {
    vm_id: String,
    data: SharedData,
    metrics: Metrics,
    queues: Arc<SharedQueues>,
    namespaces: Arc<Table>,
}

impl Namespace {
    /// The VM id.
    #[must_use]
    pub fn vm_id(&self) -> &str {
        &self.vm_id
    }

    /// Shared data of this VM id.
    #[must_use]
    pub const fn data(&self) -> &SharedData {
        &self.data
    }

    /// Metrics of this VM id.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The queues of all VM ids.
    #[must_use]
    pub fn queues(&self) -> &SharedQueues {
        &self.queues
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Somebody may have asked for the same VM id meanwhile: then the queues are theirs already.
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
    fn a_namespace_lives_as_long_as_somebody_holds_it() {
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
