//! One attempt at one endpoint: picks it, checks a connection out, sends the request, and waits for the response's
//! head. `send` calls it, and decides whether another attempt follows.

use std::rc::Rc;

use http::Response;
use weir_model::EndpointAddress;

use super::http1::Http1SendError;
use super::http2::{self, Http2SendError, Resend};
use super::outlier::Outcome;
use super::pool::{Pool, PooledConnection};
use super::race::{RaceOutcome, open_first};
use super::request_form::{to_http1, to_http2};
use super::retry::{RetryDecision, RetryState};
use super::worker::{Upstreams, WorkerCluster};
use crate::body::Body;
use crate::error::ProxyError;
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

    pub(super) fn endpoint(&self) -> &EndpointAddress {
        &self.pool.endpoint().address
    }

    /// Moves the lease to another endpoint of the cluster, which has won a race.
    pub(super) fn move_to(&mut self, pool: Rc<Pool>) {
        if !Rc::ptr_eq(&self.pool, &pool) {
            *self = Self::new(pool);
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
    fn new(cluster: &WorkerCluster, lease: &Lease, error: ProxyError, decision: RetryDecision) -> Self {
        match decision {
            RetryDecision::Unsent => lease.pool.record_failure(&error), // No reason to eject the endpoint.
            _ => cluster.record_failure(&lease.pool, &error),
        }
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
    let repeated = || retry.may_repeat_endpoint().then(|| upstreams.pick(cluster, &[])).flatten();
    let Some(pool) = upstreams.pick(cluster, retry.tried()).or_else(repeated) else {
        return Err(AttemptError { error: ProxyError::NoEndpoint, decision: RetryDecision::Never });
    };
    let mut lease = Lease::new(pool);
    retry.begin_attempt(lease.endpoint().clone());
    if retry.attempts() > 1 {
        cluster.counters().retries.increment(); // Not at the end: the request may be canceled before.
    }
    let is_new = lease.pool.selects_protocol() && retry.switches_protocol();
    let idle = if is_new { None } else { lease.pool.check_out(retry.reuse()) };
    let checked_out = match idle {
        Some(connection) => Ok(connection),
        // Boxed: it is larger than the rest of a request's future, and it is rare.
        None => Box::pin(open(cluster, &mut lease, retry)).await,
    };
    match checked_out {
        Ok(connection) => match send_request(&mut lease, connection, retry).await {
            Ok(response) => {
                cluster.record(lease.pool.endpoint(), Outcome::of_response(response.status(), response.headers()));
                Ok((response, lease))
            }
            Err(AttemptError { error, decision }) => Err(AttemptError::new(cluster, &lease, error, decision)),
        },
        Err(error) => {
            let decision = if error.info().retryable { RetryDecision::OtherEndpoint } else { RetryDecision::Never };
            Err(AttemptError::new(cluster, &lease, error, decision))
        }
    }
}

/// Opens a connection to the endpoint of the lease. If another address of its DNS name is faster, the lease moves to it.
async fn open(
    cluster: &WorkerCluster,
    lease: &mut Lease,
    retry: &mut RetryState,
) -> Result<PooledConnection, ProxyError> {
    let is_upgrade = retry.switches_protocol();
    let reuse = retry.reuse();
    let opened = open_first(cluster, Rc::clone(&lease.pool), retry.tried(), |pool| async move {
        match is_upgrade && pool.selects_protocol() {
            true => pool.open_for_upgrade().await,
            false => pool.open(reuse).await,
        }
    });
    let RaceOutcome { pool, result, failed } = opened.await;
    lease.move_to(pool);
    retry.end_race(lease.endpoint().clone(), failed);
    result
}

/// Sends the request. On failure [`RetryState::request`] is set if the request may be sent on another connection.
async fn send_request(
    lease: &mut Lease,
    connection: PooledConnection,
    retry: &mut RetryState,
) -> Result<Response<Incoming>, AttemptError> {
    match lease.connection.insert(connection) {
        PooledConnection::Http1 { connection, reused } => {
            retry.request.iter_mut().for_each(to_http1);
            let replay = retry.replayable_request(*reused);
            match connection.send(retry.take_request(), retry.informational()).await {
                Ok(response) => Ok(response),
                Err(Http1SendError { error, unsent, is_closed_unanswered }) => {
                    let replay = replay.filter(|_| is_closed_unanswered);
                    let replay = replay.map(|replay| replay.into_request(Body::Empty));
                    retry.request = unsent.filter(|_| *reused).or(replay);
                    Err(AttemptError { error, decision: RetryDecision::NewConnection })
                }
            }
        }
        PooledConnection::Http2 { stream, reused } => {
            let mut request = retry.take_request();
            to_http2(&mut request).map_err(|error| AttemptError { error, decision: RetryDecision::Never })?;
            // Boxed: it is larger than the rest of a request's future.
            match Box::pin(http2::send(stream, request, retry.informational(), *reused)).await {
                Ok(response) => Ok(response),
                Err(Http2SendError { error, resend }) => {
                    let (request, decision) = match resend {
                        Resend::Unsupported => (None, RetryDecision::Unsent),
                        Resend::Never => (None, RetryDecision::Never),
                        Resend::AfterClose(request) => (Some(request), RetryDecision::NewConnection),
                        Resend::Unprocessed(request) => {
                            (Some(request), RetryDecision::OtherConnection(Rc::clone(stream.connection())))
                        }
                    };
                    retry.request = request;
                    Err(AttemptError { error, decision })
                }
            }
        }
    }
}
