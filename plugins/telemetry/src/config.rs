//! Reads the configuration: JSON to checked values. All errors are reported at once. The README documents the fields.

use serde_json::Value;
use weir_sdk::config::{ConfigErrors, FieldReader};
use weir_sdk::matching::is_token;

use crate::trace::Sampler;

/// The label with the class of the response code, named as in Envoy's statistics.
pub const CLASS_LABEL: &str = "response_code_class";

const DEFAULT_MAX_SERIES: u64 = 1_000;

/// The maximum of `maxSeries`. With four metrics each, the series stay below Weir's limit of 10,000 metrics of a
/// filter.
const MAX_SERIES: u64 = 2_000;

/// The maximum number of values of the label, without `other`. They multiply the number of series.
const MAX_LABEL_VALUES: usize = 32;

/// The maximum number of headers in the access log: the fields that Weir writes, less one for the trace id.
const MAX_HEADER_FIELDS: usize = 15;

/// The longest name of a header, in bytes. With its prefix it is below the longest name of an access log field.
const MAX_HEADER_NAME: usize = 48;

/// A checked configuration.
#[derive(Debug, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct Config {
    /// The metrics.
    pub metrics: Metrics,
    /// The tracing. `None` leaves trace headers unchanged.
    pub tracing: Option<Tracing>,
    /// True if the access log gets the trace id.
    pub logs_trace_id: bool,
    /// The headers for the access log.
    pub header_fields: Vec<HeaderField>,
}

/// The configuration of metrics.
#[derive(Debug)]
pub struct Metrics {
    /// An additional label.
    pub label: Option<Label>,
    /// True if bytes of bodies are counted too.
    pub bytes: bool,
    /// The maximum number of series. Further ones are counted as `other`.
    pub max_series: usize,
}

/// A label with the value of a request header, out of a closed set.
#[derive(Debug)]
pub struct Label {
    /// The label's name.
    pub name: String,
    /// The header, in lower case.
    pub header: String,
    /// The accepted values. Any other value is counted as `other`.
    pub values: Vec<String>,
}

impl Label {
    /// Returns the index of a header's value in `values`, or the length of `values` for another value.
    pub fn value_index(&self, value: Option<&[u8]>) -> u8 {
        let index = self.values.iter().position(|allowed| Some(allowed.as_bytes()) == value);
        u8::try_from(index.unwrap_or(self.values.len())).unwrap_or(u8::MAX)
    }
}

/// The configuration of traces.
#[derive(Debug)]
pub struct Tracing {
    /// The sampler of new traces.
    pub sampler: Sampler,
}

/// A header whose value is a field of the access log.
#[derive(Debug, PartialEq, Eq)]
pub struct HeaderField {
    /// The field's name.
    pub name: String,
    /// The message with the header.
    pub side: Side,
    /// The header, in lower case.
    pub header: String,
}

/// One of the two messages of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The request.
    Request,
    /// The response.
    Response,
}

impl Side {
    /// Returns the name in properties and in fields of the access log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}

impl TryFrom<Value> for Config {
    type Error = ConfigErrors;

