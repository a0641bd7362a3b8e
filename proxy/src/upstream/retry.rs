//! Whether and how a failed attempt is followed by another. By default only when nothing of the request can have been
//! acted on (repeating a `POST` pays twice):
//!
//! - no connection could be opened: at another endpoint;
//! - a connection that had served before was closed before the request was written: on a new connection;
//! - the same, but the request was written, has no body, its method is idempotent (RFC 9110 §9.2.2) and not one byte of
//!   a response has come: the keep-alive race, on a new connection.

use std::net::SocketAddr;

use http::{Method, Request, Uri};
use http_body::Body as _;

use super::pool::Reuse;
use crate::body::Body;
use crate::kept_headers::KeptHeaders;
use crate::limits::MAX_ATTEMPTS;

/// How another attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Not at all.
    No,
    /// At an endpoint that has not been tried.
    Elsewhere,
    /// Anywhere, on a new connection.
    NewConnection,
}

/// One request on its way: what has been tried, and what can still be sent.
#[derive(Default)]
pub(super) struct Retry {
    /// What the next attempt sends; `None` when nothing may be sent again.
    pub(super) request: Option<Request<Body>>,
    attempts: u32,
    /// Endpoints that no connection could be opened to.
    tried: Vec<SocketAddr>,
    current: Option<SocketAddr>,
    new_connection: bool,
}

impl Retry {
    /// Nothing has been tried.
    pub(super) fn new(request: Request<Body>) -> Self {
        Self { request: Some(request), ..Self::default() }
    }

    /// Attempts begun.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(super) fn tried(&self) -> &[SocketAddr] {
        &self.tried
    }

    /// Where the last attempt was made: known also of one that was dropped at its deadline.
    pub(super) fn current(&self) -> Option<SocketAddr> {
        self.current
    }

    pub(super) fn reuse(&self) -> Reuse {
        if self.new_connection { Reuse::Refused } else { Reuse::Allowed }
    }

    /// An attempt at an endpoint begins.
    pub(super) fn begin_attempt(&mut self, endpoint: SocketAddr) {
        self.attempts += 1;
        self.current = Some(endpoint);
    }

    /// What an attempt sends.
    pub(super) fn take_request(&mut self) -> Request<Body> {
        self.request.take().expect("an attempt begins with a request: `Retry::again` sees to it")
    }

    /// What it takes to send it again, on a connection that had served before.
    pub(super) fn replay(&self, reused: bool) -> Option<Replay> {
        self.request.as_ref().filter(|_| reused).and_then(Replay::of)
    }

    /// Prepares for another attempt; `false` when there is nothing to send or there have been enough.
    pub(super) fn again(&mut self, again: Again) -> bool {
        match again {
            Again::Elsewhere => self.tried.extend(self.current),
            Again::NewConnection => self.new_connection = true,
            Again::No => return false,
        }
        self.request.is_some() && self.attempts < MAX_ATTEMPTS
    }
}

/// What it takes to send a request again even though the first may have arrived.
pub(super) struct Replay {
    method: Method,
    uri: Uri,
    headers: KeptHeaders,
}

impl Replay {
    /// A copy of a request: none for a method that is not idempotent, or with a body, which can be read once only.
    pub(super) fn of(request: &Request<Body>) -> Option<Self> {
        if !is_idempotent(request.method()) || !request.body().is_end_stream() {
            return None;
        }
        let headers = KeptHeaders::of(request.headers());
        Some(Self { method: request.method().clone(), uri: request.uri().clone(), headers })
    }

    /// The request.
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
    fn only_what_can_be_repeated_is_copied() {
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
            let copy = Replay::of(&request).map(Replay::into_request);
            assert_eq!(copy.is_some(), expected, "{method}");
            assert!(copy.is_none_or(|copy| copy.method() == method && copy.headers() == request.headers()));
        }
    }

    #[test]
    fn attempts_are_bounded() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut retry = Retry::new(Request::new(Body::Empty));
        let mut attempts = 0;
        loop {
            retry.begin_attempt(address);
            attempts += 1;
            if !retry.again(Again::Elsewhere) {
                break;
            }
        }
        assert_eq!((attempts, retry.reuse()), (MAX_ATTEMPTS, Reuse::Allowed));
        retry.again(Again::NewConnection);
        assert_eq!(retry.reuse(), Reuse::Refused);
    }
}
