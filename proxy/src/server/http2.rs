//! An HTTP/2 connection of a downstream: accepts streams, and serves each in its own task. On drain and at the end of
//! its age the connection sends GOAWAY, and closes with its last stream.
//!
//! ```text
//! accept ─► task: stream::handle ─► write head and body
//!             └► a stream that the downstream resets ends at once
//! ```

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use h2::server::{Connection as Http2Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, EXPECT, SEC_WEBSOCKET_ACCEPT, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::body::Body;
use crate::connection::Connection;
use crate::http2_writer::Http2Writer;
use crate::incoming::{Http2Body, Incoming, InformationalSink};
use crate::limits::{
    CONNECTION_WINDOW_BYTES, DOWNSTREAM_SEND_BUFFER_BYTES, DRAIN_GRACE, MAX_CONCURRENT_STREAMS, STREAM_WINDOW_BYTES,
};
use crate::server::date::date_header;
use crate::server::interrupt::{Interrupt, interrupt};
use crate::stream::{self, Expectation, ReceivedRequest, ValidRequest};
use crate::task;
use crate::tls::Transport;
use crate::worker::Worker;

/// Serves requests until the connection closes.
pub(super) async fn serve(worker: &Rc<Worker>, connection: &Rc<Connection>, transport: Transport) {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .max_send_buffer_size(DOWNSTREAM_SEND_BUFFER_BYTES)
        .max_header_list_size(connection.options.head.bytes);
    if !connection.options.upgrades.is_empty() {
        builder.enable_connect_protocol(); // RFC 8441.
    }
    // The first request has the time of a head; later ones begin with frames, and have the idle time.
    let established = tokio::select! {
        established = builder.handshake(transport) => established,
        Interrupt::TimedOut | Interrupt::Spent | Interrupt::Drained = interrupt(connection) => return,
    };
    let result = match established {
        Ok(server) => run_until_drained(worker, connection, server).await,
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        let (peer, listener) = (connection.peer, &connection.listener.name);
        debug!(%peer, %listener, %error, "connection closed with an error");
    }
}

/// Accepts streams until the connection closes.
async fn accept_streams(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    server: &mut Http2Connection<Transport, Bytes>,
) -> Result<(), h2::Error> {
    while let Some(accepted) = server.accept().await {
        let (request, respond) = accepted?;
        let is_connect = request.method() == Method::CONNECT;
        let stream = Http2Stream { respond: Rc::new(RefCell::new(respond)), is_connect };
        let serving = stream.serve(Rc::clone(worker), Rc::clone(connection), request);
        drop(task::spawn_local("stream", serving));
    }
    Ok(())
}

/// Runs a connection until it closes, is idle for too long, or has drained.
///
/// A draining connection accepts no more requests, and closes with its last stream or at the drain deadline.
async fn run_until_drained(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    mut server: Http2Connection<Transport, Bytes>,
) -> Result<(), h2::Error> {
    let mut is_shut_down = false;
    loop {
        tokio::select! {
            result = accept_streams(worker, connection, &mut server) => return result,
            // h2 closes the connection when the downstream has acknowledged its PING; one that does not must not hold it.
            () = sleep(DRAIN_GRACE), if is_shut_down => {
                if connection.is_idle() {
                    return Ok(());
                }
            }
            () = connection.timed_out.notified() => {
                if connection.is_spent() {
                    server.graceful_shutdown(); // It closes with its last stream.
                    is_shut_down = true;
                }
                if connection.is_timed_out(Instant::now()) {
                    // No request is in flight. One that is on its way learns by GOAWAY that it was not served.
                    server.graceful_shutdown();
                    let last = tokio::time::timeout(DRAIN_GRACE, accept_streams(worker, connection, &mut server));
                    return last.await.unwrap_or(Ok(()));
                }
            }
            () = connection.listener.drain.signaled() => {
                return drain_connection(worker, connection, &mut server).await;
            }
        }
    }
}

/// Closes a connection gracefully.
///
/// The downstream may be sending its next request at this moment. So for [`DRAIN_GRACE`] requests are served, and only
/// then the connection accepts no more.
async fn drain_connection(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    server: &mut Http2Connection<Transport, Bytes>,
) -> Result<(), h2::Error> {
    let in_grace = tokio::time::timeout(DRAIN_GRACE, accept_streams(worker, connection, server));
    if let Ok(result) = in_grace.await {
        return result;
    }
    server.graceful_shutdown();
    let last = accept_streams(worker, connection, server);
    match connection.listener.drain.deadline() {
        Some(deadline) => tokio::time::timeout_at(deadline, last).await.unwrap_or(Ok(())),
        None => last.await,
    }
}

/// One stream of a connection.
struct Http2Stream {
    respond: Rc<RefCell<SendResponse<Bytes>>>,
    /// True for an extended CONNECT.
    is_connect: bool,
}

impl Http2Stream {
    /// Serves the request, until its response was sent or the downstream has reset the stream.
    async fn serve(self, worker: Rc<Worker>, connection: Rc<Connection>, request: Request<RecvStream>) {
        let received = ReceivedRequest::Valid(self.received(request));
        let response = {
            let mut handled = pin!(stream::handle(worker, connection, received));
            poll_fn(|context| match handled.as_mut().poll(context) {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending => self.respond.borrow_mut().poll_reset(context).map(|_| None),
            })
            .await
        };
        match response {
            Some(Ok(response)) => self.send(response).await,
            // The stream was reset: no response can be sent any more.
            Some(Err(_)) => self.respond.borrow_mut().send_reset(Reason::INTERNAL_ERROR),
            None => {}
        }
    }

    fn received(&self, request: Request<RecvStream>) -> ValidRequest {
        let sink: Rc<dyn InformationalSink> = Rc::new(Http2Informational(Rc::clone(&self.respond)));
        let (parts, stream) = request.into_parts();
        // RFC 9110 §10.1.1: a request that has ended does not wait.
        let awaits_continue = !stream.is_end_stream() && parts.headers.contains_key(EXPECT);
        let incoming = match stream.is_end_stream() {
            true => Incoming::Empty,
            false => {
                let sink = awaits_continue.then(|| Rc::clone(&sink));
                Incoming::Http2(Http2Body::request(stream, &parts.headers, sink))
            }
        };
        ValidRequest {
            request: Request::from_parts(parts, incoming),
            host: None,
            expectation: if awaits_continue { Expectation::Continue } else { Expectation::None },
            informational: Some(sink),
        }
    }

    /// Sends the response.
    async fn send(self, response: Response<Body>) {
        let (mut parts, body) = response.into_parts();
        if self.is_connect && parts.status.is_success() {
            // A filter's reply. The downstream would take it for the tunnel.
            return self.respond.borrow_mut().send_reset(Reason::CONNECT_ERROR);
        }
        let is_end_stream = body.is_end_stream();
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            parts.status = StatusCode::OK; // RFC 8441 §5: the response to an extended CONNECT.
            parts.headers.remove(UPGRADE);
            parts.headers.remove(SEC_WEBSOCKET_ACCEPT);
        }
        set_headers(&mut parts.headers, &body);
        let mut head = Response::new(());
        (*head.status_mut(), *head.headers_mut(), *head.version_mut()) = (parts.status, parts.headers, Version::HTTP_2);
        let sent = self.respond.borrow_mut().send_response(head, is_end_stream);
        match sent {
            Ok(_) if is_end_stream => {}
            Ok(stream) => {
                let mut writer = Http2Writer::new(body, stream);
                let written = poll_fn(|context| writer.poll_write(Reason::INTERNAL_ERROR, |_| {}, context));
                if let Err(error) = written.await {
                    debug!(?error, "stream reset within its response");
                }
            }
            Err(error) => {
                debug!(%error, "stream reset before its response");
                self.respond.borrow_mut().send_reset(Reason::INTERNAL_ERROR);
            }
        }
    }
}

/// Sets the headers of a response that the protocol demands, and removes those that it forbids (RFC 9113 §8.2.2).
fn set_headers(headers: &mut HeaderMap, body: &Body) {
    headers.remove(CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    if let Some(length) = body.size_hint().exact().filter(|_| !body.is_end_stream()) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length)); // A filter may have set any value.
    }
    if !headers.contains_key(DATE) {
        headers.insert(DATE, date_header()); // RFC 9110 §6.6.1.
    }
}

/// The receiver of the informational responses of one stream.
struct Http2Informational(Rc<RefCell<SendResponse<Bytes>>>);

impl InformationalSink for Http2Informational {
    fn send(&self, status: StatusCode, mut headers: HeaderMap) {
        stream::sanitize_informational(&mut headers);
        let mut response = Response::new(());
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        // A failure shows in the response, too.
        self.0.borrow_mut().send_informational(response).ok();
    }
}
