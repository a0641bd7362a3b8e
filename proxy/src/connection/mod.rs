//! One downstream connection, as its server and its streams see it: its listener, its peer, its security, and when it
//! was last used. `server` runs it.

mod security; // Required and established security.

use std::cell::{Cell, OnceCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use weir_model::{DownstreamProtocolOptions, ListenerName, Route};

use crate::drain::DrainWatcher;
use crate::error::ProxyError;
use crate::filter::Exchange;
use crate::stream_info::StreamInfo;
use crate::telemetry::{AccessLogEntry, ListenerMetrics};
use crate::upstream::Cluster;
use crate::worker::HasTimeout;

pub(crate) use security::{ConnectionSecurity, DownstreamSecurity, reconnect_reason};

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
    /// Bounds and timeouts; those of the listener when the connection was accepted.
    pub(crate) options: DownstreamProtocolOptions,
    /// The downstream's SPIFFE ID; set after a mutual TLS handshake.
    pub(crate) identity: OnceCell<Arc<str>>,
    /// Set after a TLS handshake: the server name (SNI), if the downstream sent one.
    pub(crate) tls: OnceCell<Option<Arc<str>>>,
    accepted_at: Instant,
    /// The number of streams in flight.
    streams: Cell<u32>,
    /// The number of streams so far.
    served: Cell<u32>,
    /// True once the connection is too old, or has served as many streams as it may: it accepts no more.
    is_spent: Cell<bool>,
    /// The time when the last stream ended, or the connection was accepted.
    idle_since: Cell<Instant>,
    /// The time of the first byte of an incomplete request head.
    head_started_at: Cell<Option<Instant>>,
    /// True while an HTTP/1 response is written.
    is_responding: Cell<bool>,
    /// True when an HTTP/1 stream was reset after its response had begun: the connection cannot go on.
    is_reset: Cell<bool>,
    /// Notified by the worker's timer when the connection has timed out, and once when it is spent.
    pub(crate) timed_out: Notify,
}

impl Connection {
    /// Returns a connection that was accepted now.
    pub(crate) fn new(
        listener: Rc<ListenerInfo>,
        peer: SocketAddr,
        id: u64,
        options: DownstreamProtocolOptions,
    ) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Self {
            listener,
            peer,
            id,
            options,
            accepted_at: now,
            served: Cell::new(0),
            is_spent: Cell::new(false),
            identity: OnceCell::new(),
            tls: OnceCell::new(),
            streams: Cell::new(0),
            idle_since: Cell::new(now),
            head_started_at: Cell::new(Some(now)), // The first head has the same time as any other.
            is_responding: Cell::new(false),
            is_reset: Cell::new(false),
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
            endpoint: info.endpoint.as_ref(),
            attempts: info.attempts,
            failed_attempts: &info.failed_attempts,
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
        self.served.set(self.served.get().saturating_add(1));
        if self.options.max_requests.is_some_and(|most| self.served.get() >= most.get()) {
            self.spend();
        }
    }

    /// Returns true if the connection accepts no further stream: it is too old, or has served as many as it may.
    pub(crate) fn is_spent(&self) -> bool {
        self.is_spent.get()
    }

    fn spend(&self) {
        if !self.is_spent.replace(true) {
            self.timed_out.notify_one();
        }
    }

    /// Returns true if no stream is in flight, and no byte of a request has arrived.
    pub(crate) fn is_unused(&self) -> bool {
        self.is_idle() && self.head_started_at.get().is_none()
    }

    /// Counts a stream as ended at `now`.
    pub(crate) fn stream_ended(&self, now: Instant) {
        self.streams.set(self.streams.get().saturating_sub(1));
        self.idle_since.set(now);
    }

    /// Returns true if no stream is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.streams.get() == 0
    }

    /// Returns true if the connection was idle for too long, or its request head is not complete in time.
    pub(crate) fn is_timed_out(&self, now: Instant) -> bool {
        let idle_time = now.duration_since(self.idle_since.get());
        let is_over = match self.head_started_at.get() {
            Some(since) => now.duration_since(since) > self.options.head_timeout,
            // The end of a response that the downstream does not read.
            None if self.is_responding.get() => exceeds(self.options.stream_idle_timeout, idle_time),
            None => exceeds(self.options.idle_timeout, idle_time),
        };
        self.is_reset.get() || self.is_idle() && is_over
    }

    /// Marks the begin of an HTTP/1 response, which may be written for longer than its stream exists.
    pub(crate) fn response_started(&self) {
        self.is_responding.set(true);
    }

    /// Returns true while an HTTP/1 response is written.
    pub(crate) fn is_responding(&self) -> bool {
        self.is_responding.get()
    }

    /// Marks the last byte of an HTTP/1 response.
    pub(crate) fn response_ended(&self) {
        self.is_responding.set(false);
    }

    /// Starts the time again in which the downstream must read more of a response.
    pub(crate) fn on_bytes_sent(&self) {
        self.idle_since.set(Instant::now());
    }

    /// Ends an HTTP/1 connection whose stream was reset, also while its downstream does not read.
    pub(crate) fn reset(&self) {
        self.is_reset.set(true);
        self.timed_out.notify_one();
    }

    /// Starts the timeout of the next request head.
    pub(crate) fn on_bytes_received(&self) {
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
        if exceeds(self.options.max_age, now.duration_since(self.accepted_at)) {
            self.spend();
        }
    }
}

/// Returns true if a time is above its limit.
pub(crate) fn exceeds(limit: Option<Duration>, time: Duration) -> bool {
    limit.is_some_and(|limit| time > limit)
}
