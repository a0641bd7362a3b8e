//! What is known of a request in flight, and its end: shared by the walk, both body adapters and the worker's
//! deadlines. The exchange inside is borrowed in synchronous sections only (`docs/decisions/001`).

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};
use http_body::SizeHint;
use hyper::body::Incoming;
use tokio::time::Instant;
use weir_model::limits::DEFAULT_REQUEST_TIMEOUT;

use crate::connection::Connection;
use crate::error::ProxyError;
use crate::filter::{Event, Exchange, FilterStream, LocalReply, Side, StreamCell};
use crate::head::{ROUTING_MARK, RequestHead, ResponseHead};
use crate::limits::STREAM_IDLE_TIMEOUT;
use crate::route::Route;
use crate::stream::sanitize;
use crate::stream::source::Way;
use crate::telemetry::{AccessRecord, RequestRecord};
use crate::upstream::Cluster;
use crate::worker::{Overdue, Worker, WorkerConfig};

/// One request and its response, in flight.
pub(super) struct HttpStream {
    /// Where it runs.
    pub(super) worker: Rc<Worker>,
    /// Where it came in.
    pub(super) connection: Rc<Connection>,
    /// What filters see and change, and they themselves.
    pub(super) cell: Rc<StreamCell>,
    /// True when its route has a chain.
    pub(super) has_filters: bool,
    /// True when a changed header can mean another route.
    routed_by_headers: bool,
    /// How the body of each side goes on.
    ways: [Way; 2],
    /// Whether filters may look at the head of each side after it has gone on.
    keeps_heads: [bool; 2],
    config: Rc<WorkerConfig>,
    route: RefCell<Option<Result<Arc<Route>, ProxyError>>>,
    /// The head's parts that the log needs, when the walk has taken the rest.
    sent: Sent,
    deadline: Cell<Option<Instant>>,
    moved: Cell<Instant>,
    watch: Cell<usize>,
    finished: Cell<bool>,
}

/// What the downstream sent, for the log: filters may change the head afterwards.
struct Sent {
    method: Method,
    authority: HeaderValue,
    path: http::uri::PathAndQuery,
    version: Version,
    request_id: Option<HeaderValue>,
}

impl HttpStream {
    /// Takes a request in: one configuration from here to its end (invariant I4), sanitised, routed, its chain found.
    pub(super) fn start(
        worker: &Rc<Worker>,
        connection: &Rc<Connection>,
        request: Request<Incoming>,
    ) -> (Rc<Self>, Incoming) {
        connection.enter();
        let config = worker.config(&connection.listener.name);
        let (parts, incoming) = request.into_parts();
        let (head, refused) = head_of(parts, connection);
        let table = config.route_table(&connection.listener.name);
        let route = match refused {
            Some(error) => Err(error),
            None => match config.asks_for_more(&connection.listener.name, connection.secured()) {
                Some(reason) => Err(ProxyError::BadRequest(reason)),
                None => table.and_then(|table| table.find(&head)).cloned().ok_or(ProxyError::NoRoute),
            },
        };
        let routed_by_headers = table.is_some_and(|table| table.looks_at_headers());
        let chain = route.as_ref().ok().map(|route| config.chain(route)).unwrap_or_default();
        let sent = Sent {
            method: head.method.clone(),
            authority: head.authority.clone(),
            path: head.path.clone(),
            version: head.version,
            request_id: head.headers.get("x-request-id").cloned(),
        };
        let facts = connection.facts(route.as_ref().ok().map(|route| &*route.model));
        let started = facts.started;
        let deadline = route.as_ref().ok().and_then(|route| first_timeout(route)).map(|timeout| started + timeout);
        let cell = FilterStream::new(head, facts, &chain);
        let way = |side| if cell.borrow().wants_body(side) { Way::Filtered } else { Way::Direct };
        let ways = [way(Side::Request), way(Side::Response)];
        let keeps_heads = [cell.borrow().keeps_head(Side::Request), cell.borrow().keeps_head(Side::Response)];
        let stream = Rc::new(Self {
            worker: Rc::clone(worker),
            connection: Rc::clone(connection),
            cell,
            has_filters: !chain.is_empty(),
            routed_by_headers,
            ways,
            keeps_heads,
            config,
            route: RefCell::new(Some(route)),
            sent,
            deadline: Cell::new(deadline),
            moved: Cell::new(started),
            watch: Cell::new(0),
            finished: Cell::new(false),
        });
        let weak: Weak<dyn Overdue> = Rc::downgrade(&stream) as Weak<dyn Overdue>;
        stream.watch.set(worker.deadlines.watch(weak));
        (stream, incoming)
    }

