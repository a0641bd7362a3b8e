//! State of one plugin on one worker: failure breaker, counters, and the VM that runs it. Several plugins may share a
//! VM. Invariant I8 holds here: a failure affects only the streams of one VM, and then a spare VM takes over or the
//! failure policy answers.
//!
//! ```text
//!              take spare              failure: streams notified, breaker counts
//!   stopped ───────────────► running ───────────────────────────────────────────► stopped
//!      └─ no spare yet, or breaker open: the failure policy answers
//! ```
//!
//! With `isolation: Stream` each stream has an instance of its own, whose VM is started for it and closed with it. The
//! counters are shared by all instances of the plugin.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;
use tracing::{error, warn};
use weir_host_abi::{ContextId, Exports, Failure, FailureKind, StartedVm};
use weir_model::{Isolation, PluginLimits, PluginRole, RecyclePolicy};

use crate::error::ProxyError;
use crate::filter::active_plugin::ActivePlugin;
use crate::filter::breaker::{Breaker, BreakerState};
use crate::filter::callout::CalloutTable;
use crate::filter::cpu_budget::CpuBudget;
use crate::filter::effects::EffectQueue;
use crate::filter::event::FilterFailure;
use crate::filter::log_throttle::{LogDecision, LogThrottle};
use crate::filter::queue_ready::QueueNotifications;
use crate::filter::shutdown;
use crate::filter::vm_instance::{StreamRef, VmInstance};
use crate::task;
use crate::telemetry::PluginMetrics;

/// Parts of a new [`PluginInstance`].
pub(super) struct PluginInstanceOptions {
    pub(super) plugin: Arc<ActivePlugin>,
    pub(super) vm: Rc<VmInstance>,
    /// True if the VM serves one stream only.
    pub(super) is_per_stream: bool,
    pub(super) effects: Rc<EffectQueue>,
    pub(super) callouts: CalloutTable,
    pub(super) metrics: Arc<PluginMetrics>,
}

/// One plugin in one VM of a worker.
pub(crate) struct PluginInstance {
    pub(super) plugin: Arc<ActivePlugin>,
    /// Index of the plugin in its VM. Copied from the plugin, like the fields up to the limit, since each call reads
    /// it.
    pub(super) plugin_index: usize,
    exports: Exports,
    /// True for the role `Filter`. An access log plugin is called at the end of a stream only.
    pub(super) is_stream_filter: bool,
    /// Limit of buffered body bytes of one direction of a stream.
    pub(super) body_buffer_limit_bytes: usize,
    /// The VM that runs the plugin.
    pub(super) vm: Rc<VmInstance>,
    pub(super) health: Rc<PluginHealth>,
    pub(super) metrics: Arc<PluginMetrics>,
    is_per_stream: bool,
    pub(super) phase: Cell<PluginPhase>,
    /// Number of streams that may still call the plugin here.
    pub(super) active_streams: Cell<usize>,
    /// The instance for new streams, once the VM of this one is recycled.
    successor: RefCell<Option<Rc<Self>>>,
    pub(super) callouts: CalloutTable,
    pub(super) effects: Rc<EffectQueue>,
    /// Generation of the timer that the running timer task serves.
    pub(super) timer_generation: Cell<Option<u64>>,
    /// Notifications of entries in queues that the VMs of this instance have registered.
    pub(super) queue_notifications: Arc<QueueNotifications>,
}

/// Phase of a plugin instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PluginPhase {
    /// New streams may use the plugin.
    Serving,
    /// The plugin context is being shut down. New streams go elsewhere.
    ShuttingDown,
    /// The plugin context is deleted. Other plugins may still use the VM.
    Removed,
}

/// Breaker, CPU budget and log throttle of a plugin on one worker, across its VMs.
pub(super) struct PluginHealth {
    breaker: RefCell<Breaker>,
    pub(super) cpu_budget: CpuBudget,
    log_throttle: RefCell<LogThrottle>,
    /// Number of requested breaker resets that have been applied.
    applied_resets: Cell<u64>,
}

