//! One worker's open connections to one endpoint: idle HTTP/1.1 connections, the last used first, and HTTP/2 connections
//! shared by many requests. Called by `attempt` (check out), by a [`Lease`](super::Lease) when it ends (give back) and
//! by the worker's sweep.
//!
//! A connection is given back only when hyper itself asks for the next request on it, which it does when the response
//! was read to its end *and* the request was written to its end. Everything else is closed, so that no rest of one
//! request can ever be read as part of another (Pingora's CVE-2025-4366).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use tokio::sync::watch;
use weir_model::UpstreamProtocol;

use super::cluster::Shard;
use super::connect::{self, Heard, Open, Proof, Way};
use super::endpoints::Endpoint;
use crate::body::Body;
use crate::error::ProxyError;
use crate::identity::Identity;
use crate::limits::{
    MAX_CONNECTIONS_PER_ENDPOINT, MAX_IDLE_PER_ENDPOINT, MAX_STREAMS_PER_UPSTREAM_CONNECTION, UPSTREAM_IDLE_SWEEPS,
};
use crate::task;
use crate::tls::Transport;

/// Counts sweeps, so that nobody has to ask for the time when a connection falls idle.
#[derive(Debug, Default)]
pub(super) struct Clock(Cell<u32>);

impl Clock {
    pub(super) fn advance(&self) {
        self.0.set(self.0.get().wrapping_add(1));
    }

    fn is_over(&self, since: u32) -> bool {
        self.0.get().wrapping_sub(since) >= UPSTREAM_IDLE_SWEEPS
    }
}

/// Whether a connection that has served before will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reuse {
    /// Any will do.
    Allowed,
    /// The last one turned out to be closed, so the others may be too.
    Refused,
}

/// One worker's connections to one endpoint.
pub(super) struct Pool {
    endpoint: Arc<Endpoint>,
    protocol: UpstreamProtocol,
    connect_timeout: Duration,
    /// Who the endpoint must be.
    proof: Option<Proof>,
    shard: Arc<Shard>,
    clock: Rc<Clock>,
    /// Requests whose response has not ended.
    load: Cell<u32>,
    open: Rc<Cell<usize>>,
    /// Nothing is given back any more.
    closed: Cell<bool>,
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Vec<Rc<Shared>>>,
    opening: RefCell<Option<watch::Receiver<Option<ProxyError>>>>,
}

struct Idle {
    sender: http1::SendRequest<Body>,
    heard: Rc<Heard>,
    since: u32,
}

/// An HTTP/2 connection.
pub(super) struct Shared {
    sender: http2::SendRequest<Body>,
    streams: Cell<u32>,
    /// It has served a request before.
    used: Cell<bool>,
    /// No new requests: it is about to end.
    retired: Cell<bool>,
    idle_since: Cell<u32>,
}

/// A connection for one request.
pub(super) enum Connection {
    /// For this request alone.
    Http1 { sender: http1::SendRequest<Body>, heard: Rc<Heard>, reused: bool },
    /// For this request and others.
    Http2 { stream: StreamPlace, reused: bool },
}

/// One of the streams of an HTTP/2 connection; free again when dropped.
pub(super) struct StreamPlace {
    shared: Rc<Shared>,
    clock: Rc<Clock>,
}

impl StreamPlace {
    pub(super) fn sender(&self) -> http2::SendRequest<Body> {
        self.shared.sender.clone()
    }

    /// Keeps new requests off the connection.
    pub(super) fn retire(&self) {
        self.shared.retired.set(true);
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.shared.streams.set(self.shared.streams.get() - 1);
        self.shared.idle_since.set(self.clock.0.get());
    }
}

