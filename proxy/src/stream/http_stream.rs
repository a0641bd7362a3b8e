//! State of a request in flight, and its end. Shared by the request walk, both body adapters and the worker's timeouts.
//! The exchange is borrowed in synchronous sections only (`docs/decisions/001-who-owns-a-stream.md`).

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use http_body::SizeHint;
use tokio::time::Instant;
use weir_model::{EndpointAddress, RouteAction};

use crate::connection::{Connection, record_cluster};
use crate::error::ProxyError;
use crate::filter::{
    Direction, Event, Exchange, FilterStream, HeadChange, LocalReply, PluginHandle, SharedStream, is_grpc,
};
use crate::head::{ROUTING_MARK, RequestHead, ResponseHead};
use crate::incoming::InformationalSink;
use crate::route::Route;
use crate::stream::access::{AccessDecision, AccessState, InFlightRequest};
use crate::stream::body_source::BodyMode;
use crate::stream::grpc_timeout::grpc_timeout;
use crate::stream::received::Expectation;
use crate::stream::response_source::ResponseSource;
use crate::stream::timeouts::{PassedTimeout, StreamTimeouts, request_timeout};
use crate::telemetry::{FailedAttempt, HttpLogFields};
use crate::upstream::Cluster;
use crate::worker::{AccessCheck, HasTimeout, Worker, WorkerConfig};

/// One request and its response, in flight.
pub(super) struct HttpStream {
    /// The worker that the stream runs on.
    pub(super) worker: Rc<Worker>,
    /// The downstream connection.
    pub(super) connection: Rc<Connection>,
    /// The filters, and the exchange that they read and change.
    pub(super) cell: Rc<SharedStream>,
    /// True if the route has filters.
    pub(super) has_filters: bool,
    /// True if routes of the listener match headers, so that a changed header can lead to another route.
    routed_by_headers: bool,
    /// The path of the body, by direction.
    body_modes: [BodyMode; 2],
    /// True if filters may read the headers after they were forwarded, by direction.
    retained_headers: [bool; 2],
    config: Rc<WorkerConfig>,
    route: RefCell<Option<Result<Arc<Route>, ProxyError>>>,
    /// The request as sent, for the access log.
    original: OriginalRequest,
    /// The condition for which the downstream holds its body.
    pub(super) expectation: Expectation,
    /// The receiver of informational responses, if the downstream accepts them.
    pub(super) informational: Option<Rc<dyn InformationalSink>>,
    timeouts: StreamTimeouts,
    timeout_key: Cell<usize>,
    access: AccessState,
    /// The route and the origin of a cross-origin request that the route allows.
    cors: Option<(Arc<Route>, HeaderValue)>,
    finished: Cell<bool>,
}

/// The request as the downstream sent it, for the access log. Filters may change the head afterwards.
struct OriginalRequest {
    method: Method,
    authority: HeaderValue,
    path: http::uri::PathAndQuery,
    version: Version,
    request_id: Option<HeaderValue>,
}

impl OriginalRequest {
    /// Returns the request's head without headers.
    fn head(&self, scheme: &'static str) -> RequestHead {
        RequestHead {
            method: self.method.clone(),
            scheme,
            authority: self.authority.clone(),
            path: self.path.clone(),
            headers: HeaderMap::new(),
            sent_names: None,
            version: self.version,
            upgrade: None,
        }
    }
}

/// A request with all that was decided before its stream starts.
pub(super) struct RoutedRequest {
    /// The configuration of the whole stream (invariant I4).
    pub(super) config: Rc<WorkerConfig>,
    /// The sanitized head.
    pub(super) head: RequestHead,
    pub(super) expectation: Expectation,
    pub(super) informational: Option<Rc<dyn InformationalSink>>,
    /// The route, or the reason for which the request is not served.
    pub(super) route: Result<Arc<Route>, ProxyError>,
    /// The plugins of the route, in request order.
    pub(super) chain: Rc<[PluginHandle]>,
}

