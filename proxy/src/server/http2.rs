//! hyper's HTTP/2 server on one connection: limits and draining.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use http::Request;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::connection::Connection;
use crate::incoming::Incoming;
use crate::limits::{CONNECTION_WINDOW_BYTES, DRAIN_GRACE, MAX_CONCURRENT_STREAMS, STREAM_WINDOW_BYTES};
use crate::stream::{self, Expectation, ReceivedRequest, ValidRequest};
use crate::task::LocalExecutor;
use crate::tls::Transport;
use crate::worker::Worker;

/// Serves requests until the connection closes.
pub(super) async fn serve(worker: &Rc<Worker>, connection: &Rc<Connection>, transport: Transport) {
    // The first request has the time of a head; later ones begin with frames, and have the idle time.
    let io = TokioIo::new(transport);
    let service = service_fn(|request: Request<_>| {
        let request = ValidRequest {
            request: request.map(Incoming::Http2),
            host: None,
            expectation: Expectation::None,
            informational: None,
        };
        stream::handle(Rc::clone(worker), Rc::clone(connection), ReceivedRequest::Valid(request))
    });
    let mut server = http2::Builder::new(LocalExecutor { task_name: "stream" });
    server
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .max_header_list_size(connection.options.head.bytes);
    // On the heap: it is twice as large as HTTP/1's, and every connection's task would reserve memory for it.
    let mut server = Box::pin(server.serve_connection(io, service));
    run_until_drained(connection, server.as_mut(), |server| server.graceful_shutdown()).await;
}

/// Closes a connection gracefully.
///
/// The downstream may be sending its next request at this moment. So for [`DRAIN_GRACE`] responses carry `connection:
/// close` (`stream/handle.rs`), and only then the connection accepts no more requests.
async fn drain_connection<C>(
    connection: &Connection,
    mut server: Pin<&mut C>,
    shut_down: impl Fn(Pin<&mut C>),
) -> Option<Result<(), hyper::Error>>
where
    C: Future<Output = Result<(), hyper::Error>>,
{
    if let Ok(result) = tokio::time::timeout(DRAIN_GRACE, server.as_mut()).await {
        return Some(result);
    }
    shut_down(server.as_mut());
    match connection.listener.drain.deadline() {
        Some(deadline) => tokio::time::timeout_at(deadline, server).await.ok(),
        None => Some(server.await),
    }
}

/// Runs a connection until it closes, is idle for too long, or has drained.
///
/// A draining connection accepts no more requests, and closes with its last stream or at the drain deadline.
async fn run_until_drained<C>(connection: &Connection, mut server: Pin<&mut C>, shut_down: impl Fn(Pin<&mut C>))
where
    C: Future<Output = Result<(), hyper::Error>>,
{
    let mut is_shut_down = false;
    let result = loop {
        tokio::select! {
            result = server.as_mut() => break Some(result),
            // h2 closes the connection when the downstream has acknowledged its PING; one that does not must not hold it.
            () = sleep(DRAIN_GRACE), if is_shut_down => {
                if connection.is_idle() {
                    break None;
                }
            }
            () = connection.timed_out.notified() => {
                if connection.is_spent() {
                    shut_down(server.as_mut()); // It closes with its last stream.
                    is_shut_down = true;
                }
                if connection.is_timed_out(Instant::now()) {
                    // No request is in flight. One that is on its way learns by GOAWAY that it was not served.
                    shut_down(server.as_mut());
                    break tokio::time::timeout(DRAIN_GRACE, server).await.ok();
                }
            }
            () = connection.listener.drain.signaled() => {
                break drain_connection(connection, server.as_mut(), shut_down).await;
            }
        }
    };
    if let Some(Err(error)) = result {
        let (peer, listener) = (connection.peer, &connection.listener.name);
        debug!(%peer, %listener, %error, "connection closed with an error");
    }
}
