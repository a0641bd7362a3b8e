//! Where the API is: in plain text on this machine, or by TLS with a certificate, anywhere.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};
use weir_identity::{ServerConfig, reason_of};

use crate::limits::{ACCEPT_PAUSE, HANDSHAKE_TIMEOUT, MAX_HANDSHAKES};
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

type Accepted = (TlsStream<TcpStream>, SocketAddr);

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
    type Io = TlsStream<TcpStream>;
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
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let (socket, address) = match TcpListener::accept(&listener).await {
            Ok(found) => found,
            Err(error) => {
                warn!(%error, "a connection cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (acceptor, accepted) = (acceptor.clone(), accepted.clone());
        task::spawn("handshake", async move {
            drop(socket.set_nodelay(true)); // Only slower without.
            let done = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await;
            drop(place);
            match done {
                Ok(Ok(stream)) => drop(accepted.send((stream, address)).await),
                Ok(Err(error)) => debug!(%address, "no TLS: {}", reason_of(&error)),
                Err(_) => debug!(%address, "the TLS handshake takes too long"),
            }
        });
    }
}
