//! The metrics: one [`Series`] for each route, class of the response code, and value of the configured label.

use weir_sdk::metrics::{Counter, Histogram, labelled};

use crate::config::{CLASS_LABEL, Metrics};

/// The value of the labels of the series beyond the limit.
const OTHER: &str = "other";

/// The value of `route` for a request without a route.
const NO_ROUTE: &str = "none";

/// The values of [`CLASS_LABEL`]: 1xx to 5xx, and `0` without a response.
const CLASSES: [&str; 6] = ["0", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The key of a series: the bytes of the route, the class, and the index of the label's value. It reuses the host's
/// buffer with the route, so that finding a series copies no text.
#[derive(Debug, PartialEq, Eq)]
pub struct SeriesKey(Vec<u8>);

impl SeriesKey {
    /// Returns the key of a completed request. `status` is 0 without a response.
    pub fn new(mut route: Vec<u8>, status: u64, label: Option<u8>) -> Self {
        let class = u8::try_from(status / 100).ok().filter(|class| (1..=5).contains(class));
        route.extend_from_slice(&[class.unwrap_or(0), label.unwrap_or(0)]);
        Self(route)
    }

    /// Returns the key for [`weir_sdk::metrics::Family`].
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The metrics of one series. The host defines each when it is first counted.
#[derive(Debug)]
pub struct Series {
    /// The completed requests.
    pub requests: Counter,
    /// The durations of requests, in microseconds.
    pub duration: Histogram,
    /// The sizes of bodies, if configured.
    pub bytes: Option<ByteCounters>,
}

/// The bytes of bodies.
#[derive(Debug)]
pub struct ByteCounters {
    /// The bytes of request bodies.
    pub request: Counter,
    /// The bytes of response bodies.
    pub response: Counter,
}

impl Series {
    /// Creates the series of a key. `None` is the series beyond the limit.
    pub fn new(key: Option<&[u8]>, config: &Metrics) -> Self {
        let name = |metric: &str| name(metric, key, config);
        Self {
            requests: Counter::named(name("requests_total")),
            duration: Histogram::named(name("request_duration_microseconds")),
            bytes: config.bytes.then(|| ByteCounters {
                request: Counter::named(name("request_bytes_total")),
                response: Counter::named(name("response_bytes_total")),
            }),
        }
    }
}

/// Returns the name of a metric of a series, with its labels.
pub fn name(metric: &str, key: Option<&[u8]>, config: &Metrics) -> String {
    let parts = key.and_then(|key| key.split_last_chunk::<2>());
    let route = parts.map(|(route, _)| String::from_utf8_lossy(route));
    let route = route.as_deref().map_or(OTHER, |route| if route.is_empty() { NO_ROUTE } else { route });
    let class = parts.and_then(|(_, [class, _])| CLASSES.get(usize::from(*class))).copied().unwrap_or(OTHER);
    let mut labels = vec![("route", route), (CLASS_LABEL, class)];
    if let Some(label) = &config.label {
        let value = parts.and_then(|(_, [_, index])| label.values.get(usize::from(*index)));
        labels.push((&label.name, value.map_or(OTHER, String::as_str)));
    }
    labelled(metric, &labels)
}
