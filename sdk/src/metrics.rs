//! Counters, gauges and histograms, which the proxy exports with its own metrics.
//!
//! ```
//! use weir_sdk::metrics::Counter;
//!
//! static REJECTED: Counter = Counter::new("quota_rejected_total");
//! // In a callback: REJECTED.add(1);
//! ```
//!
//! A metric is defined in the host at its first use, and lives as long as the proxy. So names must come from the code
//! or the configuration, never from a request.
//!
//! Proxy-Wasm has no labels. [`labelled`] writes them into the name: Weir's `/stats/prometheus` exports them as labels,
//! other hosts export the name unchanged. A [`Family`] limits the number of series:
//!
//! ```
//! use weir_sdk::metrics::{Counter, Family, labelled};
//!
//! let by_route: Family<Counter> = Family::new(1_000);
//! let route = b"shop/web";
//! let _requests = by_route.series(route, |route| {
//!     let route = route.map_or("other".into(), String::from_utf8_lossy);
//!     Counter::named(labelled("requests_total", &[("route", &route)]))
//! });
//! // In a callback: requests.add(1);
//! ```

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;

/// Bytes of a label's value. Longer values are cut, because hosts reject long names.
pub const MAX_LABEL_BYTES: usize = 256;

/// A number that only increases.
#[derive(Debug)]
pub struct Counter(Metric);

impl Counter {
    /// Creates a counter with this name.
    pub const fn new(name: &'static str) -> Self {
        Self(Metric::new(MetricType::Counter, Cow::Borrowed(name)))
    }

    /// Creates a counter whose name comes from the configuration. Store it: each value looks up its id again.
    pub const fn named(name: String) -> Self {
        Self(Metric::new(MetricType::Counter, Cow::Owned(name)))
    }

    /// Adds `count`. 0 makes no hostcall.
    pub fn add(&self, count: u32) {
        self.add_bytes(u64::from(count));
    }

    /// Adds a `count` that may exceed a `u32`. 0 makes no hostcall.
    pub fn add_bytes(&self, count: u64) {
        if count > 0 {
            self.0.increment(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// A number that increases and decreases.
#[derive(Debug)]
pub struct Gauge(Metric);

impl Gauge {
    /// Creates a gauge with this name.
    pub const fn new(name: &'static str) -> Self {
        Self(Metric::new(MetricType::Gauge, Cow::Borrowed(name)))
    }

    /// Creates a gauge whose name comes from the configuration. Store it: each value looks up its id again.
    pub const fn named(name: String) -> Self {
        Self(Metric::new(MetricType::Gauge, Cow::Owned(name)))
    }

    /// Sets the gauge to `value`.
    pub fn set(&self, value: u64) {
        self.0.record(value);
    }

    /// Adds `change`, which may be negative.
    pub fn add(&self, change: i64) {
        self.0.increment(change);
    }
}

/// A distribution of values.
#[derive(Debug)]
pub struct Histogram(Metric);

impl Histogram {
    /// Creates a histogram with this name.
    pub const fn new(name: &'static str) -> Self {
        Self(Metric::new(MetricType::Histogram, Cow::Borrowed(name)))
    }

    /// Creates a histogram whose name comes from the configuration. Store it: each value looks up its id again.
    pub const fn named(name: String) -> Self {
        Self(Metric::new(MetricType::Histogram, Cow::Owned(name)))
    }

    /// Records one `value`.
    pub fn record(&self, value: u64) {
        self.0.record(value);
    }
}

/// Returns the name of a metric with labels: `requests_total{route="shop/web",class="2xx"}`.
pub fn labelled(name: &str, labels: &[(&str, &str)]) -> String {
    let mut text = name.to_owned();
    let mut separator = '{';
    for (label, value) in labels {
        text.push(separator);
        text.push_str(label);
        text.push_str("=\"");
        for character in value[..value.floor_char_boundary(MAX_LABEL_BYTES)].chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                plain => text.push(plain),
            }
        }
        text.push('"');
        separator = ',';
    }
    if separator == ',' {
        text.push('}');
    }
    text
}

/// Series by key, like a counter per route, up to a limit. All keys beyond it share one more series.
///
/// A series is one metric, or a struct of several.
#[derive(Debug)]
pub struct Family<S> {
    max: usize,
    by_key: RefCell<ByKey<S>>,
    other: OnceCell<Rc<S>>,
}

impl<S> Family<S> {
    /// Creates a family of at most `max` series, and the shared one.
    pub fn new(max: usize) -> Self {
        Self { max, by_key: RefCell::default(), other: OnceCell::new() }
    }

    /// Returns the series of `key`; creates it with `make` when absent. `make` receives `None` for the shared series.
    pub fn series(&self, key: &[u8], make: impl FnOnce(Option<&[u8]>) -> S) -> Rc<S> {
        let mut by_key = self.by_key.borrow_mut();
        if let Some(series) = by_key.get(key) {
            return Rc::clone(series);
        }
        if by_key.len() >= self.max {
            return Rc::clone(self.other.get_or_init(|| Rc::new(make(None))));
        }
        let series = Rc::new(make(Some(key)));
        by_key.insert(key.into(), Rc::clone(&series));
        series
    }
}

type ByKey<S> = HashMap<Box<[u8]>, Rc<S>, BuildHasherDefault<KeyHasher>>;

/// Hashes a key eight bytes at a time with one multiplication each, because it runs on every request. It does not
/// resist crafted collisions, as the standard hasher does; the limit of a family bounds their cost.
#[derive(Debug, Default)]
struct KeyHasher(u64);

impl KeyHasher {
    /// An odd number near 2^64 divided by the golden ratio.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
}

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(Self::FACTOR);
    }

