//! One downstream connection: its security, its codec, and its timeouts while idle.
//!
//! `listener` calls [`serve`] with a socket. Each HTTP request goes to `stream::handle`; the bytes of a TCP listener's
//! connection pass the network filters and are relayed to an endpoint.

mod http2; // hyper's HTTP/2 server.
mod http1; // The HTTP/1 server.
mod date; // The `date` header.
mod tcp; // A connection of a TCP listener.
mod relay; // Bytes between a downstream and an endpoint.
mod detect; // TLS and the HTTP codec, from the first bytes.
mod security; // Required and established security.

use std::cell::{Cell, OnceCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, info};
use weir_model::{ListenerName, ListenerProtocol, Route};

use crate::connection::detect::Codec;
use crate::connection::security::DownstreamSecurity;
use crate::drain::DrainWatcher;
use crate::error::ProxyError;
use crate::filter::{Exchange, StreamInfo};
use crate::limits::{DOWNSTREAM_IDLE_TIMEOUT, DRAIN_GRACE, HEAD_TIMEOUT};
use crate::telemetry::{AccessLogEntry, ListenerMetrics};
use crate::tls::{self, AcceptedConnection, Transport};
use crate::upstream::Cluster;
use crate::worker::{HasTimeout, Worker, WorkerConfig};

pub(crate) use security::{ConnectionSecurity, reconnect_reason};

/// A listener, as its connections on one worker see it.
pub(crate) struct ListenerInfo {
    /// The name: `namespace/gateway/listener`.
    pub(crate) name: ListenerName,
    /// The bound address.
    pub(crate) address: SocketAddr,
    /// Signals that the listener drains: it was removed, or the process shuts down.
    pub(crate) drain: DrainWatcher,
    /// The worker's counters of the listener.
    pub(crate) metrics: Arc<ListenerMetrics>,
}

/// One downstream connection.
pub(crate) struct Connection {
    /// The listener that accepted it.
    pub(crate) listener: Rc<ListenerInfo>,
    /// The downstream's address.
    pub(crate) peer: SocketAddr,
    /// A number that is unique in this process.
    pub(crate) id: u64,
    /// The downstream's SPIFFE ID; set after a mutual TLS handshake.
    pub(crate) identity: OnceCell<Arc<str>>,
    /// Set after a TLS handshake: the server name (SNI), if the downstream sent one.
    pub(crate) tls: OnceCell<Option<Arc<str>>>,
    /// The number of streams in flight.
    streams: Cell<u32>,
    /// The time when the last stream ended, or the connection was accepted.
    idle_since: Cell<Instant>,
    /// The time of the first byte of an incomplete request head.
    head_started_at: Cell<Option<Instant>>,
    timed_out: Notify,
}

/// Serves a connection until it closes, times out, or has drained.
pub(crate) async fn serve(worker: Rc<Worker>, listener: Rc<ListenerInfo>, socket: TcpStream, peer: SocketAddr) {
    let connection = Connection::new(listener, peer, worker.next_connection_id());
    let weak: Weak<dyn HasTimeout> = Rc::downgrade(&connection) as Weak<dyn HasTimeout>;
    let timeout_key = worker.timeouts.register(weak);
    let _in_flight = connection.listener.drain.guard();
    let established = tokio::select! {
        established = establish(&worker, &connection, socket) => established,
        () = connection.timed_out.notified() => None,
        () = drain_grace_elapsed(&connection.listener.drain) => None, // No byte of a request has arrived.
    };
    match established {
        Some(EstablishedConnection::Http(transport, codec)) => match codec {
            Codec::Http1 => http1::serve(&worker, &connection, transport).await,
            Codec::Http2 => http2::serve(&worker, &connection, transport).await,
        },
        // On the heap: otherwise every connection's task would reserve memory for TCP.
        Some(EstablishedConnection::Tcp(transport, config)) => {
            Box::pin(tcp::serve(&worker, &connection, &config, transport)).await;
        }
        None => debug!(%peer, listener = %connection.listener.name, "connection closed before its first request"),
    }
    worker.timeouts.unregister(timeout_key);
}

/// A connection after its handshake.
enum EstablishedConnection {
    Http(Transport, Codec),
    /// With the configuration that it uses until it closes.
    Tcp(Transport, Rc<WorkerConfig>),
}

/// Performs the TLS handshake that the listener requires, and detects the codec.
///
/// Returns `None` when the downstream closes first, or is rejected.
async fn establish(worker: &Worker, connection: &Connection, socket: TcpStream) -> Option<EstablishedConnection> {
    let config = worker.config(&connection.listener.name);
    let is_tcp = config.protocol(&connection.listener.name) == ListenerProtocol::Tcp;
    let required = match DownstreamSecurity::required(&config, &connection.listener.name) {
        Some(DownstreamSecurity::MutualTls { allow_plaintext: true }) if !detect::is_tls(&socket).await? => None,
        required => required,
    };
    let accepted = match required {
        Some(DownstreamSecurity::MutualTls { .. }) => tls::accept(socket, &worker.identity).await,
        Some(DownstreamSecurity::Https(config)) => tls::accept_https(socket, config).await,
        // TCP has no codec to detect: either side may send first.
        None if is_tcp => return Some(EstablishedConnection::Tcp(Transport::Plain(socket), config)),
        None => {
            return detect::detect_codec(&socket)
                .await
                .map(|codec| EstablishedConnection::Http(Transport::Plain(socket), codec));
        }
    };
    match accepted {
        Ok(AcceptedConnection { transport, peer, server_name, is_http2 }) => {
            // Set here only, and once.
            drop(peer.map(|peer| connection.identity.set(peer.to_string().into())));
            drop(connection.tls.set(server_name));
            Some(match is_tcp {
                true => EstablishedConnection::Tcp(transport, config),
                false => EstablishedConnection::Http(transport, if is_http2 { Codec::Http2 } else { Codec::Http1 }),
            })
        }
        Err(error) => {
            let (peer, listener) = (connection.peer, &connection.listener.name);
            info!(%peer, %listener, %error, "connection rejected");
            None
        }
    }
}

