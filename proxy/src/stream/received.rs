//! A request as the codec has read it: valid, or rejected. Both have a stream, so that each leaves a line in the access
//! log and a reply.

use std::rc::Rc;

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Version};

use crate::error::ProxyError;
use crate::incoming::{Incoming, InformationalSink};

/// A request as the codec has read it.
#[expect(clippy::large_enum_variant, reason = "almost every request is valid, and it is moved once")]
pub(crate) enum ReceivedRequest {
    /// A valid message.
    Valid(ValidRequest),
    /// A message that the codec rejects. Its connection closes after the reply.
    Rejected(RejectedRequest),
}

/// A request that is a valid message.
pub(crate) struct ValidRequest {
    /// The request.
    pub(crate) request: Request<Incoming>,
    /// The value of `host`, if the codec has separated it from the headers.
    pub(crate) host: Option<HeaderValue>,
    /// What the downstream waits for before it sends the body.
    pub(crate) expectation: Expectation,
    /// The receiver of informational responses, if the downstream accepts them.
    pub(crate) informational: Option<Rc<dyn InformationalSink>>,
}

/// The expectation of a request (RFC 9110 §10.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expectation {
    /// The downstream sends the body.
    None,
    /// The downstream waits for `100 Continue`, which it is sent when its body is first read.
    Continue,
}

/// The readable parts of a rejected request, for the access log.
pub(crate) struct RejectedRequest {
    /// The method; GET if it could not be read.
    pub(crate) method: Method,
    /// The target, with percent-encoded bytes where it is not valid.
    pub(crate) path: PathAndQuery,
    /// The version; HTTP/1.1 if it could not be read.
    pub(crate) version: Version,
    /// The reason.
    pub(crate) error: ProxyError,
}
