//! Sends a request to a cluster: attempts until one has a response head, or none may follow. `stream` sends requests,
//! `filter` callouts, and `mirror` copies.
//!
//! Contract of [`send`]: the caller has removed hop-by-hop headers (`stream::sanitize`). The request is sent unchanged,
//! except that its framing agrees with its body. It is sent again only when no endpoint can have acted on it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::Body as _;
use tokio::time::Instant;
use weir_model::{EndpointAddress, RetryPolicy};

pub(crate) use super::attempt::Lease;
use super::attempt::{AttemptError, attempt};
use super::cluster::Cluster;
use super::request_form::{RequestForm, UpstreamRequest, build_request};
use super::request_target::RequestTarget;
use super::retry::{RetryDecision, RetryState};
use super::worker::{Upstreams, WorkerCluster};
use crate::error::ProxyError;
use crate::incoming::{Incoming, InformationalSink};
use crate::limits::MAX_DISCARDED_BYTES;
use crate::telemetry::{AttemptResult, FailedAttempt};

/// Options of sending a request.
#[derive(Clone, Default)]
pub(crate) struct SendOptions {
    /// Time for one attempt, until its response's head; `None` is no limit.
    pub(crate) attempt_timeout: Option<Duration>,
    /// True if the body waits for the endpoint's `100 Continue`. Without effect over HTTP/2.
    pub(crate) expects_continue: bool,
    /// The receiver of informational responses. Without it they are dropped.
    pub(crate) informational: Option<Rc<dyn InformationalSink>>,
    /// The target in place of the path. Without effect over HTTP/2.
    pub(crate) target: Option<RequestTarget>,
    /// The retries of the route; `None` for those of requests only on which no endpoint can have acted.
    pub(crate) retry: Option<Arc<RetryPolicy>>,
}

/// A response from an upstream, whose body is still to be read.
pub(crate) struct UpstreamResponse {
    /// The response as received.
    pub(crate) response: Response<Incoming>,
    /// The lease of the connection. The caller drops it when the response's body has ended.
    pub(crate) lease: Lease,
    /// The endpoint that responded.
    pub(crate) endpoint: EndpointAddress,
    /// Attempts made, the successful one included.
    pub(crate) attempts: u32,
    /// The attempts before the successful one.
    pub(crate) failed: Vec<FailedAttempt>,
}

/// The failure of a request: no endpoint has responded.
#[derive(Debug)]
pub(crate) struct SendError {
    /// The error of the last attempt.
    pub(crate) error: ProxyError,
    /// The endpoint of the last attempt.
    pub(crate) endpoint: Option<EndpointAddress>,
    /// Attempts made.
    pub(crate) attempts: u32,
    /// The attempts before the last one.
    pub(crate) failed: Vec<FailedAttempt>,
}

/// Sends a request and waits for the response's head.
///
/// The request is built before the future: an `async fn` would store it three times, and each request in flight would
/// use as much memory.
pub(crate) fn send(
    upstreams: &Rc<Upstreams>,
    cluster: &Arc<Cluster>,
    request: UpstreamRequest,
    options: SendOptions,
) -> impl Future<Output = Result<UpstreamResponse, SendError>> {
    let cluster = upstreams.cluster_state(cluster);
    cluster.counters().requests.increment();
    upstreams.sweep_while_open();
    let attempt_timeout = options.attempt_timeout;
    let form = RequestForm { expects_continue: options.expects_continue, target: options.target };
    let (mut retry, rejected) = match build_request(request, cluster.cluster().model().protocol, &form) {
        Ok(request) => {
            let state = RetryState::new(request, options.informational);
            let state = match options.retry {
                Some(policy) => state.with_policy(policy),
                None => state,
            };
            (state, None)
        }
        Err(error) => (RetryState::default(), Some(error)),
    };
    async move {
        let result = match rejected {
            Some(error) => Err(error),
            None => run_attempts(upstreams, &cluster, &mut retry, attempt_timeout).await,
        };
        let (attempts, failed) = (retry.attempts(), retry.take_failed());
        match result {
            Ok((response, lease)) => {
                let endpoint = lease.endpoint().clone();
                Ok(UpstreamResponse { response, lease, endpoint, attempts, failed })
            }
            Err(error) => {
                cluster.counters().failures.increment();
                Err(SendError { error, endpoint: retry.current().cloned(), attempts, failed })
            }
        }
    }
}