    /// The route that the request has matched, or why it has none. Asked once.
    pub(super) fn take_route(&self) -> Result<Arc<Route>, ProxyError> {
        self.route.borrow_mut().take().unwrap_or(Err(ProxyError::NoRoute))
    }

    /// The route that the request takes after its filters: the first one, or another that they have made it match, if
    /// that has the same chain (invariant I8b).
    pub(super) fn followed_route(&self, first: Arc<Route>) -> Result<Arc<Route>, ProxyError> {
        if !self.has_filters {
            return Ok(first);
        }
        let mut cell = self.cell.borrow_mut();
        let exchange = &mut cell.exchange;
        let changed = exchange.request_changed();
        if !(changed.target || changed.headers && self.routed_by_headers) {
            return Ok(first);
        }
        let table = self.config.route_table(&self.connection.listener.name);
        let now = table.and_then(|table| table.find(&exchange.request)).ok_or(ProxyError::NoRoute)?;
        if Arc::ptr_eq(now, &first) {
            return Ok(first);
        }
        if now.model.chain != first.model.chain {
            return Err(ProxyError::RouteChangedChain);
        }
        exchange.facts.route = Some(now.model.name.clone());
        exchange.facts.route_metadata = now.model.metadata.clone();
        Ok(Arc::clone(now))
    }

    /// The routing mark that a filter has set, taken out of the request: no endpoint sees it.
    pub(super) fn take_mark(&self) -> Option<HeaderValue> {
        let mut cell = self.cell.borrow_mut();
        let exchange = &mut cell.exchange;
        if !exchange.request_changed().mark {
            return None; // What came from outside has no such header: see `sanitize`.
        }
        exchange.request.headers.remove(ROUTING_MARK)
    }

    /// Takes an event to the filters.
    pub(super) fn on_event(&self, event: Event) {
        self.moved.set(Instant::now());
        if let Event::Data(Side::Request, bytes) | Event::LastData(Side::Request, bytes) = &event {
            self.count_in(bytes.len());
        }
        self.cell.borrow_mut().on_event(event);
    }

    /// Answers with an error, through the filters.
    pub(super) fn answer(&self, error: &ProxyError) -> super::handle::Origin {
        self.cell.borrow_mut().exchange.fail(error.clone());
        self.on_event(Event::Reply(LocalReply::of_error(error)));
        super::handle::Origin::local()
    }

    /// The stream cannot go on: answers if nothing was answered yet, else breaks off.
    pub(super) fn break_off(&self, error: &ProxyError) {
        let mut cell = self.cell.borrow_mut();
        cell.exchange.fail(error.clone());
        let answered = cell.exchange.chain.is_answered() || *error == ProxyError::DownstreamGone;
        let event = if answered { Event::Broken } else { Event::Reply(LocalReply::of_error(error)) };
        cell.on_event(event);
    }

    /// True once the proxy or a filter has answered instead of the upstream.
    pub(super) fn is_answered(&self) -> bool {
        self.cell.borrow().exchange.chain.is_answered()
    }

    /// How the body of a side goes on.
    pub(super) fn wants_body(&self, side: Side) -> Way {
        self.ways[side as usize]
    }

    /// Whether filters may look at the head of a side after it has gone on.
    pub(super) fn keeps_head(&self, side: Side) -> bool {
        self.keeps_heads[side as usize]
    }

