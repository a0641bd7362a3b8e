//! Operations on one plugin in one VM: start with a VM, failure, drain, timer, queues.

use std::sync::atomic::Ordering;

use tokio::time::Instant;
use tracing::{error, warn};
use weir_host_abi::{Failure, FailureKind, StartedVm};
use weir_model::Isolation;

use super::lifecycle::PluginPhase;
use super::log_throttle::LogDecision;
use super::shared_state::StreamVmPermit;
use super::types::{Effect, PluginRef, VmState};
use crate::error::ProxyError;
use crate::filter::chain::FilterFailure;

impl PluginRef {
    /// Starts a VM unless one runs.
    ///
    /// # Errors
    /// The failure policy answers: the CPU budget is exhausted, the breaker is open, or no VM could be started.
    pub(crate) fn ensure_running(&self) -> Result<(), FilterFailure> {
        if self.health.cpu_budget.is_exhausted(Instant::now) {
            self.metrics.limited.increment("cpu");
            return Err(self.failure("filter_cpu_spent"));
        }
        let is_running = self.vm.is_running();
        if is_running && !self.vm.is_shared() {
            return Ok(()); // A failure of the plugin would have ended it.
        }
        if self.is_breaker_open() {
            return Err(self.failure("filter_breaker_open"));
        }
        if is_running {
            return Ok(());
        }
        let (started, permit) = if self.vm.is_per_stream {
            let permit = self.acquire_stream_vm_permit()?;
            (self.start_stream_vm()?, Some(permit))
        } else {
            (self.take_spare_vm()?, None)
        };
        self.metrics.vms_started.increment();
        self.metrics.memory.set(started.vm.memory_bytes() as u64);
        self.vm.install(started, permit);
        Ok(())
    }

    /// Returns whether the breaker is open.
    fn is_breaker_open(&self) -> bool {
        self.health.is_breaker_open(self.plugin.stats.resets.load(Ordering::Relaxed))
    }

    /// Returns whether the breaker keeps the plugin out of a VM that another plugin has restarted.
    pub(crate) fn is_isolated_by_breaker(&self) -> bool {
        self.vm.is_shared() && self.is_breaker_open()
    }

    /// Takes a spare VM from the pool, and requests another one for the next failure.
    fn take_spare_vm(&self) -> Result<StartedVm, FilterFailure> {
        let (pool, worker) = (&self.vm.pool, self.vm.worker);
        if self.vm.is_closed() {
            return Err(self.failure("filter_vm_died"));
        }
        let spare = pool.take_spare(worker);
        if !pool.has_spare(worker) {
            // The new spare is usually ready before the next failure.
            pool.request_vm(worker, Instant::now());
        }
        spare.ok_or_else(|| self.failure("filter_not_started"))
    }

    /// Acquires the permit of a VM for one stream. A failed VM is not replaced, since a second one lacks the state of the
    /// first.
    fn acquire_stream_vm_permit(&self) -> Result<StreamVmPermit, FilterFailure> {
        if self.vm.generation() > 0 || self.vm.is_closed() {
            return Err(self.failure("filter_vm_died"));
        }
        self.plugin.state().acquire_stream_vm_permit().ok_or_else(|| {
            self.metrics.limited.increment("vms");
            self.failure("filter_too_many_vms")
        })
    }

    /// Starts the VM of one stream on this worker.
    fn start_stream_vm(&self) -> Result<StartedVm, FilterFailure> {
        self.vm.pool.start_vm().map_err(|failure| {
            self.metrics.failures.increment("filter_not_started");
            self.plugin.stats.record_failure(failure.reason);
            self.health.record_failure(Instant::now(), self.jitter());
            self.failure("filter_not_started")
        })
    }

    /// Registers a shared queue and returns its id. The VM that runs here is notified of new entries.
    pub(crate) fn register_queue(&self, name: &[u8]) -> u32 {
        if self.queue_notifications.claim_task() {
            self.vm.effects.push(Effect::QueueRegistered(self.clone()));
        }
        let namespace = self.plugin.namespace();
        namespace.queues().register(namespace.vm_id(), name, self.queue_notifications.notifier())
    }

    /// Reports the timer of the guest if it has changed. The VM must not be borrowed.
    pub(crate) fn check_timer(&self) {
        let generation = match &mut *self.vm.state.borrow_mut() {
            VmState::Running(running) => {
                running.vm.select_plugin(self.index);
                running.vm.tick_generation()
            }
            VmState::Stopped | VmState::Closed => return,
        };
        self.set_timer_generation(generation);
    }