/// The end of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StreamEnd {
    /// The response was passed to the codec completely.
    Complete,
    /// The downstream has gone.
    Aborted,
}

impl HttpStream {
    /// Starts a stream, whose timeouts run from now on.
    pub(super) fn start(worker: &Rc<Worker>, connection: &Rc<Connection>, request: RoutedRequest) -> Rc<Self> {
        let RoutedRequest { config, head, expectation, informational, route, chain } = request;
        let table = config.route_table(&connection.listener.name);
        let routed_by_headers = table.is_some_and(|table| table.matches_headers());
        let original = OriginalRequest {
            method: head.method.clone(),
            authority: head.authority.clone(),
            path: head.path.clone(),
            version: head.version,
            request_id: head.headers.get("x-request-id").cloned(),
        };
        let info = connection.stream_info(route.as_ref().ok().map(|route| &*route.model));
        let started = info.started;
        // Until a cluster is chosen. Pauses of filters count as well.
        let forward = match route.as_ref().map(|route| &route.model.action) {
            Ok(RouteAction::Forward(forward)) => Some(forward),
            _ => None,
        };
        let timeout = forward.and_then(|forward| request_timeout(forward, None));
        let honors_grpc_timeout = forward.is_some_and(|forward| forward.timeouts.grpc_timeout) && is_grpc(&head);
        let grpc_timeout = if honors_grpc_timeout { grpc_timeout(&head.headers) } else { None };
        let cors = route.as_ref().ok().and_then(|route| {
            let origin = route.cors()?.allowed_origin(&head)?.clone();
            Some((Arc::clone(route), origin))
        });
        let cell = FilterStream::new(head, info, &chain);
        let mode = |direction| match cell.borrow().needs_body(direction) {
            true => BodyMode::Filtered,
            false => BodyMode::Passthrough,
        };
        let body_modes = [mode(Direction::Request), mode(Direction::Response)];
        let retained_headers = [
            cell.borrow().needs_headers_later(Direction::Request),
            cell.borrow().needs_headers_later(Direction::Response),
        ];
        let stream = Rc::new(Self {
            worker: Rc::clone(worker),
            connection: Rc::clone(connection),
            cell,
            has_filters: !chain.is_empty(),
            routed_by_headers,
            body_modes,
            retained_headers,
            config,
            route: RefCell::new(Some(route)),
            original,
            expectation,
            informational,
            timeouts: StreamTimeouts::new(started, timeout, grpc_timeout),
            timeout_key: Cell::new(0),
            access: AccessState::default(),
            cors,
            finished: Cell::new(false),
        });
        let weak: Weak<dyn HasTimeout> = Rc::downgrade(&stream) as Weak<dyn HasTimeout>;
        stream.timeout_key.set(worker.timeouts.register(weak));
        stream
    }

    /// Returns the route that the request matched, or the error of a request without one. Called once.
    pub(super) fn take_route(&self) -> Result<Arc<Route>, ProxyError> {
        self.route.borrow_mut().take().unwrap_or(Err(ProxyError::NoRoute))
    }

    /// Returns the route after the filters: `initial`, or another route that the changed request matches.
    ///
    /// # Errors
    /// `NoRoute` when no route matches any more, `RouteChangedChain` when the other route has another chain (invariant
    /// I9).
    pub(super) fn reroute_after_filters(&self, initial: Arc<Route>) -> Result<Arc<Route>, ProxyError> {
        if !self.has_filters {
            return Ok(initial);
        }
        let mut cell = self.cell.borrow_mut();
        let exchange = &mut cell.exchange;
        let changed = exchange.request_changes();
        let may_match_another = match changed.head {
            HeadChange::None => false,
            HeadChange::Headers => self.routed_by_headers,
            HeadChange::Target => true,
        };
        if !may_match_another {
            return Ok(initial);
        }
        let table = self.config.route_table(&self.connection.listener.name);
        let route = table.and_then(|table| table.find(&exchange.request)).ok_or(ProxyError::NoRoute)?;
        if Arc::ptr_eq(route, &initial) {
            return Ok(initial);
        }
        if route.model.chain != initial.model.chain {
            return Err(ProxyError::RouteChangedChain);
        }
        exchange.stream_info.route = Some(route.model.name.clone());
        exchange.stream_info.route_metadata = route.model.metadata.clone();
        Ok(Arc::clone(route))
    }

