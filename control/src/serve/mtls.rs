//! Accepts TLS connections. Clients with a workload certificate get its SPIFFE ID attached; clients without one may
//! only call `Certificates/Sign`.

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
use weir_identity::{ClientAuth, handshake_error, not_after, spiffe_id};
use weir_model::{SpiffeId, printable};

use crate::ca::CertificateAuthority;
use crate::limits::{MAX_UNAUTHENTICATED, UNAUTHENTICATED_TIMEOUT};
use crate::net::{ConnectionLimits, Connections, PrefaceStream, accept_tls};

/// The remote side of a connection.
#[derive(Debug, Clone)]
pub(super) struct PeerIdentity {
    /// The socket address.
    pub(super) address: SocketAddr,
    /// The SPIFFE ID of the certificate, if there is one.
    pub(super) spiffe_id: Option<SpiffeId>,
    /// The end of the certificate's validity.
    pub(super) not_after: Option<SystemTime>,
}

impl PeerIdentity {
    /// Returns the SPIFFE ID while the certificate is valid, else `None`.
    pub(super) fn valid_spiffe_id(&self) -> Option<&SpiffeId> {
        self.spiffe_id.as_ref().filter(|_| self.not_after.is_some_and(|not_after| SystemTime::now() < not_after))
    }
}

/// A TLS connection after its handshake.
#[derive(Debug)]
pub(super) struct MtlsStream {
    stream: PrefaceStream<TlsStream<TcpStream>>,
    peer: PeerIdentity,
    /// The end of a connection without a certificate, long enough to have one signed.
    auth_deadline: Option<Pin<Box<Sleep>>>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// Returns the connections of a listener whose handshakes succeed, at most `connections` at the same time. Those without
/// a certificate are at most half of them.
pub(super) fn accept(
    listener: TcpListener,
    connections: usize,
    ca: Arc<CertificateAuthority>,
) -> impl Stream<Item = io::Result<MtlsStream>> {
    let unauthenticated = Arc::new(Semaphore::new(MAX_UNAUTHENTICATED.min((connections / 2).max(1))));
    let connections = Connections::new(ConnectionLimits::for_xds("xds-mtls", connections));
    let accepted = accept_tls(listener, connections, move |socket, address| {
        let (ca, unauthenticated) = (Arc::clone(&ca), Arc::clone(&unauthenticated));
        async move {
            let (stream, peer) = handshake(socket, address, &ca).await?;
            let permit = match &peer.spiffe_id {
                Some(_) => None,
                None => match unauthenticated.try_acquire_owned() {
                    Ok(permit) => Some(permit),
                    Err(_) => {
                        debug!(%address, "too many connections without a certificate");
                        return None;
                    }
                },
            };
            Some((stream, peer, permit))
        }
    });
    ReceiverStream::new(accepted).map(|((stream, peer, permit), connection)| {
        let auth_deadline = permit.as_ref().map(|_| Box::pin(tokio::time::sleep(UNAUTHENTICATED_TIMEOUT)));
        let stream = PrefaceStream::new(stream, connection);
        Ok(MtlsStream { stream, peer, auth_deadline, _permit: permit })
    })
}

async fn handshake(
    socket: TcpStream,
    address: SocketAddr,
    ca: &Arc<CertificateAuthority>,
) -> Option<(TlsStream<TcpStream>, PeerIdentity)> {
    let own = match ca.server_identity() {
        Ok(own) => own,
        Err(error) => {
            error!("cannot issue the server certificate: {error}");
            return None;
        }
    };
    let acceptor = TlsAcceptor::from(own.server_config(&[b"h2"], ClientAuth::Optional));
    match acceptor.accept(socket).await {
        Ok(stream) => {
            let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let spiffe_id = certificate.and_then(|certificate| spiffe_id(certificate).ok());
            let not_after = certificate.and_then(|certificate| not_after(certificate).ok());
            Some((stream, PeerIdentity { address, spiffe_id, not_after }))
        }
        Err(error) => {
            info!(%address, "TLS handshake failed: {}", printable(&handshake_error(&error)));
            None
        }
    }
}

impl Connected for MtlsStream {
    type ConnectInfo = PeerIdentity;

    fn connect_info(&self) -> PeerIdentity {
        self.peer.clone()
    }
}

impl AsyncRead for MtlsStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.auth_deadline.as_mut().is_some_and(|auth_deadline| auth_deadline.as_mut().poll(context).is_ready()) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for MtlsStream {
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
