//! An HTTP/2 connection to an endpoint, and one request on it. A task runs the connection; the request that has a
//! stream writes and reads it. `pool` opens connections and counts streams, `attempt` sends.
//!
//! ```text
//! send:  head ─► body ──────────────────┐ at the same time
//!        read head (1xx are passed on) ◄┘ ─► Response; a task writes the rest of the request, until the lease ends
//! ```
//!
//! A request that the endpoint has declared as not processed (RFC 9113 §8.7) may be sent again, whatever its method:
//! what was sent of its body is retained until the response's head, within a bound.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{Request, Response, StatusCode, response};
use http_body::Body as _;
use tokio::task::AbortHandle;

use super::replay::{ReplayableRequest, SentData, is_replayable};
use super::sweep_clock::SweepClock;
use super::tunnel::Tunnel;
use crate::body::Body;
use crate::error::ProxyError;
use crate::http2_writer::{Http2WriteError, Http2Writer};
use crate::incoming::{Http2Body, Incoming, InformationalSink};
use crate::limits::{MAX_INFORMATIONAL_RESPONSES, MAX_STREAMS_PER_UPSTREAM_CONNECTION};
use crate::task;

/// An HTTP/2 connection to an endpoint, whose settings have arrived.
pub(super) struct Http2Connection {
    sender: SendRequest<Bytes>,
    streams: Cell<u32>,
    /// The number of requests that it was sent.
    served: Cell<u32>,
    /// The sweep at which it was opened.
    opened: u32,
    idle_since: Cell<u32>,
}

impl Http2Connection {
    /// Returns the connection of a sender, opened at a sweep of the pool.
    pub(super) fn new(sender: SendRequest<Bytes>, opened: u32) -> Rc<Self> {
        Rc::new(Self { sender, streams: Cell::new(0), served: Cell::new(0), opened, idle_since: Cell::new(opened) })
    }

    /// Returns true if the endpoint accepts another stream now: it has not closed the connection nor sent GOAWAY, and
    /// the streams in flight are below its `MAX_CONCURRENT_STREAMS` and the proxy's own limit.
    pub(super) fn has_capacity(&self) -> bool {
        let limit = (MAX_STREAMS_PER_UPSTREAM_CONNECTION as usize).min(self.sender.current_max_send_streams());
        (self.streams.get() as usize) < limit && self.is_open()
    }

    /// Returns true unless the connection has failed, or the endpoint has sent GOAWAY.
    pub(super) fn is_open(&self) -> bool {
        let mut sender = self.sender.clone();
        !matches!(sender.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)))
    }

    /// Returns the number of requests so far.
    pub(super) fn served(&self) -> u32 {
        self.served.get()
    }

    /// Returns the sweep of the pool at which the connection was opened.
    pub(super) fn opened(&self) -> u32 {
        self.opened
    }

    /// Returns the sweep since which no stream is open; `None` while one is.
    pub(super) fn idle_since(&self) -> Option<u32> {
        (self.streams.get() == 0).then(|| self.idle_since.get())
    }
}

/// A permit for one stream of an HTTP/2 connection. Dropping it frees the stream.
pub(super) struct Http2StreamPermit {
    connection: Rc<Http2Connection>,
    clock: Rc<SweepClock>,
    /// The task that writes the rest of the request after the response's head.
    writer: RefCell<Option<AbortHandle>>,
}

impl Http2StreamPermit {
    /// Takes one stream of a connection that has capacity.
    pub(super) fn new(connection: Rc<Http2Connection>, clock: Rc<SweepClock>) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        connection.served.set(connection.served.get().saturating_add(1));
        Self { connection, clock, writer: RefCell::default() }
    }

    pub(super) fn connection(&self) -> &Rc<Http2Connection> {
        &self.connection
    }
}

impl Drop for Http2StreamPermit {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.abort(); // The response has ended; the rest of the request has no use.
        }
        self.connection.streams.set(self.connection.streams.get() - 1);
        self.connection.idle_since.set(self.clock.now());
    }
}

/// The failure of a request before its response head.
pub(super) struct Http2SendError {
    pub(super) error: ProxyError,
    pub(super) resend: Resend,
}

