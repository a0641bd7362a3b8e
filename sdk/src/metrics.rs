//! Counters, gauges and histograms that the proxy exports with its own.
//!
//! ```
//! use weir_sdk::metrics::Counter;
//!
//! static REFUSED: Counter = Counter::new("quota_refused_total");
//! // In a callback: REFUSED.add(1);
//! ```
//!
//! A metric is made in the host at its first use. Names come from the code or the configuration, never from a request:
//! each one lives as long as the proxy.

use std::sync::atomic::{AtomicU32, Ordering};

use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;

/// A number that only grows.
#[derive(Debug)]
pub struct Counter(Metric);

impl Counter {
    /// A counter of this name.
    pub const fn new(name: &'static str) -> Self {
        Self(Metric::new(MetricType::Counter, name))
    }

    /// Adds `count`; nothing for 0.
    pub fn add(&self, count: u32) {
        if count > 0 {
            self.0.increment(i64::from(count));
        }
    }
}

/// A number that goes up and down.
#[derive(Debug)]
pub struct Gauge(Metric);

impl Gauge {
    /// A gauge of this name.
    pub const fn new(name: &'static str) -> Self {
        Self(Metric::new(MetricType::Gauge, name))
    }

    /// Makes it `value`.
    pub fn set(&self, value: u64) {
        self.0.record(value);
    }

    /// Adds `change`, which may be negative.
    pub fn add(&self, change: i64) {
        self.0.increment(change);
    }
}

/// How often which values were seen.
#[derive(Debug)]
pub struct Histogram(Metric);

impl Histogram {
    /// A histogram of this name.
    pub const fn new(name: &'static str) -> Self {
        Self(Metric::new(MetricType::Histogram, name))
    }

    /// Counts one `value`.
    pub fn record(&self, value: u64) {
        self.0.record(value);
    }
}

#[derive(Debug)]
struct Metric {
    kind: MetricType,
    name: &'static str,
    /// The host's id plus one; 0 until the first use.
    id: AtomicU32,
}

impl Metric {
    const fn new(kind: MetricType, name: &'static str) -> Self {
        Self { kind, name, id: AtomicU32::new(0) }
    }

    fn id(&self) -> Option<u32> {
        if let Some(id) = self.id.load(Ordering::Relaxed).checked_sub(1) {
            return Some(id);
        }
        let id = hostcalls::define_metric(self.kind, self.name).ok()?;
        self.id.store(id.checked_add(1)?, Ordering::Relaxed);
        Some(id)
    }

    fn increment(&self, change: i64) {
        let result = self.id().map(|id| hostcalls::increment_metric(id, change));
        self.log_refusal(result.map(|result| result.is_ok()));
    }

    fn record(&self, value: u64) {
        let result = self.id().map(|id| hostcalls::record_metric(id, value));
        self.log_refusal(result.map(|result| result.is_ok()));
    }

    fn log_refusal(&self, accepted: Option<bool>) {
        if accepted != Some(true) {
            log::warn!("metric {} was not recorded", self.name);
        }
    }
}
