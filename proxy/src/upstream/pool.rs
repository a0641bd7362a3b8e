//! One worker's connections to one endpoint: idle HTTP/1.1 connections, the last used first, and HTTP/2 connections
//! that many requests share. `attempt` checks connections out, a [`Lease`](super::Lease) checks them in when it ends,
//! and the worker's sweep closes idle ones.
//!
//! An HTTP/1.1 connection is checked in only when the response was read to its end *and* the request was written to its
//! end. Every other connection is closed, so that no rest of one request can be read as part of another (Pingora's
//! CVE-2025-4366).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use weir_model::{TcpKeepalive, UpstreamProtocol, UpstreamProtocolOptions};

use super::cluster::WorkerCounters;
use super::connect::{self, ConnectTarget, OpenConnection, UpstreamTlsContext};
use super::endpoints::Endpoint;
use super::http1::Http1Connection;
use super::http2::{Http2Connection, Http2StreamPermit};
use super::open_guard::OpenConnectionGuard;
use super::sweep_clock::SweepClock;
use crate::error::{Fault, ProxyError};
use crate::limits::{MAX_CONNECTIONS_PER_ENDPOINT, MAX_IDLE_PER_ENDPOINT, POOL_SWEEP_INTERVAL};
use crate::task;
use crate::tls::Transport;

/// Bounds and timeouts of the connections to one endpoint, with times as sweeps.
#[derive(Debug, Clone, Copy)]
struct ConnectionBounds {
    options: UpstreamProtocolOptions,
    idle_sweeps: Option<u32>,
    age_sweeps: Option<u32>,
}

impl ConnectionBounds {
    fn new(options: UpstreamProtocolOptions) -> Self {
        let sweeps = |time: Duration| {
            let sweeps = time.as_millis().div_ceil(POOL_SWEEP_INTERVAL.as_millis());
            u32::try_from(sweeps).unwrap_or(u32::MAX)
        };
        Self { options, idle_sweeps: options.idle_timeout.map(sweeps), age_sweeps: options.max_age.map(sweeps) }
    }

    /// Returns true if a connection that has served so many requests accepts no more.
    fn is_last(&self, served: u32) -> bool {
        self.options.max_requests.is_some_and(|most| served >= most.get())
    }
}

/// The permission of an attempt to use a connection that has served before.
#[derive(Default)]
pub(super) enum ReusePolicy {
    /// Any connection.
    #[default]
    Allowed,
    /// Any connection but this one, on which the endpoint has refused the request.
    AllBut(Rc<Http2Connection>),
    /// A new connection: the last one was already closed, so the other idle ones may be too.
    Forbidden,
}

/// One worker's connections to one endpoint.
pub(super) struct Pool {
    endpoint: Arc<Endpoint>,
    protocol: UpstreamProtocol,
    /// True if each request has a connection of its own: the endpoint speaks HTTP/1.1, or has selected it last.
    is_exclusive: Cell<bool>,
    connect_timeout: Duration,
    keepalive: TcpKeepalive,
    /// TLS; `None` for plaintext.
    tls: Option<Rc<UpstreamTlsContext>>,
    bounds: ConnectionBounds,
    counters: Arc<WorkerCounters>,
    clock: Rc<SweepClock>,
    /// Requests whose response has not ended.
    load: Cell<u32>,
    open_connections: Rc<Cell<usize>>,
    /// Connections are no longer checked in.
    closed: Cell<bool>,
    idle: RefCell<Vec<IdleConnection>>,
    http2_connections: RefCell<Vec<Rc<Http2Connection>>>,
    opening: RefCell<Option<watch::Receiver<Option<ProxyError>>>>,
}

struct IdleConnection {
    connection: Rc<Http1Connection>,
    since: u32,
}

/// A connection that is checked out for one request.
pub(super) enum PooledConnection {
    /// An exclusive connection.
    Http1 { connection: Rc<Http1Connection>, reused: bool },
    /// One stream of a shared connection.
    Http2 { stream: Http2StreamPermit, reused: bool },
}