impl PluginInstance {
    /// Returns an instance in a VM that does not run yet, with a new [`PluginHealth`].
    pub(super) fn new(options: PluginInstanceOptions) -> Rc<Self> {
        let health = PluginHealth {
            breaker: RefCell::default(),
            cpu_budget: CpuBudget::new(options.plugin.model.limits.cpu_per_second),
            log_throttle: RefCell::default(),
            applied_resets: Cell::new(0),
        };
        Self::with_health(options, Rc::new(health))
    }

    /// Returns the instance for a new stream. With `isolation: Stream` that is a new one.
    pub(super) fn instance_for_stream(self: &Rc<Self>) -> Rc<Self> {
        match self.plugin.model.isolation {
            Isolation::Worker if self.plugin.model.recycling == RecyclePolicy::default() => Rc::clone(self),
            Isolation::Worker | Isolation::Singleton => self.current(),
            Isolation::Stream => self.in_new_vm(),
        }
    }

    /// Returns the instance that takes new streams: this one, or the latest successor. Starts a successor if the VM
    /// needs recycling and a spare VM is ready.
    pub(super) fn current(self: &Rc<Self>) -> Rc<Self> {
        let current = self.latest();
        if current.vm.needs_recycling(&current.plugin.model.recycling)
            && current.plugin.pool.has_spare(current.vm.worker)
        {
            let next = current.in_new_vm();
            *current.successor.borrow_mut() = Some(Rc::clone(&next));
            // Shortens the walk of the next call.
            *self.successor.borrow_mut() = Some(Rc::clone(&next));
            task::spawn_local("filter-recycle", shutdown::shut_down_when_drained(Rc::clone(&current)));
            return next;
        }
        current
    }

    /// Returns the latest successor of this instance, or the instance itself.
    pub(super) fn latest(self: &Rc<Self>) -> Rc<Self> {
        let mut latest = Rc::clone(self);
        loop {
            let next = latest.successor.borrow().clone();
            match next {
                Some(next) => latest = next,
                None => return latest,
            }
        }
    }

    /// Returns another instance of the plugin on this worker, in a VM of its own that does not run yet.
    fn in_new_vm(&self) -> Rc<Self> {
        let options = PluginInstanceOptions {
            plugin: Arc::clone(&self.plugin),
            vm: VmInstance::new(Arc::clone(&self.vm.pool), self.vm.worker),
            is_per_stream: self.plugin.model.isolation == Isolation::Stream,
            effects: Rc::clone(&self.effects),
            callouts: self.callouts.for_new_vm(),
            metrics: Arc::clone(&self.metrics),
        };
        Self::with_health(options, Rc::clone(&self.health))
    }

    fn with_health(options: PluginInstanceOptions, health: Rc<PluginHealth>) -> Rc<Self> {
        let PluginInstanceOptions { plugin, vm, is_per_stream, effects, callouts, metrics } = options;
        let body_buffer_limit_bytes = usize::try_from(plugin.model.limits.body.0).unwrap_or(usize::MAX);
        let instance = Rc::new(Self {
            plugin_index: plugin.plugin_index,
            exports: plugin.exports(),
            is_stream_filter: plugin.model.role == PluginRole::Filter,
            body_buffer_limit_bytes,
            plugin,
            vm,
            health,
            metrics,
            is_per_stream,
            phase: Cell::new(PluginPhase::Serving),
            active_streams: Cell::new(0),
            successor: RefCell::new(None),
            callouts,
            effects,
            timer_generation: Cell::new(None),
            queue_notifications: Arc::default(),
        });
        instance.vm.add_plugin(&instance);
        instance
    }

    /// Registers a stream that has a context in the running VM.
    pub(super) fn add_stream(&self, context: ContextId, stream_ref: StreamRef) {
        self.metrics.streams.increment();
        self.vm.add_stream(context, stream_ref);
    }

