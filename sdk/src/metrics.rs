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
//!
//! The ABI knows plain names only. A metric with labels has them in its name, as [`labelled`] writes them: Weir's
//! `/stats/prometheus` shows them as labels, other hosts show the name as it is. A [`Family`] bounds how many there are:
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

/// Bytes of a label's value; the rest of it is cut off, since hosts refuse long names.
pub const MAX_LABEL_BYTES: usize = 256;

/// A number that only grows.
#[derive(Debug)]
pub struct Counter(Metric);

impl Counter {
    /// A counter of this name.
    pub const fn new(name: &'static str) -> Self {
        Self(Metric::new(MetricType::Counter, Cow::Borrowed(name)))
    }

    /// A counter whose name is not known before the configuration is; keep it and use it again.
    pub const fn named(name: String) -> Self {
        Self(Metric::new(MetricType::Counter, Cow::Owned(name)))
    }

    /// Adds `count`; nothing for 0.
    pub fn add(&self, count: u32) {
        self.add_bytes(u64::from(count));
    }

    /// Adds what a `u32` may be too small for; nothing for 0.
    pub fn add_bytes(&self, count: u64) {
        if count > 0 {
            self.0.increment(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// A number that goes up and down.
#[derive(Debug)]
pub struct Gauge(Metric);

impl Gauge {
    /// A gauge of this name.
    pub const fn new(name: &'static str) -> Self {
        Self(Metric::new(MetricType::Gauge, Cow::Borrowed(name)))
    }

    /// A gauge whose name is not known before the configuration is; keep it and use it again.
    pub const fn named(name: String) -> Self {
        Self(Metric::new(MetricType::Gauge, Cow::Owned(name)))
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
        Self(Metric::new(MetricType::Histogram, Cow::Borrowed(name)))
    }

    /// A histogram whose name is not known before the configuration is; keep it and use it again.
    pub const fn named(name: String) -> Self {
        Self(Metric::new(MetricType::Histogram, Cow::Owned(name)))
    }

    /// Counts one `value`.
    pub fn record(&self, value: u64) {
        self.0.record(value);
    }
}

/// The name of a metric with labels: `requests_total{route="shop/web",class="2xx"}`.
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

/// Series by key, like a counter for each route, no more than a cap: past it everything is counted in one more.
///
/// A series is whatever is counted for a key: one metric, or a struct of several.
#[derive(Debug)]
pub struct Family<S> {
    max: usize,
    by_key: RefCell<ByKey<S>>,
    other: OnceCell<Rc<S>>,
}

impl<S> Family<S> {
    /// No series yet, and room for `max`.
    pub fn new(max: usize) -> Self {
        Self { max, by_key: RefCell::default(), other: OnceCell::new() }
    }

    /// The series of `key`, made when it is not there. `make` gets the key, or `None` for the one past the cap.
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

/// Hashes a key eight bytes at a time, one multiplication each: it is done for each request. Unlike the standard hasher
/// it does not protect from keys made to collide; a family has its cap for that.
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
        self.0 ^ (self.0 >> 32) // Low bits choose the place, and multiplying moves nothing down to them.
    }
}

#[derive(Debug)]
struct Metric {
    kind: MetricType,
    name: Cow<'static, str>,
    /// The host's id plus one; 0 until the first use.
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

#[cfg(test)]
mod tests {
    use super::{Family, MAX_LABEL_BYTES, labelled};

    #[test]
    fn labels_stand_in_the_name() {
        assert_eq!(labelled("r", &[]), "r");
        assert_eq!(labelled("r", &[("a", "shop/web"), ("b", "")]), r#"r{a="shop/web",b=""}"#);
        assert_eq!(labelled("r", &[("a", "\"\\\n},")]), r#"r{a="\"\\\n},"}"#);
        let long = "\u{20ac}".repeat(MAX_LABEL_BYTES);
        assert_eq!(labelled("r", &[("a", &long)]), format!("r{{a=\"{}\"}}", "\u{20ac}".repeat(MAX_LABEL_BYTES / 3)));
    }

    #[test]
    fn past_the_cap_all_is_one() {
        let family: Family<String> = Family::new(2);
        let series = |key: &str| {
            let make = |key: Option<&[u8]>| key.map_or("other".into(), |key| String::from_utf8_lossy(key).into_owned());
            family.series(key.as_bytes(), make).to_string()
        };
        let seen: Vec<String> = ["a", "b", "c", "d", "a", "b"].into_iter().map(series).collect();
        assert_eq!(seen, ["a", "b", "other", "other", "a", "b"]);
    }
}
