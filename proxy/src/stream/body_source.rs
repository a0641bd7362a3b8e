//! The incoming body of one direction, read when the filters and the peer have capacity.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};

use crate::error::ProxyError;
use crate::filter::{Direction, EndOfStream, Event};
use crate::incoming::{Incoming, IncomingError};
use crate::stream::sanitize;

/// The path of a body from its source to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyMode {
    /// No filter reads the body, so its frames are forwarded unchanged.
    Passthrough,
    /// Through the filters.
    Filtered,
}

/// The incoming body of one direction.
pub(super) struct BodySource {
    incoming: Option<Incoming>,
    /// The path to the peer.
    pub(super) mode: BodyMode,
    direction: Direction,
}

impl BodySource {
    /// Returns the source of a request's body.
    pub(super) fn request(incoming: Incoming, mode: BodyMode) -> Self {
        Self { incoming: Some(incoming), mode, direction: Direction::Request }
    }

    /// Returns the source of a response's body.
    pub(super) fn response(incoming: Incoming, mode: BodyMode) -> Self {
        Self { incoming: Some(incoming), mode, direction: Direction::Response }
    }

    /// Returns the empty source of a local reply, whose body is in the filter chain.
    pub(super) fn empty() -> Self {
        Self { incoming: None, mode: BodyMode::Filtered, direction: Direction::Response }
    }

    /// Returns the direction of the body.
    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    /// Returns the bounds of the remaining length, as far as the sender declared them.
    pub(super) fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }

    /// Returns true if no more frames will arrive.
    pub(super) fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    /// Polls for the next frame.
    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(incoming).poll_frame(context));
        if frame.is_none() {
            self.incoming = None;
        }
        Poll::Ready(frame.map(|frame| match frame {
            Ok(mut frame) => {
                if let Some(trailers) = frame.trailers_mut() {
                    sanitize::trailers(trailers);
                }
                Ok(frame)
            }
            Err(error) => Err(self.read_error(&error)),
        }))
    }

    /// Polls for the next frame, as an event for the filters. `None` after the last one.
    pub(super) fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Event, ProxyError>>> {
        if self.incoming.is_none() {
            return Poll::Ready(None);
        }
        let direction = self.direction;
        Poll::Ready(match std::task::ready!(self.poll_frame(context)) {
            None => Some(Ok(Event::EndOfStream(direction))),
            Some(Err(error)) => Some(Err(error)),
            Some(Ok(frame)) => Some(Ok(match frame.into_data() {
                Ok(data) if self.is_end_stream() => {
                    self.incoming = None; // The sender declared the end together with these bytes.
                    Event::Data(direction, data, EndOfStream::Yes)
                }
                Ok(data) => Event::Data(direction, data, EndOfStream::No),
                Err(frame) => {
                    self.incoming = None; // No frame follows trailers.
                    Event::Trailers(direction, frame.into_trailers().unwrap_or_else(|_| HeaderMap::new()))
                }
            })),
        })
    }

    fn read_error(&self, error: &IncomingError) -> ProxyError {
        match (self.direction, error.rejection()) {
            (Direction::Request, Some(rejection)) => ProxyError::Malformed(rejection),
            (Direction::Request, None) => ProxyError::DownstreamGone,
            (Direction::Response, Some(rejection)) => ProxyError::UpstreamProtocol(rejection.to_string()),
            (Direction::Response, None) => ProxyError::UpstreamReset(error.to_string()),
        }
    }
}
