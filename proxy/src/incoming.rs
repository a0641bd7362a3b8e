//! The body of a message that the proxy receives, whatever the codec: a request from a downstream, or a response from
//! an endpoint.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use weir_http1::io::ReadError;
use weir_http1::{BodyEvent, Rejection};

/// The body of a received message.
pub(crate) enum Incoming {
    /// No body.
    Empty,
    /// A stream of an HTTP/2 connection.
    Http2(hyper::body::Incoming),
    /// A message of an HTTP/1 connection.
    Http1(Box<dyn Http1Body>),
}

/// The body of a message of an HTTP/1 connection, which is read from the connection itself.
pub(crate) trait Http1Body {
    /// Polls for the next event; [`BodyEvent::End`] again after the end.
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Result<BodyEvent, ReadError>>;
    /// Returns the bytes that are left, if the sender declared them. 0 after the end, also of a chunked body.
    fn remaining(&self) -> Option<u64>;
}

/// The receiver of informational responses (RFC 9110 §15.2) of an endpoint, for the downstream of a request.
pub(crate) trait InformationalSink {
    /// Sends an informational response. Hop-by-hop headers are removed.
    fn send(&self, status: StatusCode, headers: HeaderMap);
}

/// The failure of reading a body.
#[derive(Debug)]
pub(crate) enum IncomingError {
    /// HTTP/2.
    Http2(hyper::Error),
    /// HTTP/1.
    Http1(ReadError),
}

impl IncomingError {
    /// Returns the rejection of a body that is not valid HTTP/1; `None` for a body that ends early.
    pub(crate) fn rejection(&self) -> Option<Rejection> {
        match self {
            Self::Http1(ReadError::Rejected(rejection)) if *rejection != Rejection::Incomplete => Some(*rejection),
            _ => None,
        }
    }
}

impl fmt::Display for IncomingError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http2(error) => error.fmt(formatter),
            Self::Http1(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for IncomingError {}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = IncomingError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncomingError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Http2(body) => Pin::new(body).poll_frame(context).map_err(IncomingError::Http2),
            Self::Http1(body) => body.poll_event(context).map(|event| match event {
                Ok(BodyEvent::Data(data)) => Some(Ok(Frame::data(data))),
                Ok(BodyEvent::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
                Ok(BodyEvent::End) => None,
                Err(error) => Some(Err(IncomingError::Http1(error))),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http2(body) => body.is_end_stream(),
            Self::Http1(body) => body.remaining() == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Http2(body) => body.size_hint(),
            Self::Http1(body) => body.remaining().map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
