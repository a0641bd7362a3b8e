//! A connection of a TCP listener: its network filters, its endpoint, and its entry in the access log.
//!
//! ```text
//! serve ─► filters: new connection ─► connect_tcp ─► relay until both directions have ended ─► filters and log: closed
//! ```

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::sync::Notify;
use tokio::time::Instant;
use weir_host_abi::abi::stream::PeerKind;
use weir_model::EndpointAddress;

use crate::connection::{Connection, record_cluster};
use crate::error::{NO_BACKEND_WEIGHT, ProxyError};
use crate::filter::{EndOfStream, Event, FilterStream, SharedStream};
use crate::limits::{TCP_IDLE_TIMEOUT, TCP_LINGER_TIMEOUT};
use crate::route::Route;
use crate::server::relay::{RelayEvent, TcpRelay};
use crate::telemetry::FailedAttempt;
use crate::tls::Transport;
use crate::upstream::{SendError, TcpUpstream, TcpUpstreamGuard, connect_tcp};
use crate::worker::{HasTimeout, Worker, WorkerConfig};

/// Serves a connection until both directions have ended, or nothing moves for [`TCP_IDLE_TIMEOUT`].
///
/// At the end of its drain the listener drops it.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    config: &Rc<WorkerConfig>,
    transport: Transport,
) {
    connection.stream_started();
    let route = config.route_table(&connection.listener.name).and_then(|table| table.tcp_route()).cloned();
    let session = TcpSession::new(worker, connection, config, route.as_ref());
    let idle = Rc::new(IdleTimer { last_activity: Cell::new(Instant::now()), timed_out: Notify::new() });
    let weak: Weak<dyn HasTimeout> = Rc::downgrade(&idle) as Weak<dyn HasTimeout>;
    let timeout_key = worker.timeouts.register(weak);
    let mut relay = TcpRelay::new(&session.cell, transport);
    tokio::select! {
        closed_by = session.run(route.as_ref(), &mut relay, &idle) => session.closed_by.set(Some(closed_by)),
        () = idle.timed_out.notified() => session.fail(ProxyError::StreamIdle),
    }
    worker.timeouts.unregister(timeout_key);
    let lingering = relay.into_lingering_downstream();
    drop(session);
    if let Some(downstream) = lingering {
        drop(tokio::time::timeout(TCP_LINGER_TIMEOUT, discard_unread(downstream)).await);
    }
}

/// Reads and discards bytes until the downstream closes.
async fn discard_unread(mut downstream: Transport) {
    let mut buffer = [0; 4096];
    while matches!(downstream.read(&mut buffer).await, Ok(1..)) {}
}

/// The idle timeout of a TCP connection.
struct IdleTimer {
    last_activity: Cell<Instant>,
    timed_out: Notify,
}

impl HasTimeout for IdleTimer {
    fn check_timeout(&self, now: Instant) {
        if now.duration_since(self.last_activity.get()) > TCP_IDLE_TIMEOUT {
            self.timed_out.notify_one();
        }
    }
}

/// A connection and its filters. Dropping it finishes the filters and writes the access-log entry.
struct TcpSession<'a> {
    worker: &'a Rc<Worker>,
    connection: &'a Rc<Connection>,
    cell: Rc<SharedStream>,
    /// The peer that closed the connection, once one has.
    closed_by: Cell<Option<PeerKind>>,
}

impl<'a> TcpSession<'a> {
    fn new(
        worker: &'a Rc<Worker>,
        connection: &'a Rc<Connection>,
        config: &WorkerConfig,
        route: Option<&Arc<Route>>,
    ) -> Self {
        let chain = route.map(|route| config.chain(route)).unwrap_or_default();
        let cell = FilterStream::new_tcp(connection.stream_info(route.map(|route| &*route.model)), &chain);
        Self { worker, connection, cell, closed_by: Cell::new(None) }
    }

    /// Relays bytes until the end. Returns the peer that closed the downstream connection.
    async fn run(&self, route: Option<&Arc<Route>>, relay: &mut TcpRelay<'_>, idle: &IdleTimer) -> PeerKind {
        self.cell.borrow_mut().on_event(Event::RequestHeaders(EndOfStream::No));
        let mut guard = None;
        loop {
            let event = poll_fn(|context| relay.poll(context, &idle.last_activity)).await;
            match event {
                RelayEvent::ConnectUpstream => guard = self.connect(route, relay).await,
                RelayEvent::Closed(closed_by) => {
                    drop(guard);
                    return closed_by;
                }
            }
        }
    }

    /// Connects to an endpoint, after the filters have admitted the downstream.
    async fn connect(&self, route: Option<&Arc<Route>>, relay: &mut TcpRelay<'_>) -> Option<TcpUpstreamGuard> {
        let target = route.and_then(|route| route.pick_target(self.worker.random_u32())).map(|target| target.cluster);
        let Some(target) = target else {
            self.fail_upstream(missing_target_error(route));
            return None;
        };
        record_cluster(&mut self.cell.borrow_mut().exchange.stream_info, target);
        match connect_tcp(&self.worker.upstreams, target).await {
            Ok(TcpUpstream { transport, endpoint, attempts, failed, guard }) => {
                self.record_attempts(failed);
                self.record_endpoint(Some(endpoint), attempts);
                relay.set_upstream(transport);
                self.cell.borrow_mut().on_event(Event::UpstreamConnected);
                Some(guard)
            }
            Err(SendError { error, endpoint, attempts, failed }) => {
                self.record_attempts(failed);
                self.record_endpoint(endpoint, attempts);
                self.fail_upstream(error);
                None
            }
        }
    }

    fn record_attempts(&self, failed: Vec<FailedAttempt>) {
        self.cell.borrow_mut().exchange.stream_info.failed_attempts = failed;
    }

    fn record_endpoint(&self, endpoint: Option<EndpointAddress>, attempts: u32) {
        let info = &mut self.cell.borrow_mut().exchange.stream_info;
        (info.endpoint, info.attempts) = (endpoint, attempts);
    }

    fn fail_upstream(&self, error: ProxyError) {
        self.fail(error);
        self.cell.borrow_mut().on_event(Event::UpstreamClosed);
    }

    fn fail(&self, error: ProxyError) {
        self.cell.borrow_mut().exchange.fail(error);
    }
}

/// Returns the error of a connection that has no target.
fn missing_target_error(route: Option<&Arc<Route>>) -> ProxyError {
    match route.map(|route| &route.model.action) {
        None => ProxyError::NoRoute,
        Some(weir_model::RouteAction::Respond(response)) => ProxyError::NoTarget(response.detail.to_string()),
        Some(_) => ProxyError::NoTarget(NO_BACKEND_WEIGHT.to_owned()),
    }
}

impl Drop for TcpSession<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        self.connection.stream_ended(now);
        let mut cell = self.cell.borrow_mut();
        cell.exchange.stream_info.finished = Some(now);
        if self.closed_by.get().is_none() && cell.exchange.error.is_none() {
            // Its listener drops what has not closed.
            cell.exchange.stream_info.details = Some("drain_deadline".into());
        }
        cell.finish_tcp(self.closed_by.get().unwrap_or(PeerKind::Local));
        self.worker.access_log.record(&self.connection.access_log_entry(&cell.exchange, now));
    }
}