/// The permission to send a request again.
pub(super) enum Resend {
    /// The endpoint does not support what the request needs, so that nothing was sent.
    Unsupported,
    /// The endpoint may have acted on the request.
    Never,
    /// The connection was closed without a response (the keep-alive race). The request is idempotent and has no body.
    AfterClose(Request<Body>),
    /// The endpoint has declared that it did not process the request, or no byte of it was sent.
    Unprocessed(Request<Body>),
}

/// Sends a request and waits for the head of its response. `reused` is true if the connection has served before.
pub(super) async fn send(
    permit: &Http2StreamPermit,
    request: Request<Body>,
    informational: Option<&Rc<dyn InformationalSink>>,
    reused: bool,
) -> Result<Response<Incoming>, Http2SendError> {
    let copy = ReplayableRequest::from_request(&request);
    let may_follow_close = reused && is_replayable(&request);
    let (mut parts, body) = request.into_parts();
    let tunnel = parts.extensions.remove::<Tunnel>();
    let mut sender = permit.connection.sender.clone();
    if let Some(tunnel) = &tunnel {
        let is_supported = sender.is_extended_connect_protocol_enabled();
        let unsupported = || ProxyError::UpstreamProtocol("it does not support extended CONNECT (RFC 8441)".into());
        let converted = if is_supported { tunnel.to_extended_connect(&mut parts) } else { Err(unsupported()) };
        converted.map_err(|error| Http2SendError { error, resend: Resend::Unsupported })?;
    }
    let is_end_stream = body.is_end_stream() && tunnel.is_none();
    let started = sender.send_request(Request::from_parts(parts, ()), is_end_stream);
    let (response, stream) = match started {
        Ok(started) => started,
        Err(error) => {
            let is_connection_gone = error.is_io() || error.is_go_away(); // Otherwise the request cannot be sent.
            let request = is_connection_gone.then(|| copy.into_request(body));
            let resend = request.map_or(Resend::Never, Resend::Unprocessed);
            return Err(Http2SendError { error: classify(&error), resend });
        }
    };
    let writer = match tunnel {
        Some(_) => RequestWriter::AwaitsSwitch(Http2Writer::new(body, stream)),
        None if is_end_stream => RequestWriter::Ended,
        None => RequestWriter::Writing { writer: Http2Writer::new(body, stream), sent: SentData::default() },
    };
    let mut exchange = Exchange { response, writer, informational: 0 };
    match poll_fn(|context| exchange.poll_head(informational, context)).await {
        Ok(head) => {
            let (mut parts, stream) = head.into_parts();
            let rest = match exchange.writer {
                RequestWriter::Writing { writer, .. } => Some(writer),
                RequestWriter::AwaitsSwitch(writer) if parts.status.is_success() => Some(writer),
                _ => None,
            };
            if let Some(tunnel) = tunnel {
                tunnel.accept_extended_connect(&mut parts);
            }
            if let Some(mut writer) = rest {
                let writing = async move {
                    // A failure shows in the response, too.
                    drop(poll_fn(|context| writer.poll_write(h2::Reason::CANCEL, |_| {}, context)).await);
                };
                *permit.writer.borrow_mut() = Some(task::spawn_local("upstream_http2_request", writing).abort_handle());
            }
            Ok(into_response(parts, stream))
        }
        Err(ReceiveError::Body(error)) => Err(Http2SendError { error, resend: Resend::Never }),
        Err(ReceiveError::TooManyInformational) => {
            let error = ProxyError::UpstreamProtocol("too many informational responses".into());
            Err(Http2SendError { error, resend: Resend::Never })
        }
        Err(ReceiveError::Stream(error)) => {
            let resend = match exchange.writer.into_unread() {
                Some(body) if is_unprocessed(&error) => Resend::Unprocessed(copy.into_request(body)),
                Some(body) if may_follow_close && error.is_io() => Resend::AfterClose(copy.into_request(body)),
                _ => Resend::Never,
            };
            Err(Http2SendError { error: classify(&error), resend })
        }
    }
}

fn into_response(parts: response::Parts, stream: h2::RecvStream) -> Response<Incoming> {
    let incoming = match stream.is_end_stream() {
        true => Incoming::Empty,
        false => Incoming::Http2(Http2Body::response(stream, &parts.headers)),
    };
    Response::from_parts(parts, incoming)
}