    /// Looks at the request's head as it is now.
    pub(super) fn with_request<T>(&self, look: impl FnOnce(&RequestHead) -> T) -> T {
        look(&self.cell.borrow().exchange.request)
    }

    /// The response's head, for hyper. What filters read in their logs stays in the exchange.
    pub(super) fn response_head(&self) -> ResponseHead {
        let mut cell = self.cell.borrow_mut();
        // An outlet has given the head, so there is one; were there none, an empty 500 would say so.
        let status = cell.exchange.response.as_ref().map_or(StatusCode::INTERNAL_SERVER_ERROR, |it| it.status);
        ResponseHead { status, headers: cell.exchange.take_headers(Side::Response, self.keeps_head(Side::Response)) }
    }

    /// True when the downstream speaks HTTP/1.
    pub(super) fn is_http1(&self) -> bool {
        self.sent.version <= Version::HTTP_11
    }

    /// True for a request whose response has no body.
    pub(super) fn is_head(&self) -> bool {
        self.sent.method == Method::HEAD
    }

    /// Remembers why the answer is as it is.
    pub(super) fn note_details(&self, details: &str) {
        self.cell.borrow_mut().exchange.facts.details = Some(details.into());
    }

    /// Remembers the cluster, and how long the whole may take from the request's head on.
    pub(super) fn note_cluster(&self, cluster: &Cluster, timeout: Option<Duration>) {
        let mut cell = self.cell.borrow_mut();
        let facts = &mut cell.exchange.facts;
        facts.cluster = Some(cluster.model().name.clone());
        facts.cluster_metadata = cluster.model().metadata.clone();
        facts.endpoints = cluster.endpoints().len() as u64;
        self.deadline.set(timeout.map(|timeout| facts.started + timeout));
    }

    /// Remembers who answered, or was asked last.
    pub(super) fn note_endpoint(&self, endpoint: Option<SocketAddr>, attempts: u32) {
        let mut cell = self.cell.borrow_mut();
        cell.exchange.facts.endpoint = endpoint;
        cell.exchange.facts.attempts = attempts;
    }

    /// Counts body bytes of the request.
    pub(super) fn count_in(&self, bytes: usize) {
        self.moved.set(Instant::now());
        self.cell.borrow_mut().exchange.facts.request_bytes += bytes as u64;
    }

    /// Counts body bytes of the response.
    pub(super) fn count_out(&self, bytes: usize) {
        self.moved.set(Instant::now());
        self.cell.borrow_mut().exchange.facts.response_bytes += bytes as u64;
    }

    /// True when everything of a side has left the filters and was taken.
    pub(super) fn is_out(&self, side: Side) -> bool {
        self.cell.borrow_mut().exchange.chain.outlet(side).remaining() == Some(0)
    }

    /// How much of a side's body is to come: exact once all of it has left the filters.
    pub(super) fn size_hint(&self, side: Side) -> SizeHint {
        let remaining = self.cell.borrow_mut().exchange.chain.outlet(side).remaining();
        remaining.map_or_else(SizeHint::default, |bytes| SizeHint::with_exact(bytes as u64))
    }

    /// Why the stream broke off.
    #[expect(clippy::unused_self, reason = "reads as the stream's own answer; the exchange is borrowed by its caller")]
    pub(super) fn why_broken(&self, exchange: &Exchange) -> ProxyError {
        exchange.error.clone().unwrap_or(ProxyError::DownstreamGone)
    }

    /// Why the stream broke off, when its exchange is not borrowed.
    pub(super) fn broken(&self) -> ProxyError {
        self.why_broken(&self.cell.borrow().exchange)
    }

    /// The end: filters log and forget the stream, the access log gets its line. Once.
    fn finish(&self, whole: bool) {
        if self.finished.replace(true) {
            return;
        }
        let now = Instant::now();
        self.worker.deadlines.forget(self.watch.get());
        self.connection.leave(now);
        let mut cell = self.cell.borrow_mut();
        if !whole {
            cell.exchange.fail(ProxyError::DownstreamGone);
            cell.on_event(Event::Broken);
        }
        cell.exchange.facts.finished = Some(now);
        cell.finish();
        self.log(&cell.exchange, now);
    }

