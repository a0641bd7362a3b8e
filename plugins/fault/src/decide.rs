//! The decision on one request: the delay and the abort that it gets.
//!
//! ```text
//!  match ─► delay: draw ─► fixed, or by header, at most the fixed one
//!       └─► abort: draw ─► fixed, or by header; of a gRPC request the gRPC status
//! ```
//!
//! The two draws are independent. A request that draws both is delayed first.

use std::time::Duration;

use crate::config::{Abort, AbortStatus, Config, Delay};
use crate::duration;
use crate::grpc::is_grpc;
use crate::percentage::Percentage;
use crate::request::Request;

/// The decision on a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The delay.
    pub delay: Option<Duration>,
    /// The abort, after the delay.
    pub abort: Option<AbortReply>,
    /// The headers of the request that have no valid value for a fault.
    pub ignored_headers: u32,
}

/// The reply to an aborted request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortReply {
    /// The HTTP status.
    pub http_status: u16,
    /// The gRPC status. `None` leaves it to the host.
    pub grpc_status: Option<i32>,
}

/// Decides on one request. `random` returns a new random number in each call.
pub fn decide(config: &Config, request: &impl Request, mut random: impl FnMut() -> u64) -> Decision {
    let mut decision = Decision::default();
    if !config.filter.matches(request) {
        return decision;
    }
    let mut draws = |percentage: Percentage| percentage == Percentage::ALL || percentage.hits(random());
    if let Some(delay) = config.delay.as_ref().filter(|delay| draws(delay.percentage)) {
        decision.delay = delay_of(delay, request, &mut decision.ignored_headers);
    }
    if let Some(abort) = config.abort.as_ref().filter(|abort| draws(abort.percentage)) {
        decision.abort = abort_of(abort, request, &mut decision.ignored_headers);
    }
    decision
}

fn delay_of(delay: &Delay, request: &impl Request, ignored: &mut u32) -> Option<Duration> {
    let Some(header) = &delay.header else { return Some(delay.fixed) };
    let wanted =
        read_header(request, header, ignored, |text| duration::parse_header(text).filter(|wanted| !wanted.is_zero()));
    wanted.map(|wanted| wanted.min(delay.fixed))
}

fn abort_of(abort: &Abort, request: &impl Request, ignored: &mut u32) -> Option<AbortReply> {
    let is_grpc = || request.header("content-type").is_some_and(|kind| is_grpc(&kind));
    let http_status = match &abort.status {
        AbortStatus::Fixed(status) => Some(*status),
        AbortStatus::Header(header) => Some(read_header(request, header, ignored, parse_status)?),
        AbortStatus::GrpcOnly => None,
    };
    let grpc_status = abort.grpc_status.filter(|_| is_grpc());
    match (http_status, grpc_status) {
        (None, None) => None,
        // The proxy replies to a gRPC request with 200 whatever the HTTP status.
        (http_status, grpc_status) => Some(AbortReply { http_status: http_status.unwrap_or(200), grpc_status }),
    }
}

fn parse_status(text: &str) -> Option<u16> {
    let is_number = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|status| is_number && (200..=599).contains(status))
}

/// Reads the value of a header that controls a fault. A value that `parse` rejects is counted in `ignored`.
fn read_header<T>(
    request: &impl Request,
    name: &str,
    ignored: &mut u32,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let value = request.header(name)?;
    let parsed = std::str::from_utf8(&value).ok().map(str::trim).and_then(parse);
    if parsed.is_none() {
        *ignored += 1;
    }
    parsed
}
