//! The `telemetry` filter: how many requests each route had and how long they took, one trace through all hops, and
//! more fields in the access log.
//!
//! ```text
//!  request ──► continue or begin the trace (`traceparent`) ──► upstream
//!  end     ──► one look at route, status and duration ──► count; access-log fields
//! ```
//!
//! This file is all that talks to the host, and each conversation with it is counted: the filter runs for every
//! request. What is said is decided in the other modules from plain values. Headers are read as properties: those give
//! all values of a name, joined, and they are there at the end of a stream in every host.

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
use series::{Key, Series};

const REQUEST_ID: Path = Path::joined("request\0id");
const REQUEST_TIME: Path = Path::joined("request\0time");
const TRACEPARENT: Path = Path::joined("request\0headers\0traceparent");
const ROUTE: Path = Path::joined("xds\0route_name");
const STATUS: Path = Path::joined("response\0code");
const DURATION: Path = Path::joined("request\0duration");
const REQUEST_SIZE: Path = Path::joined("request\0size");
const RESPONSE_SIZE: Path = Path::joined("response\0size");

/// What the streams of a VM share.
#[derive(Debug, serde::Deserialize)]
#[serde(from = "Config")]
pub struct Shared {
    config: Config,
    trace_id_field: Option<access_log::Field>,
    /// Where a header is read, and where it goes.
    header_fields: Vec<(Path, access_log::Field)>,
    /// Where the label's value is read.
    label: Option<Path>,
    series: Family<Series>,
    ids: RefCell<IdSource>,
}

impl From<Config> for Shared {
    fn from(mut config: Config) -> Self {
        let way = |field: HeaderField| {
            (Path::new(&[field.side.name(), "headers", &field.header]), access_log::Field::new(&field.name))
        };
        let label = |label: &Label| Path::new(&["request", "headers", &label.header]);
        Self {
            trace_id_field: config.logs_trace_id.then(|| access_log::Field::new("trace_id")),
            header_fields: std::mem::take(&mut config.header_fields).into_iter().map(way).collect(),
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

    fn on_end(&mut self, _end: &StreamEnd) {
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
        if ids.is_young() {
            ids.absorb(&REQUEST_ID.bytes().unwrap_or_default(), REQUEST_TIME.number().unwrap_or_default());
        }
        // A second value, joined to the first by a comma, makes it no traceparent: then nobody knows which one is right.
        let parent = TRACEPARENT.bytes();
        let span = trace::next_span(parent.as_deref(), tracing.sampler, &mut ids);
        let traceparent = span.traceparent();
        request.set("traceparent", traceparent);
        if span.is_new_trace {
            request.remove("tracestate"); // It belongs to a trace that ends here, or to none.
        }
        if let Some(field) = &self.shared.trace_id_field {
            field.set(trace::trace_id_of(&traceparent));
        }
    }

    fn count(&self) {
        let metrics = &self.shared.config.metrics;
        let route = ROUTE.bytes().unwrap_or_default();
        let status = STATUS.number().unwrap_or_default();
        let label = metrics.label.as_ref().zip(self.shared.label.as_ref());
        let label = label.map(|(label, path)| label.place_of(path.bytes().as_deref()));
        let key = Key::new(route, status, label);
        let series = self.shared.series.series(key.bytes(), |key| Series::of(key, metrics));
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
