//! TLS handshakes. Each side authenticates before the first byte of a request is sent.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use weir_identity::pki_types::ServerName;
use weir_identity::{PeerError, ServerConfig, handshake_error, server_handshake_error, spiffe_id};
use weir_model::{EndpointAddress, SpiffeId, Workload};

use crate::identity::Identity;
use crate::tls::{Transport, WorkerClientTls};

/// The reason why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The control plane has not issued a certificate to this proxy yet.
    #[error("this proxy has no identity yet")]
    NoIdentity,
    /// TLS failed. The text names the fault of the peer's certificate, if that is the cause.
    #[error("{0}")]
    Tls(String),
    /// The peer's certificate has no usable SPIFFE ID.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The handshake with an endpoint failed.
    #[error("{address} is not to be trusted: {reason}")]
    Endpoint {
        /// The address of the endpoint.
        address: EndpointAddress,
        /// The reason, as in [`HandshakeError::Tls`].
        reason: String,
    },
    /// The handshake with a server outside the mesh failed.
    #[error("{address}: {reason}")]
    Server {
        /// The address of the endpoint.
        address: EndpointAddress,
        /// The reason, as in [`HandshakeError::Tls`].
        reason: String,
    },
}

/// A downstream connection after its handshake.
pub(crate) struct AcceptedConnection {
    /// The encrypted byte stream.
    pub(crate) transport: Transport,
    /// The downstream's SPIFFE ID; `None` unless mutual TLS is required.
    pub(crate) peer: Option<SpiffeId>,
    /// The server name that the downstream requested (SNI).
    pub(crate) server_name: Option<Arc<str>>,
    /// True if ALPN selected HTTP/2.
    pub(crate) is_http2: bool,
}

/// Performs the server's side of a mutual TLS handshake. The downstream must be a workload of the own trust domain.
///
/// # Errors
/// The downstream's certificate is not accepted, the handshake fails, or the proxy has no identity yet.
pub(crate) async fn accept(socket: TcpStream, identity: &Identity) -> Result<AcceptedConnection, HandshakeError> {
    let own = identity.get().ok_or(HandshakeError::NoIdentity)?;
    let acceptor = TlsAcceptor::from(Arc::clone(&own.server));
    let stream = acceptor.accept(socket).await.map_err(|error| HandshakeError::Tls(handshake_error(&error)))?;
    let (_, connection) = stream.get_ref();
    let certificate = connection.peer_certificates().and_then(<[_]>::first).ok_or(PeerError::NoCertificate)?;
    let peer = spiffe_id(certificate)?;
    let is_http2 = connection.alpn_protocol() == Some(b"h2");
    Ok(AcceptedConnection {
        transport: Transport::Tls(Box::new(stream.into())),
        peer: Some(peer),
        server_name: None,
        is_http2,
    })
}

/// Performs the server's side of a TLS handshake, without a client certificate.
///
/// # Errors
/// No certificate matches the requested server name, or the handshake fails.
pub(crate) async fn accept_https(
    socket: TcpStream,
    config: Arc<ServerConfig>,
) -> Result<AcceptedConnection, HandshakeError> {
    let stream =
        TlsAcceptor::from(config).accept(socket).await.map_err(|error| HandshakeError::Tls(handshake_error(&error)))?;
    let (_, connection) = stream.get_ref();
    let (server_name, is_http2) = (connection.server_name().map(Arc::from), connection.alpn_protocol() == Some(b"h2"));
    Ok(AcceptedConnection { transport: Transport::Tls(Box::new(stream.into())), peer: None, server_name, is_http2 })
}

/// Performs the client's side of a mutual TLS handshake. The endpoint must be `workload` of the own trust domain.
///
/// # Errors
/// The endpoint's certificate is not accepted, the handshake fails, or the proxy has no identity yet.
pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    address: &EndpointAddress,
    identity: &Identity,
    workload: &Workload,
    protocol: &[u8],
) -> Result<Transport, HandshakeError>
where
    Transport: From<TlsStream<S>>,
{
    let own = identity.get().ok_or(HandshakeError::NoIdentity)?;
    let connector = TlsConnector::from(own.identity.client_config(workload, protocol));
    let stream = connector.connect(ServerName::IpAddress(ip(address).into()), socket).await;
    let stream = stream
        .map_err(|error| HandshakeError::Endpoint { address: address.clone(), reason: handshake_error(&error) })?;
    Ok(TlsStream::from(stream).into())
}

/// Performs the client's side of a handshake with a server outside the mesh. An empty `protocol` means no ALPN.
///
/// # Errors
/// The server's certificate is not accepted, the handshake fails, or the cluster's secrets cannot be used.
pub(crate) async fn connect_server<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    address: &EndpointAddress,
    tls: &WorkerClientTls,
    protocol: &[u8],
) -> Result<Transport, HandshakeError>
where
    Transport: From<TlsStream<S>>,
{
    let failed = |reason: String| HandshakeError::Server { address: address.clone(), reason };
    let config = tls.config(protocol).map_err(|reason| failed(reason.to_owned()))?;
    let stream = TlsConnector::from(config).connect(tls.server_name(ip(address)), socket).await;
    let stream = stream.map_err(|error| failed(server_handshake_error(&error)))?;
    Ok(TlsStream::from(stream).into())
}

/// Returns the IP address of an endpoint. A Unix socket has none: the unspecified address is in no certificate.
const fn ip(address: &EndpointAddress) -> IpAddr {
    match address {
        EndpointAddress::Socket(address) => address.ip(),
        EndpointAddress::Unix(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}