/// Waits until the listener drains, and then for [`DRAIN_GRACE`], in which a first request may arrive.
async fn drain_grace_elapsed(drain: &DrainWatcher) {
    drain.signaled().await;
    tokio::time::sleep(DRAIN_GRACE).await;
}

impl Connection {
    fn new(listener: Rc<ListenerInfo>, peer: SocketAddr, id: u64) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Self {
            listener,
            peer,
            id,
            identity: OnceCell::new(),
            tls: OnceCell::new(),
            streams: Cell::new(0),
            idle_since: Cell::new(now),
            head_started_at: Cell::new(Some(now)), // The first head has the same time as any other.
            timed_out: Notify::new(),
        })
    }

    /// Returns true if the connection uses TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.tls.get().is_some()
    }

    /// Returns the initial information of a stream on this connection.
    pub(crate) fn stream_info(&self, route: Option<&Route>) -> StreamInfo {
        let mut info = StreamInfo::new(self.peer, self.listener.address, self.id);
        info.identity = self.identity.get().cloned();
        info.is_tls = self.is_tls();
        info.server_name = self.tls.get().cloned().flatten();
        info.listener = Some(self.listener.name.clone());
        info.route = route.map(|route| route.name.clone());
        info.route_metadata = route.map(|route| route.metadata.clone()).unwrap_or_default();
        info
    }

    /// Returns the access-log entry of a stream on this connection that ended at `finished`.
    ///
    /// The entry has no HTTP fields, and `plugin` is the one that failed.
    pub(crate) fn access_log_entry<'a>(&'a self, exchange: &'a Exchange, finished: Instant) -> AccessLogEntry<'a> {
        let (info, error) = (&exchange.stream_info, exchange.error.as_ref());
        AccessLogEntry {
            started: info.started_at,
            duration: finished.duration_since(info.started),
            listener: self.listener.name.as_str(),
            peer: self.peer,
            peer_identity: self.identity.get().map(|identity| &**identity),
            http: None,
            route: info.route.as_ref().map_or("", |route| route.as_str()),
            cluster: info.cluster.as_ref().map_or("", |cluster| cluster.as_str()),
            endpoint: info.endpoint,
            attempts: info.attempts,
            bytes_in: info.request_bytes,
            bytes_out: info.response_bytes,
            failure: error,
            details: info.details.as_deref().unwrap_or_default(),
            plugin: error.and_then(ProxyError::plugin).unwrap_or_default(),
            properties: &info.properties,
        }
    }

    /// Returns the security that the connection has established.
    pub(crate) fn security(&self) -> ConnectionSecurity {
        match (self.is_tls(), self.identity.get()) {
            (_, Some(_)) => ConnectionSecurity::MutualTls,
            (true, None) => ConnectionSecurity::Tls,
            (false, None) => ConnectionSecurity::Plaintext,
        }
    }

    /// Counts a stream as in flight.
    pub(crate) fn stream_started(&self) {
        self.streams.set(self.streams.get() + 1);
        self.head_started_at.set(None);
    }

    /// Counts a stream as ended at `now`.
    pub(crate) fn stream_ended(&self, now: Instant) {
        self.streams.set(self.streams.get().saturating_sub(1));
        self.idle_since.set(now);
    }

    /// Returns true if no stream is in flight.
    fn is_idle(&self) -> bool {
        self.streams.get() == 0
    }

    /// Returns true if the connection was idle for too long, or its request head is not complete in time.
    fn is_timed_out(&self, now: Instant) -> bool {
        let slow_head = self.head_started_at.get().is_some_and(|since| now.duration_since(since) > HEAD_TIMEOUT);
        self.is_idle() && (slow_head || now.duration_since(self.idle_since.get()) > DOWNSTREAM_IDLE_TIMEOUT)
    }

    /// Starts the timeout of the next request head.
    fn on_bytes_received(&self) {
        if self.is_idle() && self.head_started_at.get().is_none() {
            self.head_started_at.set(Some(Instant::now()));
        }
    }
}

/// Records the cluster that a stream is sent to.
pub(crate) fn record_cluster(info: &mut StreamInfo, cluster: &Cluster) {
    info.cluster = Some(cluster.model().name.clone());
    info.cluster_metadata = cluster.model().metadata.clone();
    info.endpoints = cluster.endpoints().len() as u64;
}

impl HasTimeout for Connection {
    fn check_timeout(&self, now: Instant) {
        if self.is_timed_out(now) {
            self.timed_out.notify_one();
        }
    }
}
