//! Decides whether and how a failed attempt is followed by another one.
//!
//! By default only when no endpoint can have acted on the request, because repeating a `POST` could pay twice:
//!
//! - No connection could be opened: at another endpoint.
//! - An HTTP/2 endpoint has declared that it did not process the request (RFC 9113 §8.7): at another endpoint if there
//!   is one, else on another connection.
//! - A connection that had served before was closed before the request was written: on a new connection.
//! - The request was written on such a connection, which was then closed (the keep-alive race): on a new connection.
//!   The request must have no body and an idempotent method (RFC 9110 §9.2.2), and no byte of a response must have
//!   come.
//!
//! A route's retry policy adds retries after an endpoint may have acted on the request: of idempotent requests, and of
//! others if the policy allows it. They wait for a back-off, and the cluster's retry budget bounds them.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, Request, StatusCode};
use http_body::Body as _;
use weir_model::{EndpointAddress, RetryPolicy};

use super::ejection::outcome_of;
use super::http2::Http2Connection;
use super::pool::ReusePolicy;
use super::recorded_body::RecordedBody;
use super::replay::{ReplayableRequest, is_replayable};
use super::tunnel::Tunnel;
use crate::body::Body;
use crate::error::ProxyError;
use crate::incoming::InformationalSink;
use crate::limits::MAX_ATTEMPTS;
use crate::telemetry::{AttemptResult, FailedAttempt};

/// The header or trailer with the status of a gRPC response.
const GRPC_STATUS: &str = "grpc-status";

/// The way in which another attempt may be made.
pub(super) enum RetryDecision {
    /// No other attempt, also not by a policy: the proxy cannot send the request to this cluster, and nothing was sent.
    Unsent,
    /// No other attempt.
    Never,
    /// At an endpoint that has not been tried.
    OtherEndpoint,
    /// At an endpoint that has not been tried, else at any, and not on this connection.
    OtherConnection(Rc<Http2Connection>),
    /// At any endpoint, on a new connection.
    NewConnection,
}

/// The retries that a route's policy allows one request, beside those that are always made.
struct PolicyRun {
    policy: Arc<RetryPolicy>,
    head: ReplayableRequest,
    /// `None` for a request without a body.
    body: Option<RecordedBody>,
}

/// The state of one request's attempts.
#[derive(Default)]
pub(super) struct RetryState {
    /// The request of the next attempt; `None` when it must not be sent again.
    pub(super) request: Option<Request<Body>>,
    attempts: u32,
    /// Endpoints of earlier attempts, apart from those whose connection had been closed before the request.
    tried: Vec<EndpointAddress>,
    current: Option<EndpointAddress>,
    reuse: ReusePolicy,
    informational: Option<Rc<dyn InformationalSink>>,
    /// The retries of the route's policy; `None` without one, as for most requests.
    policy: Option<Box<PolicyRun>>,
    failed: Vec<FailedAttempt>,
    /// True for a retry by the policy: it may go to an endpoint that was tried.
    repeats: bool,
    has_body: bool,
}

impl RetryState {
    /// Returns the state before the first attempt.
    pub(super) fn new(request: Request<Body>, informational: Option<Rc<dyn InformationalSink>>) -> Self {
        let has_body = !request.body().is_end_stream();
        Self { request: Some(request), informational, has_body, ..Self::default() }
    }

    /// Adds the retries of a route's policy.
    pub(super) fn with_policy(mut self, policy: Arc<RetryPolicy>) -> Self {
        let Some(request) = self.request.take() else { return self };
        let head = ReplayableRequest::from_request(&request);
        let (request, body) = match self.has_body {
            false => (request, None),
            true => {
                let (parts, source) = request.into_parts();
                let body = RecordedBody::new(source);
                (Request::from_parts(parts, body.read_again()), Some(body))
            }
        };
        self.request = Some(request);
        self.policy = Some(Box::new(PolicyRun { policy, head, body }));
        self
    }

    /// Returns true if the request had a body before the first attempt.
    pub(super) fn has_body(&self) -> bool {
        self.has_body
    }

    /// Takes back the last failed attempt: no other one follows.
    pub(super) fn retract_failed(&mut self) {
        self.failed.pop();
    }

    /// Returns true with the retries of a route's policy.
    pub(super) fn has_policy(&self) -> bool {
        self.policy.is_some()
    }

    /// Returns the failed attempts so far, other than the last.
    pub(super) fn take_failed(&mut self) -> Vec<FailedAttempt> {
        std::mem::take(&mut self.failed)
    }

    fn max_attempts(&self) -> u32 {
        self.policy.as_ref().map_or(MAX_ATTEMPTS, |run| run.policy.retries.saturating_add(1))
    }

