//! The body of a message that the proxy receives, whatever the codec: a request from a downstream, or a response from
//! an endpoint.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use weir_http1::io::ReadError;
use weir_http1::{BodyEvent, Rejection};

/// The body of a received message.
pub(crate) enum Incoming {
    /// No body.
    Empty,
    /// A stream of an HTTP/2 connection.
    Http2(Http2Body),
    /// A message of an HTTP/1 connection.
    Http1(Box<dyn Http1Body>),
}

/// The body of a message of an HTTP/2 connection. The sender may send as much again as was read of it.
pub(crate) struct Http2Body {
    stream: h2::RecvStream,
    /// The bytes that are left, if the sender declared them. The codec resets a stream with another length.
    remaining: Option<u64>,
    /// The connection to the sender, until it was sent the `100 Continue` that it waits for.
    awaits_continue: Option<Rc<dyn InformationalSink>>,
    direction: Http2Direction,
    has_data_ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Http2Direction {
    Request,
    Response,
}

impl Http2Body {
    /// Returns the body of a request. `awaits_continue` receives `100 Continue` when the body is first read.
    pub(crate) fn request(
        stream: h2::RecvStream,
        headers: &HeaderMap,
        awaits_continue: Option<Rc<dyn InformationalSink>>,
    ) -> Self {
        Self { awaits_continue, ..Self::new(stream, headers, Http2Direction::Request) }
    }

    /// Returns the body of a response.
    pub(crate) fn response(stream: h2::RecvStream, headers: &HeaderMap) -> Self {
        Self::new(stream, headers, Http2Direction::Response)
    }

    fn new(stream: h2::RecvStream, headers: &HeaderMap, direction: Http2Direction) -> Self {
        let declared = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Self { stream, remaining: declared, awaits_continue: None, direction, has_data_ended: false }
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(sink) = self.awaits_continue.take() {
            sink.send(StatusCode::CONTINUE, HeaderMap::new());
        }
        if !self.has_data_ended {
            match ready!(self.stream.poll_data(context)) {
                Some(Ok(data)) => {
                    // An error means that the stream has ended: the next poll returns it.
                    self.stream.flow_control().release_capacity(data.len()).ok();
                    self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) if self.is_complete(&error) => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.has_data_ended = true,
            }
        }
        Poll::Ready(match ready!(self.stream.poll_trailers(context)) {
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) if self.is_complete(&error) => None,
            Err(error) => Some(Err(error)),
        })
    }

    /// RFC 9113 §8.1: an endpoint that has sent its whole response may reset the stream with `NO_ERROR`, to end the
    /// request.
    fn is_complete(&self, error: &h2::Error) -> bool {
        self.direction == Http2Direction::Response
            && error.is_reset()
            && error.reason() == Some(h2::Reason::NO_ERROR)
            && self.remaining.is_none_or(|remaining| remaining == 0)
    }
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
    Http2(h2::Error),
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
            Self::Http2(body) => body.poll_frame(context).map_err(IncomingError::Http2),
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
            Self::Http2(body) => body.stream.is_end_stream(),
            Self::Http1(body) => body.remaining() == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Http2(body) => body.remaining.map_or_else(SizeHint::default, SizeHint::with_exact),
            Self::Http1(body) => body.remaining().map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
