//! Reads the configuration: JSON to checked values. All errors are reported at once. The README documents the fields.

use std::time::Duration;

use serde_json::Value;
use weir_sdk::config::{ConfigErrors, FieldReader};
use weir_sdk::matching::{self, PathMatch, is_token};

use crate::duration;
use crate::grpc;
use crate::limits::{MAX_ACTIVE_FAULTS, MAX_CONDITIONS, MAX_DELAY};
use crate::matching::{HeaderMatch, Match};
use crate::percentage::Percentage;

/// A checked configuration.
#[derive(Debug, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct Config {
    /// The requests that may get a fault.
    pub filter: Match,
    /// The delay.
    pub delay: Option<Delay>,
    /// The abort.
    pub abort: Option<Abort>,
    /// The maximum of requests that are delayed at the same time; `None` for no limit.
    pub max_active: Option<usize>,
}

/// A delay.
#[derive(Debug, PartialEq, Eq)]
pub struct Delay {
    /// The delay, or with `header` the longest that a header may set.
    pub fixed: Duration,
    /// The requests that are delayed.
    pub percentage: Percentage,
    /// The request header that sets the delay. A request without it is not delayed.
    pub header: Option<String>,
}

/// An abort.
#[derive(Debug, PartialEq, Eq)]
pub struct Abort {
    /// The HTTP status of the reply.
    pub status: AbortStatus,
    /// The gRPC status of the reply to a gRPC request.
    pub grpc_status: Option<i32>,
    /// The requests that are aborted.
    pub percentage: Percentage,
}

/// The source of the HTTP status of an abort.
#[derive(Debug, PartialEq, Eq)]
pub enum AbortStatus {
    /// This status.
    Fixed(u16),
    /// A request header. A request without it is not aborted.
    Header(String),
    /// Only gRPC requests are aborted.
    GrpcOnly,
}

impl TryFrom<Value> for Config {
    type Error = ConfigErrors;

    fn try_from(json: Value) -> Result<Self, ConfigErrors> {
        let mut root = FieldReader::root(json);
        let filter = root.object("match").map(read_match).unwrap_or_default();
        let (delay, abort) = (root.object("delay"), root.object("abort"));
        if delay.is_none() && abort.is_none() && root.is_clean() {
            root.report_self("needs delay or abort; without one the filter does nothing");
        }
        let (delay, abort) = (delay.and_then(read_delay), abort.and_then(read_abort));
        let max_active = root.number("maxActiveFaults");
        if max_active.is_some_and(|most| !(1..=MAX_ACTIVE_FAULTS).contains(&most)) {
            root.report(
                "maxActiveFaults",
                &format!("must be from 1 to {MAX_ACTIVE_FAULTS}; leave it out for no limit"),
            );
        }
        root.finish()?;
        Ok(Self { filter, delay, abort, max_active: max_active.and_then(|most| usize::try_from(most).ok()) })
    }
}

fn read_delay(mut fields: FieldReader) -> Option<Delay> {
    let text = fields.required_text("fixedDelay");
    let fixed = duration::parse(&text).filter(|fixed| !fixed.is_zero() && *fixed <= MAX_DELAY);
    if fixed.is_none() && !text.is_empty() {
        fields.report("fixedDelay", "must be a duration from 1ms to 1h, like 200ms or 1m30s");
    }
    let percentage = read_percentage(&mut fields);
    let header = read_header_name(&mut fields);
    fields.close();
    Some(Delay { fixed: fixed?, percentage: percentage?, header })
}

fn read_abort(mut fields: FieldReader) -> Option<Abort> {
    let http_status = fields.number("httpStatus");
    if http_status.is_some_and(|status| !(200..=599).contains(&status)) {
        fields.report("httpStatus", "must be from 200 to 599");
    }
    let grpc_status = fields.text("grpcStatus").and_then(|name| {
        let code = grpc::code(&name);
        if code.is_none() {
            fields.report("grpcStatus", &format!("must be one of {}", grpc::CODES.join(", ")));
        }
        code
    });
    let percentage = read_percentage(&mut fields);
    let status = match (http_status, read_header_name(&mut fields)) {
        (Some(_), Some(_)) => {
            fields.report("httpStatus", "has no effect with header, which sets the status; leave out one of them");
            AbortStatus::GrpcOnly
        }
        (Some(status), None) => AbortStatus::Fixed(u16::try_from(status).unwrap_or_default()),
        (None, Some(header)) => AbortStatus::Header(header),
        (None, None) => {
            if grpc_status.is_none() {
                fields.report_self("needs one of httpStatus, grpcStatus, header");
            }
            AbortStatus::GrpcOnly
        }
    };
    fields.close();
    Some(Abort { status, grpc_status, percentage: percentage? })
}

fn read_percentage(fields: &mut FieldReader) -> Option<Percentage> {
    let percentage = Percentage::new(fields.required_decimal("percentage")?);
    if percentage.is_none() {
        fields.report("percentage", "must be from 0 to 100");
    }
    percentage
}

fn read_header_name(fields: &mut FieldReader) -> Option<String> {
    let name = fields.text("header")?;
    check_header_name(fields, "header", &name);
    Some(name.to_ascii_lowercase())
}

fn check_header_name(fields: &FieldReader, field: &str, name: &str) {
    if name.is_empty() || !is_token(name) {
        fields.report(field, "is not a legal header name");
    }
}

fn read_match(mut fields: FieldReader) -> Match {
    let methods = matching::methods(&mut fields);
    let (paths, headers) = (fields.objects("paths"), fields.objects("headers"));
    if methods.is_empty() && paths.is_empty() && headers.is_empty() {
        fields.report_self("needs methods, paths or headers; leave it out for faults of every request");
    }
    for (field, count) in [("methods", methods.len()), ("paths", paths.len()), ("headers", headers.len())] {
        if count > MAX_CONDITIONS {
            fields.report(field, &format!("may hold at most {MAX_CONDITIONS} conditions"));
        }
    }
    let paths = paths.into_iter().flat_map(read_path).collect();
    let headers = headers.into_iter().map(read_header_match).collect();
    fields.close();
    Match { methods, paths, headers }
}

/// Reads a path. A path with several readings becomes two: the configured spelling, and the lenient reading, which other
/// spellings have.
fn read_path(mut fields: FieldReader) -> impl Iterator<Item = PathMatch> {
    let path = PathMatch::read(&mut fields);
    fields.close();
    let lenient = path.as_ref().and_then(PathMatch::lenient);
    path.into_iter().chain(lenient)
}

fn read_header_match(mut fields: FieldReader) -> HeaderMatch {
    let name = fields.required_text("name");
    if !name.is_empty() {
        check_header_name(&fields, "name", &name);
    }
    let exact = fields.text("exact");
    if fields.flag("present") == exact.is_some() {
        fields.report_self("needs exactly one of exact, present: true");
    }
    fields.close();
    HeaderMatch { name: name.to_ascii_lowercase(), exact }
}
