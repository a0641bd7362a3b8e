//! What the configuration says: JSON to checked values, every error reported. The fields are described in the README.

use serde_json::Value;
use weir_sdk::config::{Fields, Refusal};
use weir_sdk::matching::is_token;

use crate::trace::Sampler;

const DEFAULT_MAX_SERIES: u64 = 1_000;

/// Four metrics a series stay below the 10,000 that Weir keeps of a plugin.
const MAX_SERIES: u64 = 2_000;

/// Values of the label beside `other`: each multiplies the series.
const MAX_LABEL_VALUES: usize = 32;

/// Headers in the access log: as many fields as Weir writes, less one for the trace id.
const MAX_HEADER_FIELDS: usize = 15;

/// The longest name of a header, in bytes: with its prefix it stays below the longest name of an access-log field.
const MAX_HEADER_NAME: usize = 48;

/// A checked configuration.
#[derive(Debug, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct Config {
    /// What is counted.
    pub metrics: Metrics,
    /// How traces go on; `None` leaves their headers alone.
    pub tracing: Option<Tracing>,
    /// The access log gets the trace's id.
    pub logs_trace_id: bool,
    /// Headers for the access log.
    pub header_fields: Vec<HeaderField>,
}

/// What is counted.
#[derive(Debug)]
pub struct Metrics {
    /// One more label.
    pub label: Option<Label>,
    /// Bytes are counted too.
    pub bytes: bool,
    /// Series before all further ones are counted as `other`.
    pub max_series: usize,
}

/// A label whose value is a request header's, out of a closed set.
#[derive(Debug)]
pub struct Label {
    /// Its name.
    pub name: String,
    /// The header, in lower case.
    pub header: String,
    /// What it may say; anything else is `other`.
    pub values: Vec<String>,
}

impl Label {
    /// Where a header's value stands among the allowed ones; behind them all when it is none of them.
    pub fn place_of(&self, value: Option<&[u8]>) -> u8 {
        let place = self.values.iter().position(|allowed| Some(allowed.as_bytes()) == value);
        u8::try_from(place.unwrap_or(self.values.len())).unwrap_or(u8::MAX)
    }
}

/// How traces go on.
#[derive(Debug)]
pub struct Tracing {
    /// Which traces that begin here are sampled.
    pub sampler: Sampler,
}

/// A header whose value is a field of the access log.
#[derive(Debug, PartialEq, Eq)]
pub struct HeaderField {
    /// The field's name.
    pub name: String,
    /// Whose header it is.
    pub side: Side,
    /// The header, in lower case.
    pub header: String,
}

/// One of the two messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The request.
    Request,
    /// The response.
    Response,
}

impl Side {
    /// As properties and fields call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}

impl TryFrom<Value> for Config {
    type Error = Refusal;

    fn try_from(json: Value) -> Result<Self, Refusal> {
        // Absent it is as tracing is, which `false` overrides; `Fields::flag` reads both as false.
        let is_trace_id_said = json.pointer("/accessLog/traceId").is_some_and(|value| !value.is_null());
        let mut root = Fields::root(json);
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
            if is_trace_id_said {
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

fn read_metrics(mut fields: Fields) -> Metrics {
    let label = fields.object("label").map(read_label);
    let bytes = fields.flag("bytes");
    let max_series = fields.number("maxSeries").unwrap_or(DEFAULT_MAX_SERIES);
    if !(1..=MAX_SERIES).contains(&max_series) {
        fields.report("maxSeries", &format!("must be from 1 to {MAX_SERIES}"));
    }
    fields.close();
    Metrics { label, bytes, max_series: to_count(max_series) }
}

fn read_label(mut fields: Fields) -> Label {
    let name = fields.required_text("name");
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    if !name.is_empty() && (!name.bytes().all(legal) || name.starts_with("__")) {
        fields.report("name", "may hold a-z and _, and must not begin with __");
    }
    if ["route", "class", "plugin", "le"].contains(&name.as_str()) {
        fields.report("name", "is a label that every series has");
    }
    let header = fields.required_text("header").to_ascii_lowercase();
    check_header_name(&fields, "header", &header);
    let values = fields.texts("values");
    if values.is_empty() || values.len() > MAX_LABEL_VALUES {
        fields.report("values", &format!("needs from 1 to {MAX_LABEL_VALUES} values; all others are `other`"));
    }
    for (index, value) in values.iter().enumerate() {
        let place = format!("values[{index}]");
        if value.is_empty() || value.len() > weir_sdk::metrics::MAX_LABEL_BYTES {
            fields.report(&place, &format!("must have 1 to {} bytes", weir_sdk::metrics::MAX_LABEL_BYTES));
        }
        if values[..index].contains(value) {
            fields.report(&place, "is an earlier value");
        }
    }
    fields.close();
    Label { name, header, values }
}

fn read_tracing(mut fields: Fields) -> Tracing {
    let ratio = fields.required_decimal("sampleRatio").unwrap_or_default();
    if !(0.0..=1.0).contains(&ratio) {
        fields.report("sampleRatio", "must be from 0 to 1");
    }
    fields.close();
    Tracing { sampler: Sampler::of_ratio(ratio) }
}

fn read_header_fields(fields: &mut Fields, config: &mut Config) {
    for (list, side) in [("requestHeaders", Side::Request), ("responseHeaders", Side::Response)] {
        for (index, header) in fields.texts(list).into_iter().enumerate() {
            let place = format!("{list}[{index}]");
            let header = header.to_ascii_lowercase();
            check_header_name(fields, &place, &header);
            let name = field_name(side, &header);
            if config.header_fields.iter().any(|earlier| earlier.name == name) {
                fields.report(&place, &format!("is the field {name}, which an earlier header is"));
            }
            config.header_fields.push(HeaderField { name, side, header });
        }
    }
    if config.header_fields.len() > MAX_HEADER_FIELDS {
        fields.report_self(&format!("has more than {MAX_HEADER_FIELDS} headers"));
    }
}

/// `user-agent` of a request is `request_user_agent`: fields of two sides or of other filters do not meet.
fn field_name(side: Side, header: &str) -> String {
    let legal = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    format!("{}_{}", side.name(), header.chars().map(legal).collect::<String>())
}

fn check_header_name(fields: &Fields, name: &str, header: &str) {
    if header.len() > MAX_HEADER_NAME || !is_token(header) || (header.is_empty() && name != "header") {
        fields.report(name, &format!("must be a header's name of at most {MAX_HEADER_NAME} bytes"));
    }
}

fn to_count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
