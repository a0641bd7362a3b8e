//! Upstream side: clusters, their endpoints, the connections to them, and the attempts of a request.
//!
//! ```text
//! send ─► attempt ─► balance: which endpoint ─► pool: an open connection, or connect
//!   ▲        │
//!   └─ retry ◄  only when no endpoint can have acted on the request
//! ```
//!
//! [`Cluster`] is shared by all workers and has what outlives a configuration update. [`Upstreams`] belongs to one
//! worker and has what needs no lock: connections, positions of balancers, random numbers. `stream` sends requests
//! here, `filter` callouts; `config` resolves DNS names; `admin` shows the state.

mod mirror; // Request mirroring.
mod send; // The attempt loop.
mod tcp; // Connections for TCP relays.
mod attempt; // One attempt at one endpoint.
mod race; // Connections to several addresses of one name: the first one that opens is used.
mod worker; // A worker's clusters and pools.
mod balance; // Load balancers.
mod retry; // Retry decisions.
mod outlier; // Outlier detection of one endpoint.
mod ejection; // Ejects endpoints, and ends ejections.
mod retry_budget; // The share of requests that may be retries.
mod recorded_body; // A body that several attempts read.
mod pool; // Connections to one endpoint.
mod http2; // An HTTP/2 connection, and one request on it.
mod connect; // Opens a connection.
mod http1; // An HTTP/1.1 connection.
mod http1_request; // Writes a request to an HTTP/1.1 connection.
mod tunnel; // Requests that switch to another protocol.
mod replay; // Requests that may be sent again.
mod request_form; // The form of a request in either protocol.
mod request_target; // The target of a callout, in any form.
mod open_guard; // Counts open connections.
mod sweep_clock; // The time of a worker's pools.
mod resolve; // Resolves endpoints by DNS, again when the TTL has passed.
mod dns; // DNS lookups.
mod cluster; // A cluster's state that workers share.
mod endpoints; // The endpoints of a cluster.

pub(crate) use cluster::{Cluster, ClusterCounts};
pub(crate) use dns::Resolver;
pub(crate) use ejection::{now as time_since_start, watch_outliers};
pub(crate) use endpoints::Endpoint;
pub(crate) use mirror::{mirror, tee};
pub(crate) use request_form::UpstreamRequest;
pub(crate) use request_target::RequestTarget;
pub(crate) use resolve::{resolve_forever, resolve_once};
pub(crate) use send::{Lease, SendError, SendOptions, UpstreamResponse, send};
pub(crate) use tcp::{TcpUpstream, TcpUpstreamGuard, connect_tcp};
pub(crate) use worker::Upstreams;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod connection_tests;
#[cfg(test)]
mod http2_tests;