    fn log(&self, exchange: &Exchange, now: Instant) {
        let facts = &exchange.facts;
        let status = exchange.response.as_ref().map_or(0, |response| response.status.as_u16());
        let duration = now.duration_since(facts.started);
        self.connection.listener.metrics.request_ended(status, duration);
        let plugin_failed = exchange.error.as_ref().and_then(ProxyError::plugin);
        self.worker.access_log.record(&AccessRecord {
            started: facts.started_at,
            duration,
            listener: self.connection.listener.name.as_str(),
            peer: self.connection.peer,
            peer_identity: self.connection.identity.get().map(|identity| &**identity),
            request: Some(RequestRecord {
                request_id: self.sent.request_id.as_ref().map_or(b"", HeaderValue::as_bytes),
                method: &self.sent.method,
                authority: Some(&self.sent.authority),
                path: self.sent.path.as_str(),
                version: self.sent.version,
                status,
            }),
            route: facts.route.as_ref().map_or("", |route| route.as_str()),
            cluster: facts.cluster.as_ref().map_or("", |cluster| cluster.as_str()),
            endpoint: facts.endpoint,
            attempts: facts.attempts,
            bytes_in: facts.request_bytes,
            bytes_out: facts.response_bytes,
            failure: exchange.error.as_ref(),
            details: facts.details.as_deref().unwrap_or_default(),
            plugin: plugin_failed.or(facts.replied_by.as_deref()).unwrap_or_default(),
            values: &facts.values,
        });
    }
}

impl Overdue for HttpStream {
    fn check(&self, now: Instant) {
        if self.deadline.get().is_some_and(|deadline| now >= deadline) {
            // An answer that filters hold back gets as long as a request's default, not for ever.
            self.deadline.set(Some(now + DEFAULT_REQUEST_TIMEOUT));
            self.break_off(&ProxyError::RequestTimeout);
        } else if now.duration_since(self.moved.get()) > STREAM_IDLE_TIMEOUT {
            self.break_off(&ProxyError::StreamIdle);
        }
    }
}

/// Ends a stream exactly once: with `whole` when its last byte was given to hyper, else when it is dropped, because the
/// downstream has gone.
pub(super) struct Finisher(Rc<HttpStream>);

impl Finisher {
    pub(super) fn of(stream: &Rc<HttpStream>) -> Self {
        Self(Rc::clone(stream))
    }

    /// The last byte has gone.
    pub(super) fn whole(self) {
        self.0.finish(true);
    }
}

impl Drop for Finisher {
    fn drop(&mut self) {
        self.0.finish(false);
    }
}

/// The head as the proxy goes on with it; when it is refused, as much of it as the log can show, and why.
fn head_of(parts: http::request::Parts, connection: &Connection) -> (RequestHead, Option<ProxyError>) {
    let (method, uri, version) = (parts.method.clone(), parts.uri.clone(), parts.version);
    let scheme = if connection.is_tls() { "https" } else { "http" };
    match sanitize::request(parts, connection.peer.ip(), scheme) {
        Ok(head) => (head, None),
        Err(error) => {
            let path = uri.path_and_query().cloned();
            let authority = uri.authority().and_then(|it| HeaderValue::from_str(it.as_str()).ok());
            let head = RequestHead {
                method,
                scheme,
                authority: authority.unwrap_or_else(|| HeaderValue::from_static("")),
                path: path.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")),
                headers: HeaderMap::new(),
                version,
            };
            (head, Some(error))
        }
    }
}

/// How long the whole may take, before a cluster is chosen: filters that hold a request back count too.
fn first_timeout(route: &Route) -> Option<Duration> {
    let weir_model::RouteAction::Forward(to) = &route.model.action else { return None };
    let asked = to.timeouts.request.unwrap_or(DEFAULT_REQUEST_TIMEOUT);
    (!asked.is_zero()).then_some(asked)
}
