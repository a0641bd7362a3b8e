//! An HTTP/1.1 connection to an endpoint. It has no task: the request that has checked it out writes and reads it, and
//! while idle nothing does. `pool` checks before each use that the endpoint has not closed it.
//!
//! ```text
//! send:  write head + first body bytes ─► write body ──┐ at the same time
//!        read head (informational ones are passed on) ◄──┘ ─► Response, whose body reads on
//! ```
//!
//! A response may come before the request has ended. Then a task writes the rest of the request, until the response has
//! ended too: an endpoint may read on while it responds.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use http::{Method, Request, Response, StatusCode};
use hyper::ext::ReasonPhrase;
use tokio::task::AbortHandle;
use weir_http1::io::{MessageIo, ReadError};
use weir_http1::{BodyDecoder, BodyEvent, BodyLength, HeadDecoder, Limits, Rejection, ResponseHead};
use weir_model::UpstreamProtocolOptions;

use super::connect::OpenTransport;
use super::http1_request::{RequestWriter, WriteError};
use super::open_guard::OpenConnectionGuard;
use super::tunnel::Tunnel;
use crate::body::Body;
use crate::error::ProxyError;
use crate::incoming::{Http1Body, Incoming, InformationalSink};
use crate::limits::{MAX_INFORMATIONAL_RESPONSES, http1_response_limits};
use crate::task;
use crate::tls::Transport;

/// An HTTP/1.1 connection to an endpoint.
pub(super) struct Http1Connection {
    state: RefCell<ConnectionState>,
    /// The sweep of the pool at which the connection was opened.
    opened: u32,
    _open: OpenConnectionGuard,
}

struct ConnectionState {
    io: MessageIo<Transport>,
    limits: Limits,
    /// The number of the current request on the connection.
    exchange: u32,
    /// The request, until it was written to its end. It is here and not in the future of `send`, so that a request in
    /// flight needs less memory.
    request: Option<RequestWriter>,
    /// The task that writes the rest of the request after the response's head.
    writer: Option<AbortHandle>,
    /// The failure of writing the request.
    write_error: Option<io::Error>,
    /// The method of the request, which decides whether its response has a body.
    method: Method,
    /// The protocol that the request switches to.
    tunnel: Option<Tunnel>,
    heads: HeadDecoder,
    informational: usize,
    /// The body of the response.
    body: BodyDecoder,
    progress: Progress,
    /// True if the endpoint accepts another request.
    keep_alive: bool,
}

/// The progress of the current exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// No byte of the request was written.
    Unwritten,
    /// No byte of a response has come.
    Awaited,
    /// Bytes of a response have come.
    Received,
}

/// The failure of a request before its response head.
pub(super) struct Http1SendError {
    pub(super) error: ProxyError,
    /// The request, if no byte of it was sent.
    pub(super) unsent: Option<Request<Body>>,
    /// True if the connection was closed before any byte of a response came.
    pub(super) is_closed_unanswered: bool,
}

impl Http1Connection {
    /// Returns the connection on a transport, opened at a sweep of the pool.
    pub(super) fn new(transport: OpenTransport, options: &UpstreamProtocolOptions, opened: u32) -> Rc<Self> {
        let OpenTransport { transport, open } = transport;
        let limits = http1_response_limits(options);
        let state = ConnectionState {
            io: MessageIo::new(transport),
            limits,
            exchange: 0,
            request: None,
            writer: None,
            write_error: None,
            method: Method::GET,
            tunnel: None,
            heads: HeadDecoder::new(limits).with_sent_names(options.preserve_header_case),
            informational: 0,
            body: BodyDecoder::new(BodyLength::Exact(0), limits),
            progress: Progress::Received,
            keep_alive: true,
        };
        Rc::new(Self { state: RefCell::new(state), opened, _open: open })
    }

    /// Returns the sweep of the pool at which the connection was opened.
    pub(super) fn opened(&self) -> u32 {
        self.opened
    }

    /// Returns the number of requests so far.
    pub(super) fn served(&self) -> u32 {
        self.state.borrow().exchange
    }

