//! Where the API is: in plain text on this machine, or by TLS with a certificate, anywhere.

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
use weir_identity::{ServerConfig, reason_of};

use crate::handshakes;
use crate::limits::{API_IDLE_TIMEOUT, MAX_API_CONNECTIONS};

/// Who asks, by address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller(pub(crate) SocketAddr);

impl Connected<IncomingStream<'_, TcpListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self(*stream.remote_addr())
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// Connections whose handshakes are done.
pub(super) struct TlsListener {
    address: SocketAddr,
    accepted: mpsc::Receiver<((TlsStream<TcpStream>, SocketAddr), OwnedSemaphorePermit)>,
}

impl TlsListener {
    /// Accepts from a listener, with a certificate.
    pub(super) fn new(listener: TcpListener, config: Arc<ServerConfig>) -> io::Result<Self> {
        let (address, acceptor) = (listener.local_addr()?, TlsAcceptor::from(config));
        let accepted = handshakes::accept(listener, MAX_API_CONNECTIONS, move |socket, address| {
            let handshake = acceptor.accept(socket);
            async move {
                let refused = |error: &io::Error| debug!(%address, "no TLS: {}", reason_of(error));
                handshake.await.inspect_err(refused).ok().map(|stream| (stream, address))
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
            return std::future::pending().await; // The process ends.
        };
        (ApiStream { stream, idle: Box::pin(sleep(API_IDLE_TIMEOUT)), _connection: connection }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// A connection that ends when nothing comes or goes on it for too long.
pub(super) struct ApiStream {
    stream: TlsStream<TcpStream>,
    idle: Pin<Box<Sleep>>,
    _connection: OwnedSemaphorePermit,
}

impl ApiStream {
    /// Something has come or gone; or nothing has, and that for too long.
    fn note<T>(&mut self, context: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.idle.as_mut().reset(Instant::now() + API_IDLE_TIMEOUT);
            return done;
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
        let done = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.note(context, done)
    }
}

impl AsyncWrite for ApiStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(context, done)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
