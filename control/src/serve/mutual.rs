//! Connections by mutual TLS: who shows a certificate of the mesh is known by it; who shows none may only ask for one.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tracing::{debug, error, info, warn};
use weir_identity::{end_of, peer_of, reason_of};
use weir_model::SpiffeId;

use crate::authority::Authority;
use crate::limits::{ACCEPT_PAUSE, HANDSHAKE_TIMEOUT, MAX_HANDSHAKES, MAX_STRANGERS, MAX_STREAMS, STRANGER_TIMEOUT};
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

impl Peer {
    /// Who it is now: nobody, once the certificate that it has shown has ended.
    pub(super) fn id_now(&self) -> Option<&SpiffeId> {
        self.id.as_ref().filter(|_| self.ends.is_some_and(|ends| SystemTime::now() < ends))
    }
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub(super) struct MutualStream {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    /// When it is over for one who has not proved anything: long enough to have a certificate signed.
    over: Option<Pin<Box<Sleep>>>,
    _places: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

/// The connections of a listener whose handshakes succeed.
pub(super) fn accept(listener: TcpListener, authority: Arc<Authority>) -> ReceiverStream<io::Result<MutualStream>> {
    let (accepted, receiver) = mpsc::channel(1);
    let places = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let connections = Arc::new(Semaphore::new(MAX_STREAMS));
    let strangers = Arc::new(Semaphore::new(MAX_STRANGERS));
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
            let Ok(connection) = Arc::clone(&connections).try_acquire_owned() else { continue };
            let (authority, accepted, strangers) = (Arc::clone(&authority), accepted.clone(), Arc::clone(&strangers));
            task::spawn("handshake", async move {
                let done = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(socket, address, &authority)).await;
                drop(place);
                let Ok(Some((stream, peer))) = done else { return };
                let stranger = match &peer.id {
                    Some(_) => None,
                    None => match strangers.try_acquire_owned() {
                        Ok(place) => Some(place),
                        Err(_) => return debug!(%address, "too many without a certificate are here already"),
                    },
                };
                let over = stranger.as_ref().map(|_| Box::pin(tokio::time::sleep(STRANGER_TIMEOUT)));
                drop(accepted.send(Ok(MutualStream { stream, peer, over, _places: (connection, stranger) })).await);
            });
        }
    });
    ReceiverStream::new(receiver)
}

async fn handshake(
    socket: TcpStream,
    address: SocketAddr,
    authority: &Arc<Authority>,
) -> Option<(TlsStream<TcpStream>, Peer)> {
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
            let ends = certificate.and_then(|certificate| end_of(certificate).ok());
            Some((stream, Peer { address, id, ends }))
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
        let this = self.get_mut();
        if this.over.as_mut().is_some_and(|over| over.as_mut().poll(context).is_ready()) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
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