/// The request and the head of the response of one stream.
struct Exchange {
    response: ResponseFuture,
    writer: RequestWriter,
    /// The number of informational responses so far.
    informational: usize,
}

/// The failure of an exchange before the response's head.
enum ReceiveError {
    Stream(h2::Error),
    /// The request's body has failed.
    Body(ProxyError),
    TooManyInformational,
}

impl Exchange {
    /// Writes the request and reads the response's head, at the same time.
    fn poll_head(
        &mut self,
        sink: Option<&Rc<dyn InformationalSink>>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Response<h2::RecvStream>, ReceiveError>> {
        if let Err(error) = self.writer.poll_write(context) {
            return Poll::Ready(Err(ReceiveError::Body(error)));
        }
        while let Poll::Ready(Some(received)) = self.response.poll_informational(context) {
            let (parts, ()) = received.map_err(ReceiveError::Stream)?.into_parts();
            self.informational += 1;
            if self.informational > MAX_INFORMATIONAL_RESPONSES {
                return Poll::Ready(Err(ReceiveError::TooManyInformational));
            }
            // The downstream is sent a 100 of the proxy's own when its body is read.
            if let Some(sink) = sink.filter(|_| parts.status != StatusCode::CONTINUE) {
                sink.send(parts.status, parts.headers);
            }
        }
        Pin::new(&mut self.response).poll(context).map_err(ReceiveError::Stream)
    }
}

/// Writes the body of a request, and retains what was sent.
enum RequestWriter {
    /// The request has ended with its head.
    Ended,
    Writing {
        writer: Http2Writer,
        sent: SentData,
    },
    /// The request switches to another protocol, and the endpoint has not agreed.
    AwaitsSwitch(Http2Writer),
    /// The endpoint has reset the stream, or the connection has failed. The response has the reason.
    Failed {
        writer: Http2Writer,
        sent: SentData,
    },
    /// The body was sent to its end; `None` if it cannot be sent again.
    Written(Option<SentData>),
}

impl RequestWriter {
    /// Writes as much as possible.
    ///
    /// # Errors
    /// The body has failed.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Result<(), ProxyError> {
        let Self::Writing { writer, sent } = self else { return Ok(()) };
        let Poll::Ready(written) = writer.poll_write(h2::Reason::CANCEL, |data| sent.push(data), context) else {
            return Ok(());
        };
        let Self::Writing { writer, sent } = std::mem::replace(self, Self::Ended) else { return Ok(()) };
        *self = match written {
            Ok(()) => Self::Written((!writer.has_sent_trailers()).then_some(sent)),
            Err(Http2WriteError::Stream) => Self::Failed { writer, sent },
            // A body that fails without an error of its own was reset by the downstream.
            Err(Http2WriteError::Body(ProxyError::UpstreamReset(_))) => return Err(ProxyError::DownstreamGone),
            Err(Http2WriteError::Body(error)) => return Err(error),
        };
        Ok(())
    }

    /// Returns the request's whole body; `None` if more was sent than is retained.
    fn into_unread(self) -> Option<Body> {
        match self {
            Self::Ended => Some(Body::Empty),
            Self::Writing { writer, sent } | Self::Failed { writer, sent } => sent.into_body(writer.into_rest()),
            Self::AwaitsSwitch(writer) => Some(writer.into_rest()),
            Self::Written(sent) => sent?.into_body(Body::Empty),
        }
    }
}

/// Returns true if the endpoint has declared that it did not process the request (RFC 9113 §8.7).
///
/// A stream that the endpoint's GOAWAY covers does not end with it; if its connection closes, that is an IO error.
fn is_unprocessed(error: &h2::Error) -> bool {
    let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (is_refused || error.is_go_away())
}

/// Returns the error of a stream or a connection. A violation of the protocol by the endpoint is not a reset.
pub(super) fn classify(error: &h2::Error) -> ProxyError {
    let text = error.to_string();
    if error.is_library() { ProxyError::UpstreamProtocol(text) } else { ProxyError::UpstreamReset(text) }
}
