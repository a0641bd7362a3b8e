//! gRPC connections to the replicas of the control plane: plaintext on loopback addresses, or TLS with the TLS settings
//! of an identity or of a join token. All replicas are equivalent. Used by `config`, `active` and `identity`.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;
use weir_identity::ClientConfig;
use weir_identity::handshake_error;
use weir_identity::pki_types::ServerName;

use crate::limits::{CONTROL_PLANE_CONNECT_TIMEOUT, CONTROL_PLANE_KEEPALIVE};

/// The replicas of a control plane, and the one to connect to first.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    replicas: Vec<Replica>,
    preferred: AtomicUsize,
}

/// The index of a replica of a control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplicaIndex(usize);

/// The address of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Replica {
    host: String,
    port: u16,
    is_mutual: bool,
}

impl fmt::Display for Replica {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

/// Prints the replicas, separated by commas.
impl fmt::Display for ControlPlane {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, replica) in self.replicas.iter().enumerate() {
            write!(formatter, "{}{replica}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl ControlPlane {
    /// Returns the control plane with these URLs, all `http://HOST:PORT`, or all `https://HOST:PORT`. The first replica
    /// is chosen at random, which spreads proxies over the replicas.
    ///
    /// # Errors
    /// A URL has another form.
    pub(crate) fn new(urls: &[String]) -> Result<Self, String> {
        let replica = |url: &String| {
            let (plain, mutual) = (url.strip_prefix("http://"), url.strip_prefix("https://"));
            let (host, port) = plain.or(mutual)?.rsplit_once(':')?;
            Some(Replica { host: host.to_owned(), port: port.parse().ok()?, is_mutual: mutual.is_some() })
        };
        let replica = |url: &String| replica(url).ok_or_else(|| format!("`{url}` is not a URL of a control plane"));
        let replicas = urls.iter().map(replica).collect::<Result<Vec<_>, _>>()?;
        let first = SmallRng::from_os_rng().random_range(0..replicas.len().max(1));
        Ok(Self { replicas, preferred: AtomicUsize::new(first) })
    }

    /// Returns true if the control plane demands mutual TLS.
    pub(crate) fn is_mutual(&self) -> bool {
        self.replicas.iter().any(|replica| replica.is_mutual)
    }

    /// Connects to the first reachable replica, starting with the preferred one. `config` is used if the control plane
    /// demands mutual TLS.
    ///
    /// # Errors
    /// The reasons of all replicas.
    pub(crate) async fn connect(&self, config: Option<&Arc<ClientConfig>>) -> Result<(Channel, ReplicaIndex), String> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut reasons = Vec::new();
        for index in first..first + self.replicas.len() {
            let index = index % self.replicas.len();
            let replica = &self.replicas[index];
            match replica.connect(config).await {
                Ok(channel) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok((channel, ReplicaIndex(index)));
                }
                Err(reason) if self.replicas.len() == 1 => return Err(reason),
                Err(reason) => reasons.push(format!("{replica}: {reason}")),
            }
        }
        Err(reasons.join("; "))
    }

    /// Returns the address of a replica.
    pub(crate) fn name(&self, replica: ReplicaIndex) -> String {
        self.replicas[replica.0].to_string()
    }

    /// Makes a replica the preferred one.
    pub(crate) fn prefer(&self, replica: ReplicaIndex) {
        self.preferred.store(replica.0, Ordering::Relaxed);
    }

    /// Prefers the next replica after a failure of `replica`. No effect if another replica is preferred already.
    pub(crate) fn demote(&self, replica: ReplicaIndex) {
        let next = (replica.0 + 1) % self.replicas.len();
        self.preferred.compare_exchange(replica.0, next, Ordering::Relaxed, Ordering::Relaxed).ok();
    }
}

impl Replica {
    async fn connect(&self, config: Option<&Arc<ClientConfig>>) -> Result<Channel, String> {
        // The scheme is `http`, because the connector does TLS in place of tonic.
        let endpoint = Endpoint::from_shared(format!("http://{self}")).map_err(|error| error.to_string())?;
        let endpoint = endpoint
            .connect_timeout(CONTROL_PLANE_CONNECT_TIMEOUT)
            .http2_keep_alive_interval(CONTROL_PLANE_KEEPALIVE)
            .keep_alive_timeout(CONTROL_PLANE_KEEPALIVE)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        let connected = match config.filter(|_| self.is_mutual) {
            None if self.is_mutual => return Err("this proxy has no identity yet".to_owned()),
            None => endpoint.connect().await,
            Some(config) => {
                let connector = MutualTlsConnector { replica: Arc::new(self.clone()), config: Arc::clone(config) };
                endpoint.connect_with_connector(connector).await
            }
        };
        connected.map_err(|error| root_cause(&error))
    }
}

/// Returns the last error of the chain of sources, which has the most specific reason.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// A connector of tonic that opens TLS connections to one replica.
#[derive(Clone)]
struct MutualTlsConnector {
    replica: Arc<Replica>,
    config: Arc<ClientConfig>,
}

impl Service<Uri> for MutualTlsConnector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (replica, config) = (Arc::clone(&self.replica), Arc::clone(&self.config));
        Box::pin(async move {
            let host = replica.host.trim_matches(['[', ']']);
            let socket = TcpStream::connect((host, replica.port)).await?;
            socket.set_nodelay(true)?;
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            let handshake = TlsConnector::from(config).connect(name, socket);
            let stream = tokio::time::timeout(CONTROL_PLANE_CONNECT_TIMEOUT, handshake).await;
            let stream = stream.map_err(|_| io::Error::other("the TLS handshake takes too long"))?;
            stream.map(TokioIo::new).map_err(|error| io::Error::other(handshake_error(&error)))
        })
    }
}
