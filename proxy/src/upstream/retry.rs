//! Decides whether and how a failed attempt is followed by another one.
//!
//! By default only when no endpoint can have acted on the request, because repeating a `POST` could pay twice:
//!
//! - No connection could be opened: at another endpoint.
//! - A connection that had served before was closed before the request was written: on a new connection.
//! - The request was written on such a connection, which was then closed (the keep-alive race): on a new connection.
//!   The request must have no body and an idempotent method (RFC 9110 §9.2.2), and no byte of a response must have
//!   come.

use std::net::SocketAddr;
use std::rc::Rc;

use http::{Method, Request, Uri};
use http_body::Body as _;

use super::pool::ReusePolicy;
use super::request_target::RequestTarget;
use crate::body::Body;
use crate::incoming::InformationalSink;
use crate::limits::MAX_ATTEMPTS;
use crate::packed_headers::PackedHeaders;

/// The way in which another attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryDecision {
    /// No other attempt.
    Never,
    /// At an endpoint that has not been tried.
    OtherEndpoint,
    /// At any endpoint, on a new connection.
    NewConnection,
}

/// The state of one request's attempts.
#[derive(Default)]
pub(super) struct RetryState {
    /// The request of the next attempt; `None` when it must not be sent again.
    pub(super) request: Option<Request<Body>>,
    attempts: u32,
    /// Endpoints to which no connection could be opened.
    tried: Vec<SocketAddr>,
    current: Option<SocketAddr>,
    new_connection: bool,
    informational: Option<Rc<dyn InformationalSink>>,
}

impl RetryState {
    /// Returns the state before the first attempt.
    pub(super) fn new(request: Request<Body>, informational: Option<Rc<dyn InformationalSink>>) -> Self {
        Self { request: Some(request), informational, ..Self::default() }
    }

    /// Returns the receiver of informational responses.
    pub(super) fn informational(&self) -> Option<&Rc<dyn InformationalSink>> {
        self.informational.as_ref()
    }

    /// Returns the number of attempts begun.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(super) fn tried(&self) -> &[SocketAddr] {
        &self.tried
    }

    /// Returns the endpoint of the last attempt, also of one that was dropped at its timeout.
    pub(super) fn current(&self) -> Option<SocketAddr> {
        self.current
    }

    pub(super) fn reuse(&self) -> ReusePolicy {
        if self.new_connection { ReusePolicy::Forbidden } else { ReusePolicy::Allowed }
    }

    /// Counts an attempt at an endpoint.
    pub(super) fn begin_attempt(&mut self, endpoint: SocketAddr) {
        self.attempts += 1;
        self.current = Some(endpoint);
    }

    /// Takes the request of an attempt.
    pub(super) fn take_request(&mut self) -> Request<Body> {
        self.request.take().expect("`RetryState::prepare_retry` begins an attempt only with a request")
    }

    /// Returns a copy of the request, if the connection has served before and the request may be replayed.
    pub(super) fn replayable_request(&self, reused: bool) -> Option<ReplayableRequest> {
        self.request.as_ref().filter(|_| reused).and_then(ReplayableRequest::from_request)
    }

    /// Prepares another attempt. Returns false if there is no request to send, or the attempts are exhausted.
    pub(super) fn prepare_retry(&mut self, decision: RetryDecision) -> bool {
        match decision {
            RetryDecision::OtherEndpoint => self.tried.extend(self.current),
            RetryDecision::NewConnection => self.new_connection = true,
            RetryDecision::Never => return false,
        }
        self.request.is_some() && self.attempts < MAX_ATTEMPTS
    }
}

/// The copy of a request that may be sent again even though the first may have arrived.
pub(super) struct ReplayableRequest {
    method: Method,
    uri: Uri,
    headers: PackedHeaders,
}

impl ReplayableRequest {
    /// Copies a request. Returns `None` if its method is not idempotent, if it has a body, which can be read only once,
    /// and for a callout whose target is no path.
    pub(super) fn from_request(request: &Request<Body>) -> Option<Self> {
        let has_target = request.extensions().get::<RequestTarget>().is_some();
        if !is_idempotent(request.method()) || !request.body().is_end_stream() || has_target {
            return None;
        }
        let headers = PackedHeaders::new(request.headers());
        Some(Self { method: request.method().clone(), uri: request.uri().clone(), headers })
    }

    /// Returns the request.
    pub(super) fn into_request(self) -> Request<Body> {
        let mut request = Request::new(Body::Empty);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers.to_map();
        request
    }
}

/// RFC 9110 §9.2.2.
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn only_idempotent_request_without_body_is_copied() {
        for (method, body, expected) in [
            (Method::GET, Body::Empty, true),
            (Method::DELETE, Body::Empty, true),
            (Method::PUT, Body::full(Bytes::from_static(b"x")), false),
            (Method::POST, Body::Empty, false),
            (Method::PATCH, Body::Empty, false),
            (Method::from_bytes(b"PURGE").unwrap(), Body::Empty, false),
        ] {
            let mut request = Request::new(body);
            *request.method_mut() = method.clone();
            request.headers_mut().insert("a", http::HeaderValue::from_static("b"));
            let copy = ReplayableRequest::from_request(&request).map(ReplayableRequest::into_request);
            assert_eq!(copy.is_some(), expected, "{method}");
            assert!(copy.is_none_or(|copy| copy.method() == method && copy.headers() == request.headers()));
        }
    }

    #[test]
    fn attempts_are_limited() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut retry = RetryState::new(Request::new(Body::Empty), None);
        let mut attempts = 0;
        loop {
            retry.begin_attempt(address);
            attempts += 1;
            if !retry.prepare_retry(RetryDecision::OtherEndpoint) {
                break;
            }
        }
        assert_eq!((attempts, retry.reuse()), (MAX_ATTEMPTS, ReusePolicy::Allowed));
        retry.prepare_retry(RetryDecision::NewConnection);
        assert_eq!(retry.reuse(), ReusePolicy::Forbidden);
    }
}