    /// Removes the routing mark that a filter has set, so that no endpoint receives it, and returns it.
    pub(super) fn take_routing_mark(&self) -> Option<HeaderValue> {
        let mut cell = self.cell.borrow_mut();
        let exchange = &mut cell.exchange;
        if !exchange.request_changes().routing_mark {
            return None; // `sanitize` removes the header from downstream requests.
        }
        exchange.request.headers.remove(ROUTING_MARK)
    }

    /// Passes an event to the filters.
    pub(super) fn on_event(&self, event: Event) {
        self.timeouts.on_activity();
        if let Event::Data(Direction::Request, bytes, _) = &event {
            self.add_request_bytes(bytes.len());
        }
        self.cell.borrow_mut().on_event(event);
    }

    /// Sends a local reply for an error, through the filters.
    pub(super) fn reply_with_error(&self, error: &ProxyError) -> ResponseSource {
        self.cell.borrow_mut().exchange.fail(error.clone());
        self.on_event(Event::LocalReply(LocalReply::from_error(error)));
        ResponseSource::local_reply()
    }

    /// Aborts the stream: sends a local reply if it has no reply yet, otherwise resets it. Without effect after its end:
    /// a request's body may fail later, while its connection serves the next request.
    pub(super) fn abort(&self, error: &ProxyError) {
        if self.finished.get() {
            return;
        }
        let mut cell = self.cell.borrow_mut();
        cell.exchange.fail(error.clone());
        let replied = cell.exchange.chain.has_local_reply() || *error == ProxyError::DownstreamGone;
        // A downstream that does not read blocks its response, which would not notice the end of its body.
        if (replied || self.connection.is_responding()) && self.is_http1() {
            self.connection.reset();
        }
        let event = if replied { Event::Reset } else { Event::LocalReply(LocalReply::from_error(error)) };
        cell.on_event(event);
    }

    /// Returns true if the proxy or a filter has replied in place of the upstream.
    pub(super) fn has_reply(&self) -> bool {
        self.cell.borrow().exchange.chain.has_local_reply()
    }

    /// Returns true once a direction was ended early or reset.
    pub(super) fn is_closed(&self, direction: Direction) -> bool {
        self.cell.borrow().exchange.chain.is_closed(direction)
    }

    /// Returns the path of the body of a direction.
    pub(super) fn body_mode(&self, direction: Direction) -> BodyMode {
        self.body_modes[direction as usize]
    }

    /// Returns true if filters may read the headers of a direction after they were forwarded.
    pub(super) fn needs_headers_later(&self, direction: Direction) -> bool {
        self.retained_headers[direction as usize]
    }

    /// Calls `read` with the current request head.
    pub(super) fn with_request<T>(&self, read: impl FnOnce(&RequestHead) -> T) -> T {
        read(&self.cell.borrow().exchange.request)
    }

    /// Returns the response's head for the codec. Headers that filters read when they log stay in the exchange.
    pub(super) fn response_head(&self) -> ResponseHead {
        let mut cell = self.cell.borrow_mut();
        // The output buffer has returned the head, so it exists. The status is a defensive default.
        let (status, reason, sent_names) = match &mut cell.exchange.response {
            Some(head) => (head.status, head.reason.take(), head.sent_names.take()),
            None => (StatusCode::INTERNAL_SERVER_ERROR, None, None),
        };
        ResponseHead {
            status,
            reason,
            sent_names,
            headers: cell.exchange.take_headers(Direction::Response, self.needs_headers_later(Direction::Response)),
        }
    }

