//! gRPC connections to the control plane: in plain text on this machine, or by TLS with our own identity, or, while we have
//! none, by the join token. A control plane may have several replicas; any of them will do.

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
use weir_identity::pki_types::ServerName;
use weir_identity::reason_of;

use crate::limits::{CONTROL_PLANE_CONNECT_TIMEOUT, CONTROL_PLANE_KEEPALIVE};

/// A control plane: its replicas, and the one that answered last.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    replicas: Vec<Replica>,
    current: AtomicUsize,
}

/// A replica of a control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplicaNumber(usize);

/// Where a replica of a control plane is.
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

/// Its replicas, as they are given.
impl fmt::Display for ControlPlane {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, replica) in self.replicas.iter().enumerate() {
            write!(formatter, "{}{replica}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl ControlPlane {
    /// The replicas at these URLs, all `http://HOST:PORT`, or all `https://HOST:PORT`. Each proxy begins with another one.
    ///
    /// # Errors
    /// One of them is none.
    pub(crate) fn new(urls: &[String]) -> Result<Self, String> {
        let replica = |url: &String| {
            let (plain, mutual) = (url.strip_prefix("http://"), url.strip_prefix("https://"));
            let (host, port) = plain.or(mutual)?.rsplit_once(':')?;
            Some(Replica { host: host.to_owned(), port: port.parse().ok()?, is_mutual: mutual.is_some() })
        };
        let replica = |url: &String| replica(url).ok_or_else(|| format!("`{url}` is no URL of a control plane"));
        let replicas = urls.iter().map(replica).collect::<Result<Vec<_>, _>>()?;
        let first = SmallRng::from_os_rng().random_range(0..replicas.len().max(1));
        Ok(Self { replicas, current: AtomicUsize::new(first) })
    }

    /// Whether it wants to know who we are.
    pub(crate) fn is_mutual(&self) -> bool {
        self.replicas.iter().any(|replica| replica.is_mutual)
    }

    /// Opens a connection to a replica, and proves who we are with `config`, if it wants to know.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn connect(&self, config: Option<&Arc<ClientConfig>>) -> Result<(Channel, ReplicaNumber), String> {
        let first = self.current.load(Ordering::Relaxed);
        let mut reasons = Vec::new();
        for number in first..first + self.replicas.len() {
            let number = number % self.replicas.len();
            let replica = &self.replicas[number];
            match replica.connect(config).await {
                Ok(channel) => {
                    self.current.store(number, Ordering::Relaxed);
                    return Ok((channel, ReplicaNumber(number)));
                }
                Err(reason) if self.replicas.len() == 1 => return Err(reason),
                Err(reason) => reasons.push(format!("{replica}: {reason}")),
            }
        }
        Err(reasons.join("; "))
    }

    /// What a replica is called.
    pub(crate) fn name(&self, ReplicaNumber(number): ReplicaNumber) -> String {
        self.replicas[number].to_string()
    }

    /// A replica is a good one.
    pub(crate) fn stay(&self, ReplicaNumber(number): ReplicaNumber) {
        self.current.store(number, Ordering::Relaxed);
    }

    /// A replica has let us down: another one is asked first from now on, unless that is so already.
    pub(crate) fn leave(&self, ReplicaNumber(number): ReplicaNumber) {
        let next = (number + 1) % self.replicas.len();
        self.current.compare_exchange(number, next, Ordering::Relaxed, Ordering::Relaxed).ok();
    }
}

impl Replica {
    async fn connect(&self, config: Option<&Arc<ClientConfig>>) -> Result<Channel, String> {
        // The scheme is what tonic would encrypt for by itself; the connector does.
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
                let connector = Connector { replica: Arc::new(self.clone()), config: Arc::clone(config) };
                endpoint.connect_with_connector(connector).await
            }
        };
        connected.map_err(|error| root_of(&error))
    }
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
    replica: Arc<Replica>,
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
        let (replica, config) = (Arc::clone(&self.replica), Arc::clone(&self.config));
        Box::pin(async move {
            let host = replica.host.trim_matches(['[', ']']);
            let socket = TcpStream::connect((host, replica.port)).await?;
            socket.set_nodelay(true)?;
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            let handshake = TlsConnector::from(config).connect(name, socket);
            let stream = tokio::time::timeout(CONTROL_PLANE_CONNECT_TIMEOUT, handshake).await;
            let stream = stream.map_err(|_| io::Error::other("the TLS handshake takes too long"))?;
            stream.map(TokioIo::new).map_err(|error| io::Error::other(reason_of(&error)))
        })
    }
}