    /// Reports a timer of this generation if it is a new one. 0 stands for no timer.
    pub(crate) fn set_timer_generation(&self, generation: u64) {
        let timer = &self.timer;
        if generation == 0 || timer.generation.get() == Some(generation) {
            return;
        }
        timer.generation.set(Some(generation));
        if !timer.is_change_queued.replace(true) {
            self.vm.effects.push(Effect::TimerChanged(self.clone()));
        }
    }

    /// Gives the plugin no further stream. It shuts down when the last one has left.
    pub(crate) fn drain(&self) {
        if self.lifecycle.drain() {
            self.vm.effects.push(Effect::PluginDrained(self.clone()));
        }
    }

    /// Removes the plugin from its VM. The last plugin of a VM closes it.
    pub(crate) fn remove(&self) {
        self.lifecycle.remove();
        // Late callouts and queue entries must not reach a VM that has deleted the plugin context.
        self.callouts.abandon_all();
        if self.vm.plugins.iter().all(|plugin| plugin.lifecycle.phase() == PluginPhase::Removed) {
            self.vm.close();
        }
    }

    /// Returns a failure with the plugin's policy and a response code detail in snake case.
    pub(crate) fn failure(&self, detail: &'static str) -> FilterFailure {
        let plugin = self.plugin.model.name.to_string();
        FilterFailure { policy: self.plugin.model.failure, error: ProxyError::FilterFailed { plugin, detail } }
    }

    /// Handles a failed call: ends the VM, notifies its streams, and logs the failure once.
    pub(crate) fn on_failure(&self, failure: &Failure) -> FilterFailure {
        if failure.kind != FailureKind::Dead {
            self.metrics.failures.increment(failure_detail(failure.kind));
            let now = Instant::now();
            // A failed shutdown does not count against the VM that has taken its place.
            let serves = self.lifecycle.phase() <= PluginPhase::Draining;
            let pause = if serves { self.health.record_failure(now, self.jitter()) } else { None };
            self.log_failure(failure);
            if let Some(pause) = pause {
                self.metrics.breaker_opened.increment();
                self.plugin.stats.record_breaker_open(now + pause);
                let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                error!(plugin = %self.plugin.model.name, worker = self.vm.worker, pause_ms,
                    policy = ?self.plugin.model.failure,
                    "filter failed too often; its failure policy answers without calling it");
            }
            self.plugin.stats.record_failure(failure.to_string());
            if serves && self.plugin.model.isolation == Isolation::Singleton {
                self.vm.effects.push(Effect::SingletonFailed(self.clone()));
            }
        }
        self.vm.fail();
        self.failure(failure_detail(failure.kind))
    }

    fn log_failure(&self, failure: &Failure) {
        let backtrace = failure.backtrace.join(" < ");
        let (kind, callback) = (failure.kind.name(), failure.callback);
        let streams = match &*self.vm.state.borrow() {
            VmState::Running(running) => running.streams.len(),
            VmState::Stopped | VmState::Closed => 0,
        };
        warn!(plugin = %self.plugin.model.name, worker = self.vm.worker, kind, callback, message = %failure.message,
            %backtrace, streams, "filter failed; its VM is replaced, its streams follow the failure policy");
    }

    /// Returns whether another line about the filter's misuse may be logged.
    pub(crate) fn should_log_misuse(&self) -> bool {
        let decision = self.health.decide_log();
        if decision == LogDecision::LogSuppressionNotice {
            let (plugin, worker) = (&self.plugin.model.name, self.vm.worker);
            warn!(%plugin, worker, "a filter repeats misuse; further log lines are suppressed for a second");
        }
        decision == LogDecision::Log
    }

    /// Returns a value that spreads breaker pauses across workers. It need not be unpredictable.
    fn jitter(&self) -> u8 {
        let generation = self.vm.generation();
        let mixed = (self.vm.worker as u64 + 1).wrapping_mul(0x9E37_79B9) ^ generation.wrapping_mul(0x85EB_CA6B);
        mixed.to_le_bytes()[1]
    }

    /// Closes the VM of a plugin that serves one stream, at the end of the stream.
    pub(crate) fn on_stream_end(&self) {
        if self.vm.is_per_stream {
            self.vm.close();
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