    /// Returns the time after which the policy sends the request again after this response; `None` if it does not.
    /// `draw` is uniform over 0 to 1.
    pub(super) fn delay_after_response(&self, status: StatusCode, headers: &HeaderMap, draw: f64) -> Option<Duration> {
        let run = self.policy.as_deref().filter(|run| self.may_repeat(run))?;
        let RetryPolicy { statuses, grpc_statuses, max_retry_after, backoff, .. } = &*run.policy;
        let number = |name| headers.get(name).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
        let is_failure = statuses.contains(status.as_u16())
            || (!grpc_statuses.is_empty()
                && number(GRPC_STATUS)
                    .is_some_and(|status| u32::try_from(status).is_ok_and(|status| grpc_statuses.contains(status))));
        if !is_failure {
            return None;
        }
        let delay = backoff.delay(self.attempts, draw);
        // RFC 9110 §10.2.3, in seconds. A date is ignored, as in Envoy.
        match max_retry_after.and_then(|max| Some((max, number(RETRY_AFTER.as_str())?))) {
            Some((max, seconds)) if Duration::from_secs(seconds) > max => None,
            Some((_, seconds)) => Some(delay.max(Duration::from_secs(seconds))),
            None => Some(delay),
        }
    }

    /// Returns the time after which the policy sends the request again after an attempt without a response; `None` if
    /// it does not. `draw` is uniform over 0 to 1.
    pub(super) fn delay_after_error(&self, error: &ProxyError, draw: f64) -> Option<Duration> {
        let run = self.policy.as_deref().filter(|run| self.may_repeat(run) && run.policy.on_reset)?;
        outcome_of(error)?;
        Some(run.policy.backoff.delay(self.attempts, draw))
    }

    /// Returns true if the policy may send the request again although an endpoint may have acted on it.
    fn may_repeat(&self, run: &PolicyRun) -> bool {
        self.attempts < self.max_attempts()
            && (!run.policy.idempotent_only || run.head.is_idempotent())
            && run.body.as_ref().is_none_or(RecordedBody::is_whole)
    }

    /// Prepares the attempt that the policy allows, at another endpoint if there is one.
    pub(super) fn repeat(&mut self, result: AttemptResult) {
        self.record(result);
        self.tried.extend(self.current.clone());
        self.repeats = true;
        let Some(run) = self.policy.as_deref() else { return };
        let body = run.body.as_ref().map_or(Body::Empty, RecordedBody::read_again);
        self.request = Some(run.head.to_request(body));
        self.reuse = ReusePolicy::Allowed;
    }

    /// Notes that a response was accepted: no other attempt follows.
    pub(super) fn accept(&self) {
        if let Some(PolicyRun { body: Some(body), .. }) = self.policy.as_deref() {
            body.forget();
        }
    }

    fn record(&mut self, result: AttemptResult) {
        self.failed.extend(self.current.clone().map(|endpoint| FailedAttempt { endpoint, result }));
    }

    /// Returns the receiver of informational responses.
    pub(super) fn informational(&self) -> Option<&Rc<dyn InformationalSink>> {
        self.informational.as_ref()
    }

