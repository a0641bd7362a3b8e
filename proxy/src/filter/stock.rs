//! Started VMs that wait for their workers, and what further ones are started from: a plugin, or several that share a VM.
//! Made by `config` off the workers; workers take VMs from it without locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use tokio::sync::mpsc;
use tokio::time::Instant;
use weir_host_abi::shared::Namespace;
use weir_host_abi::{StartHost, StartRefusal, Started};
use weir_model::Isolation;

use crate::filter::state::PluginState;
use crate::limits::VMS_PER_WORKER;

/// What VMs are started with, beside their plugins.
#[derive(Clone)]
pub(crate) struct StockOptions {
    /// How many workers want VMs.
    pub(crate) workers: usize,
    /// What plugins share within the process.
    pub(crate) state: Arc<PluginState>,
    /// Where workers ask for another VM.
    pub(crate) restarts: mpsc::Sender<VmRequest>,
}

/// A worker's wish for one more VM.
pub(crate) struct VmRequest {
    stock: Arc<VmStock>,
    worker: usize,
    not_before: Instant,
}

impl VmRequest {
    /// When it may be started: a plugin that keeps failing is not started in a loop.
    pub(crate) fn not_before(&self) -> Instant {
        self.not_before
    }

    /// Starts the VM and hands it over; slow, not for a worker. A start that fails is tried again later, by itself.
    pub(crate) fn start(self) {
        let Self { stock, worker, .. } = self;
        stock.wanted[worker].store(false, Ordering::Release);
        match stock.start_vm() {
            // A full queue means that the worker has a spare already.
            Ok(vm) => drop(stock.spares[worker].push(vm)),
            Err(StartRefusal { plugin, reason: error, .. }) => {
                stock.restart_failures.fetch_add(1, Ordering::Relaxed);
                let plugin = &stock.plugins[plugin.min(stock.plugins.len() - 1)].settings().name;
                tracing::error!(%plugin, worker, %error, "a filter's new VM did not start; tried again");
                stock.request_vm(worker, Instant::now() + crate::limits::BREAKER_PAUSE);
            }
        }
    }
}

/// Started VMs that wait, and what they are started from.
pub(crate) struct VmStock {
    /// Unlike any other's in this process.
    pub(crate) id: u64,
    /// The plugins that live in each VM; at least one.
    plugins: Box<[Arc<weir_host_abi::Plugin>]>,
    /// The part of what plugins share that is theirs.
    pub(super) namespace: Arc<Namespace>,
    /// What plugins share within the process.
    pub(super) state: Arc<PluginState>,
    /// By worker.
    spares: Box<[ArrayQueue<Started>]>,
    /// By worker: a VM has been asked for and not been started yet.
    wanted: Box<[AtomicBool]>,
    restarts: mpsc::Sender<VmRequest>,
    /// VMs that did not start.
    pub(crate) restart_failures: AtomicU64,
}

impl VmStock {
    /// Starts [`VMS_PER_WORKER`] VMs for each worker that wants some, one after another. Slow: not for a worker.
    ///
    /// # Errors
    /// The first VM that did not start; none is left over then.
    pub(super) fn start(
        plugins: Vec<Arc<weir_host_abi::Plugin>>,
        (namespace, isolation): (Arc<Namespace>, Isolation),
        options: StockOptions,
    ) -> Result<Arc<Self>, StartRefusal> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let StockOptions { workers, state, restarts } = options;
        let stock = Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            plugins: plugins.into(),
            namespace,
            state,
            spares: (0..workers).map(|_| ArrayQueue::new(VMS_PER_WORKER)).collect(),
            wanted: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            restarts,
            restart_failures: AtomicU64::new(0),
        };
        let with_spares = match isolation {
            Isolation::Worker => workers,
            Isolation::Process => 1,
            Isolation::Stream => 0,
        };
        if with_spares == 0 {
            drop(stock.start_vm()?); // It starts, so it will.
        }
        for spares in stock.spares.iter().take(with_spares) {
            while !spares.is_full() {
                drop(spares.push(stock.start_vm()?)); // It has room.
            }
        }
        Ok(Arc::new(stock))
    }

    /// Starts a VM here and now; when it does not, the refusal says what the guest itself said.
    pub(super) fn start_vm(&self) -> Result<Started, StartRefusal> {
        let state = Arc::clone(&self.state);
        let clock = move || state.since_start();
        let host = StartHost::new(&self.plugins, &self.namespace, clock, super::host::current_log_level());
        weir_host_abi::start(host)
    }

    /// How many plugins live in each VM.
    pub(crate) fn len(&self) -> usize {
        self.plugins.len()
    }

    /// VMs that are started and wait for their worker.
    pub(crate) fn waiting(&self) -> usize {
        self.spares.iter().map(ArrayQueue::len).sum()
    }

    /// A started VM, if one waits.
    pub(super) fn take_spare(&self, worker: usize) -> Option<Started> {
        self.spares.get(worker)?.pop()
    }

    /// True when a started VM waits.
    pub(super) fn has_spare(&self, worker: usize) -> bool {
        self.spares.get(worker).is_some_and(|queue| !queue.is_empty())
    }

    /// Asks for one more VM, unless one is asked for already.
    pub(super) fn request_vm(self: &Arc<Self>, worker: usize, not_before: Instant) {
        if self.wanted[worker].swap(true, Ordering::AcqRel) {
            return;
        }
        let request = VmRequest { stock: Arc::clone(self), worker, not_before };
        if self.restarts.try_send(request).is_err() {
            self.wanted[worker].store(false, Ordering::Release); // Full: the next failure asks again.
        }
    }
}
