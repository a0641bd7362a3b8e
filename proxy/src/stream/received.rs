//! A request as the codec has read it: valid, or rejected. Both have a stream, so that each leaves a line in the access
//! log and a reply.

use std::rc::Rc;

use http::uri::PathAndQuery;
use http::{Method, Request, Version};

use crate::error::ProxyError;
use crate::incoming::{Incoming, InformationalSink};

/// A request as the codec has read it.
pub(crate) enum ReceivedRequest {
    /// A valid message.
    Valid(Request<Incoming>),
    /// A valid message of a downstream that accepts informational responses.
    WithInformational(Request<Incoming>, Rc<dyn InformationalSink>),
    /// A message that the codec rejects. Its connection closes after the reply.
    Rejected(RejectedRequest),
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
