//! One downstream connection: who is at its other end, and which codec serves it. `listener` calls [`serve`] with a
//! socket; each request goes to `stream::handle`. The bytes of a TCP listener's connection are relayed as they are.

mod detect;
mod http;
mod relay;
mod tcp;
mod watched;

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
use crate::drain::DrainWatcher;
use crate::filter::Facts;
use crate::limits::{DOWNSTREAM_IDLE_TIMEOUT, DRAIN_GRACE, HEAD_TIMEOUT};
use crate::telemetry::ListenerMetrics;
use crate::tls::{self, Accepted, Transport};
use crate::worker::{Overdue, SecuredBy, Worker, WorkerConfig};

/// What a worker knows of a listener.
pub(crate) struct ListenerFacts {
    /// Its name.
    pub(crate) name: ListenerName,
    /// Its real address.
    pub(crate) address: SocketAddr,
    /// Fires when the listener ends: by configuration, or with the process.
    pub(crate) drain: DrainWatcher,
    /// What the worker counts about it.
    pub(crate) metrics: Arc<ListenerMetrics>,
}

/// One downstream connection.
pub(crate) struct Connection {
    /// Where it came in.
    pub(crate) listener: Rc<ListenerFacts>,
    /// Who is at its other end.
    pub(crate) peer: SocketAddr,
    /// Unlike any other's in this process.
    pub(crate) id: u64,
    /// Who its other end has proved to be: a SPIFFE ID.
    pub(crate) identity: OnceCell<Arc<str>>,
    /// Set when it is encrypted: the host that it asked for (SNI), if it did.
    pub(crate) tls: OnceCell<Option<Arc<str>>>,
    /// Streams under way.
    streams: Cell<u32>,
    /// When the last stream ended, or the connection began.
    idle_since: Cell<Instant>,
    /// When the first byte of a head came that is not whole yet.
    head_since: Cell<Option<Instant>>,
    overdue: Notify,
}

/// Serves a connection until it ends, is idle for too long, or has drained.
pub(crate) async fn serve(worker: Rc<Worker>, listener: Rc<ListenerFacts>, socket: TcpStream, peer: SocketAddr) {
    let connection = Connection::new(listener, peer, worker.next_connection_id());
    let weak: Weak<dyn Overdue> = Rc::downgrade(&connection) as Weak<dyn Overdue>;
    let watch = worker.deadlines.watch(weak);
    let _in_flight = connection.listener.drain.guard();
    let begun = tokio::select! {
        begun = begin(&worker, &connection, socket) => begun,
        () = connection.overdue.notified() => None,
        () = grace_ended(&connection.listener.drain) => None, // Not a byte of a request has come.
    };
    match begun {
        Some(Begun::Http(transport, codec)) => http::serve(&worker, &connection, (transport, codec)).await,
        // On the heap, since each connection's task has room for what it awaits, whatever the connection speaks.
        Some(Begun::Tcp(transport, config)) => Box::pin(tcp::serve(&worker, &connection, &config, transport)).await,
        None => debug!(%peer, listener = %connection.listener.name, "connection ended before its first request"),
    }
    worker.deadlines.forget(watch);
}

/// A connection that may carry what its listener is for.
enum Begun {
    Http(Transport, Codec),
    /// With the configuration that it keeps to its end.
    Tcp(Transport, Rc<WorkerConfig>),
}

/// Finds out who is there, where the listener asks for it, and which codec it speaks. `None` when nobody is, or nobody who
/// may.
async fn begin(worker: &Worker, connection: &Connection, socket: TcpStream) -> Option<Begun> {
    let config = worker.config(&connection.listener.name);
    let is_tcp = config.protocol(&connection.listener.name) == ListenerProtocol::Tcp;
    let secured = match config.downstream_tls(&connection.listener.name) {
        Some(SecuredBy::Mesh { or_plain: true }) if !detect::is_tls(&socket).await? => None,
        secured => secured,
    };
    let accepted = match secured {
        Some(SecuredBy::Mesh { .. }) => tls::accept(socket, &worker.identity).await,
        Some(SecuredBy::Https(config)) => tls::accept_https(socket, config).await,
        // Who speaks first in a protocol that is not known?
        None if is_tcp => return Some(Begun::Tcp(Transport::Plain(socket), config)),
        None => return detect::detect(&socket).await.map(|codec| Begun::Http(Transport::Plain(socket), codec)),
    };
    match accepted {
        Ok(Accepted { transport, peer, host, is_http2 }) => {
            // Nobody else sets them, and this once.
            drop(peer.map(|peer| connection.identity.set(peer.to_string().into())));
            drop(connection.tls.set(host));
            Some(match is_tcp {
                true => Begun::Tcp(transport, config),
                false => Begun::Http(transport, if is_http2 { Codec::Http2 } else { Codec::Http1 }),
            })
        }
        Err(reason) => {
            let (peer, listener) = (connection.peer, &connection.listener.name);
            info!(%peer, %listener, "a connection is refused: {reason}");
            None
        }
    }
}

/// Waits until the listener drains, and then as long as a first request may still be on its way.
async fn grace_ended(drain: &DrainWatcher) {
    drain.signaled().await;
    tokio::time::sleep(DRAIN_GRACE).await;
}

impl Connection {
    fn new(listener: Rc<ListenerFacts>, peer: SocketAddr, id: u64) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Self {
            listener,
            peer,
            id,
            identity: OnceCell::new(),
            tls: OnceCell::new(),
            streams: Cell::new(0),
            idle_since: Cell::new(now),
            head_since: Cell::new(Some(now)), // The first head is waited for as long as any other.
            overdue: Notify::new(),
        })
    }

    /// True when it is encrypted.
    pub(crate) fn is_tls(&self) -> bool {
        self.tls.get().is_some()
    }

    /// What is known of a stream on it when it begins.
    pub(crate) fn facts(&self, route: Option<&Route>) -> Facts {
        let mut facts = Facts::new(self.peer, self.listener.address, self.id);
        facts.identity = self.identity.get().cloned();
        facts.is_tls = self.is_tls();
        facts.server_name = self.tls.get().cloned().flatten();
        facts.listener = Some(self.listener.name.clone());
        facts.route = route.map(|route| route.name.clone());
        facts.route_metadata = route.map(|route| route.metadata.clone()).unwrap_or_default();
        facts
    }

    /// Whether it is encrypted, and whether its other end has proved who it is.
    pub(crate) fn secured(&self) -> (bool, bool) {
        (self.is_tls(), self.identity.get().is_some())
    }

    /// A stream begins.
    pub(crate) fn enter(&self) {
        self.streams.set(self.streams.get() + 1);
        self.head_since.set(None);
    }

    /// A stream has ended.
    pub(crate) fn leave(&self, now: Instant) {
        self.streams.set(self.streams.get().saturating_sub(1));
        self.idle_since.set(now);
    }

    /// True when no stream is under way.
    fn is_idle(&self) -> bool {
        self.streams.get() == 0
    }

    /// Bytes have come in.
    fn on_bytes(&self) {
        if self.is_idle() && self.head_since.get().is_none() {
            self.head_since.set(Some(Instant::now()));
        }
    }
}

impl Overdue for Connection {
    fn check(&self, now: Instant) {
        if !self.is_idle() {
            return;
        }
        let slow_head = self.head_since.get().is_some_and(|since| now.duration_since(since) > HEAD_TIMEOUT);
        if slow_head || now.duration_since(self.idle_since.get()) > DOWNSTREAM_IDLE_TIMEOUT {
            self.overdue.notify_one();
        }
    }
}
