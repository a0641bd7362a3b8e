//! A request as the codec has read it: valid, or rejected. Both have a stream, so that each leaves a line in the access
//! log and a reply.

use std::rc::Rc;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Version};

use crate::connection::Connection;
use crate::error::ProxyError;
use crate::head::RequestHead;
use crate::incoming::{Incoming, InformationalSink};
use crate::stream::sanitize::{self, RequestOrigin};

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
    /// The condition for which the downstream holds its body.
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

/// A request whose head is sanitized, or has only what the access log needs.
pub(super) struct SanitizedRequest {
    pub(super) head: RequestHead,
    pub(super) incoming: Incoming,
    pub(super) expectation: Expectation,
    pub(super) informational: Option<Rc<dyn InformationalSink>>,
    /// The reason for which the request is not served.
    pub(super) rejected: Option<ProxyError>,
}

/// Makes a request's head unambiguous.
pub(super) fn sanitize_received(received: ReceivedRequest, connection: &Connection) -> SanitizedRequest {
    let scheme = if connection.is_tls() { "https" } else { "http" };
    let ValidRequest { request, host, expectation, informational } = match received {
        ReceivedRequest::Valid(request) => request,
        ReceivedRequest::Rejected(RejectedRequest { method, path, version, error }) => {
            let head = RequestHead { method, scheme, path, version, ..RequestHead::for_tcp() };
            let (incoming, informational, rejected) = (Incoming::Empty, None, Some(error));
            return SanitizedRequest { head, incoming, expectation: Expectation::None, informational, rejected };
        }
    };
    let (parts, incoming) = request.into_parts();
    let (method, uri, version) = (parts.method.clone(), parts.uri.clone(), parts.version);
    let origin = RequestOrigin { peer: connection.peer.ip(), scheme, options: &connection.options };
    let (head, rejected) = match sanitize::request(parts, host, origin) {
        Ok(head) => (head, None),
        Err(error) => {
            let authority = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
            let head = RequestHead {
                method,
                scheme,
                authority: authority.unwrap_or_else(|| HeaderValue::from_static("")),
                path: uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
                headers: HeaderMap::new(),
                sent_names: None,
                version,
                upgrade: None,
            };
            (head, Some(error))
        }
    };
    SanitizedRequest { head, incoming, expectation, informational, rejected }
}
