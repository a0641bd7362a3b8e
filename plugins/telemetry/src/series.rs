//! What is counted: one [`Series`] for each route, status class and value of the configured label.

use weir_sdk::metrics::{Counter, Histogram, labelled};

use crate::config::Metrics;

/// What stands in the labels of the series that takes what is past the cap.
const OTHER: &str = "other";

/// The route's label when the host knows no route.
const NO_ROUTE: &str = "none";

/// Labels for a status class: 1xx to 5xx, and `0` for none.
const CLASSES: [&str; 6] = ["0", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// What tells one series from another: the route's bytes, then the class, then the label's place. Made of the buffer
/// that the host has given, so that finding a series copies no text.
#[derive(Debug, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    /// The key of a request that has ended; `status` is 0 when nothing was answered.
    pub fn new(mut route: Vec<u8>, status: u64, label: Option<u8>) -> Self {
        let class = u8::try_from(status / 100).ok().filter(|class| (1..=5).contains(class));
        route.extend_from_slice(&[class.unwrap_or(0), label.unwrap_or(0)]);
        Self(route)
    }

    /// As [`weir_sdk::metrics::Family`] wants it.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The metrics of one series. Each is made in the host when it is counted for the first time.
#[derive(Debug)]
pub struct Series {
    /// Requests that have ended.
    pub requests: Counter,
    /// Their durations in microseconds.
    pub duration: Histogram,
    /// Their sizes, if the configuration wants them.
    pub bytes: Option<Bytes>,
}

/// Bytes of bodies.
#[derive(Debug)]
pub struct Bytes {
    /// Of requests.
    pub request: Counter,
    /// Of responses.
    pub response: Counter,
}

impl Series {
    /// The series of a key, or the one past the cap.
    pub fn of(key: Option<&[u8]>, config: &Metrics) -> Self {
        let name = |metric: &str| name(metric, key, config);
        Self {
            requests: Counter::named(name("requests_total")),
            duration: Histogram::named(name("request_duration_microseconds")),
            bytes: config.bytes.then(|| Bytes {
                request: Counter::named(name("request_bytes_total")),
                response: Counter::named(name("response_bytes_total")),
            }),
        }
    }
}

/// The name of one metric of a series, with its labels.
pub fn name(metric: &str, key: Option<&[u8]>, config: &Metrics) -> String {
    let parts = key.and_then(|key| key.split_last_chunk::<2>());
    let route = parts.map(|(route, _)| String::from_utf8_lossy(route));
    let route = route.as_deref().map_or(OTHER, |route| if route.is_empty() { NO_ROUTE } else { route });
    let class = parts.and_then(|(_, [class, _])| CLASSES.get(usize::from(*class))).copied().unwrap_or(OTHER);
    let mut labels = vec![("route", route), ("class", class)];
    if let Some(label) = &config.label {
        let value = parts.and_then(|(_, [_, place])| label.values.get(usize::from(*place)));
        labels.push((&label.name, value.map_or(OTHER, String::as_str)));
    }
    labelled(metric, &labels)
}