    /// Returns the resource limits of the plugin.
    pub(super) fn limits(&self) -> &PluginLimits {
        &self.plugin.model.limits
    }

    /// Returns the callbacks that the plugin's module exports.
    pub(super) const fn exports(&self) -> Exports {
        self.exports
    }

    /// Returns whether the module exports a callback for the end of a stream.
    pub(super) const fn wants_stream_end(&self) -> bool {
        self.exports.log() || self.exports.done() || self.exports.delete()
    }

    /// Returns the generation of the running VM. A context is valid in the generation that created it.
    pub(super) fn generation(&self) -> u64 {
        self.vm.generation()
    }

    /// Starts a VM unless one runs.
    ///
    /// # Errors
    /// The failure policy answers: the CPU budget is exhausted, the breaker is open, or no VM could be started.
    pub(super) fn ensure_running(self: &Rc<Self>) -> Result<(), FilterFailure> {
        if self.health.cpu_budget.is_exhausted(Instant::now) {
            self.metrics.limited.increment("cpu");
            return Err(self.failure("filter_cpu_spent"));
        }
        if self.vm.is_running() && !self.is_isolated_by_breaker() {
            return Ok(());
        }
        if self.is_breaker_open() {
            return Err(self.failure("filter_breaker_open"));
        }
        let started = if self.is_per_stream { self.start_stream_vm()? } else { self.take_spare_vm()? };
        self.metrics.vms_started.increment();
        self.metrics.memory.set(started.vm.memory_bytes() as u64);
        self.vm.install(started);
        Ok(())
    }

    /// Returns whether the breaker is open.
    fn is_breaker_open(&self) -> bool {
        self.sync_breaker_reset();
        matches!(self.health.breaker.borrow().state(Instant::now()), BreakerState::Open)
    }

    /// Returns whether the breaker keeps the plugin out of a VM that another plugin has restarted.
    pub(super) fn is_isolated_by_breaker(&self) -> bool {
        self.vm.is_shared() && self.is_breaker_open()
    }

    /// Takes a spare VM from the pool, and requests another one for the next failure.
    fn take_spare_vm(&self) -> Result<StartedVm, FilterFailure> {
        let (pool, worker) = (&self.plugin.pool, self.vm.worker);
        let spare = pool.take_spare(worker);
        if !pool.has_spare(worker) {
            // The new spare is usually ready before the next failure.
            pool.request_vm(worker, Instant::now());
        }
        spare.ok_or_else(|| self.failure("filter_not_started"))
    }

    /// Starts the VM of one stream on this worker. A failed VM is not replaced, since a second one lacks the state of
    /// the first.
    fn start_stream_vm(&self) -> Result<StartedVm, FilterFailure> {
        if self.generation() > 0 {
            return Err(self.failure("filter_vm_died"));
        }
        let Some(permit) = self.plugin.state().acquire_stream_vm_permit() else {
            self.metrics.limited.increment("vms");
            return Err(self.failure("filter_too_many_vms"));
        };
        self.vm.attach_permit(permit);
        self.plugin.pool.start_vm().map_err(|failure| {
            self.metrics.failures.increment("filter_not_started");
            self.plugin.stats.record_failure(failure.reason);
            self.health.breaker.borrow_mut().on_failure(Instant::now(), self.jitter());
            self.failure("filter_not_started")
        })
    }

    /// Registers a shared queue and returns its id. The VM that runs here is notified of new entries.
    pub(super) fn register_queue(self: &Rc<Self>, name: &[u8]) -> u32 {
        self.queue_notifications.start_task(self);
        let namespace = self.plugin.namespace();
        namespace.queues().register(namespace.vm_id(), name, self.queue_notifications.notifier())
    }

