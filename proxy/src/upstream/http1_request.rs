//! Writes one request to an HTTP/1.1 connection: its head with the first bytes of its body, then the rest. Remembers
//! what has left, so that a request of which no byte was sent can be sent again.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, Request, request};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use weir_http1::encode::{self, BodyEncoder, Fields, WrongLength};
use weir_http1::io::MessageIo;
use weir_http1::{BodyLength, SentNames};

use super::request_target::RequestTarget;
use super::tunnel::Tunnel;
use crate::body::{Body, encode_frame};
use crate::error::ProxyError;
use crate::limits::CONTINUE_TIMEOUT;
use crate::tls::Transport;

/// Writes one request.
pub(super) struct RequestWriter {
    body: Body,
    encoder: BodyEncoder,
    /// True once the end of the body was encoded.
    is_encoded: bool,
    gate: BodyGate,
    /// True for a request that switches to another protocol: the connection's side ends with its body.
    is_tunnel: bool,
    /// The request as it was, until a byte of it was sent.
    unsent: Option<Box<UnsentRequest>>,
}

/// The condition for which the body waits.
enum BodyGate {
    /// None, or it is met.
    Open,
    /// The endpoint's `100 Continue`, or the end of the time for it.
    Continue(Pin<Box<Sleep>>),
    /// The endpoint's `101 Switching Protocols`.
    Switch,
}

struct UnsentRequest {
    parts: request::Parts,
    /// The first data of the body. No more is encoded before it was sent.
    first: Option<Bytes>,
    has_trailers: bool,
}

/// The failure of writing a request.
pub(super) enum WriteError {
    /// The connection has failed.
    Io(io::Error),
    /// The body has failed.
    Body(ProxyError),
}

impl From<WrongLength> for WriteError {
    fn from(error: WrongLength) -> Self {
        Self::Body(ProxyError::UpstreamProtocol(error.to_string()))
    }
}

impl RequestWriter {
    /// Encodes the head. Its framing headers agree with the body.
    pub(super) fn begin(request: Request<Body>, io: &mut MessageIo<Transport>) -> Self {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let target = parts.extensions.get::<RequestTarget>().map_or(path.as_bytes(), RequestTarget::as_bytes);
        let fields = Fields { headers: &parts.headers, sent_names: parts.extensions.get::<SentNames>() };
        encode::request_head(io.encoded(), &parts.method, target, fields);
        let is_tunnel = parts.extensions.get::<Tunnel>().is_some();
        let length = if is_tunnel { BodyLength::UntilClose } else { declared_length(&parts.headers) };
        let encoder = BodyEncoder::new(length);
        let gate = match () {
            () if is_tunnel => BodyGate::Switch,
            () if !encoder.is_complete() && parts.headers.contains_key(EXPECT) => {
                BodyGate::Continue(Box::pin(sleep(CONTINUE_TIMEOUT)))
            }
            () => BodyGate::Open,
        };
        let unsent = Some(Box::new(UnsentRequest { parts, first: None, has_trailers: false }));
        Self { body, encoder, is_encoded: false, gate, is_tunnel, unsent }
    }

    /// Writes until the request has ended.
    pub(super) fn poll_write(
        &mut self,
        io: &mut MessageIo<Transport>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), WriteError>> {
        loop {
            let mut is_body_pending = self.poll_gate(context).is_pending();
            while self.can_encode() && !is_body_pending && io.can_encode() {
                is_body_pending = self.poll_encode(io, context)?.is_pending();
            }
            let before = io.unflushed();
            let flushed = io.poll_flush(context);
            if io.unflushed() < before {
                self.unsent = None;
            }
            ready!(flushed).map_err(WriteError::Io)?;
            if self.is_encoded {
                if self.is_tunnel {
                    ready!(io.poll_shutdown(context)).map_err(WriteError::Io)?;
                }
                return Poll::Ready(Ok(()));
            }
            if is_body_pending {
                return Poll::Pending;
            }
        }
    }

    /// Waits for the endpoint's `100 Continue`, but not longer than [`CONTINUE_TIMEOUT`], or for its 101.
    fn poll_gate(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.gate {
            BodyGate::Open => {}
            BodyGate::Continue(timeout) => ready!(timeout.as_mut().poll(context)),
            BodyGate::Switch => return Poll::Pending,
        }
        self.gate = BodyGate::Open;
        Poll::Ready(())
    }

    /// Sends the body: the endpoint has responded with `100 Continue`.
    pub(super) fn on_continue(&mut self) {
        if matches!(self.gate, BodyGate::Continue(_)) {
            self.gate = BodyGate::Open;
        }
    }

    /// Sends the body: the endpoint has switched to the requested protocol.
    pub(super) fn on_switched(&mut self) {
        self.gate = BodyGate::Open;
    }

    /// Returns true if the endpoint has not asked for the body.
    pub(super) fn awaits_endpoint(&self) -> bool {
        !matches!(self.gate, BodyGate::Open)
    }

    /// Returns true for a request that switches to another protocol, and awaits the endpoint's 101.
    pub(super) fn awaits_switch(&self) -> bool {
        matches!(self.gate, BodyGate::Switch)
    }

    /// Returns the request, if no byte of it was sent.
    pub(super) fn into_unsent(self) -> Option<Request<Body>> {
        let UnsentRequest { parts, first, has_trailers } = *self.unsent?;
        if has_trailers {
            return None;
        }
        let body = match first {
            None => self.body,
            Some(first) if self.body.is_end_stream() => Body::full(first),
            Some(first) => Body::stream(ResumedBody { first: Some(first), rest: self.body }),
        };
        Some(Request::from_parts(parts, body))
    }

    /// Returns true if more of the body may be encoded: the first data leaves alone with the head.
    fn can_encode(&self) -> bool {
        !self.is_encoded && self.unsent.as_ref().is_none_or(|unsent| unsent.first.is_none())
    }

    /// Encodes the next frame of the body, or its end.
    fn poll_encode(
        &mut self,
        io: &mut MessageIo<Transport>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), WriteError>> {
        let frame = match self.body.is_end_stream() {
            true => None,
            false => ready!(Pin::new(&mut self.body).poll_frame(context)).transpose().map_err(WriteError::Body)?,
        };
        if let (Some(unsent), Some(frame)) = (&mut self.unsent, &frame) {
            unsent.first = frame.data_ref().filter(|data| !data.is_empty()).cloned();
            unsent.has_trailers = frame.is_trailers();
        }
        self.is_encoded = encode_frame(io, &mut self.encoder, frame)?;
        // The usual body of one frame ends with it, in the same write.
        if !self.is_encoded && io.can_encode() && self.body.is_end_stream() {
            self.is_encoded = encode_frame(io, &mut self.encoder, None)?;
        }
        Poll::Ready(Ok(()))
    }
}

/// Returns the length that the framing headers of a request declare. `send` has set them.
fn declared_length(headers: &HeaderMap) -> BodyLength {
    if headers.contains_key(TRANSFER_ENCODING) {
        return BodyLength::Chunked;
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    BodyLength::Exact(length.unwrap_or(0))
}

/// A body whose first data was read and not sent.
struct ResumedBody {
    first: Option<Bytes>,
    rest: Body,
}

impl HttpBody for ResumedBody {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let this = self.get_mut();
        match this.first.take() {
            Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
            None => Pin::new(&mut this.rest).poll_frame(context),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, Bytes::len) as u64;
        let rest = self.rest.size_hint().exact();
        rest.map_or_else(SizeHint::default, |rest| SizeHint::with_exact(first + rest))
    }
}