impl Pool {
    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        model: &weir_model::Cluster,
        counters: &Arc<WorkerCounters>,
        clock: &Rc<SweepClock>,
        tls: Option<&Rc<UpstreamTlsContext>>,
    ) -> Rc<Self> {
        Rc::new(Self {
            endpoint,
            protocol: model.protocol,
            is_exclusive: Cell::new(model.protocol == UpstreamProtocol::Http1),
            connect_timeout: model.connect_timeout,
            keepalive: model.tcp_keepalive,
            tls: tls.map(Rc::clone),
            bounds: ConnectionBounds::new(model.options),
            counters: Arc::clone(counters),
            clock: Rc::clone(clock),
            load: Cell::new(0),
            open_connections: Rc::default(),
            closed: Cell::new(false),
            idle: RefCell::default(),
            http2_connections: RefCell::default(),
            opening: RefCell::default(),
        })
    }

    /// Returns true if its connections have these settings.
    pub(super) fn has_tls(&self, tls: Option<&Rc<UpstreamTlsContext>>) -> bool {
        self.tls.as_ref().map(Rc::as_ptr) == tls.map(Rc::as_ptr)
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Records a failed attempt in the statistics of the endpoint, if the upstream is at fault.
    pub(super) fn record_failure(&self, error: &ProxyError) {
        if error.info().fault == Fault::Upstream {
            self.endpoint.record_failure(error.to_string());
        }
    }

    /// Returns the requests in flight on this worker.
    pub(super) fn load(&self) -> u32 {
        self.load.get()
    }

    pub(super) fn request_started(&self) {
        self.load.set(self.load.get() + 1);
        self.counters.in_flight.increment();
    }

    pub(super) fn request_ended(&self) {
        self.load.set(self.load.get() - 1);
        self.counters.in_flight.decrement();
    }

    /// Returns an open connection for one request; `None` if one must be opened.
    pub(super) fn check_out(&self, reuse: &ReusePolicy) -> Option<PooledConnection> {
        if !self.is_exclusive.get() {
            let connection = self.with_capacity(reuse)?;
            let reused = connection.served() > 0;
            let stream = Http2StreamPermit::new(connection, Rc::clone(&self.clock));
            return Some(PooledConnection::Http2 { stream, reused });
        }
        if !matches!(reuse, ReusePolicy::Allowed) {
            return None;
        }
        let IdleConnection { connection, .. } = self.pop_idle()?;
        Some(PooledConnection::Http1 { connection, reused: true })
    }

    /// Opens a connection for one request, unless another one has become free. Callers box the future: with a TLS
    /// handshake it is larger than the rest of a request's, and it is rare.
    pub(super) async fn open(self: &Rc<Self>, reuse: &ReusePolicy) -> Result<PooledConnection, ProxyError> {
        loop {
            if let Some(connection) = self.check_out(reuse) {
                return Ok(connection);
            }
            if !self.is_exclusive.get() {
                self.wait_for_shared().await?;
                continue;
            }
            let open = self.start_connect()?;
            let opened = self.connect(self.protocol, open).await?;
            // There is none if the endpoint has selected HTTP/2 for it.
            if let Some(connection) = self.add(opened)? {
                return Ok(PooledConnection::Http1 { connection, reused: false });
            }
        }
    }

    /// Returns true if the endpoint selects the protocol.
    pub(super) fn selects_protocol(&self) -> bool {
        self.protocol == UpstreamProtocol::Auto
    }

    /// Opens an HTTP/1.1 connection, whatever the endpoint would select: many servers with HTTP/2 switch protocols in
    /// HTTP/1.1 only (RFC 8441 §3).
    pub(super) async fn open_for_upgrade(&self) -> Result<PooledConnection, ProxyError> {
        let open = self.start_connect()?;
        match self.connect(UpstreamProtocol::Http1, open).await? {
            OpenConnection::Http1(opened) => {
                let connection = Http1Connection::new(opened, &self.bounds.options, self.clock.now());
                Ok(PooledConnection::Http1 { connection, reused: false })
            }
            OpenConnection::Http2(_) => Err(ProxyError::UpstreamProtocol("it selected a protocol not offered".into())),
        }
    }

    /// Waits until a connection that many requests share is open.
    async fn wait_for_shared(self: &Rc<Self>) -> Result<(), ProxyError> {
        let mut opening = self.open_shared()?;
        if opening.changed().await.is_err() {
            *self.opening.borrow_mut() = None; // The task has ended, so this request opens the connection.
        } else if let Some(error) = opening.borrow().clone() {
            return Err(error);
        }
        Ok(())
    }

    /// Opens a connection for HTTP.
    async fn connect(
        &self,
        protocol: UpstreamProtocol,
        open: OpenConnectionGuard,
    ) -> Result<OpenConnection, ProxyError> {
        let opened = connect::http(self.connect_target(), protocol, open).await;
        opened.inspect_err(|error| self.counters.count_connect_failure(error))
    }

    /// Adds an open connection to those of all requests if it is of HTTP/2, otherwise returns it.
    ///
    /// An endpoint can select another protocol than before, after a change of its configuration.
    fn add(&self, opened: OpenConnection) -> Result<Option<Rc<Http1Connection>>, ProxyError> {
        self.is_exclusive.set(matches!(opened, OpenConnection::Http1(_)));
        match opened {
            OpenConnection::Http1(opened) => {
                Ok(Some(Http1Connection::new(opened, &self.bounds.options, self.clock.now())))
            }
            // Opening further ones would not help.
            OpenConnection::Http2(sender) if sender.current_max_send_streams() == 0 => {
                Err(ProxyError::Overflow("upstream_streams"))
            }
            OpenConnection::Http2(sender) => {
                self.http2_connections.borrow_mut().push(Http2Connection::new(sender, self.clock.now()));
                Ok(None)
            }
        }
    }

    /// Opens a connection for a TCP relay. It is never checked in.
    pub(super) async fn connect_raw(&self) -> Result<(Transport, OpenConnectionGuard), ProxyError> {
        let open = self.start_connect()?;
        let opened = connect::raw(self.connect_target(), open).await;
        opened.inspect_err(|error| self.counters.count_connect_failure(error))
    }

    fn connect_target(&self) -> ConnectTarget<'_> {
        ConnectTarget {
            address: &self.endpoint.address,
            timeout: self.connect_timeout,
            tls: self.tls.as_deref(),
            keepalive: self.keepalive,
            max_head_bytes: self.bounds.options.head.bytes,
        }
    }

    fn pop_idle(&self) -> Option<IdleConnection> {
        let mut idle = self.idle.borrow_mut();
        // Skips connections that the endpoint has closed.
        std::iter::from_fn(|| idle.pop()).find(|idle| !self.is_spent(&idle.connection) && idle.connection.is_ready())
    }

    /// Returns true if a connection is sent no further request.
    fn is_spent(&self, connection: &Http1Connection) -> bool {
        self.bounds.is_last(connection.served()) || self.is_too_old(connection.opened())
    }

    fn is_too_old(&self, opened: u32) -> bool {
        self.clock.has_passed(opened, self.bounds.age_sweeps)
    }

    fn start_connect(&self) -> Result<OpenConnectionGuard, ProxyError> {
        if self.open_connections.get() >= MAX_CONNECTIONS_PER_ENDPOINT {
            return Err(ProxyError::Overflow("upstream_connections"));
        }
        self.counters.connects.increment();
        Ok(OpenConnectionGuard::new(&self.open_connections, &self.counters))
    }

    /// Returns a connection with a free stream. Connections that accept no more requests are let go.
    fn with_capacity(&self, reuse: &ReusePolicy) -> Option<Rc<Http2Connection>> {
        let mut connections = self.http2_connections.borrow_mut();
        connections.retain(|connection| {
            !self.bounds.is_last(connection.served()) && !self.is_too_old(connection.opened()) && connection.is_open()
        });
        let may_use = |connection: &Rc<Http2Connection>| match reuse {
            ReusePolicy::AllBut(refused_by) => !Rc::ptr_eq(connection, refused_by),
            ReusePolicy::Allowed | ReusePolicy::Forbidden => true,
        };
        connections.iter().find(|connection| connection.has_capacity() && may_use(connection)).cloned()
    }

    /// Returns the outcome of the connection that is being opened. Starts opening one if necessary.
    ///
    /// A task opens one connection at a time, so that a request that is canceled does not cancel it for the requests
    /// that wait for it.
    fn open_shared(self: &Rc<Self>) -> Result<watch::Receiver<Option<ProxyError>>, ProxyError> {
        if let Some(opening) = &*self.opening.borrow() {
            return Ok(opening.clone());
        }
        let open = self.start_connect()?;
        let (done, opening) = watch::channel(None);
        *self.opening.borrow_mut() = Some(opening.clone());
        let pool = Rc::clone(self);
        drop(task::spawn_local("upstream_connect", async move {
            let opened = pool.connect(pool.protocol, open).await;
            *pool.opening.borrow_mut() = None;
            let failure = match opened.and_then(|opened| pool.add(opened)) {
                Ok(Some(connection)) => {
                    pool.check_in(PooledConnection::Http1 { connection, reused: false });
                    None
                }
                Ok(None) => None,
                Err(error) => Some(error),
            };
            done.send_replace(failure);
        }));
        Ok(opening)
    }

    /// Checks a connection in, or closes it if its request or response is incomplete.
    pub(super) fn check_in(&self, connection: PooledConnection) {
        let PooledConnection::Http1 { connection, .. } = connection else { return };
        let mut idle = self.idle.borrow_mut();
        let is_full = self.closed.get() || idle.len() >= MAX_IDLE_PER_ENDPOINT;
        if is_full || self.is_spent(&connection) || !connection.is_exchange_complete() {
            return connection.close();
        }
        idle.push(IdleConnection { connection, since: self.clock.now() });
    }

    /// Closes connections that were idle too long. Returns whether any connection is still open.
    pub(super) fn sweep(&self) -> bool {
        let is_over = |since| self.clock.has_passed(since, self.bounds.idle_sweeps);
        self.idle
            .borrow_mut()
            .retain(|idle| !is_over(idle.since) && !self.is_spent(&idle.connection) && idle.connection.is_ready());
        self.http2_connections.borrow_mut().retain(|connection| {
            let is_over = |since| is_over(since) || self.is_too_old(connection.opened());
            connection.is_open() && !connection.idle_since().is_some_and(is_over)
        });
        self.open_connections.get() > 0
    }

    /// Closes idle connections now, and each other connection when its request has ended.
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.idle.borrow_mut().clear();
        self.http2_connections.borrow_mut().clear();
    }
}
