//! Handshakes: each side proves who it is, and only then the first byte of a request goes.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weir_identity::pki_types::ServerName;
use weir_identity::{ServerConfig, peer_of, reason_of};
use weir_model::{SpiffeId, Workload};

use crate::identity::Identity;
use crate::tls::Transport;

/// Why there is no connection, in words.
pub(crate) type Refused = String;

/// A downstream connection that was accepted: who is there, if that was asked, and whether it wants HTTP/2.
pub(crate) struct Accepted {
    /// The connection.
    pub(crate) transport: Transport,
    /// Who is at its other end.
    pub(crate) peer: Option<SpiffeId>,
    /// The host that it asked for (SNI).
    pub(crate) host: Option<Arc<str>>,
    /// True when HTTP/2 was agreed upon.
    pub(crate) is_http2: bool,
}

/// The server's side: whoever connects must prove to be of our trust domain.
///
/// # Errors
/// What is wrong with the peer, or with us.
pub(crate) async fn accept(socket: TcpStream, identity: &Identity) -> Result<Accepted, Refused> {
    let own = identity.get().ok_or("this proxy has no identity yet")?;
    let acceptor = TlsAcceptor::from(Arc::clone(&own.server));
    let stream = acceptor.accept(socket).await.map_err(|error| reason_of(&error))?;
    let (_, connection) = stream.get_ref();
    let certificate = connection.peer_certificates().and_then(<[_]>::first).ok_or("it has shown no certificate")?;
    let peer = peer_of(certificate).map_err(|error| error.to_string())?;
    let is_http2 = connection.alpn_protocol() == Some(b"h2");
    Ok(Accepted { transport: Transport::Tls(Box::new(stream.into())), peer: Some(peer), host: None, is_http2 })
}

/// The server's side for the world: nothing is asked of whoever connects.
///
/// # Errors
/// It asks for a host that there is no certificate for, or speaks something else.
pub(crate) async fn accept_https(socket: TcpStream, config: Arc<ServerConfig>) -> Result<Accepted, Refused> {
    let stream = TlsAcceptor::from(config).accept(socket).await.map_err(|error| reason_of(&error))?;
    let (_, connection) = stream.get_ref();
    let (host, is_http2) = (connection.server_name().map(Arc::from), connection.alpn_protocol() == Some(b"h2"));
    Ok(Accepted { transport: Transport::Tls(Box::new(stream.into())), peer: None, host, is_http2 })
}

/// The client's side: the endpoint must prove to be this workload of our trust domain.
///
/// # Errors
/// What is wrong with the endpoint, or with us.
pub(crate) async fn connect(
    socket: TcpStream,
    address: SocketAddr,
    (identity, workload): (&Identity, &Workload),
    protocol: &[u8],
) -> Result<Transport, Refused> {
    let own = identity.get().ok_or("this proxy has no identity yet")?;
    let connector = TlsConnector::from(own.identity.client_config(workload, protocol));
    let stream = connector.connect(ServerName::IpAddress(address.ip().into()), socket).await;
    let stream = stream.map_err(|error| format!("{address} is not to be trusted: {}", reason_of(&error)))?;
    Ok(Transport::Tls(Box::new(stream.into())))
}
