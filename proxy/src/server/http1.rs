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

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, EXPECT, HeaderValue, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body::{Body as _, Frame};
use hyper::ext::ReasonPhrase;
use tokio::time::Instant;
use tracing::debug;
use weir_http1::encode::{self, BodyEncoder};
use weir_http1::io::{MessageIo, ReadError};
use weir_http1::{BodyDecoder, BodyEvent, BodyLength, HeadDecoder, Limits, Rejection, RequestHead};

use crate::body::Body;
use crate::connection::Connection;
use crate::error::ProxyError;
use crate::incoming::{Http1Body, Incoming, InformationalSink};
use crate::limits::{DRAIN_GRACE, MAX_UNREAD_BODY_BYTES, UNREAD_BODY_TIMEOUT};
use crate::server::date::write_date;
use crate::stream::{self, ReceivedRequest, RejectedRequest};
use crate::task;
use crate::tls::Transport;
use crate::worker::Worker;

/// Serves requests until the connection closes, is idle for too long, or has drained.
pub(super) async fn serve(worker: &Rc<Worker>, connection: &Rc<Connection>, transport: Transport) {
    let shared = Rc::new(DownstreamIo::new(transport));
    let mut interrupted = pin!(interrupt(connection));
    loop {
        let (received, exchange) = match shared.next_request(connection, interrupted.as_mut()).await {
            NextRequest::Valid(head) => shared.begin_exchange(head),
            NextRequest::Rejected(rejected) => (ReceivedRequest::Rejected(rejected), Exchange::rejected()),
            NextRequest::Closed => return,
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

/// The properties of a request that its response depends on.
struct Exchange {
    method: Method,
    version: Version,
    keep_alive: bool,
}

impl Exchange {
    fn rejected() -> Self {
        Self { method: Method::GET, version: Version::HTTP_11, keep_alive: false }
    }
}

enum NextRequest {
    Valid(RequestHead),
    Rejected(RejectedRequest),
    /// The connection has ended, or was idle for too long.
    Closed,
}

enum AfterResponse {
    NextRequest,
    Close,
    /// The response is incomplete, or the downstream has gone.
    Broken,
}

/// The byte stream of a connection, shared with the body of its current request.
struct DownstreamIo {
    io: RefCell<MessageIo<Transport>>,
    /// The body of the current request.
    body: RefCell<BodyDecoder>,
    /// The number of the current request on the connection.
    exchange: Cell<u32>,
    /// True while the downstream waits for `100 Continue`.
    expects_continue: Cell<bool>,
    /// True once a body was rejected: the rest of the bytes has no meaning.
    is_broken: Cell<bool>,
}

impl DownstreamIo {
    fn new(transport: Transport) -> Self {
        Self {
            io: RefCell::new(MessageIo::new(transport)),
            body: RefCell::new(BodyDecoder::new(BodyLength::Exact(0), Limits::default())),
            exchange: Cell::new(0),
            expects_continue: Cell::new(false),
            is_broken: Cell::new(false),
        }
    }

    /// Waits for the next request head. `interrupted` lives as long as the connection.
    async fn next_request(
        &self,
        connection: &Connection,
        interrupted: Pin<&mut impl Future<Output = Interrupt>>,
    ) -> NextRequest {
        let mut heads = HeadDecoder::new(Limits::default());
        if !self.io.borrow_mut().input().is_empty() {
            connection.on_bytes_received(); // Pipelined.
        }
        let read = pin!(poll_fn(|context| self.poll_head(&mut heads, connection, context)));
        let head = tokio::select! {
            biased;
            head = read => head,
            interrupt = interrupted => {
                let is_within_head = !self.io.borrow_mut().input().is_empty();
                return match interrupt {
                    Interrupt::TimedOut if is_within_head => self.reject(ProxyError::HeadTimeout),
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
        let RequestHead { method, target, version, headers, body, keep_alive } = head;
        let Ok(uri) = Uri::from_maybe_shared(target.clone()) else {
            let error = ProxyError::Malformed(Rejection::Target);
            let rejected = RejectedRequest { method, path: printable_target(&target), version, error };
            return (ReceivedRequest::Rejected(rejected), Exchange::rejected());
        };
        *self.body.borrow_mut() = BodyDecoder::new(body, Limits::default());
        self.exchange.set(self.exchange.get().wrapping_add(1));
        let has_body = body != BodyLength::Exact(0);
        self.expects_continue.set(has_body && version == Version::HTTP_11 && headers.contains_key(EXPECT));
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
        (
            match version {
                // RFC 9110 §15.2: a client of HTTP/1.0 does not know informational responses.
                Version::HTTP_10 => ReceivedRequest::Valid(request),
                _ => ReceivedRequest::WithInformational(request, Rc::clone(self) as Rc<dyn InformationalSink>),
            },
            exchange,
        )
    }

    /// Completes when the downstream has reset the connection. A downstream that has only ended its side still reads
    /// (RFC 9112 §9.6), so that its request goes on.
    fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.body.borrow().is_end() {
            return Poll::Pending; // The request's body notices.
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
        let (parts, mut body) = response.into_parts();
        let status = parts.status;
        let has_body =
            exchange.method != Method::HEAD && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let mut headers = parts.headers;
        let length = if has_body { set_framing(&mut headers, &body, exchange.version) } else { BodyLength::Exact(0) };
        let wants_close = headers.remove(CONNECTION).is_some(); // `handle` sets it while the listener drains.
        // A downstream that was not sent `100 Continue` may send its body, or not: the next bytes have no one meaning.
        let keep_alive = exchange.keep_alive
            && !wants_close
            && length != BodyLength::UntilClose
            && !self.expects_continue.get()
            && !self.is_broken.get();
        {
            let mut io = self.io.borrow_mut();
            let out = io.encoded();
            let reason = parts.extensions.get::<ReasonPhrase>().map_or(&b""[..], ReasonPhrase::as_bytes);
            encode::response_head(out, status, reason, &headers);
            if !headers.contains_key(DATE) {
                write_date(out); // RFC 9110 §6.6.1.
            }
            match (keep_alive, exchange.version) {
                (false, Version::HTTP_11) => encode::field(out, "connection", b"close"),
                (true, Version::HTTP_10) => encode::field(out, "connection", b"keep-alive"),
                _ => {}
            }
            encode::end_of_head(out);
        }
        let mut encoder = BodyEncoder::new(length);
        let mut is_encoded = !has_body && body.is_end_stream();
        task::yield_turn().await;
        let sent = poll_fn(|context| self.poll_send(&mut body, &mut encoder, &mut is_encoded, context)).await;
        drop(body);
        if sent.is_err() {
            return AfterResponse::Broken;
        }
        let is_draining = connection.listener.drain.is_draining();
        let has_ended = self.body.borrow().is_end();
        match keep_alive && !is_draining && (has_ended || self.discard_body().await) {
            true => AfterResponse::NextRequest,
            false => AfterResponse::Close,
        }
    }

    /// Writes the response until its end.
    fn poll_send(
        &self,
        body: &mut Body,
        encoder: &mut BodyEncoder,
        is_encoded: &mut bool,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            let mut is_body_pending = false;
            while !*is_encoded && !is_body_pending && self.io.borrow().can_encode() {
                match self.poll_encode(body, encoder, context) {
                    Poll::Ready(Ok(is_end)) => *is_encoded = is_end,
                    Poll::Ready(Err(broken)) => {
                        // What was sent before is valid: the downstream sees a response that breaks off.
                        return self.io.borrow_mut().poll_flush(context).map(|_| Err(broken));
                    }
                    Poll::Pending => is_body_pending = true,
                }
            }
            ready!(self.io.borrow_mut().poll_flush(context)).map_err(|_| Broken)?;
            if *is_encoded {
                return Poll::Ready(Ok(()));
            }
            if is_body_pending {
                return self.poll_gone(context).map(|()| Err(Broken));
            }
        }
    }

    /// Encodes the next frame of the body. Returns true when it was the last.
    fn poll_encode(
        &self,
        body: &mut Body,
        encoder: &mut BodyEncoder,
        context: &mut Context<'_>,
    ) -> Poll<Result<bool, Broken>> {
        let frame = match body.is_end_stream() {
            true => None,
            // No borrow is alive: the body may read the request, which is of the same connection.
            false => ready!(Pin::new(body).poll_frame(context)).transpose().map_err(|_| Broken)?,
        };
        let mut io = self.io.borrow_mut();
        Poll::Ready(Ok(match frame.map(Frame::into_data) {
            None => {
                encoder.end(None, io.encoded()).map_err(|_| Broken)?;
                true
            }
            Some(Ok(data)) if data.is_empty() => false,
            Some(Ok(data)) => {
                let suffix = encoder.data_frame(data.len(), io.encoded()).map_err(|_| Broken)?;
                io.push_data(data, suffix);
                false
            }
            Some(Err(frame)) => {
                encoder.end(frame.trailers_ref(), io.encoded()).map_err(|_| Broken)?;
                true
            }
        }))
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
        if poll_fn(|context| self.io.borrow_mut().poll_shutdown(context)).await.is_err() {
            return;
        }
        let mut read = 0;
        let discarded = poll_fn(|context| {
            let mut io = self.io.borrow_mut();
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
        encode::response_head(io.encoded(), status, b"", &headers);
        encode::end_of_head(io.encoded());
        // What is not written now leaves with the response's head. A failure shows there, too.
        drop(io.poll_flush(&mut Context::from_waker(Waker::noop())));
    }
}

/// The response cannot be completed.
struct Broken;

/// Makes the framing headers of a response agree with its body, and returns its length (RFC 9112 §6.3).
fn set_framing(headers: &mut HeaderMap, body: &Body, version: Version) -> BodyLength {
    headers.remove(TRANSFER_ENCODING);
    let declared = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    match (body.size_hint().exact(), declared) {
        (Some(length), Some(declared)) if length == declared => BodyLength::Exact(length),
        (Some(length), _) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            BodyLength::Exact(length)
        }
        (None, Some(declared)) => BodyLength::Exact(declared),
        (None, None) if encode::can_chunk(version) => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            BodyLength::Chunked
        }
        (None, None) => BodyLength::UntilClose,
    }
}

/// Returns a target for the log: bytes that no URI has are percent-encoded.
fn printable_target(target: &[u8]) -> PathAndQuery {
    use std::fmt::Write;
    let mut text = String::with_capacity(target.len());
    for byte in target {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'#' => drop(write!(text, "%{byte:02X}")),
            byte if byte.is_ascii_graphic() => text.push(char::from(*byte)),
            byte => drop(write!(text, "%{byte:02X}")),
        }
    }
    let path = if text.starts_with('/') { text } else { format!("/{text}") };
    PathAndQuery::from_maybe_shared(Bytes::from(path)).unwrap_or_else(|_| PathAndQuery::from_static("/"))
}

/// Why a connection stops waiting for a request.
enum Interrupt {
    /// The connection was idle for too long, or its request head was not complete in time.
    TimedOut,
    /// The listener drains.
    Drained,
}

/// Waits until the connection has timed out, or its listener has drained for [`DRAIN_GRACE`], in which a request may
/// still arrive.
async fn interrupt(connection: &Connection) -> Interrupt {
    let mut drained = pin!(async {
        connection.listener.drain.signaled().await;
        tokio::time::sleep(DRAIN_GRACE).await;
    });
    loop {
        tokio::select! {
            () = connection.timed_out.notified() => {
                if connection.is_timed_out(Instant::now()) {
                    return Interrupt::TimedOut;
                }
            }
            () = &mut drained => return Interrupt::Drained,
        }
    }
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
        if self.shared.expects_continue.replace(false) {
            io.encoded().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            // What is not written now leaves with the response's head.
            if let Poll::Ready(Err(error)) = io.poll_flush(context) {
                return Poll::Ready(Err(ReadError::Io(error)));
            }
        }
        let polled = io.poll_body(&mut self.shared.body.borrow_mut(), context);
        if matches!(polled, Poll::Ready(Err(_))) {
            self.shared.is_broken.set(true);
        }
        polled
    }

    fn remaining(&self) -> Option<u64> {
        if self.is_current() { self.shared.body.borrow().remaining() } else { None }
    }
}
