//! hyper's HTTP/1 and HTTP/2 servers on one connection: their limits, and how they drain.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tracing::debug;

use crate::connection::Connection;
use crate::connection::detect::Codec;
use crate::connection::watched::Watched;
use crate::limits::{
    CONNECTION_WINDOW_BYTES, DRAIN_GRACE, MAX_CONCURRENT_STREAMS, MAX_HEAD_BYTES, STREAM_WINDOW_BYTES,
};
use crate::stream;
use crate::task;
use crate::tls::Transport;
use crate::worker::Worker;

/// Runs HTTP/2's streams on the worker.
#[derive(Clone, Copy)]
struct OnWorker;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for OnWorker {
    fn execute(&self, stream: F) {
        task::spawn_local("stream", stream);
    }
}

/// Serves requests until the connection ends.
pub(super) async fn serve(worker: &Rc<Worker>, connection: &Rc<Connection>, (socket, codec): (Transport, Codec)) {
    let io = TokioIo::new(Watched { socket, connection: Rc::clone(connection) });
    let service = service_fn(|request| stream::handle(Rc::clone(worker), Rc::clone(connection), request));
    match codec {
        Codec::Http1 => {
            let mut server = http1::Builder::new();
            // hyper's own bound of headers is ours, `MAX_HEADERS`; told so, it would move them to the heap.
            server.max_buf_size(MAX_HEAD_BYTES).max_header_size(MAX_HEAD_BYTES).half_close(false);
            let server = pin!(server.serve_connection(io, service));
            until_drained(connection, server, |server| server.graceful_shutdown()).await;
        }
        Codec::Http2 => {
            let mut server = http2::Builder::new(OnWorker);
            server
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
                .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX));
            // On the heap: it is twice as large as HTTP/1's, and each connection's task would have room for it.
            let mut server = Box::pin(server.serve_connection(io, service));
            until_drained(connection, server.as_mut(), |server| server.graceful_shutdown()).await;
        }
    }
}

/// A downstream may be sending its next request at this very moment, so a connection is not closed at once: for a
/// while its next response says `connection: close` (`stream/handle.rs`), and only then it takes no more requests.
async fn drain<C>(
    connection: &Connection,
    mut server: Pin<&mut C>,
    shut_down: impl Fn(Pin<&mut C>),
) -> Option<Result<(), hyper::Error>>
where
    C: Future<Output = Result<(), hyper::Error>>,
{
    if let Ok(ended) = tokio::time::timeout(DRAIN_GRACE, server.as_mut()).await {
        return Some(ended);
    }
    shut_down(server.as_mut());
    match connection.listener.drain.deadline() {
        Some(deadline) => tokio::time::timeout_at(deadline, server).await.ok(),
        None => Some(server.await),
    }
}

/// Polls a connection; when the listener drains it takes no more requests and ends with those under way, or with the
/// drain's deadline.
async fn until_drained<C>(connection: &Connection, mut server: Pin<&mut C>, shut_down: impl Fn(Pin<&mut C>))
where
    C: Future<Output = Result<(), hyper::Error>>,
{
    let ended = loop {
        tokio::select! {
            ended = server.as_mut() => break Some(ended),
            () = connection.overdue.notified() => {
                if connection.is_idle() {
                    break None; // Dropped: no request is under way.
                }
            }
            () = connection.listener.drain.signaled() => break drain(connection, server.as_mut(), shut_down).await,
        }
    };
    if let Some(Err(error)) = ended {
        debug!(peer = %connection.peer, listener = %connection.listener.name, %error, "connection ended with an error");
    }
}
