//! Connects to an endpoint for the relay of one TCP connection. `connection::tcp` calls it; `send` is its counterpart
//! for requests.

use std::rc::Rc;
use std::sync::Arc;

use weir_model::EndpointAddress;

use super::attempt::Lease;
use super::cluster::Cluster;
use super::open_guard::OpenConnectionGuard;
use super::outlier::Outcome;
use super::race::{RaceOutcome, open_first};
use super::send::SendError;
use super::worker::Upstreams;
use crate::error::ProxyError;
use crate::limits::MAX_ATTEMPTS;
use crate::telemetry::{AttemptResult, FailedAttempt};
use crate::tls::Transport;

/// A connection to an endpoint.
pub(crate) struct TcpUpstream {
    /// The byte stream.
    pub(crate) transport: Transport,
    /// The address of the endpoint.
    pub(crate) endpoint: EndpointAddress,
    /// Endpoints tried, this one included.
    pub(crate) attempts: u32,
    /// The attempts before the successful one.
    pub(crate) failed: Vec<FailedAttempt>,
    /// The guard of the connection. The caller drops it when the relay ends.
    pub(crate) guard: TcpUpstreamGuard,
}

/// Counts a connection as open, and as load of its endpoint, until it is dropped.
pub(crate) struct TcpUpstreamGuard {
    _lease: Lease,
    _open: OpenConnectionGuard,
}

/// Connects to an endpoint of a cluster, or to another one if that fails: no byte has been sent yet.
///
/// # Errors
/// The error of the last attempt.
pub(crate) async fn connect_tcp(upstreams: &Rc<Upstreams>, cluster: &Arc<Cluster>) -> Result<TcpUpstream, SendError> {
    let cluster = upstreams.cluster_state(cluster);
    cluster.counters().requests.increment();
    let mut tried: Vec<EndpointAddress> = Vec::new();
    let mut failed = Vec::new();
    let mut last_error = ProxyError::NoEndpoint;
    for attempts in 1..=MAX_ATTEMPTS {
        let Some(pool) = upstreams.pick(&cluster, &tried) else { break };
        let mut lease = Lease::new(Rc::clone(&pool));
        let opened = open_first(&cluster, pool, &tried, |pool| async move { pool.connect_raw().await });
        let RaceOutcome { pool, result, failed: overtaken } = opened.await;
        lease.move_to(pool);
        tried.extend(overtaken);
        let endpoint = lease.endpoint().clone();
        tried.push(endpoint.clone());
        match result {
            Ok((transport, open)) => {
                cluster.record(lease.pool().endpoint(), Outcome::Response(200));
                cluster.counters().retries.add(u64::from(attempts - 1));
                return Ok(TcpUpstream {
                    transport,
                    endpoint,
                    attempts,
                    failed,
                    guard: TcpUpstreamGuard { _lease: lease, _open: open },
                });
            }
            Err(error) => {
                cluster.record_failure(lease.pool(), &error);
                failed.push(FailedAttempt { endpoint, result: AttemptResult::Error(error.info().detail) });
                let retryable = error.info().retryable;
                last_error = error;
                if !retryable {
                    break;
                }
            }
        }
    }
    let attempts = u32::try_from(tried.len()).unwrap_or(u32::MAX);
    cluster.counters().retries.add(u64::from(attempts.saturating_sub(1)));
    cluster.counters().failures.increment();
    failed.pop(); // The last one is the result.
    Err(SendError { error: last_error, endpoint: tried.pop(), attempts, failed })
}