    fn write_usize(&mut self, length: usize) {
        self.write_u64(length as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32) // The low bits select the bucket; multiplication mixes no higher bits into them.
    }
}

#[derive(Debug)]
struct Metric {
    kind: MetricType,
    name: Cow<'static, str>,
    /// The metric's id in the host, plus one. 0 until the first use.
    id: AtomicU32,
}

impl Metric {
    const fn new(kind: MetricType, name: Cow<'static, str>) -> Self {
        Self { kind, name, id: AtomicU32::new(0) }
    }

    fn id(&self) -> Option<u32> {
        if let Some(id) = self.id.load(Ordering::Relaxed).checked_sub(1) {
            return Some(id);
        }
        let id = hostcalls::define_metric(self.kind, &self.name).ok()?;
        self.id.store(id.checked_add(1)?, Ordering::Relaxed);
        Some(id)
    }

    fn increment(&self, change: i64) {
        let result = self.id().map(|id| hostcalls::increment_metric(id, change));
        self.log_failure(result.map(|result| result.is_ok()));
    }

    fn record(&self, value: u64) {
        let result = self.id().map(|id| hostcalls::record_metric(id, value));
        self.log_failure(result.map(|result| result.is_ok()));
    }

    fn log_failure(&self, accepted: Option<bool>) {
        if accepted != Some(true) {
            log::warn!("metric {} was not recorded", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Family, MAX_LABEL_BYTES, labelled};

    #[test]
    fn labelled_writes_escaped_labels_into_name() {
        assert_eq!(labelled("r", &[]), "r");
        assert_eq!(labelled("r", &[("a", "shop/web"), ("b", "")]), r#"r{a="shop/web",b=""}"#);
        assert_eq!(labelled("r", &[("a", "\"\\\n},")]), r#"r{a="\"\\\n},"}"#);
        let long = "\u{20ac}".repeat(MAX_LABEL_BYTES);
        assert_eq!(labelled("r", &[("a", &long)]), format!("r{{a=\"{}\"}}", "\u{20ac}".repeat(MAX_LABEL_BYTES / 3)));
    }

    #[test]
    fn keys_beyond_limit_share_one_series() {
        let family: Family<String> = Family::new(2);
        let series = |key: &str| {
            let make = |key: Option<&[u8]>| key.map_or("other".into(), |key| String::from_utf8_lossy(key).into_owned());
            family.series(key.as_bytes(), make).to_string()
        };
        let seen: Vec<String> = ["a", "b", "c", "d", "a", "b"].into_iter().map(series).collect();
        assert_eq!(seen, ["a", "b", "other", "other", "a", "b"]);
    }
}
