//! An HTTP/1 connection of a downstream: reads one request after another, and writes its response before the next. One
//! task runs all of it; the request's body is read from the same buffers where it is forwarded.
//!
//! ```text
//! read head ─► stream::handle ─► write head and body ─► rest of the request's body ─► read head …
//!     └► rejected: `handle` logs it, and the connection closes after its reply
//! ```

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use http::header::{CONNECTION, DATE, EXPECT, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::ext::ReasonPhrase;
use tracing::debug;
use weir_http1::encode::{self, BodyEncoder, Fields};
use weir_http1::io::{MessageIo, ReadError};
use weir_http1::{
    BodyDecoder, BodyEvent, BodyLength, HeadDecoder, Limits, Rejection, RequestHead, SentNames, has_token,
};

use crate::body::{Body, encode_frame};
use crate::connection::Connection;
use crate::error::ProxyError;
use crate::incoming::{Http1Body, Incoming, InformationalSink};
use crate::limits::{MAX_UNREAD_BODY_BYTES, UNREAD_BODY_TIMEOUT, http1_request_limits};
use crate::server::date::write_date;
use crate::server::http1_exchange::{AfterResponse, Exchange, NextRequest};
use crate::server::http1_head::{printable_target, set_framing};
use crate::server::interrupt::{Interrupt, interrupt, timed_out};
use crate::stream::{self, Expectation, ReceivedRequest, RejectedRequest, ValidRequest};
use crate::task;
use crate::tls::Transport;
use crate::worker::Worker;

/// Serves requests until the connection closes, is idle for too long, or has drained.
pub(super) async fn serve(worker: &Rc<Worker>, connection: &Rc<Connection>, transport: Transport) {
    let shared = Rc::new(DownstreamIo::new(transport, http1_request_limits(&connection.options)));
    let _end = EndExchange(&shared);
    let mut interrupted = pin!(interrupt(connection));
    loop {
        let (received, exchange) = match shared.next_request(connection, interrupted.as_mut()).await {
            NextRequest::Valid(head) => shared.begin_exchange(head),
            NextRequest::Rejected(rejected) => (ReceivedRequest::Rejected(rejected), Exchange::rejected()),
            NextRequest::Closed => return,
            NextRequest::Refused => return shared.close().await,
        };
        let response = {
            // On the heap: it is larger than the rest of the connection, which most of the time is idle.
            let mut handled = Box::pin(stream::handle(Rc::clone(worker), Rc::clone(connection), received));
            poll_fn(|context| match handled.as_mut().poll(context) {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending => shared.poll_gone(context).map(|()| None),
            })
            .await
        };
        let response = match response {
            Some(Ok(response)) => response,
            // The stream was reset: no response can be sent any more.
            Some(Err(error)) => return debug!(peer = %connection.peer, %error, "connection closed by its stream"),
            None => return,
        };
        match shared.respond(connection, &exchange, response).await {
            AfterResponse::NextRequest => {}
            AfterResponse::Close => return shared.close().await,
            AfterResponse::Broken => return,
        }
    }
}

/// The byte stream of a connection, shared with the body of its current request.
struct DownstreamIo {
    io: RefCell<MessageIo<Transport>>,
    limits: Limits,
    /// The body of the current request.
    body: RefCell<BodyDecoder>,
    /// The number of the current request on the connection.
    exchange: Cell<u32>,
    /// The task that waits for the body of the current request.
    body_reader: RefCell<Option<Waker>>,
    /// The connection's task, which notices a reset after the end of the body of the current request.
    gone_waiter: RefCell<Option<Waker>>,
    /// True while the downstream waits for `100 Continue`.
    expects_continue: Cell<bool>,
    /// True once the response is being sent: only its sender writes.
    is_responding: Cell<bool>,
    /// True once a body was rejected: the rest of the bytes has no meaning.
    is_broken: Cell<bool>,
}

impl DownstreamIo {
    fn new(transport: Transport, limits: Limits) -> Self {
        Self {
            io: RefCell::new(MessageIo::new(transport)),
            limits,
            body: RefCell::new(BodyDecoder::new(BodyLength::Exact(0), limits)),
            exchange: Cell::new(0),
            body_reader: RefCell::default(),
            gone_waiter: RefCell::default(),
            expects_continue: Cell::new(false),
            is_responding: Cell::new(false),
            is_broken: Cell::new(false),
        }
    }

    /// Waits for the next request head. `interrupted` lives as long as the connection.
    async fn next_request(
        &self,
        connection: &Connection,
        interrupted: Pin<&mut impl Future<Output = Interrupt>>,
    ) -> NextRequest {
        let mut heads = HeadDecoder::new(self.limits).with_sent_names(connection.options.preserve_header_case);
        if !self.io.borrow_mut().input().is_empty() {
            connection.on_bytes_received(); // Pipelined.
        } else if connection.is_spent() && self.is_silent().await {
            return NextRequest::Refused; // It became too old while it responded.
        }
        let read = pin!(poll_fn(|context| self.poll_head(&mut heads, connection, context)));
        let head = tokio::select! {
            biased;
            head = read => head,
            interrupt = interrupted => {
                let is_within_head = !self.io.borrow_mut().input().is_empty();
                return match interrupt {
                    Interrupt::TimedOut if is_within_head => self.reject(ProxyError::HeadTimeout),
                    Interrupt::Spent => NextRequest::Refused,
                    Interrupt::TimedOut | Interrupt::Drained => NextRequest::Closed,
                };
            }
        };
        match head {
            Ok(head) => NextRequest::Valid(head),
            Err(ReadError::Io(_) | ReadError::Rejected(Rejection::Incomplete)) => NextRequest::Closed,
            Err(ReadError::Rejected(rejection)) => self.reject(ProxyError::Malformed(rejection)),
        }
    }

    /// Returns true if the downstream has sent nothing since its last request.
    async fn is_silent(&self) -> bool {
        poll_fn(|context| Poll::Ready(self.io.borrow_mut().poll_fill(context).is_pending())).await
    }

    /// Returns the request at the front of the buffer, as far as it can be read, with the error.
    fn reject(&self, error: ProxyError) -> NextRequest {
        let mut io = self.io.borrow_mut();
        let line = HeadDecoder::request_line(io.input());
        NextRequest::Rejected(RejectedRequest {
            method: Method::from_bytes(&line.method).unwrap_or(Method::GET),
            path: printable_target(&line.target),
            version: if line.is_http10 { Version::HTTP_10 } else { Version::HTTP_11 },
            error,
        })
    }

    fn poll_head(
        &self,
        heads: &mut HeadDecoder,
        connection: &Connection,
        context: &mut Context<'_>,
    ) -> Poll<Result<RequestHead, ReadError>> {
        let io = &mut *self.io.borrow_mut();
        loop {
            if let Some(head) = heads.decode_request(io.input()).map_err(ReadError::Rejected)? {
                io.release_input();
                return Poll::Ready(Ok(head));
            }
            match ready!(io.poll_fill(context)).map_err(ReadError::Io)? {
                0 => return Poll::Ready(Err(ReadError::Rejected(Rejection::Incomplete))),
                _ => connection.on_bytes_received(),
            }
        }
    }

    /// Returns the request for `handle`, with a body that reads from this connection.
    fn begin_exchange(self: &Rc<Self>, head: RequestHead) -> (ReceivedRequest, Exchange) {
        let RequestHead { method, target, version, host, headers, sent_names, connection_fields, body, keep_alive } =
            head;
        let Ok(uri) = Uri::from_maybe_shared(target.clone()) else {
            let error = ProxyError::Malformed(Rejection::Target);
            let rejected = RejectedRequest { method, path: printable_target(&target), version, error };
            return (ReceivedRequest::Rejected(rejected), Exchange::rejected());
        };
        // What follows a request that switches protocols is read only after the endpoint has agreed. An endpoint that
        // does not may leave bytes of the other protocol behind (RFC 9110 §7.8).
        let is_upgrade = version == Version::HTTP_11
            && body == BodyLength::Exact(0)
            && headers.contains_key(UPGRADE)
            && !has_token(&headers, &UPGRADE, b"h2c");
        let body = if is_upgrade { BodyLength::UntilClose } else { body };
        *self.body.borrow_mut() = BodyDecoder::new(body, self.limits).without_trailers(connection_fields);
        self.exchange.set(self.exchange.get().wrapping_add(1));
        self.is_responding.set(false);
        let has_body = body != BodyLength::Exact(0);
        // RFC 9110 §10.1.1: a downstream that has begun to send its body does not wait.
        let may_wait = has_body && version == Version::HTTP_11 && self.io.borrow_mut().input().is_empty();
        self.expects_continue.set(may_wait && headers.contains_key(EXPECT));
        // RFC 9931 §8: a client of CONNECT may send bytes of another protocol, whatever the response is.
        let keep_alive = keep_alive && method != Method::CONNECT && !is_upgrade;
        let exchange = Exchange { method: method.clone(), version, keep_alive };
        let incoming = match has_body {
            true => Incoming::Http1(Box::new(RequestBody { shared: Rc::clone(self), exchange: self.exchange.get() })),
            false => Incoming::Empty,
        };
        let mut request = Request::new(incoming);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = version;
        *request.headers_mut() = headers;
        if let Some(names) = sent_names {
            request.extensions_mut().insert(names);
        }
        // RFC 9110 §15.2: a client of HTTP/1.0 does not know informational responses.
        let informational = (version != Version::HTTP_10).then(|| Rc::clone(self) as Rc<dyn InformationalSink>);
        let expectation = if self.expects_continue.get() { Expectation::Continue } else { Expectation::None };
        (ReceivedRequest::Valid(ValidRequest { request, host, expectation, informational }), exchange)
    }

    /// Completes when the downstream has reset the connection. A downstream that has only ended its side still reads
    /// (RFC 9112 §9.6), so that its request goes on.
    fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.body.borrow().is_end() {
            // The request's body notices, until its end.
            *self.gone_waiter.borrow_mut() = Some(context.waker().clone());
            return Poll::Pending;
        }
        let mut io = self.io.borrow_mut();
        if io.is_eof() || !io.input().is_empty() {
            return Poll::Pending;
        }
        match io.poll_fill(context) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
        }
    }

    /// Sends a response, and reads what is left of its request.
    async fn respond(&self, connection: &Connection, exchange: &Exchange, response: Response<Body>) -> AfterResponse {
        let (parts, body) = response.into_parts();
        let status = parts.status;
        let has_body =
            exchange.method != Method::HEAD && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let mut headers = parts.headers;
        let is_switched = status == StatusCode::SWITCHING_PROTOCOLS;
        let length = match has_body {
            true if is_switched => BodyLength::UntilClose,
            true => set_framing(&mut headers, &body, exchange.version),
            false => {
                headers.remove(TRANSFER_ENCODING);
                BodyLength::Exact(0)
            }
        };
        self.is_responding.set(true);
        connection.response_started();
        let is_waiting = self.expects_continue.replace(false);
        let wants_close = headers.remove(CONNECTION).is_some(); // `handle` sets it while the listener drains.
        // A downstream that was not sent `100 Continue` may send its body, or not: the next bytes have no one meaning.
        let keep_alive = exchange.keep_alive
            && !wants_close
            && length != BodyLength::UntilClose
            && !is_waiting
            && !self.is_broken.get();
        {
            let mut io = self.io.borrow_mut();
            let out = io.encoded();
            let reason = parts.extensions.get::<ReasonPhrase>().map_or(&b""[..], ReasonPhrase::as_bytes);
            let sent_names = parts.extensions.get::<SentNames>();
            encode::response_head(out, status, reason, Fields { headers: &headers, sent_names });
            if !is_switched && !headers.contains_key(DATE) {
                write_date(out); // RFC 9110 §6.6.1.
            }
            match (keep_alive, exchange.version) {
                _ if is_switched => encode::field(out, b"connection", b"upgrade"),
                (false, Version::HTTP_11) => encode::field(out, b"connection", b"close"),
                (true, Version::HTTP_10) => encode::field(out, b"connection", b"keep-alive"),
                _ => {}
            }
            encode::end_of_head(out);
        }
        let state = if has_body { SendState::Body } else { SendState::End };
        let mut sender = ResponseSender { body, encoder: BodyEncoder::new(length), state };
        task::yield_turn().await;
        let sent = tokio::select! {
            biased;
            sent = poll_fn(|context| self.poll_send(&mut sender, connection, context)) => sent,
            () = timed_out(connection) => Err(Broken), // The downstream does not read.
        };
        drop(sender);
        connection.response_ended();
        self.end_exchange();
        if sent.is_err() {
            if length == BodyLength::UntilClose {
                self.io.borrow_mut().get_mut().reset(); // Otherwise the response would look complete.
            }
            return AfterResponse::Broken;
        }
        let has_ended = self.body.borrow().is_end();
        match keep_alive && !self.is_broken.get() && (has_ended || self.discard_body().await) {
            true => AfterResponse::NextRequest,
            false => AfterResponse::Close,
        }
    }

    /// Writes the response until its end.
    fn poll_send(
        &self,
        sender: &mut ResponseSender,
        connection: &Connection,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            let mut is_body_pending = false;
            while sender.state == SendState::Body && !is_body_pending && self.io.borrow().can_encode() {
                match self.poll_encode(sender, context) {
                    Poll::Ready(Ok(state)) => sender.state = state,
                    // What was encoded before is valid: the downstream sees a response that breaks off.
                    Poll::Ready(Err(Broken)) => sender.state = SendState::Broken,
                    Poll::Pending => is_body_pending = true,
                }
            }
            let mut io = self.io.borrow_mut();
            let before = io.unflushed();
            let flushed = io.poll_flush(context);
            if flushed.is_pending() && io.unflushed() < before {
                connection.on_bytes_sent();
            }
            drop(io);
            ready!(flushed).map_err(|_| Broken)?;
            match sender.state {
                SendState::End => return Poll::Ready(Ok(())),
                SendState::Broken => return Poll::Ready(Err(Broken)),
                SendState::Body if is_body_pending => return self.poll_gone(context).map(|()| Err(Broken)),
                SendState::Body => {}
            }
        }
    }

    /// Encodes the next frame of the body.
    fn poll_encode(&self, sender: &mut ResponseSender, context: &mut Context<'_>) -> Poll<Result<SendState, Broken>> {
        let frame = match sender.body.is_end_stream() {
            true => None,
            // No borrow is alive: the body may read the request, which is of the same connection.
            false => ready!(Pin::new(&mut sender.body).poll_frame(context)).transpose().map_err(|_| Broken)?,
        };
        let has_ended = encode_frame(&mut self.io.borrow_mut(), &mut sender.encoder, frame).map_err(|_| Broken)?;
        Poll::Ready(Ok(if has_ended { SendState::End } else { SendState::Body }))
    }

    /// Ends the current request: a body that is still read elsewhere, for example by an HTTP/2 connection to an
    /// endpoint, fails and is dropped.
    fn end_exchange(&self) {
        self.exchange.set(self.exchange.get().wrapping_add(1));
        if let Some(reader) = self.body_reader.borrow_mut().take() {
            reader.wake();
        }
    }

    /// Reads and drops the rest of the request's body, within bounds. Returns false if it has not ended then.
    async fn discard_body(&self) -> bool {
        let mut read = 0;
        let discarded = poll_fn(|context| {
            loop {
                let (mut io, mut body) = (self.io.borrow_mut(), self.body.borrow_mut());
                match ready!(io.poll_body(&mut body, context)) {
                    Ok(BodyEvent::Data(data)) => read += data.len() as u64,
                    Ok(BodyEvent::Trailers(_)) => {}
                    Ok(BodyEvent::End) => return Poll::Ready(true),
                    Err(_) => return Poll::Ready(false),
                }
                if read > MAX_UNREAD_BODY_BYTES {
                    return Poll::Ready(false);
                }
            }
        });
        tokio::time::timeout(UNREAD_BODY_TIMEOUT, discarded).await.unwrap_or(false)
    }

    /// Ends the proxy's side, and reads what the downstream still sends, within bounds. Closing a connection with unread
    /// bytes would reset it, and the downstream could lose the response (RFC 9112 §9.6).
    async fn close(&self) {
        let (mut is_shut_down, mut read) = (false, 0);
        let discarded = poll_fn(|context| {
            let mut io = self.io.borrow_mut();
            if !is_shut_down && ready!(io.poll_shutdown(context)).is_err() {
                return Poll::Ready(());
            }
            is_shut_down = true;
            loop {
                io.input().clear();
                match ready!(io.poll_fill(context)) {
                    Ok(count @ 1..) if read <= MAX_UNREAD_BODY_BYTES => read += count as u64,
                    _ => return Poll::Ready(()),
                }
            }
        });
        drop(tokio::time::timeout(UNREAD_BODY_TIMEOUT, discarded).await);
    }
}

