//! Where the body of one side comes from: hyper's incoming body, read when filters and the other side have room.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use crate::error::ProxyError;
use crate::filter::{Event, Side};

/// How a body goes from its source to the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// No filter wants to see it: it goes by untouched.
    Direct,
    /// Through the filters.
    Filtered,
}

/// Where the body of one side comes from.
pub(super) struct Source {
    incoming: Option<Incoming>,
    /// How it goes on.
    pub(super) way: Way,
    side: Side,
}

impl Source {
    /// A downstream's body.
    pub(super) fn request(incoming: Incoming, way: Way) -> Self {
        Self { incoming: Some(incoming), way, side: Side::Request }
    }

    /// An upstream's body.
    pub(super) fn response(incoming: Incoming, way: Way) -> Self {
        Self { incoming: Some(incoming), way, side: Side::Response }
    }

    /// Nothing: what there is is with the filters.
    pub(super) fn nothing() -> Self {
        Self { incoming: None, way: Way::Filtered, side: Side::Response }
    }

    /// Whose body it is.
    pub(super) fn side(&self) -> Side {
        self.side
    }

    /// How long it will be, as far as its sender said.
    pub(super) fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }

    /// True when nothing more will come.
    pub(super) fn is_end(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    /// The next frame as it comes.
    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(incoming).poll_frame(context));
        if frame.is_none() {
            self.incoming = None;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|error| self.broken(&error))))
    }

    /// The next frame as the filters take it; `None` once everything has been given.
    pub(super) fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Event, ProxyError>>> {
        if self.incoming.is_none() {
            return Poll::Ready(None);
        }
        let side = self.side;
        Poll::Ready(match std::task::ready!(self.poll_frame(context)) {
            None => Some(Ok(Event::End(side))),
            Some(Err(error)) => Some(Err(error)),
            Some(Ok(frame)) => Some(Ok(match frame.into_data() {
                Ok(data) if self.is_end() => {
                    self.incoming = None; // Its sender has said so with the bytes.
                    Event::LastData(side, data)
                }
                Ok(data) => Event::Data(side, data),
                Err(frame) => {
                    self.incoming = None; // Nothing follows trailers.
                    Event::Trailers(side, frame.into_trailers().unwrap_or_else(|_| HeaderMap::new()))
                }
            })),
        })
    }

    fn broken(&self, error: &hyper::Error) -> ProxyError {
        match self.side {
            Side::Request => ProxyError::DownstreamGone,
            Side::Response => ProxyError::UpstreamReset(error.to_string()),
        }
    }
}
