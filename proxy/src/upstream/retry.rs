//! Decides whether and how a failed attempt is followed by another one.
//!
//! By default only when no endpoint can have acted on the request, because repeating a `POST` could pay twice:
//!
//! - No connection could be opened: at another endpoint.
//! - An HTTP/2 endpoint has declared that it did not process the request (RFC 9113 §8.7): at another endpoint if there
//!   is one, else on another connection.
//! - A connection that had served before was closed before the request was written: on a new connection.
//! - The request was written on such a connection, which was then closed (the keep-alive race): on a new connection.
//!   The request must have no body and an idempotent method (RFC 9110 §9.2.2), and no byte of a response must have
//!   come.

use std::rc::Rc;

use http::Request;
use weir_model::EndpointAddress;

use super::http2::Http2Connection;
use super::pool::ReusePolicy;
use super::replay::{ReplayableRequest, is_replayable};
use super::tunnel::Tunnel;
use crate::body::Body;
use crate::incoming::InformationalSink;
use crate::limits::MAX_ATTEMPTS;

/// The way in which another attempt may be made.
pub(super) enum RetryDecision {
    /// No other attempt.
    Never,
    /// At an endpoint that has not been tried.
    OtherEndpoint,
    /// At an endpoint that has not been tried, else at any, and not on this connection.
    OtherConnection(Rc<Http2Connection>),
    /// At any endpoint, on a new connection.
    NewConnection,
}

/// The state of one request's attempts.
#[derive(Default)]
pub(super) struct RetryState {
    /// The request of the next attempt; `None` when it must not be sent again.
    pub(super) request: Option<Request<Body>>,
    attempts: u32,
    /// Endpoints to which no connection could be opened, or which did not process the request.
    tried: Vec<EndpointAddress>,
    current: Option<EndpointAddress>,
    reuse: ReusePolicy,
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

    pub(super) fn tried(&self) -> &[EndpointAddress] {
        &self.tried
    }

    /// Returns the endpoint of the last attempt, also of one that was dropped at its timeout.
    pub(super) fn current(&self) -> Option<&EndpointAddress> {
        self.current.as_ref()
    }

    pub(super) fn reuse(&self) -> &ReusePolicy {
        &self.reuse
    }

    /// Returns true if the request may be sent to an endpoint that has been tried, when no other is left.
    pub(super) fn may_repeat_endpoint(&self) -> bool {
        matches!(self.reuse, ReusePolicy::AllBut(_))
    }

    /// Counts an attempt at an endpoint.
    pub(super) fn begin_attempt(&mut self, endpoint: EndpointAddress) {
        self.attempts += 1;
        self.current = Some(endpoint);
    }

    /// Records the endpoint that an attempt has used in the end, and those that have failed before it.
    pub(super) fn end_race(&mut self, endpoint: EndpointAddress, failed: Vec<EndpointAddress>) {
        self.current = Some(endpoint);
        self.tried.extend(failed);
    }

    /// Takes the request of an attempt.
    pub(super) fn take_request(&mut self) -> Request<Body> {
        self.request.take().expect("`RetryState::prepare_retry` begins an attempt only with a request")
    }

    /// Returns true if the request switches to another protocol.
    pub(super) fn switches_protocol(&self) -> bool {
        self.request.as_ref().is_some_and(|request| request.extensions().get::<Tunnel>().is_some())
    }

    /// Returns a copy of the request, if the connection has served before and the request may be replayed.
    pub(super) fn replayable_request(&self, reused: bool) -> Option<ReplayableRequest> {
        self.request.as_ref().filter(|request| reused && is_replayable(request)).map(ReplayableRequest::from_request)
    }

    /// Prepares another attempt. Returns false if there is no request to send, or the attempts are exhausted.
    pub(super) fn prepare_retry(&mut self, decision: RetryDecision) -> bool {
        match decision {
            RetryDecision::OtherEndpoint => self.tried.extend(self.current.clone()),
            RetryDecision::OtherConnection(refused_by) => {
                self.tried.extend(self.current.clone());
                self.reuse = ReusePolicy::AllBut(refused_by);
            }
            RetryDecision::NewConnection => self.reuse = ReusePolicy::Forbidden,
            RetryDecision::Never => return false,
        }
        self.request.is_some() && self.attempts < MAX_ATTEMPTS
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn attempts_are_limited() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut retry = RetryState::new(Request::new(Body::Empty), None);
        let mut attempts = 0;
        loop {
            retry.begin_attempt(address.into());
            attempts += 1;
            if !retry.prepare_retry(RetryDecision::OtherEndpoint) {
                break;
            }
        }
        assert!(attempts == MAX_ATTEMPTS && matches!(retry.reuse(), ReusePolicy::Allowed));
        retry.prepare_retry(RetryDecision::NewConnection);
        assert!(matches!(retry.reuse(), ReusePolicy::Forbidden));
    }
}
