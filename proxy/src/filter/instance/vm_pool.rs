//! Pool of started spare VMs of a plugin, or of several plugins that share VMs. The `active` module fills it off the
//! workers, and workers take VMs from it without locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use tokio::sync::mpsc;
use tokio::time::Instant;
use weir_host_abi::shared::Namespace;
use weir_host_abi::{StartFailure, StartHost, StartedVm};
use weir_model::Isolation;

use super::shared_state::SharedPluginState;
use crate::limits::VMS_PER_WORKER;
use crate::telemetry;

/// Options of a [`VmPool`], besides its plugins.
#[derive(Clone)]
pub(crate) struct VmPoolOptions {
    /// Number of workers.
    pub(crate) workers: usize,
    /// State that plugins share within the process.
    pub(crate) state: Arc<SharedPluginState>,
    /// Channel for requests of workers to start another VM.
    pub(crate) restarts: mpsc::Sender<VmStartRequest>,
}

/// A worker's request to start one more VM.
pub(crate) struct VmStartRequest {
    pool: Arc<VmPool>,
    worker: usize,
    not_before: Instant,
}

impl VmStartRequest {
    /// Returns the earliest start time. It avoids a restart loop of a plugin that keeps failing.
    pub(crate) fn not_before(&self) -> Instant {
        self.not_before
    }

    /// Starts the VM and adds it to the worker's spares. Slow, so not for a worker. A failed start is retried after a
    /// pause.
    pub(crate) fn start(self) {
        let Self { pool, worker, .. } = self;
        pool.start_requested[worker].store(false, Ordering::Release);
        match pool.start_vm() {
            // If the queue is full, the worker has a spare already.
            Ok(vm) => drop(pool.spares[worker].push(vm)),
            Err(StartFailure { plugin, reason: error, .. }) => {
                pool.restart_failures.fetch_add(1, Ordering::Relaxed);
                let plugin = &pool.plugins[plugin.min(pool.plugins.len() - 1)].settings().name;
                tracing::error!(%plugin, worker, %error, "a filter's new VM did not start; retried after a pause");
                pool.request_vm(worker, Instant::now() + crate::limits::BREAKER_INITIAL_PAUSE);
            }
        }
    }
}

/// Started spare VMs of each worker, and the plugins that they run.
pub(crate) struct VmPool {
    /// Id of the pool, unique in the process.
    pub(crate) id: u64,
    /// The plugins of each VM, at least one.
    plugins: Box<[Arc<weir_host_abi::Plugin>]>,
    /// Shared data, queues and metrics of the VM id.
    pub(crate) namespace: Arc<Namespace>,
    /// State that plugins share within the process.
    pub(crate) state: Arc<SharedPluginState>,
    /// Spare VMs, by worker.
    spares: Box<[ArrayQueue<StartedVm>]>,
    /// True while a start is requested and not begun, by worker.
    start_requested: Box<[AtomicBool]>,
    restarts: mpsc::Sender<VmStartRequest>,
    /// Number of requested VMs that failed to start.
    pub(crate) restart_failures: AtomicU64,
}

impl VmPool {
    /// Starts [`VMS_PER_WORKER`] VMs for each worker that needs spares, one after another. Slow, so not for a worker.
    ///
    /// # Errors
    /// The first VM failed to start. The VMs started before it are dropped.
    pub(crate) fn start(
        plugins: Vec<Arc<weir_host_abi::Plugin>>,
        namespace: Arc<Namespace>,
        isolation: Isolation,
        options: VmPoolOptions,
    ) -> Result<Arc<Self>, StartFailure> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let VmPoolOptions { workers, state, restarts } = options;
        let pool = Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            plugins: plugins.into(),
            namespace,
            state,
            spares: (0..workers).map(|_| ArrayQueue::new(VMS_PER_WORKER)).collect(),
            start_requested: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            restarts,
            restart_failures: AtomicU64::new(0),
        };
        let with_spares = match isolation {
            Isolation::Worker => workers,
            Isolation::Singleton => 1,
            Isolation::Stream => 0,
        };
        if with_spares == 0 {
            drop(pool.start_vm()?); // Checks that the plugins start.
        }
        for spares in pool.spares.iter().take(with_spares) {
            while !spares.is_full() {
                drop(spares.push(pool.start_vm()?)); // The queue is not full.
            }
        }
        Ok(Arc::new(pool))
    }

    /// Starts a VM on the calling thread.
    ///
    /// # Errors
    /// The guest failed to start. The failure contains what the guest logged.
    pub(crate) fn start_vm(&self) -> Result<StartedVm, StartFailure> {
        let state = Arc::clone(&self.state);
        let clock = move || state.since_start();
        let host = StartHost::new(&self.plugins, &self.namespace, clock, telemetry::guest_log_level());
        weir_host_abi::start(host)
    }

    /// Returns the number of plugins in each VM.
    pub(crate) fn plugin_count(&self) -> usize {
        self.plugins.len()
    }

    /// Returns the number of spare VMs, of all workers.
    pub(crate) fn spare_count(&self) -> usize {
        self.spares.iter().map(ArrayQueue::len).sum()
    }

    /// Removes and returns a spare VM of a worker, if there is one.
    pub(crate) fn take_spare(&self, worker: usize) -> Option<StartedVm> {
        self.spares.get(worker)?.pop()
    }

    /// Returns true if a worker has a spare VM.
    pub(crate) fn has_spare(&self, worker: usize) -> bool {
        self.spares.get(worker).is_some_and(|queue| !queue.is_empty())
    }

    /// Requests one more VM for a worker, unless a request is pending.
    pub(crate) fn request_vm(self: &Arc<Self>, worker: usize, not_before: Instant) {
        if self.start_requested[worker].swap(true, Ordering::AcqRel) {
            return;
        }
        let request = VmStartRequest { pool: Arc::clone(self), worker, not_before };
        if self.restarts.try_send(request).is_err() {
            // The channel is full. The next failure repeats the request.
            self.start_requested[worker].store(false, Ordering::Release);
        }
    }
}
