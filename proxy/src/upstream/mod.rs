//! To an endpoint and back: clusters, their endpoints, the connections to them, and the attempts of a request.
//!
//! ```text
//! send ─► attempt ─► balance: which endpoint ─► pool: an open connection, or connect ─► hyper
//!   ▲        │
//!   └─ retry ◄  only when nothing of the request can have been acted on
//! ```
//!
//! [`Cluster`] is shared by all workers and holds what outlives a change of configuration; [`Upstreams`] belongs to one
//! worker and holds what needs no lock: connections, positions of balancers, random numbers. Called by `stream` (a
//! request), `filter` (a callout), `config` (resolving) and `admin` (what is shown).

mod attempt; // One attempt at one endpoint.
mod balance; // Which endpoint.
mod cluster; // What is known about a cluster, on all workers.
mod connect; // Opening a connection.
mod endpoints; // The addresses of a cluster.
mod mirror; // Copies of requests.
mod pool; // Open connections to one endpoint.
mod resolve; // Endpoints by DNS.
mod retry; // Whether and how to try again.
mod send; // The loop of attempts.
mod tunnel; // A connection for bytes.
mod worker; // The part of one worker.

pub(crate) use cluster::{Cluster, ClusterCounts};
pub(crate) use endpoints::Endpoint;
pub(crate) use mirror::{mirror, tee};
pub(crate) use resolve::{resolve_forever, resolve_once};
pub(crate) use send::{Answer, Lease, Outgoing, SendFailure, SendOptions, send};
pub(crate) use tunnel::{Tunnel, TunnelPlace, open_tunnel};
pub(crate) use worker::Upstreams;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
