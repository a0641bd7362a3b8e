//! State that plugins share within the process: shared data, queues and metrics by VM id, and a clock. The `app`
//! module makes one. A plugin stores its own part, so that the request path needs no lookup by name.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use weir_host_abi::shared::{Metric, Namespace, SharedState};

use crate::limits::MAX_STREAM_VMS;

/// State that plugins share within the process.
pub(crate) struct SharedPluginState {
    shared: SharedState,
    started: Instant,
    node: String,
    /// Number of VMs that run on workers, of all plugins and of earlier configurations.
    pub(crate) vms: AtomicU64,
    /// Number of VMs that serve one stream each.
    stream_vms: Arc<AtomicUsize>,
}

/// Permit for the VM of one stream. Dropping it releases the permit.
pub(crate) struct StreamVmPermit(Arc<AtomicUsize>);

impl Drop for StreamVmPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SharedPluginState {
    /// Returns an empty state and starts its clock. `node` is the id that the control plane knows this proxy by, or
    /// empty.
    pub(crate) fn new(node: &str) -> Arc<Self> {
        Arc::new(Self {
            shared: SharedState::default(),
            started: Instant::now(),
            node: node.to_owned(),
            vms: AtomicU64::new(0),
            stream_vms: Arc::default(),
        })
    }

    /// Acquires a permit for the VM of one stream. `None` if [`MAX_STREAM_VMS`] permits are in use.
    pub(crate) fn acquire_stream_vm_permit(&self) -> Option<StreamVmPermit> {
        let permit = StreamVmPermit(Arc::clone(&self.stream_vms));
        let before = self.stream_vms.fetch_add(1, Ordering::Relaxed);
        (before < MAX_STREAM_VMS).then_some(permit)
    }

    /// Returns the id that the control plane knows this proxy by. Empty without a control plane.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// Returns the shared data, queues and metrics of a VM id. They survive a change of its plugins' configuration and
    /// are dropped with its last plugin.
    pub(crate) fn namespace(&self, vm_id: &str) -> Arc<Namespace> {
        self.shared.namespace(vm_id)
    }

    /// Returns the monotonic time since the process started.
    pub(crate) fn since_start(&self) -> Duration {
        self.started.elapsed()
    }

    /// Visits every metric that plugins have defined: VM id, metric name, metric.
    pub(crate) fn visit_metrics(&self, mut visit: impl FnMut(&str, &str, &Metric)) {
        for namespace in self.shared.namespaces() {
            namespace.metrics().visit(|name, metric| {
                visit(namespace.vm_id(), &String::from_utf8_lossy(name), metric);
            });
        }
    }
}
