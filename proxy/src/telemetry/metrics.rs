//! The metrics of the data plane, by worker. A worker takes a handle once per listener and plugin and writes
//! through it without a lock; `/stats/prometheus` adds the handles of all workers up.
//!
//! (Clusters are shared by all workers and count for themselves: `upstream/cluster.rs`.)
//!
//! Labels come from the configuration alone, never from a request, so the number of series is bounded by it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use weir_model::{ListenerName, PluginName, Snapshot};

use crate::telemetry::counter::{Counter, CounterByKind, Gauge, Histogram};

/// What one worker counts about one listener.
#[derive(Debug, Default)]
pub(crate) struct ListenerMetrics {
    /// Requests answered, by the status's first digit; 0 for those without a status.
    pub(crate) requests: [Counter; 6],
    /// From a request's first byte to the last byte of its response.
    pub(crate) duration: Histogram,
    /// Connections accepted.
    pub(crate) accepted: Counter,
    /// Connections open.
    pub(crate) connections: Gauge,
    /// Connections closed at once, because the worker had too many.
    pub(crate) refused: Counter,
}

impl ListenerMetrics {
    /// Notes a request that has ended; status 0 when the downstream was told none.
    pub(crate) fn request_ended(&self, status: u16, duration: Duration) {
        self.requests[status_class(status)].increment();
        self.duration.observe(duration);
    }
}

/// What one worker counts about one plugin.
#[derive(Debug, Default)]
pub(crate) struct PluginMetrics {
    /// Streams that went through it.
    pub(crate) streams: Counter,
    /// Failures of its VM, by what failed (`filter_trap`, `filter_deadline`, …).
    pub(crate) failures: CounterByKind,
    /// Times the breaker opened.
    pub(crate) breaker_opened: Counter,
    /// VMs taken into use.
    pub(crate) vms_started: Counter,
    /// Calls into it: a stream's first makes its context too, its last one tells log, done and delete.
    pub(crate) calls: Counter,
    /// How long they took, in nanoseconds; estimated, where the plugin has no limit.
    pub(crate) call_nanoseconds: Counter,
    /// What its limits have stopped, by which limit (`cpu`, `callouts`, `head`, `body`, `log`, `properties`, …).
    pub(crate) limited: CounterByKind,
    /// Bytes of memory of the VM that runs, as of its last measured call.
    pub(crate) memory: Gauge,
    /// Bytes of its log that were dropped since that VM runs.
    pub(crate) log_dropped: Gauge,
}

fn status_class(status: u16) -> usize {
    let class = usize::from(status / 100);
    if class < 6 { class } else { 0 }
}

/// Everything one worker counts, by the name it is about.
#[derive(Debug, Default)]
pub(crate) struct WorkerMetrics {
    pub(super) listeners: Mutex<BTreeMap<ListenerName, Arc<ListenerMetrics>>>,
    pub(super) plugins: Mutex<BTreeMap<PluginName, Arc<PluginMetrics>>>,
}

impl WorkerMetrics {
    /// The handle of a listener. Takes a lock: once per listener, not per request.
    pub(crate) fn listener(&self, name: &ListenerName) -> Arc<ListenerMetrics> {
        handle(&self.listeners, name)
    }

    /// The handle of a plugin. Takes a lock: once per plugin, not per request.
    pub(crate) fn plugin(&self, name: &PluginName) -> Arc<PluginMetrics> {
        handle(&self.plugins, name)
    }
}

fn handle<Name: Clone + Ord, Handle: Default>(
    handles: &Mutex<BTreeMap<Name, Arc<Handle>>>,
    name: &Name,
) -> Arc<Handle> {
    let mut handles = handles.lock();
    if let Some(handle) = handles.get(name) {
        return Arc::clone(handle);
    }
    let handle = Arc::<Handle>::default();
    handles.insert(name.clone(), Arc::clone(&handle));
    handle
}

/// What is counted once per process, off the request path. Any thread may write.
#[derive(Debug, Default)]
pub(crate) struct ProcessMetrics {
    /// Changes of configuration that were accepted.
    pub(crate) config_accepted: AtomicU64,
    /// Changes of configuration that were refused.
    pub(crate) config_refused: AtomicU64,
    /// When a change was last accepted, in milliseconds since 1970; 0 = never.
    pub(crate) config_accepted_at_ms: AtomicU64,
    /// When a change was last refused, in milliseconds since 1970; 0 = never.
    pub(crate) config_refused_at_ms: AtomicU64,
    /// 1 while what is written is not what serves, because it was refused.
    pub(crate) config_out_of_sync: AtomicU64,
    /// Lines of the access log that were dropped because the disk was too slow.
    pub(crate) access_log_dropped: AtomicU64,
    /// Modules compiled, not found in the cache.
    pub(crate) modules_compiled: AtomicU64,
    /// Modules found in the cache.
    pub(crate) modules_cached: AtomicU64,
}

/// The metrics of all workers and of the process.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// One for each worker, by its index.
    pub(crate) workers: Vec<Arc<WorkerMetrics>>,
    /// Of the process.
    pub(crate) process: ProcessMetrics,
}

impl Metrics {
    /// Metrics of so many workers.
    pub(crate) fn new(workers: usize) -> Self {
        Self { workers: (0..workers).map(|_| Arc::default()).collect(), process: ProcessMetrics::default() }
    }

    /// Forgets what is neither in the snapshot nor held by a worker any more.
    pub(crate) fn forget_unused(&self, snapshot: &Snapshot) {
        for worker in &self.workers {
            retain(&worker.listeners, |name| snapshot.listeners.contains_key(name));
            retain(&worker.plugins, |name| snapshot.plugins.contains_key(name));
        }
    }
}

fn retain<Name: Ord, Handle>(handles: &Mutex<BTreeMap<Name, Arc<Handle>>>, used: impl Fn(&Name) -> bool) {
    handles.lock().retain(|name, handle| used(name) || Arc::strong_count(handle) > 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_removed_names_are_forgotten() {
        let metrics = Metrics::new(1);
        let snapshot = weir_model::SnapshotBuilder::default().complete().unwrap();
        let name = PluginName::new("shop/auth").unwrap();
        let held = metrics.workers[0].plugin(&name);
        metrics.forget_unused(&snapshot);
        assert!(Arc::ptr_eq(&held, &metrics.workers[0].plugin(&name)));
        drop(held);
        metrics.forget_unused(&snapshot);
        assert!(metrics.workers[0].plugins.lock().is_empty());
    }

    #[test]
    fn every_status_has_a_class() {
        for (status, class) in [(0, 0), (100, 1), (204, 2), (599, 5), (999, 0)] {
            assert_eq!(status_class(status), class, "{status}");
        }
    }
}
