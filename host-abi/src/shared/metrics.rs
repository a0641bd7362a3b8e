//! `NamespaceMetrics`: the metrics of all VMs of a VM id, by name. `MetricTable`: the numbers by which one VM refers to
//! its metrics.
//!
//! A definition takes a lock; an update is one atomic operation.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;

use crate::abi::metric::MetricKind;
use crate::abi::status::Status;
use crate::limits::{HISTOGRAM_BUCKETS, MAX_METRICS};

/// Name of the metric that collects the updates of metrics beyond the limit.
const OVERFLOW: &[u8] = b"metrics_overflow";

/// A counter, gauge or histogram.
#[derive(Debug)]
pub struct Metric {
    kind: MetricKind,
    value: AtomicU64,
    histogram: Option<Box<Histogram>>,
}

/// A histogram with buckets by powers of two.
#[derive(Debug)]
pub struct Histogram {
    /// Bucket 0 counts zeroes; bucket n counts values from 2^(n-1) to 2^n - 1.
    buckets: [AtomicU64; HISTOGRAM_BUCKETS],
    sum: AtomicU64,
}

impl Histogram {
    /// Returns the counts per bucket: zeroes at 0, values from 2^(n-1) to 2^n - 1 at n.
    #[must_use]
    pub fn counts(&self) -> [u64; HISTOGRAM_BUCKETS] {
        std::array::from_fn(|at| self.buckets[at].load(Ordering::Relaxed))
    }

    /// Returns the sum of all values; it wraps.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    fn record(&self, value: u64) {
        let bucket = u64::BITS - value.leading_zeros();
        self.buckets[bucket as usize].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }
}

impl Metric {
    fn new(kind: MetricKind) -> Self {
        let histogram = (kind == MetricKind::Histogram).then(|| {
            let buckets = std::array::from_fn(|_| AtomicU64::new(0));
            Box::new(Histogram { buckets, sum: AtomicU64::new(0) })
        });
        Self { kind, value: AtomicU64::new(0), histogram }
    }

    /// Returns the type of the metric.
    #[must_use]
    pub const fn kind(&self) -> MetricKind {
        self.kind
    }

    /// Returns the histogram; `None` for other types.
    #[must_use]
    pub fn histogram(&self) -> Option<&Histogram> {
        self.histogram.as_deref()
    }

    /// Returns the value of a counter or gauge.
    ///
    /// # Errors
    /// `BadArgument` for a histogram.
    pub fn value(&self) -> Result<u64, Status> {
        match self.kind {
            MetricKind::Counter | MetricKind::Gauge => Ok(self.value.load(Ordering::Relaxed)),
            MetricKind::Histogram => Err(Status::BadArgument),
        }
    }

    /// Adds to a counter, or adds to or subtracts from a gauge, which stays at 0 or above.
    ///
    /// # Errors
    /// `BadArgument` for a histogram, and for an offset below 1 on a counter.
    pub fn increment(&self, offset: i64) -> Result<(), Status> {
        match (self.kind, u64::try_from(offset)) {
            (MetricKind::Histogram, _) | (MetricKind::Counter, Ok(0) | Err(_)) => return Err(Status::BadArgument),
            (MetricKind::Counter | MetricKind::Gauge, Ok(offset)) => {
                self.value.fetch_add(offset, Ordering::Relaxed);
            }
            (MetricKind::Gauge, Err(_)) => {
                let less = |value: u64| Some(value.saturating_sub(offset.unsigned_abs()));
                // The closure always returns `Some`.
                let _before = self.value.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            }
        }
        Ok(())
    }

    /// Sets a gauge, adds to a counter, or records in a histogram.
    pub fn record(&self, value: u64) {
        match (self.kind, &self.histogram) {
            (MetricKind::Histogram, Some(histogram)) => histogram.record(value),
            (MetricKind::Gauge, _) => self.value.store(value, Ordering::Relaxed),
            (MetricKind::Counter | MetricKind::Histogram, _) => {
                self.value.fetch_add(value, Ordering::Relaxed);
            }
        }
    }
}

type MetricName = (MetricKind, Box<[u8]>);

/// The metrics of one VM id.
#[derive(Debug)]
pub struct NamespaceMetrics {
    by_name: RwLock<BTreeMap<MetricName, Arc<Metric>>>,
    limit: AtomicUsize,
}

impl Default for NamespaceMetrics {
    fn default() -> Self {
        Self { by_name: RwLock::default(), limit: AtomicUsize::new(MAX_METRICS) }
    }
}

impl NamespaceMetrics {
    /// Sets the limit of metrics. Existing ones beyond it remain.
    pub fn set_limit(&self, metrics: usize) {
        self.limit.store(metrics, Ordering::Relaxed);
    }

    fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Returns the metric of this kind and name, and creates it if necessary. Beyond the limit ([`MAX_METRICS`] by
    /// default) new metrics of a kind are counted together as `metrics_overflow`.
    pub fn define(&self, kind: MetricKind, name: &[u8]) -> Arc<Metric> {
        let mut by_name = self.by_name.write();
        let mut key = (kind, Box::from(name));
        if by_name.len() >= self.limit() && !by_name.contains_key(&key) {
            key.1 = OVERFLOW.into();
        }
        Arc::clone(by_name.entry(key).or_insert_with(|| Arc::new(Metric::new(kind))))
    }

    /// Visits all metrics in order of kind and name. `visit` must not define metrics: the lock is taken.
    pub fn visit(&self, mut visit: impl FnMut(&[u8], &Metric)) {
        for ((_, name), metric) in &*self.by_name.read() {
            visit(name, metric);
        }
    }
}

/// The numbers by which one VM refers to its metrics. The lowest two bits are the kind, which guests of other hosts may
/// expect.
#[derive(Debug, Default)]
pub struct MetricTable {
    metrics: Vec<Arc<Metric>>,
    /// By kind, then name.
    numbers: [HashMap<Box<[u8]>, u32>; MetricKind::ALL.len()],
}

impl MetricTable {
    /// Returns the number of a metric. The same kind and name return the same number.
    pub fn define(&mut self, metrics: &NamespaceMetrics, kind: MetricKind, name: &[u8]) -> u32 {
        let numbers = &mut self.numbers[kind as usize];
        let is_full = self.metrics.len() >= metrics.limit() && !numbers.contains_key(name);
        let name = if is_full { OVERFLOW } else { name };
        if let Some(number) = numbers.get(name) {
            return *number;
        }
        self.metrics.push(metrics.define(kind, name));
        // There are at most three overflow metrics beyond the limit, so the number fits.
        let number = u32::try_from(self.metrics.len() << 2).unwrap_or(0) | kind.number();
        numbers.insert(name.into(), number);
        number
    }

    /// Returns the metric with this number.
    ///
    /// # Errors
    /// `NotFound` if it does not exist; `BadArgument` if its lowest two bits are not a kind.
    pub fn find(&self, number: u32) -> Result<&Metric, Status> {
        if MetricKind::try_from(number & 3).is_err() {
            return Err(Status::BadArgument);
        }
        let at = (number >> 2).checked_sub(1).ok_or(Status::NotFound)?;
        let metric = self.metrics.get(at as usize).filter(|metric| metric.kind.number() == number & 3);
        metric.map(Arc::as_ref).ok_or(Status::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_operations_depend_on_kind() {
        let metrics = NamespaceMetrics::default();
        let mut table = MetricTable::default();
        let mut define = |kind| table.define(&metrics, kind, b"m");
        let [counter, gauge, histogram] =
            [define(MetricKind::Counter), define(MetricKind::Gauge), define(MetricKind::Histogram)];
        assert_eq!((define(MetricKind::Counter), counter, gauge, histogram), (counter, 4, 9, 14));
        let increments = [
            (counter, 5, Ok(())),
            (counter, 0, Err(Status::BadArgument)),
            (counter, -1, Err(Status::BadArgument)),
            (gauge, 7, Ok(())),
            (gauge, -3, Ok(())),
            (histogram, 1, Err(Status::BadArgument)),
            (99, 1, Err(Status::BadArgument)),
            (100, 1, Err(Status::NotFound)),
            (0, 1, Err(Status::NotFound)),
        ];
        for (number, offset, expected) in increments {
            let outcome = table.find(number).and_then(|metric| metric.increment(offset));
            assert_eq!(outcome, expected, "{number} {offset}");
        }
        table.find(counter).unwrap().record(2);
        assert_eq!(table.find(counter).unwrap().value(), Ok(7));
        assert_eq!(table.find(gauge).unwrap().value(), Ok(4));
        table.find(gauge).unwrap().record(1);
        table.find(gauge).unwrap().increment(-100).unwrap();
        assert_eq!(table.find(gauge).unwrap().value(), Ok(0));
        assert_eq!(table.find(histogram).unwrap().value(), Err(Status::BadArgument));
        for value in [0, 1, 2, 3, u64::MAX] {
            table.find(histogram).unwrap().record(value);
        }
        let counts = table.find(histogram).unwrap().histogram().unwrap().counts();
        assert_eq!((counts[0], counts[1], counts[2], counts[64]), (1, 1, 2, 1));
    }

    #[test]
    fn metrics_beyond_limit_are_counted_together() {
        let metrics = NamespaceMetrics::default();
        for number in 0..MAX_METRICS + 10 {
            metrics.define(MetricKind::Counter, &number.to_le_bytes()).record(1);
        }
        let mut overflow = None;
        let mut count = 0;
        metrics.visit(|name, metric| {
            count += 1;
            if name == OVERFLOW {
                overflow = metric.value().ok();
            }
        });
        assert_eq!((count, overflow), (MAX_METRICS + 1, Some(10)));
    }
}