    /// Adds the headers of the route's cross-origin policy to a response, if the policy allows the request's origin.
    pub(super) fn apply_cors(&self, headers: &mut HeaderMap) {
        if let Some((route, origin)) = &self.cors
            && let Some(cors) = route.cors()
        {
            cors.apply(origin, headers);
        }
    }

    /// Returns true if the downstream uses HTTP/1.
    pub(super) fn is_http1(&self) -> bool {
        self.original.version <= Version::HTTP_11
    }

    /// Returns true for a HEAD request, whose response has no body.
    pub(super) fn is_head(&self) -> bool {
        self.original.method == Method::HEAD
    }

    /// Records the reason of the response for the access log.
    pub(super) fn record_details(&self, details: &str) {
        self.cell.borrow_mut().exchange.stream_info.details = Some(details.into());
    }

    /// Records the cluster, and the timeout from the request's last byte to the response's end.
    pub(super) fn record_cluster(&self, cluster: &Cluster, timeout: Option<Duration>) {
        let mut cell = self.cell.borrow_mut();
        let info = &mut cell.exchange.stream_info;
        record_cluster(info, cluster);
        self.timeouts.set_request(timeout);
    }

    /// Ends the request timeout: the request has switched to another protocol. The idle timeout holds on.
    pub(super) fn begin_tunnel(&self) {
        self.timeouts.set_request(None);
    }

    /// Records whether bytes of a direction's body have come, or the proxy waits for them.
    pub(super) fn on_body_read<T>(&self, direction: Direction, read: &Poll<T>) {
        self.timeouts.on_body_read(direction, read);
    }

    /// Returns the error of a stream that was idle for too long: of the side for which the proxy waits.
    fn idle_error(&self) -> ProxyError {
        let cell = self.cell.borrow();
        let is_sent = cell.exchange.stream_info.cluster.is_some();
        let has_response = cell.exchange.response.is_some();
        let awaits_endpoint = if has_response { self.timeouts.awaits(Direction::Response) } else { is_sent };
        if awaits_endpoint && !self.timeouts.awaits(Direction::Request) {
            ProxyError::UpstreamIdle
        } else {
            ProxyError::StreamIdle
        }
    }

    /// Records the endpoint of the last attempt.
    pub(super) fn record_endpoint(&self, endpoint: Option<EndpointAddress>, attempts: u32) {
        let mut cell = self.cell.borrow_mut();
        cell.exchange.stream_info.endpoint = endpoint;
        cell.exchange.stream_info.attempts = attempts;
    }

    /// Records the attempts before the last one.
    pub(super) fn record_attempts(&self, failed: Vec<FailedAttempt>) {
        self.cell.borrow_mut().exchange.stream_info.failed_attempts = failed;
    }

    /// Counts body bytes of the request.
    pub(super) fn add_request_bytes(&self, bytes: usize) {
        self.timeouts.on_activity();
        self.cell.borrow_mut().exchange.stream_info.request_bytes += bytes as u64;
    }

    /// Counts body bytes of the response.
    pub(super) fn add_response_bytes(&self, bytes: usize) {
        self.timeouts.on_activity();
        self.cell.borrow_mut().exchange.stream_info.response_bytes += bytes as u64;
    }

    /// Returns true if a direction has been read to its end from the filters' output.
    pub(super) fn is_drained(&self, direction: Direction) -> bool {
        self.cell.borrow_mut().exchange.chain.output(direction).remaining() == Some(0)
    }

    /// Returns the bounds of the remaining body of a direction. Exact once all of it has left the filters.
    pub(super) fn size_hint(&self, direction: Direction) -> SizeHint {
        let remaining = self.cell.borrow_mut().exchange.chain.output(direction).remaining();
        remaining.map_or_else(SizeHint::default, |bytes| SizeHint::with_exact(bytes as u64))
    }

