//! Opens a connection to an endpoint: TCP within the cluster's connect timeout, then hyper's codec on it. Called by
//! `pool`. The connection runs in a task of its own until either side ends it, and counts as open for as long.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tracing::debug;
use weir_model::Workload;

use super::cluster::Shard;
use crate::body::Body;
use crate::error::ProxyError;
use crate::identity::Identity;
use crate::limits::{
    CONNECTION_WINDOW_BYTES, MAX_HEAD_BYTES, STREAM_WINDOW_BYTES, UPSTREAM_SEND_BUFFER_BYTES, UPSTREAM_UNACKED_TIMEOUT,
};
use crate::task;
use crate::tls::{self, Transport};

/// Whether anything has come from the endpoint since `forget`.
#[derive(Debug, Default)]
pub(super) struct Heard(Cell<bool>);

impl Heard {
    pub(super) fn anything(&self) -> bool {
        self.0.get()
    }

    pub(super) fn forget(&self) {
        self.0.set(false);
    }
}

/// Counts a connection as open, in its pool and in its cluster.
pub(super) struct Open {
    pool: Rc<Cell<usize>>,
    shard: Arc<Shard>,
}

impl Open {
    pub(super) fn new(pool: &Rc<Cell<usize>>, shard: &Arc<Shard>) -> Self {
        pool.set(pool.get() + 1);
        shard.connections.increment();
        Self { pool: Rc::clone(pool), shard: Arc::clone(shard) }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.pool.set(self.pool.get() - 1);
        self.shard.connections.decrement();
    }
}

/// How to an endpoint.
pub(super) struct Way<'a> {
    /// Where it is.
    pub(super) address: SocketAddr,
    /// Time for everything before the first request.
    pub(super) timeout: Duration,
    /// Who it must be, and who we are.
    pub(super) proof: Option<&'a Proof>,
}

/// Who an endpoint must be, and who we are.
pub(super) struct Proof {
    /// Who we are.
    pub(super) identity: Arc<Identity>,
    /// Who it must be.
    pub(super) workload: Workload,
}

/// Opens an HTTP/1.1 connection. `open` is held until it is closed.
pub(super) async fn http1(way: Way<'_>, open: Open) -> Result<(http1::SendRequest<Body>, Rc<Heard>), ProxyError> {
    let heard = Rc::new(Heard::default());
    let socket = Socket { stream: transport(way, b"http/1.1").await?, heard: Rc::clone(&heard) };
    let (sender, connection) = http1::Builder::new()
        // hyper reads past the first bound when its buffer happens to have room. Its own limit of 100 headers is ours.
        .max_buf_size(MAX_HEAD_BYTES)
        .max_header_size(MAX_HEAD_BYTES)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(|error| ProxyError::ConnectFailed(error.to_string()))?;
    run("upstream_http1", connection, open);
    Ok((sender, heard))
}

/// Opens an HTTP/2 connection with prior knowledge. `open` is held until it is closed.
pub(super) async fn http2(way: Way<'_>, open: Open) -> Result<http2::SendRequest<Body>, ProxyError> {
    let stream = transport(way, b"h2").await?;
    let max_head_bytes = u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX);
    let (sender, connection) = http2::Builder::new(OnWorker)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(max_head_bytes)
        .max_send_buf_size(UPSTREAM_SEND_BUFFER_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| ProxyError::ConnectFailed(error.to_string()))?;
    run("upstream_http2", Box::pin(connection), open);
    Ok(sender)
}

/// Opens a connection for the bytes of one downstream connection. `open` is held as long as it is used.
pub(super) async fn bytes(way: Way<'_>, open: Open) -> Result<(Transport, Open), ProxyError> {
    Ok((transport(way, b"").await?, open))
}

/// A connection on which requests may go: to whoever should be there, if that is asked.
async fn transport(Way { address, timeout, proof }: Way<'_>, protocol: &[u8]) -> Result<Transport, ProxyError> {
    let opened = async {
        let socket = tcp(address).await?;
        let Some(Proof { identity, workload }) = proof else { return Ok(Transport::Plain(socket)) };
        let proved = tls::connect(socket, address, (identity, workload), protocol).await;
        proved.map_err(ProxyError::ConnectFailed)
    };
    tokio::time::timeout(timeout, opened).await.unwrap_or(Err(ProxyError::ConnectTimeout))
}

async fn tcp(address: SocketAddr) -> Result<TcpStream, ProxyError> {
    let stream = TcpStream::connect(address).await.map_err(|error| ProxyError::ConnectFailed(error.to_string()))?;
    // Heads and bodies are written as a whole; waiting for more to come would only add latency. An endpoint that has
    // vanished without a word must not hold an idle or a shared connection for the kernel's quarter of an hour.
    let socket = socket2::SockRef::from(&stream);
    let keepalive = socket2::TcpKeepalive::new().with_time(UPSTREAM_UNACKED_TIMEOUT);
    socket
        .set_tcp_nodelay(true)
        .and_then(|()| socket.set_tcp_user_timeout(Some(UPSTREAM_UNACKED_TIMEOUT)))
        .and_then(|()| socket.set_tcp_keepalive(&keepalive))
        .map_err(|error| ProxyError::ConnectFailed(error.to_string()))?;
    Ok(stream)
}

fn run(name: &'static str, mut connection: impl Future<Output = hyper::Result<()>> + Unpin + 'static, open: Open) {
    drop(task::spawn_local(name, async move {
        let _open = open;
        // By reference: what a task captures and awaits by value is in it twice.
        if let Err(error) = (&mut connection).await {
            debug!(%error, "an upstream connection ended with an error");
        }
    }));
}

/// Runs what hyper spawns for an HTTP/2 connection on the connection's worker.
#[derive(Clone)]
struct OnWorker;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for OnWorker {
    fn execute(&self, future: F) {
        drop(task::spawn_local("upstream_http2_stream", future));
    }
}

/// A connection that notes when anything comes in.
struct Socket {
    stream: Transport,
    heard: Rc<Heard>,
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let poll = Pin::new(&mut this.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            this.heard.0.set(true);
        }
        poll
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
