//! Requests that may be sent again: the copy of a head, and what was sent of a body.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Extensions, Method, Request, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::Body;
use crate::error::ProxyError;
use crate::limits::MAX_REPLAY_BYTES;
use crate::packed_headers::PackedHeaders;

/// The copy of a request's head, with which it can be sent again.
#[derive(Clone)]
pub(super) struct ReplayableRequest {
    method: Method,
    uri: Uri,
    headers: PackedHeaders,
    extensions: Extensions,
}

impl ReplayableRequest {
    /// Copies the head of a request.
    pub(super) fn from_request(request: &Request<Body>) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: PackedHeaders::new(request.headers()),
            extensions: request.extensions().clone(),
        }
    }

    /// Returns true if its method is idempotent.
    pub(super) fn is_idempotent(&self) -> bool {
        is_idempotent(&self.method)
    }

    /// Returns a copy of the request with a body.
    pub(super) fn to_request(&self, body: Body) -> Request<Body> {
        self.clone().into_request(body)
    }

    /// Returns the request with a body.
    pub(super) fn into_request(self, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers.to_map();
        *request.extensions_mut() = self.extensions;
        request
    }
}

/// Returns true if a request may be sent again even though the endpoint may have acted on it: its method is idempotent,
/// and it has no body, which can be read only once.
pub(super) fn is_replayable(request: &Request<Body>) -> bool {
    is_idempotent(request.method()) && request.body().is_end_stream()
}

/// Returns true for an idempotent method (RFC 9110 §9.2.2).
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}

/// The data of a request's body that was sent, up to [`MAX_REPLAY_BYTES`].
#[derive(Default)]
pub(super) struct SentData {
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

impl SentData {
    /// Retains a piece of data that is about to be sent.
    pub(super) fn push(&mut self, data: &Bytes) {
        self.bytes = self.bytes.saturating_add(data.len());
        if self.bytes > MAX_REPLAY_BYTES {
            self.pieces.clear();
        } else if !data.is_empty() {
            self.pieces.push_back(data.clone());
        }
    }

    /// Returns the whole body, whose unread part is `rest`; `None` if more was sent than is retained.
    pub(super) fn into_body(self, rest: Body) -> Option<Body> {
        if self.bytes > MAX_REPLAY_BYTES {
            return None;
        }
        if self.pieces.is_empty() {
            return Some(rest);
        }
        Some(Body::stream(ReplayedBody { sent: self.pieces, rest }))
    }
}

/// A body of which a part was sent to an endpoint that did not process it.
struct ReplayedBody {
    sent: VecDeque<Bytes>,
    rest: Body,
}

impl HttpBody for ReplayedBody {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let this = self.get_mut();
        match this.sent.pop_front() {
            Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            None => Pin::new(&mut this.rest).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.sent.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let sent: u64 = self.sent.iter().map(|data| data.len() as u64).sum();
        let rest = self.rest.size_hint().exact();
        rest.map_or_else(SizeHint::default, |rest| SizeHint::with_exact(sent + rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_idempotent_request_without_body_is_replayable() {
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
            assert_eq!(is_replayable(&request), expected, "{method}");
            let copy = ReplayableRequest::from_request(&request).into_request(Body::Empty);
            assert!(copy.method() == method && copy.headers() == request.headers());
        }
    }
}