    /// Returns true if the next request can be sent: the last exchange is complete, and the endpoint has neither closed
    /// the connection nor sent bytes that belong to no response.
    pub(super) fn is_ready(&self) -> bool {
        let state = &mut *self.state.borrow_mut();
        state.is_exchange_complete() && state.io.poll_fill(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Returns true if request and response have ended, and the endpoint accepts another request.
    pub(super) fn is_exchange_complete(&self) -> bool {
        self.state.borrow_mut().is_exchange_complete()
    }

    /// Ends the task that may still write a request, which keeps the connection open.
    pub(super) fn close(&self) {
        if let Some(writer) = self.state.borrow_mut().writer.take() {
            writer.abort();
        }
    }

    /// Sends a request and waits for the head of its response. The connection must be ready.
    pub(super) fn send(
        self: &Rc<Self>,
        request: Request<Body>,
        informational: Option<&Rc<dyn InformationalSink>>,
    ) -> impl Future<Output = Result<Response<Incoming>, Http1SendError>> {
        self.state.borrow_mut().begin_request(request);
        async move {
            task::yield_turn().await;
            poll_fn(|context| {
                let head = ready!(self.state.borrow_mut().poll_response(informational, context));
                Poll::Ready(match head {
                    Ok(head) => Ok(self.begin_response(head)),
                    Err(error) => Err(self.state.borrow_mut().fail(error)),
                })
            })
            .await
        }
    }

    fn begin_response(self: &Rc<Self>, head: ResponseHead) -> Response<Incoming> {
        let ResponseHead { status, reason, version, headers, sent_names, connection_fields, body, keep_alive } = head;
        let state = &mut *self.state.borrow_mut();
        state.keep_alive = keep_alive;
        state.body = BodyDecoder::new(body, state.limits).without_trailers(connection_fields);
        if status == StatusCode::SWITCHING_PROTOCOLS {
            (state.keep_alive, state.body) = (false, BodyDecoder::new(BodyLength::UntilClose, state.limits));
            state.request.as_mut().into_iter().for_each(RequestWriter::on_switched);
        }
        // An endpoint that refuses a request is not sent the body that it has not asked for, and the connection closes.
        let is_refused = status.is_client_error() || status.is_server_error();
        let rest = state.request.as_mut();
        let rest = rest.filter(|request| !(request.awaits_switch() || is_refused && request.awaits_endpoint()));
        if let Some(request) = rest.filter(|_| state.write_error.is_none()) {
            request.on_continue();
            state.writer = Some(self.spawn_writer());
        }
        let incoming = match state.body.is_end() {
            true => Incoming::Empty,
            false => Incoming::Http1(Box::new(ResponseBody { connection: Rc::clone(self), exchange: state.exchange })),
        };
        let mut response = Response::new(incoming);
        *response.status_mut() = status;
        *response.version_mut() = version;
        *response.headers_mut() = headers;
        if status.canonical_reason().is_none_or(|usual| usual.as_bytes() != reason)
            && let Ok(reason) = ReasonPhrase::try_from(reason)
        {
            response.extensions_mut().insert(reason);
        }
        if let Some(names) = sent_names {
            response.extensions_mut().insert(names);
        }
        response
    }

    /// Spawns the task that writes the rest of the request. A failure leaves it unwritten, so that the connection is
    /// closed after the response.
    fn spawn_writer(self: &Rc<Self>) -> AbortHandle {
        let connection = Rc::clone(self);
        let writing = async move {
            drop(poll_fn(|context| connection.state.borrow_mut().poll_write(context)).await);
        };
        task::spawn_local("upstream_http1_request", writing).abort_handle()
    }
}

impl ConnectionState {
    fn is_exchange_complete(&mut self) -> bool {
        self.request.is_none()
            && self.keep_alive
            && self.body.is_end()
            && !self.io.is_eof()
            && self.io.input().is_empty()
    }

    fn begin_request(&mut self, request: Request<Body>) {
        self.exchange = self.exchange.wrapping_add(1);
        // Until the response's head says otherwise: a request that is dropped before must not leave its response to the
        // next one.
        self.keep_alive = false;
        self.write_error = None;
        self.informational = 0;
        self.method = request.method().clone();
        self.tunnel = request.extensions().get::<Tunnel>().cloned();
        self.progress = Progress::Unwritten;
        self.request = Some(RequestWriter::begin(request, &mut self.io));
    }

    /// Writes the request and reads the response's head, at the same time.
    fn poll_response(
        &mut self,
        informational: Option<&Rc<dyn InformationalSink>>,
        context: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, ReceiveError>> {
        if self.progress == Progress::Unwritten {
            // Bytes without a request, or the end: whatever they are, they are not the response.
            if self.io.poll_fill(context).is_ready() {
                return Poll::Ready(Err(ReceiveError::Read(ReadError::Rejected(Rejection::Incomplete))));
            }
            self.progress = Progress::Awaited;
        }
        loop {
            self.write_more(context)?;
            let head = ready!(self.poll_head(context)).map_err(ReceiveError::Read)?;
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                let is_accepted = self.tunnel.as_ref().is_some_and(|tunnel| tunnel.is_accepted(&head.headers));
                return Poll::Ready(if is_accepted { Ok(head) } else { Err(ReceiveError::UnexpectedUpgrade) });
            }
            if !head.status.is_informational() {
                return Poll::Ready(Ok(head));
            }
            self.informational += 1;
            if self.informational > MAX_INFORMATIONAL_RESPONSES {
                return Poll::Ready(Err(ReceiveError::TooManyInformational));
            }
            // The downstream is sent a 100 of the proxy's own when its body is read.
            if let Some(request) = self.request.as_mut().filter(|_| head.status == StatusCode::CONTINUE) {
                request.on_continue();
            }
            if let Some(sink) = informational.filter(|_| head.status != StatusCode::CONTINUE) {
                sink.send(head.status, head.headers);
            }
        }
    }

    /// Writes as much of the request as the connection takes.
    fn write_more(&mut self, context: &mut Context<'_>) -> Result<(), ReceiveError> {
        if self.write_error.is_none() {
            match self.poll_write(context) {
                Poll::Ready(Err(WriteError::Body(error))) => return Err(ReceiveError::Body(error)),
                // The endpoint may have responded before it closed.
                Poll::Ready(Err(WriteError::Io(error))) => self.write_error = Some(error),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        Ok(())
    }

    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<ResponseHead, ReadError>> {
        loop {
            let head = self.heads.decode_response(self.io.input(), &self.method);
            if let Some(head) = head.map_err(ReadError::Rejected)? {
                self.io.release_input();
                return Poll::Ready(Ok(head));
            }
            if ready!(self.io.poll_fill(context)).map_err(ReadError::Io)? == 0 {
                return Poll::Ready(Err(ReadError::Rejected(Rejection::Incomplete)));
            }
            self.progress = Progress::Received;
        }
    }

    /// Writes the request until its end.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        let Some(request) = &mut self.request else { return Poll::Ready(Ok(())) };
        ready!(request.poll_write(&mut self.io, context))?;
        self.request = None;
        Poll::Ready(Ok(()))
    }

    fn fail(&mut self, error: ReceiveError) -> Http1SendError {
        self.keep_alive = false;
        let is_closed_unanswered = error.is_closed() && self.progress != Progress::Received;
        let request = self.request.take();
        match self.write_error.take() {
            _ if !is_closed_unanswered => Http1SendError { error: error.into(), unsent: None, is_closed_unanswered },
            failed_write => Http1SendError {
                error: failed_write.map_or_else(|| error.into(), |error| ProxyError::UpstreamReset(error.to_string())),
                unsent: request.and_then(RequestWriter::into_unsent),
                is_closed_unanswered,
            },
        }
    }
}

/// The failure of receiving a response head.
enum ReceiveError {
    Read(ReadError),
    /// The request's body has failed.
    Body(ProxyError),
    UnexpectedUpgrade,
    TooManyInformational,
}

impl ReceiveError {
    /// Returns true if the connection was closed or reset.
    fn is_closed(&self) -> bool {
        matches!(self, Self::Read(ReadError::Io(_) | ReadError::Rejected(Rejection::Incomplete)))
    }
}

impl From<ReceiveError> for ProxyError {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Read(ReadError::Io(error)) => Self::UpstreamReset(error.to_string()),
            ReceiveError::Read(ReadError::Rejected(rejection @ Rejection::Incomplete)) => {
                Self::UpstreamReset(rejection.to_string())
            }
            ReceiveError::Read(ReadError::Rejected(rejection)) => Self::UpstreamProtocol(rejection.to_string()),
            // A body that fails without an error of its own was reset by the downstream.
            ReceiveError::Body(Self::UpstreamReset(_)) => Self::DownstreamGone,
            ReceiveError::Body(error) => error,
            ReceiveError::UnexpectedUpgrade => {
                Self::UpstreamProtocol("it switched to a protocol that was not requested".into())
            }
            ReceiveError::TooManyInformational => Self::UpstreamProtocol("too many informational responses".into()),
        }
    }
}

/// The body of a response.
struct ResponseBody {
    connection: Rc<Http1Connection>,
    /// The number of the request. A body that outlives its exchange must not read the next response.
    exchange: u32,
}

impl Http1Body for ResponseBody {
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Result<BodyEvent, ReadError>> {
        let state = &mut *self.connection.state.borrow_mut();
        if state.exchange != self.exchange {
            return Poll::Ready(Err(ReadError::Rejected(Rejection::Incomplete)));
        }
        state.io.poll_body(&mut state.body, context)
    }

    fn remaining(&self) -> Option<u64> {
        let state = self.connection.state.borrow();
        if state.exchange == self.exchange { state.body.remaining() } else { None }
    }
}