    fn try_from(json: Value) -> Result<Self, ConfigErrors> {
        // An absent `traceId` follows `tracing`, `false` overrides it. `FieldReader::flag` reads both as false.
        let sets_trace_id = json.pointer("/accessLog/traceId").is_some_and(|value| !value.is_null());
        let mut root = FieldReader::root(json);
        let metrics = root.object("metrics").map(read_metrics);
        let tracing = root.object("tracing").map(read_tracing);
        let mut config = Self {
            metrics: metrics.unwrap_or(Metrics { label: None, bytes: false, max_series: to_count(DEFAULT_MAX_SERIES) }),
            logs_trace_id: tracing.is_some(),
            tracing,
            header_fields: Vec::new(),
        };
        if let Some(mut fields) = root.object("accessLog") {
            read_header_fields(&mut fields, &mut config);
            let logs_trace_id = fields.flag("traceId");
            if sets_trace_id {
                config.logs_trace_id = logs_trace_id;
            }
            if logs_trace_id && config.tracing.is_none() {
                fields.report("traceId", "needs tracing");
            }
            fields.close();
        }
        root.finish()?;
        Ok(config)
    }
}

fn read_metrics(mut fields: FieldReader) -> Metrics {
    let label = fields.object("label").map(read_label);
    let bytes = fields.flag("bytes");
    let max_series = fields.number("maxSeries").unwrap_or(DEFAULT_MAX_SERIES);
    if !(1..=MAX_SERIES).contains(&max_series) {
        fields.report("maxSeries", &format!("must be from 1 to {MAX_SERIES}"));
    }
    fields.close();
    Metrics { label, bytes, max_series: to_count(max_series) }
}

fn read_label(mut fields: FieldReader) -> Label {
    let name = fields.required_text("name");
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    if !name.is_empty() && (!name.bytes().all(legal) || name.starts_with("__")) {
        fields.report("name", "may hold a-z and _, and must not begin with __");
    }
    if ["route", CLASS_LABEL, "filter", "le"].contains(&name.as_str()) {
        fields.report("name", "is a label that every series has");
    }
    let header = fields.required_text("header").to_ascii_lowercase();
    check_header_name(&fields, "header", &header);
    let values = fields.texts("values");
    if values.is_empty() || values.len() > MAX_LABEL_VALUES {
        fields.report("values", &format!("needs from 1 to {MAX_LABEL_VALUES} values; all others are `other`"));
    }
    for (index, value) in values.iter().enumerate() {
        let field = format!("values[{index}]");
        if value.is_empty() || value.len() > weir_sdk::metrics::MAX_LABEL_BYTES {
            fields.report(&field, &format!("must have 1 to {} bytes", weir_sdk::metrics::MAX_LABEL_BYTES));
        }
        if values[..index].contains(value) {
            fields.report(&field, "is an earlier value");
        }
    }
    fields.close();
    Label { name, header, values }
}

fn read_tracing(mut fields: FieldReader) -> Tracing {
    let ratio = fields.required_decimal("sampleRatio").unwrap_or_default();
    if !(0.0..=1.0).contains(&ratio) {
        fields.report("sampleRatio", "must be from 0 to 1");
    }
    fields.close();
    Tracing { sampler: Sampler::with_ratio(ratio) }
}

fn read_header_fields(fields: &mut FieldReader, config: &mut Config) {
    for (list, side) in [("requestHeaders", Side::Request), ("responseHeaders", Side::Response)] {
        for (index, header) in fields.texts(list).into_iter().enumerate() {
            let field = format!("{list}[{index}]");
            let header = header.to_ascii_lowercase();
            check_header_name(fields, &field, &header);
            let name = field_name(side, &header);
            if config.header_fields.iter().any(|earlier| earlier.name == name) {
                fields.report(&field, &format!("has the access log field {name} of an earlier header"));
            }
            config.header_fields.push(HeaderField { name, side, header });
        }
    }
    if config.header_fields.len() > MAX_HEADER_FIELDS {
        fields.report_self(&format!("has more than {MAX_HEADER_FIELDS} headers"));
    }
}

/// Returns the access log field of a header: `request_user_agent` for `user-agent` of a request. The prefix keeps the
/// two messages and other filters apart.
fn field_name(side: Side, header: &str) -> String {
    let legal = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    format!("{}_{}", side.name(), header.chars().map(legal).collect::<String>())
}

fn check_header_name(fields: &FieldReader, name: &str, header: &str) {
    if header.len() > MAX_HEADER_NAME || !is_token(header) || (header.is_empty() && name != "header") {
        fields.report(name, &format!("must be a header's name of at most {MAX_HEADER_NAME} bytes"));
    }
}

fn to_count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
