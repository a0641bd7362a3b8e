//! Health of a plugin on one worker, across its VMs: breaker, CPU budget and log throttle.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::time::Instant;

use super::breaker::{Breaker, BreakerState};
use super::cpu_budget::CpuBudget;
use super::log_throttle::{LogDecision, LogThrottle};

/// Health of a plugin on one worker, across its VMs.
pub(crate) struct PluginHealth {
    breaker: RefCell<Breaker>,
    /// CPU time of the calls into the plugin.
    pub(crate) cpu_budget: CpuBudget,
    log_throttle: RefCell<LogThrottle>,
    /// Number of requested breaker resets that have been applied.
    applied_resets: Cell<u64>,
}

impl PluginHealth {
    /// Returns the health of a plugin without failures. `cpu_per_second` is its budget.
    pub(crate) fn new(cpu_per_second: Duration) -> Self {
        Self {
            breaker: RefCell::default(),
            cpu_budget: CpuBudget::new(cpu_per_second),
            log_throttle: RefCell::default(),
            applied_resets: Cell::new(0),
        }
    }

    /// Returns whether the breaker is open. Closes it first if more resets were requested than before.
    pub(crate) fn is_breaker_open(&self, requested_resets: u64) -> bool {
        if self.applied_resets.replace(requested_resets) != requested_resets {
            *self.breaker.borrow_mut() = Breaker::default();
        }
        matches!(self.breaker.borrow().state(Instant::now()), BreakerState::Open)
    }

    /// Counts a failure. Returns the pause if it opened the breaker. `jitter` spreads the pauses of several workers.
    pub(crate) fn record_failure(&self, now: Instant, jitter: u8) -> Option<Duration> {
        let mut breaker = self.breaker.borrow_mut();
        breaker.on_failure(now, jitter).then(|| breaker.pause(now))
    }

    /// Counts a log line about misuse and decides about it.
    pub(crate) fn decide_log(&self) -> LogDecision {
        self.log_throttle.borrow_mut().decide(Instant::now())
    }
}
