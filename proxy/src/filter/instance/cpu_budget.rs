//! CPU time of the calls into a plugin on one worker: their number, their duration, and the budget of a second
//! (`limits.cpuPerSecond`).
//!
//! Reading a clock costs as much as a small hostcall. A plugin without a limit is timed at its first calls, and then
//! at one of [`SAMPLE_INTERVAL_CALLS`], which stands for the others.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::CPU_WINDOW;
use crate::telemetry::PluginMetrics;

/// Interval of timed calls for a plugin without a limit, and number of first calls that are all timed. A prime, so
/// that a filter with two or four callbacks per stream is not always timed at the same one.
const SAMPLE_INTERVAL_CALLS: u32 = 61;

/// CPU time of the calls into one plugin on one worker.
pub(crate) struct CpuBudget {
    /// CPU time allowed in [`CPU_WINDOW`]. A budget of the whole window is no limit.
    budget: Duration,
    window: Cell<Option<Instant>>,
    used: Cell<Duration>,
    calls: Cell<u64>,
}

/// The timer of one call.
pub(crate) struct CallTimer {
    started: Instant,
    weight: u32,
}

impl CpuBudget {
    pub(crate) fn new(budget: Duration) -> Self {
        Self { budget, window: Cell::new(None), used: Cell::default(), calls: Cell::default() }
    }

    fn is_limited(&self) -> bool {
        self.budget < CPU_WINDOW
    }

    /// Returns true if the plugin has used its budget of this second. Reads the clock through `now` only if needed.
    pub(crate) fn is_exhausted(&self, now: impl FnOnce() -> Instant) -> bool {
        if !self.is_limited() || self.used.get() < self.budget {
            return false;
        }
        let now = now();
        let over = self.window.get().is_none_or(|start| now.duration_since(start) >= CPU_WINDOW);
        if over {
            self.window.set(Some(now));
            self.used.set(Duration::ZERO);
        }
        !over
    }

    /// Counts the start of a call. Returns a timer if the call is timed.
    pub(crate) fn start_call(&self) -> Option<CallTimer> {
        let call = self.calls.get();
        self.calls.set(call.wrapping_add(1));
        let weight = match self.is_limited() || call < SAMPLE_INTERVAL_CALLS.into() {
            true => 1,
            false if call.is_multiple_of(SAMPLE_INTERVAL_CALLS.into()) => SAMPLE_INTERVAL_CALLS,
            false => return None,
        };
        Some(CallTimer { started: Instant::now(), weight })
    }

    /// Counts the end of a call and records its duration.
    pub(crate) fn finish_call(&self, timer: Option<&CallTimer>, metrics: &PluginMetrics) {
        metrics.calls.increment();
        let Some(&CallTimer { started, weight }) = timer else { return };
        let now = Instant::now();
        let took = now.duration_since(started);
        metrics.call_nanoseconds.add(u64::try_from((took * weight).as_nanos()).unwrap_or(u64::MAX));
        if self.is_limited() {
            if self.window.get().is_none_or(|start| now.duration_since(start) >= CPU_WINDOW) {
                self.window.set(Some(started));
                self.used.set(Duration::ZERO);
            }
            self.used.set(self.used.get() + took);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn exhausted_budget_renews_with_next_window() {
        let metrics = PluginMetrics::default();
        let cpu_budget = CpuBudget::new(Duration::from_millis(100));
        let call = async |time: u64| {
            let timer = cpu_budget.start_call();
            tokio::time::advance(Duration::from_millis(time)).await;
            cpu_budget.finish_call(timer.as_ref(), &metrics);
            cpu_budget.is_exhausted(Instant::now)
        };
        assert!(!call(60).await);
        assert!(call(60).await);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(cpu_budget.is_exhausted(Instant::now));
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(!cpu_budget.is_exhausted(Instant::now));
        assert!(!call(60).await);
        assert_eq!((metrics.calls.value(), metrics.call_nanoseconds.value()), (3, 180_000_000));
    }

    #[tokio::test(start_paused = true)]
    async fn unlimited_plugin_is_sampled() {
        let metrics = PluginMetrics::default();
        let cpu_budget = CpuBudget::new(CPU_WINDOW);
        let mut measurements = 0;
        for _ in 0..4 * SAMPLE_INTERVAL_CALLS {
            let timer = cpu_budget.start_call();
            measurements += usize::from(timer.is_some());
            tokio::time::advance(Duration::from_millis(10)).await;
            cpu_budget.finish_call(timer.as_ref(), &metrics);
            assert!(!cpu_budget.is_exhausted(Instant::now));
        }
        assert_eq!((metrics.calls.value(), metrics.call_nanoseconds.value()), (244, 2_440_000_000));
        assert_eq!(measurements, 61 + 3);
    }
}