impl Pool {
    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        model: &weir_model::Cluster,
        (shard, clock): (&Arc<Shard>, &Rc<Clock>),
        identity: &Arc<Identity>,
    ) -> Rc<Self> {
        let asked = model.tls.as_ref();
        Rc::new(Self {
            endpoint,
            protocol: model.protocol,
            connect_timeout: model.connect_timeout,
            proof: asked.map(|tls| Proof { identity: Arc::clone(identity), workload: tls.workload.clone() }),
            shard: Arc::clone(shard),
            clock: Rc::clone(clock),
            load: Cell::new(0),
            open: Rc::default(),
            closed: Cell::new(false),
            idle: RefCell::default(),
            shared: RefCell::default(),
            opening: RefCell::default(),
        })
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// How busy the endpoint is, as far as this worker knows.
    pub(super) fn load(&self) -> u32 {
        self.load.get()
    }

    pub(super) fn begin_request(&self) {
        self.load.set(self.load.get() + 1);
        self.shard.in_flight.increment();
    }

    pub(super) fn end_request(&self) {
        self.load.set(self.load.get() - 1);
        self.shard.in_flight.decrement();
    }

    /// A connection for one request: an open one, or a new one.
    pub(super) async fn check_out(self: &Rc<Self>, reuse: Reuse) -> Result<Connection, ProxyError> {
        match self.protocol {
            UpstreamProtocol::Http1 => self.check_out_http1(reuse).await,
            UpstreamProtocol::Http2 => self.check_out_http2().await,
        }
    }

    async fn check_out_http1(&self, reuse: Reuse) -> Result<Connection, ProxyError> {
        if reuse == Reuse::Allowed
            && let Some(Idle { sender, heard, .. }) = self.last_used()
        {
            heard.forget();
            return Ok(Connection::Http1 { sender, heard, reused: true });
        }
        let open = self.begin_open()?;
        // In memory of its own: with a TLS handshake it is larger than everything else of a request, and rare.
        let opened = Box::pin(connect::http1(self.way(), open)).await;
        let (sender, heard) = opened.inspect_err(|_| self.shard.connect_failures.increment())?;
        Ok(Connection::Http1 { sender, heard, reused: false })
    }

    /// A new connection for the bytes of one downstream connection: it is never given back.
    pub(super) async fn open_for_bytes(&self) -> Result<(Transport, Open), ProxyError> {
        let open = self.begin_open()?;
        connect::bytes(self.way(), open).await.inspect_err(|_| self.shard.connect_failures.increment())
    }

    fn way(&self) -> Way<'_> {
        Way { address: self.endpoint.address, timeout: self.connect_timeout, proof: self.proof.as_ref() }
    }

    fn last_used(&self) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        // Those that the endpoint has closed are passed over.
        std::iter::from_fn(|| idle.pop()).find(|idle| idle.sender.is_ready())
    }

    fn begin_open(&self) -> Result<Open, ProxyError> {
        if self.open.get() >= MAX_CONNECTIONS_PER_ENDPOINT {
            return Err(ProxyError::Overflow("upstream_connections"));
        }
        self.shard.connects.increment();
        Ok(Open::new(&self.open, &self.shard))
    }

    async fn check_out_http2(self: &Rc<Self>) -> Result<Connection, ProxyError> {
        loop {
            if let Some(shared) = self.with_room() {
                shared.streams.set(shared.streams.get() + 1);
                let reused = shared.used.replace(true);
                return Ok(Connection::Http2 { stream: StreamPlace { shared, clock: Rc::clone(&self.clock) }, reused });
            }
            let mut opening = self.opening()?;
            if opening.changed().await.is_err() {
                *self.opening.borrow_mut() = None; // The task has gone, so this request opens the connection.
            } else if let Some(error) = opening.borrow().clone() {
                return Err(error);
            }
        }
    }

    fn with_room(&self) -> Option<Rc<Shared>> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|shared| !shared.retired.get() && !shared.sender.is_closed());
        shared.iter().find(|shared| shared.streams.get() < MAX_STREAMS_PER_UPSTREAM_CONNECTION).cloned()
    }

    /// The connection that is being opened now: one at a time, in a task, so that a request that gives up does not take
    /// it away from those who wait too.
    fn opening(self: &Rc<Self>) -> Result<watch::Receiver<Option<ProxyError>>, ProxyError> {
        if let Some(opening) = &*self.opening.borrow() {
            return Ok(opening.clone());
        }
        let open = self.begin_open()?;
        let (done, opening) = watch::channel(None);
        *self.opening.borrow_mut() = Some(opening.clone());
        let pool = Rc::clone(self);
        drop(task::spawn_local("upstream_http2_connect", async move {
            let opened = connect::http2(pool.way(), open).await;
            *pool.opening.borrow_mut() = None;
            let failure = match opened {
                Ok(sender) => {
                    pool.share(sender);
                    None
                }
                Err(error) => {
                    pool.shard.connect_failures.increment();
                    Some(error)
                }
            };
            done.send_replace(failure);
        }));
        Ok(opening)
    }

    fn share(&self, sender: http2::SendRequest<Body>) {
        self.shared.borrow_mut().push(Rc::new(Shared {
            sender,
            streams: Cell::new(0),
            used: Cell::new(false),
            retired: Cell::new(false),
            idle_since: Cell::new(self.clock.0.get()),
        }));
    }

    /// Takes a connection back, or closes it when it is not at the end of a request and a response.
    pub(super) fn give_back(&self, connection: Connection) {
        let Connection::Http1 { sender, heard, .. } = connection else { return };
        if self.closed.get() || !sender.is_ready() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_IDLE_PER_ENDPOINT {
            idle.push(Idle { sender, heard, since: self.clock.0.get() });
        }
    }

    /// Closes what has been idle too long; says whether any connection is still open.
    pub(super) fn sweep(&self) -> bool {
        let over = |since| self.clock.is_over(since);
        self.idle.borrow_mut().retain(|idle| !over(idle.since) && !idle.sender.is_closed());
        self.shared.borrow_mut().retain(|shared| {
            !shared.sender.is_closed() && (shared.streams.get() > 0 || !over(shared.idle_since.get()))
        });
        self.open.get() > 0
    }

    /// Closes what is idle now, and each other connection when its request has ended.
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.idle.borrow_mut().clear();
        self.shared.borrow_mut().clear();
    }
}
