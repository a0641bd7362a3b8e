//! Connections by mutual TLS: who shows a certificate of the mesh is known by it; who shows none may only ask for one.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tracing::{error, info, warn};
use weir_identity::{peer_of, reason_of};
use weir_model::SpiffeId;
use x509_parser::parse_x509_certificate;

use crate::authority::Authority;
use crate::limits::{ACCEPT_PAUSE, HANDSHAKE_TIMEOUT, MAX_HANDSHAKES};
use crate::task;

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// Where it is.
    pub(super) address: SocketAddr,
    /// Who it has proved to be.
    pub(super) id: Option<SpiffeId>,
    /// When its certificate ends.
    pub(super) ends: Option<SystemTime>,
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub(super) struct MutualStream {
    stream: TlsStream<TcpStream>,
    peer: Peer,
}

/// The connections of a listener whose handshakes succeed.
pub(super) fn accept(listener: TcpListener, authority: Arc<Authority>) -> ReceiverStream<io::Result<MutualStream>> {
    let (accepted, receiver) = mpsc::channel(1);
    let places = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    task::spawn("accept by mutual TLS", async move {
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let (socket, address) = match listener.accept().await {
                Ok(found) => found,
                Err(error) => {
                    warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (authority, accepted) = (Arc::clone(&authority), accepted.clone());
            task::spawn("handshake", async move {
                let done = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(socket, address, &authority)).await;
                drop(place);
                if let Ok(Some(stream)) = done {
                    drop(accepted.send(Ok(stream)).await);
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

async fn handshake(socket: TcpStream, address: SocketAddr, authority: &Arc<Authority>) -> Option<MutualStream> {
    drop(socket.set_nodelay(true)); // Only slower without.
    let own = match authority.own_identity() {
        Ok(own) => own,
        Err(error) => {
            error!("the control plane has no certificate of its own: {error}");
            return None;
        }
    };
    let acceptor = TlsAcceptor::from(own.server_config(&[b"h2"], false));
    match acceptor.accept(socket).await {
        Ok(stream) => {
            let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let id = certificate.and_then(|certificate| peer_of(certificate).ok());
            let ends = certificate.and_then(|certificate| {
                let (_, read) = parse_x509_certificate(certificate).ok()?;
                let seconds = u64::try_from(read.validity().not_after.timestamp()).ok()?;
                Some(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
            });
            Some(MutualStream { stream, peer: Peer { address, id, ends } })
        }
        Err(error) => {
            info!(%address, "a connection is refused: {}", reason_of(&error));
            None
        }
    }
}

impl Connected for MutualStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for MutualStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for MutualStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
