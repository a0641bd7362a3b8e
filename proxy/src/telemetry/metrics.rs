//! The metrics of the data plane, by worker. A worker obtains a handle once per listener and plugin, and writes through
//! it without a lock. `/stats/prometheus` sums the handles of all workers.
//!
//! Clusters are shared by all workers and have their own counters (`upstream/cluster.rs`).
//!
//! Labels come from the configuration only, never from a request, which bounds the number of series.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use weir_model::{ListenerName, PluginName, Snapshot};

use crate::telemetry::counter::{Counter, CounterByKind, Gauge, Histogram};

/// The metrics of one listener on one worker.
#[derive(Debug, Default)]
pub(crate) struct ListenerMetrics {
    /// Finished requests by the first digit of their status; index 0 counts requests without a status.
    pub(crate) requests: [Counter; 6],
    /// Failed requests by `response_code_details`.
    pub(crate) failures: CounterByKind<MAX_FAILURE_KINDS>,
    /// The time from the request head to the last byte of the response.
    pub(crate) duration: Histogram,
    /// Accepted connections.
    pub(crate) accepted: Counter,
    /// Open connections.
    pub(crate) connections: Gauge,
    /// Connections closed at once, because the worker was at its connection limit.
    pub(crate) rejected: Counter,
}

/// Details of failed requests that are counted apart: those of `error.rs`, of the HTTP/1 codec and of filters.
const MAX_FAILURE_KINDS: usize = 64;

impl ListenerMetrics {
    /// Records a finished request; status 0 means that no status was sent.
    pub(crate) fn request_ended(&self, status: u16, duration: Duration) {
        self.requests[status_class(status)].increment();
        self.duration.observe(duration);
    }
}

/// The metrics of one plugin on one worker.
#[derive(Debug, Default)]
pub(crate) struct PluginMetrics {
    /// Streams that passed the plugin.
    pub(crate) streams: Counter,
    /// Streams that went on without the plugin, because it is not loaded and its failure policy is Open.
    pub(crate) skipped: Counter,
    /// Failures of its VM by kind (`filter_trap`, `filter_deadline`, …).
    pub(crate) failures: CounterByKind,
    /// The number of times the breaker opened.
    pub(crate) breaker_opened: Counter,
    /// VMs assigned to this worker.
    pub(crate) vms_started: Counter,
    /// Calls into the plugin. Creating a context is part of the first call of a stream; log, done and delete are one
    /// call.
    pub(crate) calls: Counter,
    /// The time of these calls in nanoseconds; estimated if the plugin has no limit.
    pub(crate) call_nanoseconds: Counter,
    /// The number of times limits were exceeded, by limit (`cpu`, `callouts`, `head`, `body`, `log`, `properties`, …).
    pub(crate) limited: CounterByKind,
    /// The memory of the running VM in bytes, at its last measured call.
    pub(crate) memory: Gauge,
    /// Bytes of log output that the running VM dropped.
    pub(crate) log_dropped: Gauge,
}

fn status_class(status: u16) -> usize {
    let class = usize::from(status / 100);
    if class < 6 { class } else { 0 }
}

/// The metrics of one worker, by the name of the listener or plugin.
#[derive(Debug, Default)]
pub(crate) struct WorkerMetrics {
    pub(super) listeners: Mutex<BTreeMap<ListenerName, Arc<ListenerMetrics>>>,
    pub(super) plugins: Mutex<BTreeMap<PluginName, Arc<PluginMetrics>>>,
}

impl WorkerMetrics {
    /// Returns the handle of a listener. Takes a lock, so it is called once per listener, not per request.
    pub(crate) fn listener(&self, name: &ListenerName) -> Arc<ListenerMetrics> {
        handle(&self.listeners, name)
    }

    /// Returns the handle of a plugin. Takes a lock, so it is called once per plugin, not per request.
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

/// The metrics of the process, which change off the request path. Any thread may write.
#[derive(Debug, Default)]
pub(crate) struct ProcessMetrics {
    /// Accepted configuration changes.
    pub(crate) config_accepted: AtomicU64,
    /// Rejected configuration changes.
    pub(crate) config_rejected: AtomicU64,
    /// The time of the last accepted change, in milliseconds since 1970; 0 = never.
    pub(crate) config_accepted_at_ms: AtomicU64,
    /// The time of the last rejected change, in milliseconds since 1970; 0 = never.
    pub(crate) config_rejected_at_ms: AtomicU64,
    /// 1 while the newest configuration is rejected and an older one serves.
    pub(crate) config_out_of_sync: AtomicU64,
    /// Lines of the access log that were dropped because the writer was too slow or failed.
    pub(crate) access_log_dropped: AtomicU64,
    /// Modules that were compiled.
    pub(crate) modules_compiled: AtomicU64,
    /// Modules that were loaded from the cache.
    pub(crate) modules_cached: AtomicU64,
}

/// The metrics of all workers and of the process.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// The metrics of workers, by worker index.
    pub(crate) workers: Vec<Arc<WorkerMetrics>>,
    /// The metrics of the process.
    pub(crate) process: ProcessMetrics,
}

impl Metrics {
    /// Returns metrics for `workers` workers.
    pub(crate) fn new(workers: usize) -> Self {
        Self { workers: (0..workers).map(|_| Arc::default()).collect(), process: ProcessMetrics::default() }
    }

    /// Removes handles whose resource is not in the snapshot and which no worker uses.
    pub(crate) fn remove_unused(&self, snapshot: &Snapshot) {
        for worker in &self.workers {
            retain(&worker.listeners, |name| snapshot.listeners.contains_key(name));
            let is_used =
                |name: &PluginName| snapshot.plugins.contains_key(name) || snapshot.failed_plugins.contains_key(name);
            retain(&worker.plugins, is_used);
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
    fn unused_handle_of_removed_resource_is_removed() {
        let metrics = Metrics::new(1);
        let snapshot = weir_model::SnapshotBuilder::default().complete().unwrap();
        let name = PluginName::new("shop/auth").unwrap();
        let handle = metrics.workers[0].plugin(&name);
        metrics.remove_unused(&snapshot);
        assert!(Arc::ptr_eq(&handle, &metrics.workers[0].plugin(&name)));
        drop(handle);
        metrics.remove_unused(&snapshot);
        assert!(metrics.workers[0].plugins.lock().is_empty());
    }

    #[test]
    fn every_status_has_a_class() {
        for (status, class) in [(0, 0), (100, 1), (204, 2), (599, 5), (999, 0)] {
            assert_eq!(status_class(status), class, "{status}");
        }
    }
}