    /// Returns the error that reset the stream. The exchange must not be borrowed.
    pub(super) fn abort_error(&self) -> ProxyError {
        abort_reason(&self.cell.borrow().exchange)
    }

    /// Ends the stream: finishes the filters and writes the access-log entry. Later calls do nothing.
    fn finish(&self, end: StreamEnd) {
        if self.finished.replace(true) {
            return;
        }
        let now = Instant::now();
        self.worker.timeouts.unregister(self.timeout_key.get());
        self.connection.stream_ended(now);
        let mut cell = self.cell.borrow_mut();
        if end == StreamEnd::Aborted {
            cell.exchange.fail(ProxyError::DownstreamGone);
            cell.on_event(Event::Reset);
        }
        cell.exchange.stream_info.finished = Some(now);
        cell.finish();
        self.log(&cell.exchange, now);
    }

    fn log(&self, exchange: &Exchange, now: Instant) {
        let status = exchange.response.as_ref().map_or(0, |response| response.status.as_u16());
        let mut entry = self.connection.access_log_entry(exchange, now);
        let metrics = &self.connection.listener.metrics;
        metrics.request_ended(status, entry.duration);
        if let Some(error) = &exchange.error {
            metrics.failures.increment(error.info().detail);
        }
        if entry.plugin.is_empty() {
            entry.plugin = exchange.stream_info.replied_by.as_deref().unwrap_or_default();
        }
        entry.http = Some(HttpLogFields {
            request_id: self.original.request_id.as_ref().map_or(b"", HeaderValue::as_bytes),
            method: &self.original.method,
            authority: Some(&self.original.authority),
            path: self.original.path.as_str(),
            version: self.original.version,
            status,
        });
        self.worker.access_log.record(&entry);
    }
}

impl HasTimeout for HttpStream {
    fn check_timeout(&self, now: Instant) {
        let error = match self.timeouts.passed(now, self.connection.options.stream_idle_timeout) {
            Some(PassedTimeout::Grpc) => ProxyError::GrpcTimeout,
            Some(PassedTimeout::Request) => ProxyError::RequestTimeout,
            Some(PassedTimeout::Idle) => return self.abort(&self.idle_error()),
            None => return,
        };
        self.timeouts.begin_local_reply(now);
        self.abort(&error);
    }

    fn recheck_access(&self, now: Instant) -> AccessCheck {
        let config = self.worker.config(&self.connection.listener.name);
        if self.finished.get() || Rc::ptr_eq(&config, &self.config) {
            return AccessCheck::Done;
        }
        let target = self.original.head(self.with_request(|request| request.scheme));
        let request = InFlightRequest { cell: &self.cell, connection: &self.connection, config: &config, target };
        match self.access.check(&request, now) {
            AccessDecision::Allowed => AccessCheck::Done,
            AccessDecision::Undecided => AccessCheck::Again,
            AccessDecision::Denied(plugin) => {
                self.abort(&ProxyError::AccessRevoked { plugin });
                AccessCheck::Done
            }
        }
    }
}

/// Ends a stream exactly once: with [`StreamGuard::complete`] when the codec has its last byte, or on drop, when the
/// downstream has gone.
pub(super) struct StreamGuard(Rc<HttpStream>);

impl StreamGuard {
    pub(super) fn new(stream: &Rc<HttpStream>) -> Self {
        Self(Rc::clone(stream))
    }

    /// Ends a stream whose last byte was passed to the codec.
    pub(super) fn complete(self) {
        self.0.finish(StreamEnd::Complete);
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.finish(StreamEnd::Aborted);
    }
}

/// Returns the error that reset a stream.
pub(super) fn abort_reason(exchange: &Exchange) -> ProxyError {
    exchange.error.clone().unwrap_or(ProxyError::DownstreamGone)
}
