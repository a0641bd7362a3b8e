//! The `telemetry` filter: metrics of requests and durations by route, W3C trace context, and access log fields.
//!
//! ```text
//!  request ──► continue or begin the trace (`traceparent`) ──► upstream
//!  log     ──► read route, status and duration ──► metrics; access log fields
//! ```
//!
//! Only this file calls the host. It makes as few hostcalls as possible, since the filter runs for every request. The
//! other modules compute from plain values. Headers are read as properties, which join all values of a name, and which
//! every host provides in `proxy_on_log`.

pub mod series;

pub mod config;

pub mod trace;

pub mod ids;

use std::cell::RefCell;

use weir_sdk::metrics::Family;
use weir_sdk::property::Path;
use weir_sdk::{Action, HttpFilter, Rc, RequestHeaders, StreamEnd, access_log};

use config::{Config, HeaderField, Label, Tracing};
use ids::IdSource;
use series::{Series, SeriesKey};

const REQUEST_ID: Path = Path::from_nul_separated("request\0id");
const REQUEST_TIME: Path = Path::from_nul_separated("request\0time");
const TRACEPARENT: Path = Path::from_nul_separated("request\0headers\0traceparent");
const ROUTE: Path = Path::from_nul_separated("xds\0route_name");
const STATUS: Path = Path::from_nul_separated("response\0code");
const DURATION: Path = Path::from_nul_separated("request\0duration");
const REQUEST_SIZE: Path = Path::from_nul_separated("request\0size");
const RESPONSE_SIZE: Path = Path::from_nul_separated("response\0size");

/// The state that the streams of a VM share.
#[derive(Debug, serde::Deserialize)]
#[serde(from = "Config")]
pub struct Shared {
    config: Config,
    trace_id_field: Option<access_log::LogField>,
    /// The property of each header, and its access log field.
    header_fields: Vec<(Path, access_log::LogField)>,
    /// The property with the label's value.
    label: Option<Path>,
    series: Family<Series>,
    ids: RefCell<IdSource>,
}

impl From<Config> for Shared {
    fn from(mut config: Config) -> Self {
        let source_and_field = |field: HeaderField| {
            (Path::new(&[field.side.name(), "headers", &field.header]), access_log::LogField::new(&field.name))
        };
        let label = |label: &Label| Path::new(&["request", "headers", &label.header]);
        Self {
            trace_id_field: config.logs_trace_id.then(|| access_log::LogField::new("trace_id")),
            header_fields: std::mem::take(&mut config.header_fields).into_iter().map(source_and_field).collect(),
            label: config.metrics.label.as_ref().map(label),
            series: Family::new(config.metrics.max_series),
            ids: RefCell::default(),
            config,
        }
    }
}

/// The filter.
#[derive(Debug)]
pub struct Telemetry {
    shared: Rc<Shared>,
}

weir_sdk::register!(Telemetry);

impl HttpFilter for Telemetry {
    type Config = Shared;

    fn new(shared: &Rc<Shared>) -> Self {
        Self { shared: Rc::clone(shared) }
    }

    fn on_request_headers(&mut self, request: &mut RequestHeaders) -> Action {
        if let Some(tracing) = &self.shared.config.tracing {
            self.trace(tracing, request);
        }
        Action::Continue
    }

    fn on_log(&mut self, _end: &StreamEnd) {
        self.count();
        for (header, field) in &self.shared.header_fields {
            if let Some(value) = header.bytes() {
                field.set(value);
            }
        }
    }
}

impl Telemetry {
    fn trace(&self, tracing: &Tracing, request: &mut RequestHeaders) {
        let mut ids = self.shared.ids.borrow_mut();
        if ids.needs_seed() {
            ids.absorb(&REQUEST_ID.bytes().unwrap_or_default(), REQUEST_TIME.number().unwrap_or_default());
        }
        // Two values are joined by a comma, which makes the traceparent invalid. Either could be the right one.
        let parent = TRACEPARENT.bytes();
        let span = trace::next_span(parent.as_deref(), tracing.sampler, &mut ids);
        let traceparent = span.traceparent();
        request.set("traceparent", traceparent);
        if span.is_new_trace {
            request.remove("tracestate"); // It belongs to another trace.
        }
        if let Some(field) = &self.shared.trace_id_field {
            field.set(trace::trace_id_text(&traceparent));
        }
    }

    fn count(&self) {
        let metrics = &self.shared.config.metrics;
        let route = ROUTE.bytes().unwrap_or_default();
        let status = STATUS.number().unwrap_or_default();
        let label = metrics.label.as_ref().zip(self.shared.label.as_ref());
        let label = label.map(|(label, path)| label.value_index(path.bytes().as_deref()));
        let key = SeriesKey::new(route, status, label);
        let series = self.shared.series.series(key.bytes(), |key| Series::new(key, metrics));
        series.requests.add(1);
        if let Some(nanoseconds) = DURATION.number() {
            series.duration.record(nanoseconds / 1_000);
        }
        if let Some(bytes) = &series.bytes {
            bytes.request.add_bytes(REQUEST_SIZE.number().unwrap_or_default());
            bytes.response.add_bytes(RESPONSE_SIZE.number().unwrap_or_default());
        }
    }
}
