//! What plugins share within the process: shared data, queues and metrics, by plugin name, and a clock.
//! Made once by `app`; a plugin keeps its own part, so that nothing is looked up by name on the request path.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use weir_host_abi::shared::{Metric, Namespace, SharedState};

use crate::limits::MAX_STREAM_VMS;

/// What plugins share within the process.
pub(crate) struct PluginState {
    shared: SharedState,
    started: Instant,
    node: String,
    /// VMs that run on workers, of all plugins, those of old configurations too.
    pub(crate) vms: AtomicU64,
    /// VMs that live for one stream each.
    stream_vms: Arc<AtomicUsize>,
}

/// Leave for one more VM of a stream; given back when dropped.
pub(super) struct VmPermit(Arc<AtomicUsize>);

impl Drop for VmPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PluginState {
    /// Nothing shared yet; the clock starts. `node` is what the control plane knows this proxy by, if there is one.
    pub(crate) fn new(node: &str) -> Arc<Self> {
        Arc::new(Self {
            shared: SharedState::default(),
            started: Instant::now(),
            node: node.to_owned(),
            vms: AtomicU64::new(0),
            stream_vms: Arc::default(),
        })
    }

    /// Leave for one more VM of a stream, if [`MAX_STREAM_VMS`] do not live already.
    pub(super) fn permit_vm(&self) -> Option<VmPermit> {
        let permit = VmPermit(Arc::clone(&self.stream_vms));
        let before = self.stream_vms.fetch_add(1, Ordering::Relaxed);
        (before < MAX_STREAM_VMS).then_some(permit)
    }

    /// What the control plane knows this proxy by; empty without one.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// The part of one VM id: it survives a change of its plugins' configuration, and goes when they do.
    pub(super) fn namespace(&self, vm_id: &str) -> Arc<Namespace> {
        self.shared.namespace(vm_id)
    }

    /// A clock that never goes back.
    pub(super) fn since_start(&self) -> Duration {
        self.started.elapsed()
    }

    /// Shows every metric that a plugin has defined: plugin, name, metric.
    pub(crate) fn visit_metrics(&self, mut visit: impl FnMut(&str, &str, &Metric)) {
        for namespace in self.shared.namespaces() {
            namespace.metrics().visit(|name, metric| {
                visit(namespace.vm_id(), &String::from_utf8_lossy(name), metric);
            });
        }
    }
}
