//! One attempt at one endpoint: picks it, checks a connection out, sends the request, and waits for the response's
//! head. `send` calls it, and decides whether another attempt follows.

use std::error::Error as _;
use std::net::SocketAddr;
use std::rc::Rc;

use http::{Request, Response};
use hyper::client::conn::TrySendError;

use super::http1::Http1SendError;
use super::pool::{Pool, PooledConnection};
use super::retry::{ReplayableRequest, RetryDecision, RetryState};
use super::worker::{Upstreams, WorkerCluster};
use crate::body::Body;
use crate::error::{Fault, ProxyError};
use crate::incoming::Incoming;

/// The lease of a connection for one request, until the response's body has ended.
///
/// Dropping it decrements the endpoint's load. The connection is checked in, or closed when the request or the response
/// is incomplete.
pub(crate) struct Lease {
    pool: Rc<Pool>,
    connection: Option<PooledConnection>,
}

impl Lease {
    pub(super) fn new(pool: Rc<Pool>) -> Self {
        pool.request_started();
        Self { pool, connection: None }
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(super) fn endpoint(&self) -> SocketAddr {
        self.pool.endpoint().address
    }

    /// Records a failed attempt in the statistics of the endpoint, if the upstream is at fault.
    pub(super) fn record_failure(&self, error: &ProxyError) {
        if error.info().fault == Fault::Upstream {
            self.pool.endpoint().record_failure(error.to_string());
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.request_ended();
        if let Some(connection) = self.connection.take() {
            self.pool.check_in(connection);
        }
    }
}

/// The failure of an attempt before a response head. If another may follow, it sends [`RetryState::request`].
pub(super) struct AttemptError {
    pub(super) error: ProxyError,
    pub(super) decision: RetryDecision,
}

impl AttemptError {
    fn new(lease: &Lease, error: ProxyError, decision: RetryDecision) -> Self {
        lease.record_failure(&error);
        Self { error, decision }
    }
}

/// Makes one attempt.
///
/// # Errors
/// No endpoint is left, or the attempt ended without a response head.
pub(super) async fn attempt(
    upstreams: &Upstreams,
    cluster: &WorkerCluster,
    retry: &mut RetryState,
) -> Result<(Response<Incoming>, Lease), AttemptError> {
    let Some(pool) = upstreams.pick(cluster, retry.tried()) else {
        return Err(AttemptError { error: ProxyError::NoEndpoint, decision: RetryDecision::Never });
    };
    let mut lease = Lease::new(pool);
    retry.begin_attempt(lease.endpoint());
    match lease.pool.check_out(retry.reuse()).await {
        Ok(connection) => match send_request(&mut lease, connection, retry).await {
            Ok(response) => Ok((response, lease)),
            Err(error) => Err(AttemptError::new(&lease, error, RetryDecision::NewConnection)),
        },
        Err(error) => {
            let decision = if error.info().retryable { RetryDecision::OtherEndpoint } else { RetryDecision::Never };
            Err(AttemptError::new(&lease, error, decision))
        }
    }
}

/// Sends the request. On failure [`RetryState::request`] is set if the request may be sent on another connection.
async fn send_request(
    lease: &mut Lease,
    connection: PooledConnection,
    retry: &mut RetryState,
) -> Result<Response<Incoming>, ProxyError> {
    match lease.connection.insert(connection) {
        PooledConnection::Http1 { connection, reused } => {
            let replay = retry.replayable_request(*reused);
            match connection.send(retry.take_request(), retry.informational()).await {
                Ok(response) => Ok(response),
                Err(Http1SendError { error, unsent, is_closed_unanswered }) => {
                    let replay = replay.filter(|_| is_closed_unanswered);
                    let replay = replay.map(ReplayableRequest::into_request);
                    retry.request = unsent.filter(|_| *reused).or(replay);
                    Err(error)
                }
            }
        }
        PooledConnection::Http2 { stream, reused } => {
            let replay = retry.replayable_request(*reused);
            match stream.sender().try_send_request(retry.take_request()).await {
                Ok(response) => Ok(response.map(Incoming::Http2)),
                Err(mut error) => {
                    if !is_stream_error(error.error()) {
                        stream.retire();
                    }
                    let unprocessed = is_unprocessed(error.error());
                    retry.request = resendable_request(&mut error, *reused, replay.filter(|_| unprocessed));
                    Err(classify_error(&error.into_error()))
                }
            }
        }
    }
}

/// Returns the request that may be sent again; `None` when the endpoint may have acted on it.
///
/// hyper returns the request itself when it had not begun to write it. Otherwise the copy may be sent, if the endpoint
/// has not processed the request.
fn resendable_request(
    error: &mut TrySendError<Request<Body>>,
    reused: bool,
    replay: Option<ReplayableRequest>,
) -> Option<Request<Body>> {
    error.take_message().filter(|_| reused).or_else(|| replay.map(ReplayableRequest::into_request))
}

/// Returns true if the connection was closed or reset while the request was in flight.
fn is_closed(error: &hyper::Error) -> bool {
    let io = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    error.is_incomplete_message() || error.is_closed() || error.is_canceled() || io.is_some()
}

fn http2_error(error: &hyper::Error) -> Option<&h2::Error> {
    error.source().and_then(|source| source.downcast_ref())
}

/// Returns true if only this stream has failed, not its connection.
fn is_stream_error(error: &hyper::Error) -> bool {
    error.is_user() || http2_error(error).is_some_and(h2::Error::is_reset)
}

/// Returns true if the endpoint has declared that it did not process the request (RFC 9113 §8.7), or the connection
/// ended.
fn is_unprocessed(error: &hyper::Error) -> bool {
    match http2_error(error) {
        Some(error) if error.is_reset() => error.reason() == Some(h2::Reason::REFUSED_STREAM),
        Some(error) => error.is_io() || error.is_go_away() && error.is_remote(),
        None => is_closed(error),
    }
}

fn classify_error(error: &hyper::Error) -> ProxyError {
    if error.is_user() {
        // The request's body failed with its own error. A body without one was reset by the downstream.
        return match error.source().and_then(|source| source.downcast_ref()) {
            Some(ProxyError::UpstreamReset(_)) | None => ProxyError::DownstreamGone,
            Some(cause) => cause.clone(),
        };
    }
    let text = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let protocol = http2_error(error).is_some_and(|error| error.is_go_away() && error.is_library());
    if error.is_parse() || protocol { ProxyError::UpstreamProtocol(text) } else { ProxyError::UpstreamReset(text) }
}
