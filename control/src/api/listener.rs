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
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};
use weir_identity::{ServerConfig, reason_of};

use crate::limits::{ACCEPT_PAUSE, API_IDLE_TIMEOUT, HANDSHAKE_TIMEOUT, MAX_API_CONNECTIONS, MAX_HANDSHAKES};
use crate::task;

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

type Accepted = (ApiStream, SocketAddr);

/// Connections whose handshakes are done.
pub(super) struct TlsListener {
    address: SocketAddr,
    accepted: mpsc::Receiver<Accepted>,
}

impl TlsListener {
    /// Accepts from a listener, with a certificate.
    pub(super) fn new(listener: TcpListener, config: Arc<ServerConfig>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, accepted) = mpsc::channel(1);
        task::spawn("accept by TLS", accept(listener, TlsAcceptor::from(config), sender));
        Ok(Self { address, accepted })
    }
}

impl Listener for TlsListener {
    type Io = ApiStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Accepted {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            None => std::future::pending().await, // The process ends.
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, accepted: mpsc::Sender<Accepted>) {
    let places = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let connections = Arc::new(Semaphore::new(MAX_API_CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let (socket, address) = match TcpListener::accept(&listener).await {
            Ok(found) => found,
            Err(error) => {
                warn!(%error, "a connection cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(connection) = Arc::clone(&connections).try_acquire_owned() else { continue };
        let (acceptor, accepted) = (acceptor.clone(), accepted.clone());
        task::spawn("handshake", async move {
            drop(socket.set_nodelay(true)); // Only slower without.
            let done = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await;
            drop(place);
            match done {
                Ok(Ok(stream)) => {
                    let idle = Box::pin(sleep(API_IDLE_TIMEOUT));
                    drop(accepted.send((ApiStream { stream, idle, _connection: connection }, address)).await);
                }
                Ok(Err(error)) => debug!(%address, "no TLS: {}", reason_of(&error)),
                Err(_) => debug!(%address, "the TLS handshake takes too long"),
            }
        });
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
