//! Accepts TLS connections for axum. Without TLS the API listens on a loopback address only.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;
use weir_identity::{ServerConfig, handshake_error};

use crate::limits::{API_IDLE_TIMEOUT, MAX_API_CONNECTIONS};
use crate::tls_accept;

/// The address of the client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientAddr(pub(crate) SocketAddr);

impl Connected<IncomingStream<'_, TcpListener>> for ClientAddr {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self(*stream.remote_addr())
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for ClientAddr {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// A listener of connections whose TLS handshakes are complete.
pub(super) struct TlsListener {
    address: SocketAddr,
    accepted: mpsc::Receiver<((TlsStream<TcpStream>, SocketAddr), OwnedSemaphorePermit)>,
}

impl TlsListener {
    /// Starts to accept connections from a TCP listener.
    pub(super) fn new(listener: TcpListener, config: Arc<ServerConfig>) -> io::Result<Self> {
        let (address, acceptor) = (listener.local_addr()?, TlsAcceptor::from(config));
        let accepted = tls_accept::accept(listener, MAX_API_CONNECTIONS, move |socket, address| {
            let handshake = acceptor.accept(socket);
            async move {
                let failed =
                    |error: &io::Error| debug!(%address, reason = handshake_error(error), "TLS handshake failed");
                handshake.await.inspect_err(failed).ok().map(|stream| (stream, address))
            }
        });
        Ok(Self { address, accepted })
    }
}

impl Listener for TlsListener {
    type Io = ApiStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (ApiStream, SocketAddr) {
        let Some(((stream, address), connection)) = self.accepted.recv().await else {
            return std::future::pending().await; // The process exits.
        };
        (ApiStream { stream, idle: Box::pin(sleep(API_IDLE_TIMEOUT)), _connection: connection }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// A connection that is closed after `API_IDLE_TIMEOUT` without a read or write.
pub(super) struct ApiStream {
    stream: TlsStream<TcpStream>,
    idle: Pin<Box<Sleep>>,
    _connection: OwnedSemaphorePermit,
}

impl ApiStream {
    /// Restarts the idle timeout if the operation is complete, and fails if the timeout has elapsed.
    fn with_idle_timeout<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.idle.as_mut().reset(Instant::now() + API_IDLE_TIMEOUT);
            return result;
        }
        match self.idle.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for ApiStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.with_idle_timeout(context, result)
    }
}

impl AsyncWrite for ApiStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.with_idle_timeout(context, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
