//! Sends a request to a cluster: attempts until one has a response head, or none may follow. `stream` sends requests,
//! `filter` callouts, and `mirror` copies.
//!
//! Contract of [`send`]: the caller has removed hop-by-hop headers (`stream::sanitize`). The request is sent unchanged,
//! except that its framing agrees with its body. It is sent again only when no endpoint can have acted on it.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use weir_model::EndpointAddress;

pub(crate) use super::attempt::Lease;
use super::attempt::{AttemptError, attempt};
use super::cluster::Cluster;
use super::request_form::{RequestForm, UpstreamRequest, build_request};
use super::request_target::RequestTarget;
use super::retry::RetryState;
use super::worker::{Upstreams, WorkerCluster};
use crate::error::ProxyError;
use crate::incoming::{Incoming, InformationalSink};

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
        Ok(request) => (RetryState::new(request, options.informational), None),
        Err(error) => (RetryState::default(), Some(error)),
    };
    async move {
        let result = match rejected {
            Some(error) => Err(error),
            None => run_attempts(upstreams, &cluster, &mut retry, attempt_timeout).await,
        };
        let attempts = retry.attempts();
        cluster.counters().retries.add(u64::from(attempts.saturating_sub(1)));
        match result {
            Ok((response, lease)) => {
                let endpoint = lease.endpoint().clone();
                Ok(UpstreamResponse { response, lease, endpoint, attempts })
            }
            Err(error) => {
                cluster.counters().failures.increment();
                Err(SendError { error, endpoint: retry.current().cloned(), attempts })
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
        match result.map_err(|_| ProxyError::AttemptTimeout)? {
            Ok(response) => return Ok(response),
            // If no endpoint is left, the error of the last tried endpoint is more useful.
            Err(AttemptError { error: ProxyError::NoEndpoint, .. }) => {
                return Err(last.unwrap_or(ProxyError::NoEndpoint));
            }
            Err(AttemptError { error, decision }) => match retry.prepare_retry(decision) {
                true => last = Some(error),
                false => return Err(error),
            },
        }
    }
}
