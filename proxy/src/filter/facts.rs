//! What is known about a stream beyond its heads and bodies: what properties and the access log show.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;
use weir_model::{ClusterName, ListenerName, Metadata, RouteName};

/// A value that a filter has set (`proxy_set_property`), under its whole path.
pub(crate) type StreamValue = (Box<[u8]>, Box<[u8]>);

/// What is known about a stream.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// Where the downstream is.
    pub(crate) peer: SocketAddr,
    /// Which of our addresses it reached.
    pub(crate) local: SocketAddr,
    /// Unlike any other downstream connection's in this process.
    pub(crate) connection_id: u64,
    /// Who the downstream has proved to be: a SPIFFE ID.
    pub(crate) identity: Option<Arc<str>>,
    /// Whether the downstream connection is encrypted.
    pub(crate) is_tls: bool,
    /// The host that it asked for (SNI).
    pub(crate) server_name: Option<Arc<str>>,
    /// The listener.
    pub(crate) listener: Option<ListenerName>,
    /// The route, once chosen.
    pub(crate) route: Option<RouteName>,
    /// What people have written about the route.
    pub(crate) route_metadata: Metadata,
    /// What people have written about the cluster, once chosen.
    pub(crate) cluster_metadata: Metadata,
    /// The cluster, once chosen.
    pub(crate) cluster: Option<ClusterName>,
    /// The endpoint, once chosen.
    pub(crate) endpoint: Option<SocketAddr>,
    /// How many endpoints the cluster has, once it is chosen.
    pub(crate) endpoints: u64,
    /// Attempts made so far.
    pub(crate) attempts: u32,
    /// When the request's head was whole, by the wall clock.
    pub(crate) started_at: SystemTime,
    /// The same by the clock that never jumps.
    pub(crate) started: Instant,
    /// When the last byte had gone, once it has.
    pub(crate) finished: Option<Instant>,
    /// Request body bytes received so far.
    pub(crate) request_bytes: u64,
    /// Response body bytes sent so far.
    pub(crate) response_bytes: u64,
    /// Why the answer is as it is: `via_upstream`, or what a filter or the proxy gave as its reason.
    pub(crate) details: Option<Arc<str>>,
    /// The plugin that answered, if one did.
    pub(crate) replied_by: Option<Arc<str>>,
    /// Values that filters have set (`proxy_set_property`), by whole path.
    pub(crate) values: Vec<StreamValue>,
}

impl Facts {
    /// What is known when a request's head has arrived on a connection.
    pub(crate) fn new(peer: SocketAddr, local: SocketAddr, connection_id: u64) -> Self {
        Self {
            peer,
            local,
            connection_id,
            identity: None,
            is_tls: false,
            server_name: None,
            listener: None,
            route: None,
            route_metadata: Metadata::default(),
            cluster_metadata: Metadata::default(),
            cluster: None,
            endpoint: None,
            endpoints: 0,
            attempts: 0,
            started_at: SystemTime::now(),
            started: Instant::now(),
            finished: None,
            request_bytes: 0,
            response_bytes: 0,
            details: None,
            replied_by: None,
            values: Vec::new(),
        }
    }
}