    /// Closes the breaker if a reset was requested since the last check.
    fn sync_breaker_reset(&self) {
        let resets = self.plugin.stats.resets.load(Ordering::Relaxed);
        if self.health.applied_resets.replace(resets) != resets {
            *self.health.breaker.borrow_mut() = Breaker::default();
        }
    }

    /// Returns a failure with the plugin's policy and a response code detail in snake case.
    pub(super) fn failure(&self, detail: &'static str) -> FilterFailure {
        let plugin = self.plugin.model.name.to_string();
        FilterFailure { policy: self.plugin.model.failure, error: ProxyError::FilterFailed { plugin, detail } }
    }

    /// Handles a failed call: closes the VM, notifies its streams, and logs the failure once.
    pub(super) fn on_failure(self: &Rc<Self>, failure: &Failure) -> FilterFailure {
        if failure.kind != FailureKind::Dead {
            self.metrics.failures.increment(failure_detail(failure.kind));
            let now = Instant::now();
            // The shutdown of a recycled instance does not count against its successor.
            let serves = self.phase.get() == PluginPhase::Serving;
            let opened = serves && self.health.breaker.borrow_mut().on_failure(now, self.jitter());
            self.log_failure(failure, opened, now);
            self.plugin.stats.record_failure(failure.to_string());
            if serves && self.plugin.model.isolation == Isolation::Singleton {
                task::spawn_local("filter-restart", shutdown::restart_singleton(Rc::downgrade(self)));
            }
        }
        self.vm.fail();
        self.failure(failure_detail(failure.kind))
    }

    /// Returns whether another line about the filter's misuse may be logged.
    pub(super) fn should_log_misuse(&self) -> bool {
        let decision = self.health.log_throttle.borrow_mut().decide(Instant::now());
        if decision == LogDecision::LogSuppressionNotice {
            let plugin = &self.plugin.model.name;
            let worker = self.vm.worker;
            warn!(%plugin, worker, "a filter repeats misuse; further log lines are suppressed for a second");
        }
        decision == LogDecision::Log
    }

    /// Returns a value that spreads breaker pauses across workers. It need not be unpredictable.
    fn jitter(&self) -> u8 {
        let mixed = (self.vm.worker as u64 + 1).wrapping_mul(0x9E37_79B9) ^ self.generation().wrapping_mul(0x85EB_CA6B);
        mixed.to_le_bytes()[1]
    }

    fn log_failure(&self, failure: &Failure, opened: bool, now: Instant) {
        let plugin = &self.plugin.model.name;
        let backtrace = failure.backtrace.join(" < ");
        let (kind, callback) = (failure.kind.name(), failure.callback);
        let streams = self.vm.streams.borrow().len();
        warn!(%plugin, worker = self.vm.worker, kind, callback, message = %failure.message, %backtrace, streams,
            "filter failed; its VM is replaced, its streams follow the failure policy");
        if opened {
            self.metrics.breaker_opened.increment();
            self.plugin.stats.record_breaker_open(now + self.health.breaker.borrow().pause(now));
            let pause_ms = u64::try_from(self.health.breaker.borrow().pause(now).as_millis()).unwrap_or(u64::MAX);
            error!(%plugin, worker = self.vm.worker, pause_ms, policy = ?self.plugin.model.failure,
                "filter failed too often; its failure policy answers without calling it");
        }
    }

    /// Closes the VM of an instance that belongs to one stream.
    pub(super) fn on_stream_end(&self) {
        if self.is_per_stream {
            self.vm.close();
            self.callouts.abandon_all();
        }
    }
}

/// Returns the response code detail of a kind of failure.
const fn failure_detail(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Trap => "filter_trap",
        FailureKind::Deadline => "filter_deadline",
        FailureKind::OutOfMemory => "filter_out_of_memory",
        FailureKind::AbiViolation => "filter_abi_violation",
        FailureKind::Exit => "filter_exit",
        FailureKind::Dead => "filter_vm_died",
    }
}
