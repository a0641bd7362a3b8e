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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Connected;
use tracing::{debug, error, info};
use weir_identity::{end_of, peer_of, reason_of};
use weir_model::SpiffeId;

use crate::authority::Authority;
use crate::handshakes;
use crate::limits::{MAX_STRANGERS, MAX_STREAMS, STRANGER_TIMEOUT};

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
pub(super) fn accept(listener: TcpListener, authority: Arc<Authority>) -> impl Stream<Item = io::Result<MutualStream>> {
    let strangers = Arc::new(Semaphore::new(MAX_STRANGERS));
    let accepted = handshakes::accept(listener, MAX_STREAMS, move |socket, address| {
        let (authority, strangers) = (Arc::clone(&authority), Arc::clone(&strangers));
        async move {
            let (stream, peer) = handshake(socket, address, &authority).await?;
            let stranger = match &peer.id {
                Some(_) => None,
                None => match strangers.try_acquire_owned() {
                    Ok(place) => Some(place),
                    Err(_) => {
                        debug!(%address, "too many without a certificate are here already");
                        return None;
                    }
                },
            };
            Some((stream, peer, stranger))
        }
    });
    ReceiverStream::new(accepted).map(|((stream, peer, stranger), connection)| {
        let over = stranger.as_ref().map(|_| Box::pin(tokio::time::sleep(STRANGER_TIMEOUT)));
        Ok(MutualStream { stream, peer, over, _places: (connection, stranger) })
    })
}

async fn handshake(
    socket: TcpStream,
    address: SocketAddr,
    authority: &Arc<Authority>,
) -> Option<(TlsStream<TcpStream>, Peer)> {
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
