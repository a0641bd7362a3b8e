//! A connection of a TCP listener: its filters, its endpoint, bytes in both directions, its line in the access log.
//!
//! ```text
//! serve ─► filters: a new connection ─► open_tunnel ─► relay until both directions have ended ─► filters and log: closed
//! ```

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::sync::Notify;
use tokio::time::Instant;
use weir_host_abi::abi::stream::PeerKind;

use crate::connection::Connection;
use crate::connection::relay::{Progress, Relay};
use crate::error::ProxyError;
use crate::filter::{Event, FilterStream, MessageEnd, StreamCell};
use crate::limits::{TCP_IDLE_TIMEOUT, TCP_LINGER_TIME};
use crate::route::Route;
use crate::telemetry::AccessRecord;
use crate::tls::Transport;
use crate::upstream::{SendFailure, Tunnel, TunnelPlace, open_tunnel};
use crate::worker::{Overdue, Worker, WorkerConfig};

/// Serves a connection until both directions have ended or nothing moves for too long; its listener drops it at the end
/// of its drain.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    config: &Rc<WorkerConfig>,
    transport: Transport,
) {
    connection.enter();
    let route = config.route_table(&connection.listener.name).and_then(|table| table.only()).cloned();
    let session = Session::new(worker, connection, config, route.as_ref());
    let idle = Rc::new(Idle { moved: Cell::new(Instant::now()), is_over: Notify::new() });
    let weak: Weak<dyn Overdue> = Rc::downgrade(&idle) as Weak<dyn Overdue>;
    let watch = worker.deadlines.watch(weak);
    let mut relay = Relay::new(&session.cell, transport);
    tokio::select! {
        closed_by = session.run(route.as_ref(), &mut relay, &idle) => session.closed_by.set(Some(closed_by)),
        () = idle.is_over.notified() => session.fail(ProxyError::StreamIdle),
    }
    worker.deadlines.forget(watch);
    let unread = relay.into_unread();
    drop(session);
    if let Some(downstream) = unread {
        drop(tokio::time::timeout(TCP_LINGER_TIME, read_out(downstream)).await);
    }
}

/// Reads what nobody wants any more.
async fn read_out(mut downstream: Transport) {
    let mut buffer = [0; 4096];
    while matches!(downstream.read(&mut buffer).await, Ok(1..)) {}
}

/// When something has moved last.
struct Idle {
    moved: Cell<Instant>,
    is_over: Notify,
}

impl Overdue for Idle {
    fn check(&self, now: Instant) {
        if now.duration_since(self.moved.get()) > TCP_IDLE_TIMEOUT {
            self.is_over.notify_one();
        }
    }
}

/// A connection and its filters. Ends, for filters and for the log, when it is dropped.
struct Session<'a> {
    worker: &'a Rc<Worker>,
    connection: &'a Rc<Connection>,
    cell: Rc<StreamCell>,
    /// Who has closed it, once somebody has.
    closed_by: Cell<Option<PeerKind>>,
}

impl<'a> Session<'a> {
    fn new(
        worker: &'a Rc<Worker>,
        connection: &'a Rc<Connection>,
        config: &WorkerConfig,
        route: Option<&Arc<Route>>,
    ) -> Self {
        let chain = route.map(|route| config.chain(route)).unwrap_or_default();
        let cell = FilterStream::of_connection(connection.facts(route.map(|route| &*route.model)), &chain);
        Self { worker, connection, cell, closed_by: Cell::new(None) }
    }

    /// Moves bytes until the end; says who has closed the downstream connection.
    async fn run(&self, route: Option<&Arc<Route>>, relay: &mut Relay<'_>, idle: &Idle) -> PeerKind {
        self.cell.borrow_mut().on_event(Event::Request(MessageEnd::Later));
        let mut place = None;
        loop {
            let progress = poll_fn(|context| relay.poll(context, &idle.moved)).await;
            match progress {
                Progress::Admitted => place = self.connect(route, relay).await,
                Progress::Ended(closed_by) => {
                    drop(place);
                    return closed_by;
                }
            }
        }
    }

    /// Opens a connection to an endpoint, once the filters have let the downstream in.
    async fn connect(&self, route: Option<&Arc<Route>>, relay: &mut Relay<'_>) -> Option<TunnelPlace> {
        let target = route.and_then(|route| route.pick_target(self.worker.draw()));
        let Some(target) = target else {
            self.lose_upstream(no_target(route));
            return None;
        };
        {
            let facts = &mut self.cell.borrow_mut().exchange.facts;
            facts.cluster = Some(target.model().name.clone());
            facts.cluster_metadata = target.model().metadata.clone();
            facts.endpoints = target.endpoints().len() as u64;
        }
        match open_tunnel(&self.worker.upstreams, target).await {
            Ok(Tunnel { transport, endpoint, attempts, place }) => {
                self.note_endpoint(Some(endpoint), attempts);
                relay.connect(transport);
                self.cell.borrow_mut().on_event(Event::Connected);
                Some(place)
            }
            Err(SendFailure { error, endpoint, attempts }) => {
                self.note_endpoint(endpoint, attempts);
                self.lose_upstream(error);
                None
            }
        }
    }

    fn note_endpoint(&self, endpoint: Option<std::net::SocketAddr>, attempts: u32) {
        let facts = &mut self.cell.borrow_mut().exchange.facts;
        (facts.endpoint, facts.attempts) = (endpoint, attempts);
    }

    fn lose_upstream(&self, error: ProxyError) {
        self.fail(error);
        self.cell.borrow_mut().on_event(Event::Shut);
    }

    fn fail(&self, error: ProxyError) {
        self.cell.borrow_mut().exchange.fail(error);
    }
}

/// Why a connection goes nowhere.
fn no_target(route: Option<&Arc<Route>>) -> ProxyError {
    match route.map(|route| &route.model.action) {
        None => ProxyError::NoRoute,
        Some(weir_model::RouteAction::Respond(response)) => ProxyError::NoTarget(response.detail.to_string()),
        Some(_) => ProxyError::NoTarget("no_backend_weight".to_owned()),
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        self.connection.leave(now);
        let mut cell = self.cell.borrow_mut();
        cell.exchange.facts.finished = Some(now);
        if self.closed_by.get().is_none() && cell.exchange.error.is_none() {
            cell.exchange.facts.details = Some("drain_deadline".into()); // Its listener gives up what has not ended.
        }
        cell.finish_connection(self.closed_by.get().unwrap_or(PeerKind::Local));
        let (facts, error) = (&cell.exchange.facts, cell.exchange.error.as_ref());
        self.worker.access_log.record(&AccessRecord {
            started: facts.started_at,
            duration: now.duration_since(facts.started),
            listener: self.connection.listener.name.as_str(),
            peer: self.connection.peer,
            peer_identity: self.connection.identity.get().map(|identity| &**identity),
            request: None,
            route: facts.route.as_ref().map_or("", |route| route.as_str()),
            cluster: facts.cluster.as_ref().map_or("", |cluster| cluster.as_str()),
            endpoint: facts.endpoint,
            attempts: facts.attempts,
            bytes_in: facts.request_bytes,
            bytes_out: facts.response_bytes,
            failure: error,
            details: facts.details.as_deref().unwrap_or_default(),
            plugin: error.and_then(ProxyError::plugin).unwrap_or_default(),
            values: &facts.values,
        });
    }
}