/// Makes attempts until one has a response head or none may follow.
///
/// # Errors
/// The error of the last attempt.
async fn run_attempts(
    upstreams: &Upstreams,
    cluster: &WorkerCluster,
    retry: &mut RetryState,
    attempt_timeout: Option<Duration>,
) -> Result<(Response<Incoming>, Lease), ProxyError> {
    let mut last = None;
    loop {
        let result = {
            let mut attempt = pin!(attempt(upstreams, cluster, retry)); // One future, with or without a timeout.
            match attempt_timeout {
                None => Ok(attempt.await),
                Some(timeout) => tokio::time::timeout(timeout, attempt.as_mut()).await,
            }
        };
        let (error, decision) = match result {
            Ok(Ok((response, lease))) => {
                let Some(delay) = retry_after_response(upstreams, cluster, retry, &response) else {
                    return Ok((response, lease));
                };
                Box::pin(pause(delay, response.into_body(), lease)).await; // On the heap, because it is rare.
                continue;
            }
            // If no endpoint is left, the error of the last tried endpoint is more useful. A policy may try it again.
            Ok(Err(AttemptError { error: ProxyError::NoEndpoint, .. })) => match last.take() {
                Some(error) if !retry.may_repeat_endpoint() => {
                    retry.retract_failed();
                    (error, RetryDecision::Never)
                }
                last => return Err(last.unwrap_or(ProxyError::NoEndpoint)),
            },
            Ok(Err(AttemptError { error, decision: RetryDecision::Unsent })) => return Err(error),
            Ok(Err(AttemptError { error, decision })) => (error, decision),
            Err(_) => {
                // An endpoint may wait for a body that the downstream sends slowly.
                if !retry.has_body() {
                    cluster.record_timeout(retry.current());
                }
                (ProxyError::AttemptTimeout, RetryDecision::Never)
            }
        };
        if retry.may_retry(&decision) {
            // A refusal is a sign of overload, too.
            if matches!(decision, RetryDecision::OtherConnection(_)) && !cluster.take_retry() {
                return Err(error);
            }
            retry.prepare_retry(decision, &error);
            last = Some(error);
            continue;
        }
        match retry.delay_after_error(&error, upstreams.draw()) {
            Some(delay) if cluster.take_retry() => {
                retry.repeat(AttemptResult::Error(error.info().detail));
                last = Some(error);
                Box::pin(tokio::time::sleep(delay)).await; // On the heap, too.
            }
            _ => return Err(error),
        }
    }
}

/// Prepares another attempt after a response, if the route's policy and the retry budget allow it, and returns the time
/// before it. Returns `None` if the response is the result.
fn retry_after_response(
    upstreams: &Upstreams,
    cluster: &WorkerCluster,
    retry: &mut RetryState,
    response: &Response<Incoming>,
) -> Option<Duration> {
    if !retry.has_policy() {
        return None;
    }
    match retry.delay_after_response(response.status(), response.headers(), upstreams.draw()) {
        Some(delay) if cluster.take_retry() => {
            retry.repeat(AttemptResult::Status(response.status().as_u16()));
            Some(delay)
        }
        _ => {
            retry.accept();
            None
        }
    }
}

/// Waits before another attempt. Meanwhile the response is read, so that its connection can be used again.
async fn pause(delay: Duration, mut incoming: Incoming, lease: Lease) {
    let end = Instant::now() + delay;
    let reading = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut incoming).poll_frame(context)).await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > MAX_DISCARDED_BYTES {
                return;
            }
        }
    };
    drop(tokio::time::timeout_at(end, reading).await);
    drop(lease);
    tokio::time::sleep_until(end).await;
}
