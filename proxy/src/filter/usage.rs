//! What a plugin's calls cost on one worker: how many there were, how long they took, and whether it has had its share of
//! this second (`limits.cpuPerSecond`).
//!
//! Reading a clock costs as much as a small hostcall, so a plugin without a limit is measured at its first calls, and then
//! at one of many, which stands for the others.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::CPU_WINDOW;
use crate::telemetry::PluginMetrics;

/// Of how many calls one is measured when nothing depends on it; as many are at the beginning, each for itself. A prime: a
/// filter that is called twice for each stream, or four times, is not measured at the same one of them for ever.
const SAMPLE: u32 = 61;

/// What the calls into one plugin cost on one worker.
pub(super) struct Usage {
    /// What it may use in [`CPU_WINDOW`]; as much as that is no limit.
    budget: Duration,
    window: Cell<Option<Instant>>,
    used: Cell<Duration>,
    calls: Cell<u64>,
}

/// A call that is being measured.
pub(super) struct Measured {
    started: Instant,
    stands_for: u32,
}

impl Usage {
    pub(super) fn new(budget: Duration) -> Self {
        Self { budget, window: Cell::new(None), used: Cell::default(), calls: Cell::default() }
    }

    fn is_limited(&self) -> bool {
        self.budget < CPU_WINDOW
    }

    /// True when the plugin has had its share of this second.
    pub(super) fn is_spent(&self, now: impl FnOnce() -> Instant) -> bool {
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

    /// A call begins; says whether it is measured.
    pub(super) fn begin(&self) -> Option<Measured> {
        let call = self.calls.get();
        self.calls.set(call.wrapping_add(1));
        let stands_for = match self.is_limited() || call < SAMPLE.into() {
            true => 1,
            false if call.is_multiple_of(SAMPLE.into()) => SAMPLE,
            false => return None,
        };
        Some(Measured { started: Instant::now(), stands_for })
    }

    /// The call has ended.
    pub(super) fn end(&self, measured: Option<&Measured>, metrics: &PluginMetrics) {
        metrics.calls.increment();
        let Some(&Measured { started, stands_for }) = measured else { return };
        let now = Instant::now();
        let took = now.duration_since(started);
        metrics.call_nanoseconds.add(u64::try_from((took * stands_for).as_nanos()).unwrap_or(u64::MAX));
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
    async fn a_share_is_spent_and_comes_back_with_the_next_second() {
        let metrics = PluginMetrics::default();
        let usage = Usage::new(Duration::from_millis(100));
        let call = async |time: u64| {
            let measured = usage.begin();
            tokio::time::advance(Duration::from_millis(time)).await;
            usage.end(measured.as_ref(), &metrics);
            usage.is_spent(Instant::now)
        };
        assert!(!call(60).await);
        assert!(call(60).await);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(usage.is_spent(Instant::now));
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(!usage.is_spent(Instant::now));
        assert!(!call(60).await);
        assert_eq!((metrics.calls.value(), metrics.call_nanoseconds.value()), (3, 180_000_000));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_a_few_calls_stand_for_all() {
        let metrics = PluginMetrics::default();
        let usage = Usage::new(CPU_WINDOW);
        let mut measurements = 0;
        for _ in 0..4 * SAMPLE {
            let measured = usage.begin();
            measurements += usize::from(measured.is_some());
            tokio::time::advance(Duration::from_millis(10)).await;
            usage.end(measured.as_ref(), &metrics);
            assert!(!usage.is_spent(Instant::now));
        }
        assert_eq!((metrics.calls.value(), metrics.call_nanoseconds.value()), (244, 2_440_000_000));
        assert_eq!(measurements, 61 + 3);
    }
}
