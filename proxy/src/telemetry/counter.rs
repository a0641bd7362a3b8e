//! Metrics with one writer thread and any number of readers: counters, gauges, histograms, counters by kind.
//!
//! With one writer, an addition is a load and a store, without a locked instruction. Other threads may read slightly
//! outdated values.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A monotonic counter.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds one. Must be called on the writer thread.
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    /// Adds `amount`. Must be called on the writer thread.
    pub(crate) fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Returns the value.
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value that increases and decreases.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    /// Adds one. Must be called on the writer thread.
    pub(crate) fn increment(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Sets the value. Must be called on the writer thread.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Subtracts one. Must be called on the writer thread.
    pub(crate) fn decrement(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
    }

    /// Returns the value.
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of histogram buckets, in microseconds, and in seconds for the label `le`.
pub(crate) const BUCKETS: [(u64, &str); 15] = [
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
    (60_000_000, "60"),
];

/// A histogram of durations.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// Counts by bucket; the last one counts durations above all bounds.
    buckets: [Counter; BUCKETS.len() + 1],
    sum_micros: Counter,
}

impl Histogram {
    /// Records one duration. Must be called on the writer thread.
    pub(crate) fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|(bound, _)| micros <= *bound).unwrap_or(BUCKETS.len());
        self.buckets[bucket].increment();
        self.sum_micros.add(micros);
    }
}

/// The sum of histograms of several threads.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct HistogramSum {
    /// Counts by bucket, not cumulative.
    pub(crate) buckets: [u64; BUCKETS.len() + 1],
    /// The sum of all durations.
    pub(crate) sum_micros: u64,
}

impl HistogramSum {
    /// Adds the histogram of one thread.
    pub(crate) fn add(&mut self, histogram: &Histogram) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *sum += bucket.value();
        }
        self.sum_micros = self.sum_micros.wrapping_add(histogram.sum_micros.value());
    }
}

/// Most kinds of a [`CounterByKind`] that states no other number.
const MAX_KINDS: usize = 16;

/// Counters for at most `MAX` named kinds; further kinds are counted as `other`.
#[derive(Debug)]
pub(crate) struct CounterByKind<const MAX: usize = MAX_KINDS> {
    kinds: [(OnceLock<&'static str>, Counter); MAX],
    other: Counter,
}

impl<const MAX: usize> Default for CounterByKind<MAX> {
    fn default() -> Self {
        Self { kinds: std::array::from_fn(|_| Default::default()), other: Counter::default() }
    }
}

impl<const MAX: usize> CounterByKind<MAX> {
    /// Adds one to a kind. Must be called on the writer thread.
    pub(crate) fn increment(&self, kind: &'static str) {
        for (name, counter) in &self.kinds {
            if *name.get_or_init(|| kind) == kind {
                return counter.increment();
            }
        }
        self.other.increment();
    }

    /// Returns every counted kind with its count.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let named = self.kinds.iter().filter_map(|(name, counter)| Some((*name.get()?, counter.value())));
        named.chain(Some(("other", self.other.value())).filter(|(_, count)| *count > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_in_their_buckets() {
        let histogram = Histogram::default();
        for micros in [0, 500, 501, 1_000_000, 60_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let mut sum = HistogramSum::default();
        sum.add(&histogram);
        sum.add(&histogram);
        let filled: Vec<_> = sum.buckets.iter().enumerate().filter(|(_, count)| **count > 0).collect();
        assert_eq!(filled, [(0, &4), (1, &2), (10, &2), (15, &2)]);
        assert_eq!(sum.sum_micros, 2 * 61_001_002);
    }

    #[test]
    fn excess_kinds_are_counted_as_other() {
        const NAMES: [&str; 18] =
            ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r"];
        let counters = CounterByKind::<MAX_KINDS>::default();
        for name in NAMES.iter().chain(&NAMES) {
            counters.increment(name);
        }
        let values: Vec<_> = counters.values().collect();
        assert_eq!(values.len(), MAX_KINDS + 1);
        assert_eq!((values[0], values[MAX_KINDS]), (("a", 2), ("other", 4)));
    }
}