    /// Returns the number of attempts begun.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(super) fn tried(&self) -> &[EndpointAddress] {
        &self.tried
    }

    /// Returns the endpoint of the last attempt, also of one that was dropped at its timeout.
    pub(super) fn current(&self) -> Option<&EndpointAddress> {
        self.current.as_ref()
    }

    pub(super) fn reuse(&self) -> &ReusePolicy {
        &self.reuse
    }

    /// Returns true if the request may be sent to an endpoint that has been tried, when no other is left.
    pub(super) fn may_repeat_endpoint(&self) -> bool {
        self.repeats || matches!(self.reuse, ReusePolicy::AllBut(_))
    }

    /// Counts an attempt at an endpoint.
    pub(super) fn begin_attempt(&mut self, endpoint: EndpointAddress) {
        self.attempts += 1;
        self.repeats = false;
        self.current = Some(endpoint);
    }

    /// Records the endpoint that an attempt has used in the end, and those that have failed before it.
    pub(super) fn end_race(&mut self, endpoint: EndpointAddress, failed: Vec<EndpointAddress>) {
        self.current = Some(endpoint);
        self.tried.extend(failed);
    }

    /// Takes the request of an attempt.
    pub(super) fn take_request(&mut self) -> Request<Body> {
        self.request.take().expect("`may_retry` and `repeat` allow an attempt only with a request")
    }

    /// Returns true if the request switches to another protocol.
    pub(super) fn switches_protocol(&self) -> bool {
        self.request.as_ref().is_some_and(|request| request.extensions().get::<Tunnel>().is_some())
    }

    /// Returns a copy of the request, if the connection has served before and the request may be replayed.
    pub(super) fn replayable_request(&self, reused: bool) -> Option<ReplayableRequest> {
        self.request.as_ref().filter(|request| reused && is_replayable(request)).map(ReplayableRequest::from_request)
    }

    /// Returns true if another attempt may be made on which no endpoint can have acted before: there is a request to send,
    /// and the attempts are not exhausted.
    pub(super) fn may_retry(&self, decision: &RetryDecision) -> bool {
        !matches!(decision, RetryDecision::Never | RetryDecision::Unsent)
            && self.request.is_some()
            && self.attempts < self.max_attempts()
    }

    /// Prepares the attempt that [`RetryState::may_retry`] allows.
    pub(super) fn prepare_retry(&mut self, decision: RetryDecision, error: &ProxyError) {
        self.record(AttemptResult::Error(error.info().detail));
        match decision {
            RetryDecision::OtherEndpoint => self.tried.extend(self.current.clone()),
            RetryDecision::OtherConnection(refused_by) => {
                self.tried.extend(self.current.clone());
                self.reuse = ReusePolicy::AllBut(refused_by);
            }
            RetryDecision::NewConnection => self.reuse = ReusePolicy::Forbidden,
            RetryDecision::Never | RetryDecision::Unsent => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Method, Response};
    use proptest::prelude::*;
    use std::net::SocketAddr;
    use weir_model::{GrpcStatusSet, RetryBackoff};

    use super::*;

    const RESET: ProxyError = ProxyError::AttemptTimeout;

    fn address(port: u16) -> EndpointAddress {
        SocketAddr::from(([127, 0, 0, 1], port)).into()
    }

    fn policy() -> RetryPolicy {
        RetryPolicy { statuses: [503].into_iter().collect(), ..RetryPolicy::new(3) }
    }

    fn state(method: Method, policy: RetryPolicy) -> RetryState {
        let mut request = Request::new(Body::Empty);
        *request.method_mut() = method;
        let mut retry = RetryState::new(request, None).with_policy(Arc::new(policy));
        retry.begin_attempt(address(1));
        retry
    }

    fn response(status: u16, headers: &[(&'static str, &'static str)]) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            response.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        response
    }

    fn after(retry: &RetryState, response: &Response<()>, draw: f64) -> Option<Duration> {
        retry.delay_after_response(response.status(), response.headers(), draw)
    }

    #[test]
    fn attempts_are_limited() {
        let mut retry = RetryState::new(Request::new(Body::Empty), None);
        let mut attempts = 0;
        loop {
            retry.begin_attempt(address(1));
            attempts += 1;
            if !retry.may_retry(&RetryDecision::OtherEndpoint) {
                break;
            }
            retry.prepare_retry(RetryDecision::OtherEndpoint, &RESET);
        }
        assert!(attempts == MAX_ATTEMPTS && matches!(retry.reuse(), ReusePolicy::Allowed));
        let mut retry = RetryState::new(Request::new(Body::Empty), None);
        assert!(retry.may_retry(&RetryDecision::NewConnection));
        retry.prepare_retry(RetryDecision::NewConnection, &RESET);
        assert!(matches!(retry.reuse(), ReusePolicy::Forbidden));
        assert!(!retry.may_retry(&RetryDecision::Never) && !retry.may_retry(&RetryDecision::Unsent));
    }

    #[test]
    fn policy_decides_by_status_method_and_error() {
        for (method, idempotent_only, status, expected) in [
            (Method::GET, true, 503, true),
            (Method::PUT, true, 503, true),
            (Method::GET, true, 502, false),
            (Method::GET, true, 200, false),
            (Method::POST, true, 503, false),
            (Method::POST, false, 503, true),
        ] {
            let retry = state(method.clone(), RetryPolicy { idempotent_only, ..policy() });
            let delay = after(&retry, &response(status, &[]), 1.0);
            assert_eq!(delay.is_some(), expected, "{method} {status}");
            let error = ProxyError::UpstreamReset("gone".to_owned());
            assert_eq!(retry.delay_after_error(&error, 1.0).is_some(), method != Method::POST || !idempotent_only);
        }
        let retry = state(Method::GET, RetryPolicy { on_reset: false, ..policy() });
        assert_eq!(retry.delay_after_error(&RESET, 0.0), None);
        let retry = state(Method::GET, policy());
        for error in [ProxyError::DownstreamGone, ProxyError::BodyTooLarge, ProxyError::Overflow("x")] {
            assert_eq!(retry.delay_after_error(&error, 0.0), None, "{error}");
        }
        assert!(state(Method::GET, RetryPolicy { retries: 0, ..policy() }).delay_after_error(&RESET, 0.0).is_none());
    }

    #[test]
    fn grpc_status_without_body_is_a_failure() {
        let mut grpc_statuses = GrpcStatusSet::default();
        grpc_statuses.insert(14);
        let retry = state(Method::POST, RetryPolicy { grpc_statuses, idempotent_only: false, ..policy() });
        for (status, expected) in [("14", true), ("0", false), ("", false), ("x", false)] {
            let response = response(200, &[(GRPC_STATUS, status)]);
            assert_eq!(after(&retry, &response, 0.0).is_some(), expected, "{status}");
        }
    }

    #[test]
    fn retry_after_replaces_a_shorter_delay_within_its_bound() {
        let backoff = RetryBackoff::at_least(Duration::from_millis(1_500));
        let retry = state(Method::GET, RetryPolicy { backoff, ..policy() });
        for (value, expected) in [
            ("1", Some(1_500)),
            ("2", Some(2_000)),
            ("5", Some(5_000)),
            ("6", None),
            ("99999999999", None),
            ("-1", Some(1_500)),
            ("Wed, 21 Oct 2026 07:28:00 GMT", Some(1_500)),
        ] {
            let delay = after(&retry, &response(503, &[("retry-after", value)]), 0.0);
            assert_eq!(delay, expected.map(Duration::from_millis), "{value}");
        }
        let retry = state(Method::GET, RetryPolicy { max_retry_after: None, ..policy() });
        assert!(after(&retry, &response(503, &[("retry-after", "600")]), 1.0).is_some());
    }

    #[test]
    fn repeated_request_is_whole_and_avoids_its_endpoints() {
        let (parts, ()) = Request::put("http://a/b").header("x", "y").body(()).unwrap().into_parts();
        let request = Request::from_parts(parts, Body::full(bytes::Bytes::from_static(b"body")));
        let mut retry = RetryState::new(request, None).with_policy(Arc::new(policy()));
        for port in 1..=3 {
            retry.begin_attempt(address(port));
            let mut request = retry.take_request();
            assert_eq!((request.method(), request.uri().path()), (&Method::PUT, "/b"));
            assert_eq!(request.body().size_hint().exact(), Some(4));
            assert!(reads_frame(request.body_mut()));
            assert!(retry.delay_after_error(&RESET, 0.0).is_some());
            retry.repeat(AttemptResult::Status(503));
            assert_eq!(retry.tried().len(), usize::from(port));
        }
        retry.begin_attempt(address(4));
        assert_eq!(retry.delay_after_error(&RESET, 0.0), None, "three retries");
        assert_eq!(retry.take_failed().len(), 3);
    }

    /// Reads one frame. Returns false if none is there.
    fn reads_frame(body: &mut Body) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::Pin::new(body).poll_frame(&mut context).is_ready()
    }

    proptest! {
        /// However the attempts fail, a request that is not idempotent is sent again only while no endpoint can have
        /// acted on it, and no request is sent more often than its policy allows.
        #[test]
        fn attempts_of_any_history_are_bounded(
            retries in 0_u32..5,
            is_idempotent: bool,
            steps in prop::collection::vec(0_u8..4, 0..12),
        ) {
            let method = if is_idempotent { Method::GET } else { Method::POST };
            let mut request = Request::new(Body::Empty);
            *request.method_mut() = method;
            let policy = RetryPolicy { retries, ..policy() };
            let mut retry = RetryState::new(request, None).with_policy(Arc::new(policy));
            let (mut attempts, mut acted_on) = (0, 0);
            for step in steps {
                retry.begin_attempt(address(1));
                attempts += 1;
                let goes_on = match step {
                    0 | 1 => {
                        let decisions = [RetryDecision::OtherEndpoint, RetryDecision::NewConnection];
                        let [other, new] = decisions;
                        let decision = if step == 0 { other } else { new };
                        let goes_on = retry.may_retry(&decision);
                        if goes_on {
                            retry.prepare_retry(decision, &RESET);
                        }
                        goes_on
                    }
                    2 => {
                        drop(retry.take_request());
                        acted_on += 1;
                        let delay = after(&retry, &response(503, &[]), 0.5);
                        delay.inspect(|_| retry.repeat(AttemptResult::Status(503))).is_some()
                    }
                    _ => {
                        drop(retry.take_request());
                        acted_on += 1;
                        let delay = retry.delay_after_error(&RESET, 0.5);
                        delay.inspect(|_| retry.repeat(AttemptResult::Error("attempt_timeout"))).is_some()
                    }
                };
                if !goes_on {
                    break;
                }
            }
            prop_assert!(attempts <= retries + 1, "{attempts}");
            prop_assert!(is_idempotent || acted_on <= 1, "{acted_on}");
        }
    }
}