impl InformationalSink for DownstreamIo {
    fn send(&self, status: StatusCode, mut headers: HeaderMap) {
        let mut io = self.io.borrow_mut();
        if !io.can_encode() {
            return; // The downstream does not read; it can do without.
        }
        stream::sanitize_informational(&mut headers);
        encode::response_head(io.encoded(), status, b"", Fields { headers: &headers, sent_names: None });
        encode::end_of_head(io.encoded());
        // What is not written now leaves with the response's head. A failure shows there, too.
        drop(io.poll_flush(&mut Context::from_waker(Waker::noop())));
    }
}

/// Ends the last request of a connection when its task ends, however it does.
struct EndExchange<'a>(&'a DownstreamIo);

impl Drop for EndExchange<'_> {
    fn drop(&mut self) {
        self.0.end_exchange();
    }
}

/// The response cannot be completed.
struct Broken;

/// The progress of a response.
struct ResponseSender {
    body: Body,
    encoder: BodyEncoder,
    state: SendState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SendState {
    /// More of the body follows.
    Body,
    /// Everything was encoded.
    End,
    /// The body has failed. What was encoded before is still written.
    Broken,
}

/// The body of a request, read from its connection.
struct RequestBody {
    shared: Rc<DownstreamIo>,
    /// The number of the request.
    exchange: u32,
}

impl RequestBody {
    /// Returns true if the connection still reads this request. A body that outlives its exchange must not read the
    /// next request.
    fn is_current(&self) -> bool {
        self.shared.exchange.get() == self.exchange
    }
}

impl Http1Body for RequestBody {
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Result<BodyEvent, ReadError>> {
        if !self.is_current() {
            return Poll::Ready(Err(ReadError::Rejected(Rejection::Incomplete)));
        }
        let mut io = self.shared.io.borrow_mut();
        let is_responding = self.shared.is_responding.get();
        if !is_responding && io.can_encode() && self.shared.expects_continue.replace(false) {
            io.encoded().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        // Until there is a response, the body's reader is the only one that writes.
        if !is_responding && let Poll::Ready(Err(error)) = io.poll_flush(context) {
            return Poll::Ready(Err(ReadError::Io(error)));
        }
        let polled = io.poll_body(&mut self.shared.body.borrow_mut(), context);
        match &polled {
            Poll::Ready(Err(_)) => self.shared.is_broken.set(true),
            Poll::Ready(Ok(_)) => {
                if self.shared.body.borrow().is_end()
                    && let Some(waiter) = self.shared.gone_waiter.take()
                {
                    waiter.wake();
                }
            }
            Poll::Pending => {
                let mut reader = self.shared.body_reader.borrow_mut();
                if !reader.as_ref().is_some_and(|reader| reader.will_wake(context.waker())) {
                    *reader = Some(context.waker().clone());
                }
            }
        }
        polled
    }

    fn remaining(&self) -> Option<u64> {
        if self.is_current() { self.shared.body.borrow().remaining() } else { None }
    }
}
