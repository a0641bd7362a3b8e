//! A gRPC connection to the control plane by TLS: with our own identity, or, while we have none, by the join token.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;
use weir_identity::ClientConfig;
use weir_identity::pki_types::ServerName;
use weir_identity::reason_of;

use crate::limits::{CONTROL_PLANE_CONNECT_TIMEOUT, CONTROL_PLANE_KEEPALIVE};

/// Where a control plane is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ControlAddress {
    /// Its name or IP address.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
}

impl fmt::Display for ControlAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

/// How a control plane is reached at a URL, with TLS or without.
///
/// # Errors
/// The URL is none.
pub(crate) fn endpoint(url: &str) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| error.to_string())?;
    Ok(endpoint
        .connect_timeout(CONTROL_PLANE_CONNECT_TIMEOUT)
        .http2_keep_alive_interval(CONTROL_PLANE_KEEPALIVE)
        .keep_alive_timeout(CONTROL_PLANE_KEEPALIVE)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true))
}

/// Opens a connection, and proves who we are with `config`.
///
/// # Errors
/// Why there is none, in one line.
pub(crate) async fn connect(address: &ControlAddress, config: Arc<ClientConfig>) -> Result<Channel, String> {
    // The scheme is what tonic would encrypt for by itself; the connector below does.
    let endpoint = endpoint(&format!("http://{address}"))?;
    let connector = Connector { address: Arc::new(address.clone()), config };
    endpoint.connect_with_connector(connector).await.map_err(|error| root_of(&error))
}

/// The cause at the end of the chain: it names what is wrong.
fn root_of(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[derive(Clone)]
struct Connector {
    address: Arc<ControlAddress>,
    config: Arc<ClientConfig>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (address, config) = (Arc::clone(&self.address), Arc::clone(&self.config));
        Box::pin(async move {
            let host = address.host.trim_matches(['[', ']']);
            let socket = TcpStream::connect((host, address.port)).await?;
            socket.set_nodelay(true)?;
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            let handshake = TlsConnector::from(config).connect(name, socket);
            let stream = tokio::time::timeout(CONTROL_PLANE_CONNECT_TIMEOUT, handshake).await;
            let stream = stream.map_err(|_| io::Error::other("the TLS handshake takes too long"))?;
            stream.map(TokioIo::new).map_err(|error| io::Error::other(reason_of(&error)))
        })
    }
}
