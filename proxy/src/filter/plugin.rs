//! A plugin loaded and started: what routes refer to. Made by `config` off the workers; each worker takes VMs from it.
//! Shared by all workers without locks on the request path.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use weir_host_abi::shared::Namespace;
use weir_host_abi::{Exports, Module, StartHost, StartRefusal, Started};
use weir_loader::settings;
use weir_model::Isolation;

use crate::filter::state::PluginState;
use crate::limits::VMS_PER_WORKER;

/// What a plugin is started from.
pub(crate) struct PluginStart {
    /// What was asked for.
    pub(crate) model: Arc<weir_model::Plugin>,
    /// Its code.
    pub(crate) module: Module,
    /// How many workers want VMs of it.
    pub(crate) workers: usize,
    /// What plugins share within the process.
    pub(crate) state: Arc<PluginState>,
    /// Where workers ask for another VM.
    pub(crate) restarts: mpsc::Sender<VmRequest>,
}

/// A worker's wish for one more VM.
pub(crate) struct VmRequest {
    plugin: Arc<ActivePlugin>,
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
        let Self { plugin, worker, .. } = self;
        plugin.wanted[worker].store(false, Ordering::Release);
        match start_vm(&plugin.plugin, (&plugin.state, &plugin.namespace)) {
            // A full queue means that the worker has a spare already.
            Ok(vm) => drop(plugin.spares[worker].push(vm)),
            Err(StartRefusal { reason: error, .. }) => {
                plugin.stats.restart_failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(plugin = %plugin.model.name, worker, %error, "a filter's new VM did not start; tried again");
                plugin.request_vm(worker, Instant::now() + crate::limits::BREAKER_PAUSE);
            }
        }
    }
}

/// A plugin loaded and started.
pub(crate) struct ActivePlugin {
    /// What was asked for.
    pub(crate) model: Arc<weir_model::Plugin>,
    /// Module, configuration and limits, as the host knows them.
    pub(crate) plugin: Arc<weir_host_abi::Plugin>,
    /// Unlike any other's in this process, also for the same name with another configuration.
    pub(crate) id: u64,
    /// What plugins share within the process.
    pub(crate) state: Arc<PluginState>,
    /// Its own part of that.
    pub(super) namespace: Arc<Namespace>,
    /// How it fares.
    pub(crate) stats: PluginStats,
    /// Started VMs that wait for their worker, by worker.
    spares: Box<[ArrayQueue<Started>]>,
    /// By worker: a VM has been asked for and not been started yet.
    wanted: Box<[AtomicBool]>,
    restarts: mpsc::Sender<VmRequest>,
}

/// How a plugin fares, over all workers. (What is counted for ever is in `telemetry`.)
#[derive(Debug, Default)]
pub(crate) struct PluginStats {
    /// VMs that run on workers.
    pub(crate) vms: AtomicU64,
    /// VMs that did not start.
    pub(crate) restart_failures: AtomicU64,
    /// How often somebody has asked to reset its breakers.
    pub(super) resets: AtomicU64,
    last_failure: Mutex<Option<String>>,
    /// Until when its policy answers on a worker, if it does.
    open_until: Mutex<Option<Instant>>,
}

impl PluginStats {
    pub(super) fn note_failure(&self, text: String) {
        *self.last_failure.lock() = Some(text);
    }

    /// A breaker opened.
    pub(super) fn note_breaker(&self, until: Instant) {
        let mut latest = self.open_until.lock();
        *latest = (*latest).max(Some(until));
    }

    /// How long its failure policy answers on a worker, if it does now.
    pub(crate) fn breaker_pause(&self) -> Option<Duration> {
        let until = (*self.open_until.lock())?;
        Some(until.saturating_duration_since(Instant::now())).filter(|pause| !pause.is_zero())
    }

    /// Its breakers are closed: the next request calls it.
    pub(crate) fn reset_breakers(&self) {
        self.resets.fetch_add(1, Ordering::Relaxed);
        *self.open_until.lock() = None;
    }

    /// The last failure, in words.
    pub(crate) fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().clone()
    }
}

impl ActivePlugin {
    /// Starts [`VMS_PER_WORKER`] VMs for each worker, one after another. Slow: not for a worker.
    ///
    /// # Errors
    /// The first VM that did not start; none is left over then.
    pub(crate) fn start(start: PluginStart) -> Result<Arc<Self>, StartRefusal> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let PluginStart { model, module, workers, state, restarts } = start;
        let mut settings = settings(&model);
        let of_streams = model.isolation == Isolation::Stream;
        if of_streams {
            // A VM of a stream starts on its worker, which does nothing else meanwhile.
            settings.limits.start_time = settings.limits.start_time.min(settings.limits.call_time);
        }
        let plugin = Arc::new(weir_host_abi::Plugin::new(settings, module));
        let namespace = state.namespace(&model.vm_id());
        namespace.data().set_limit(usize::try_from(model.limits.shared_data.0).unwrap_or(usize::MAX));
        namespace.metrics().set_limit(usize::try_from(model.limits.metrics).unwrap_or(usize::MAX));
        let mut spares = Vec::with_capacity(workers);
        if of_streams {
            drop(start_vm(&plugin, (&state, &namespace))?); // It starts, so it will.
        }
        for _ in 0..workers {
            let queue = ArrayQueue::new(VMS_PER_WORKER);
            let spares_wanted = if of_streams { 0 } else { VMS_PER_WORKER };
            for _ in 0..spares_wanted {
                let vm = start_vm(&plugin, (&state, &namespace))?;
                drop(queue.push(vm)); // It has room for exactly these.
            }
            spares.push(queue);
        }
        Ok(Arc::new(Self {
            model,
            plugin,
            id: IDS.fetch_add(1, Ordering::Relaxed),
            state,
            namespace,
            stats: PluginStats::default(),
            spares: spares.into_boxed_slice(),
            wanted: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            restarts,
        }))
    }

    /// Starts a VM here and now, for one stream.
    pub(super) fn start_vm(&self) -> Result<Started, StartRefusal> {
        start_vm(&self.plugin, (&self.state, &self.namespace))
    }

    /// The callbacks that its module has.
    pub(crate) fn exports(&self) -> Exports {
        self.plugin.exports()
    }

    /// VMs that are started and wait for their worker.
    pub(crate) fn waiting_vms(&self) -> usize {
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
        let request = VmRequest { plugin: Arc::clone(self), worker, not_before };
        if self.restarts.try_send(request).is_err() {
            self.wanted[worker].store(false, Ordering::Release); // Full: the next failure asks again.
        }
    }
}

/// Starts a VM; when it does not, the refusal says what the guest itself said.
fn start_vm(
    plugin: &Arc<weir_host_abi::Plugin>,
    (state, namespace): (&Arc<PluginState>, &Arc<Namespace>),
) -> Result<Started, StartRefusal> {
    let state = Arc::clone(state);
    let clock = move || state.since_start();
    let host = StartHost::new(plugin, namespace, clock, super::host::current_log_level());
    weir_host_abi::start(host)
}
