//! A connection to an endpoint for the bytes of one downstream connection. Called by `connection::tcp`; what `send` is
//! for requests.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::attempt::Lease;
use super::cluster::Cluster;
use super::connect::Open;
use super::send::SendFailure;
use super::worker::Upstreams;
use crate::error::{Fault, ProxyError};
use crate::limits::MAX_ATTEMPTS;
use crate::tls::Transport;

/// A connection to an endpoint; counts as open and as the endpoint's load until it is dropped.
pub(crate) struct Tunnel {
    /// Where bytes go.
    pub(crate) transport: Transport,
    /// Who is there.
    pub(crate) endpoint: SocketAddr,
    /// Endpoints tried, this one included.
    pub(crate) attempts: u32,
    /// To be held as long as bytes move.
    pub(crate) place: TunnelPlace,
}

/// The place of a connection among those of its endpoint.
pub(crate) struct TunnelPlace {
    _lease: Lease,
    _open: Open,
}

/// Opens a connection to an endpoint of a cluster; to another one when that cannot be reached: nothing has been sent yet.
///
/// # Errors
/// How the last attempt failed.
pub(crate) async fn open_tunnel(upstreams: &Rc<Upstreams>, cluster: &Arc<Cluster>) -> Result<Tunnel, SendFailure> {
    let cluster = upstreams.of(cluster);
    cluster.shard().requests.increment();
    let mut tried: Vec<SocketAddr> = Vec::new();
    let mut failed = ProxyError::NoEndpoint;
    for attempts in 1..=MAX_ATTEMPTS {
        let Some(pool) = upstreams.pick(&cluster, &tried) else { break };
        let lease = Lease::new(pool);
        let endpoint = lease.endpoint();
        tried.push(endpoint);
        match lease.pool().open_for_bytes().await {
            Ok((transport, open)) => {
                cluster.shard().retries.add(attempts - 1);
                return Ok(Tunnel { transport, endpoint, attempts, place: TunnelPlace { _lease: lease, _open: open } });
            }
            Err(error) => {
                let row = error.row();
                if row.fault == Fault::Upstream {
                    lease.pool().endpoint().record_failure(error.to_string());
                }
                failed = error;
                if !row.retryable {
                    break;
                }
            }
        }
    }
    let attempts = u32::try_from(tried.len()).unwrap_or(u32::MAX);
    cluster.shard().retries.add(attempts.saturating_sub(1));
    cluster.shard().failures.increment();
    Err(SendFailure { error: failed, endpoint: tried.last().copied(), attempts })
}
