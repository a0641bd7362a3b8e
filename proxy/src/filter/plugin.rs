//! A plugin loaded and started: what routes refer to. Made by `config` off the workers; each worker takes VMs from it.
//! Shared by all workers without locks on the request path.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use weir_host_abi::shared::{MetricTable, Namespace};
use weir_host_abi::{Exports, Limits, Module, PluginSettings, StartError, StartStep, Vm};
use weir_model::HeaderPause;

use crate::filter::start_host::StartHost;
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

/// Why a plugin did not start.
#[derive(Debug, Clone)]
pub(crate) struct PluginStartError {
    /// The field of the model to blame: `module`, `configuration` or `limits`.
    pub(crate) field: &'static str,
    /// What happened, with the guest's own words.
    pub(crate) reason: String,
    /// What to do next.
    pub(crate) hint: String,
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
        match start_vm(&plugin.plugin, (&plugin.model, &plugin.state, &plugin.namespace)) {
            // A full queue means that the worker has a spare already.
            Ok(vm) => drop(plugin.spares[worker].push(vm)),
            Err((error, _)) => {
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
    spares: Box<[ArrayQueue<StartedVm>]>,
    /// By worker: a VM has been asked for and not been started yet.
    wanted: Box<[AtomicBool]>,
    restarts: mpsc::Sender<VmRequest>,
}

/// A VM that has started, and the metrics that it knows by number.
pub(super) struct StartedVm {
    pub(super) vm: Vm,
    pub(super) metrics: MetricTable,
}

/// How a plugin fares, over all workers. (What is counted for ever is in `telemetry`.)
#[derive(Debug, Default)]
pub(crate) struct PluginStats {
    /// VMs that run on workers.
    pub(crate) vms: AtomicU64,
    /// VMs that did not start.
    pub(crate) restart_failures: AtomicU64,
    last_failure: Mutex<Option<String>>,
}

impl PluginStats {
    pub(super) fn note_failure(&self, text: String) {
        *self.last_failure.lock() = Some(text);
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
    pub(crate) fn start(start: PluginStart) -> Result<Arc<Self>, PluginStartError> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let PluginStart { model, module, workers, state, restarts } = start;
        let plugin = Arc::new(weir_host_abi::Plugin::new(settings(&model), module));
        let namespace = state.namespace(model.name.as_str());
        let mut spares = Vec::with_capacity(workers);
        for _ in 0..workers {
            let queue = ArrayQueue::new(VMS_PER_WORKER);
            for _ in 0..VMS_PER_WORKER {
                let vm = start_vm(&plugin, (&model, &state, &namespace));
                let vm = vm.map_err(|(error, said)| start_error(&error, &said))?;
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

    /// The callbacks that its module has.
    pub(crate) fn exports(&self) -> Exports {
        self.plugin.module().exports()
    }

    /// VMs that are started and wait for their worker.
    pub(crate) fn waiting_vms(&self) -> usize {
        self.spares.iter().map(ArrayQueue::len).sum()
    }

    pub(super) fn register_queue(&self, name: &[u8]) -> u32 {
        register_queue(&self.namespace, name)
    }

    pub(super) fn resolve_queue(&self, vm_id: &[u8], name: &[u8]) -> Option<u32> {
        resolve_queue(&self.namespace, vm_id, name)
    }

    /// A started VM, if one waits.
    pub(super) fn take_spare(&self, worker: usize) -> Option<StartedVm> {
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

/// Starts a VM; when it does not, the error comes with what the guest itself said.
fn start_vm(
    plugin: &Arc<weir_host_abi::Plugin>,
    (model, state, namespace): (&Arc<weir_model::Plugin>, &Arc<PluginState>, &Arc<Namespace>),
) -> Result<StartedVm, (StartError, String)> {
    let mut host = StartHost::new(model, state, namespace);
    match Vm::start(plugin, &mut host) {
        Ok(vm) => Ok(StartedVm { vm, metrics: host.into_metrics() }),
        Err(error) => Err((error, host.said().to_owned())),
    }
}

/// Registers a queue. Nobody is notified: VMs of several workers share it, and each takes from it in its ticks.
pub(super) fn register_queue(namespace: &Namespace, name: &[u8]) -> u32 {
    namespace.queues().register(namespace.vm_id(), name, Arc::new(|_| {}))
}

/// The number of a queue; an empty VM id is the plugin's own.
pub(super) fn resolve_queue(namespace: &Namespace, vm_id: &[u8], name: &[u8]) -> Option<u32> {
    let vm_id = std::str::from_utf8(vm_id).ok()?;
    namespace.queues().resolve(if vm_id.is_empty() { namespace.vm_id() } else { vm_id }, name)
}

fn settings(model: &weir_model::Plugin) -> PluginSettings {
    let memory = usize::try_from(model.limits.memory.0).unwrap_or(usize::MAX);
    let limits =
        Limits { memory, call_time: model.limits.call_time, start_time: model.limits.start_time, ..Limits::default() };
    let header_pause = match model.header_pause {
        HeaderPause::HoldAll => weir_host_abi::HeaderPause::HoldAll,
        HeaderPause::HoldHeaders => weir_host_abi::HeaderPause::HoldHeaders,
    };
    PluginSettings {
        name: model.name.to_string(),
        vm_id: model.name.to_string(),
        configuration: model.configuration.to_vec(),
        limits,
        header_pause,
        ..PluginSettings::default()
    }
}

/// Whose fault a failed start is, with what the guest itself said.
fn start_error(error: &StartError, said: &str) -> PluginStartError {
    let (field, hint) = match error {
        StartError::Failed { step: StartStep::Configure, .. } | StartError::Refused { step: StartStep::Configure } => {
            ("configuration", "the filter's README says what it takes")
        }
        StartError::Failed { .. } | StartError::Refused { .. } => {
            ("module", "the module loads but does not start; try it with the test of its own")
        }
        StartError::NoRoom(_) => ("limits", "fewer filters or less memory for each"),
    };
    let reason = if said.is_empty() { error.to_string() } else { format!("{error}; the filter says: {said}") };
    PluginStartError { field, reason, hint: hint.to_owned() }
}
