//! Facts about a stream beyond its headers and bodies, as properties and the access log show them. The counterpart of
//! Envoy's `StreamInfo`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;
use weir_model::{ClusterName, EndpointAddress, ListenerName, Metadata, RouteName};

use crate::telemetry::{FailedAttempt, StreamProperty};

/// Addresses, identity, route, cluster, times and sizes of one stream.
#[derive(Debug, Clone)]
pub(crate) struct StreamInfo {
    /// Address of the downstream.
    pub(crate) peer: SocketAddr,
    /// Local address that the downstream connected to.
    pub(crate) local: SocketAddr,
    /// Id of the downstream connection, unique in the process.
    pub(crate) connection_id: u64,
    /// SPIFFE ID of the downstream, from its certificate.
    pub(crate) identity: Option<Arc<str>>,
    /// True if the downstream connection uses TLS.
    pub(crate) is_tls: bool,
    /// Server name of the TLS handshake (SNI).
    pub(crate) server_name: Option<Arc<str>>,
    /// Name of the listener.
    pub(crate) listener: Option<ListenerName>,
    /// Name of the route, once chosen.
    pub(crate) route: Option<RouteName>,
    /// Metadata of the route, from its resource.
    pub(crate) route_metadata: Metadata,
    /// Metadata of the cluster, from its resource. Empty until the cluster is chosen.
    pub(crate) cluster_metadata: Metadata,
    /// Name of the cluster, once chosen.
    pub(crate) cluster: Option<ClusterName>,
    /// Address of the endpoint, once chosen.
    pub(crate) endpoint: Option<EndpointAddress>,
    /// Number of endpoints of the cluster. Zero until the cluster is chosen.
    pub(crate) endpoints: u64,
    /// Number of attempts so far.
    pub(crate) attempts: u32,
    /// The attempts that were followed by another one.
    pub(crate) failed_attempts: Vec<FailedAttempt>,
    /// Wall-clock time at which the request's head was complete.
    pub(crate) started_at: SystemTime,
    /// Monotonic time of the same moment.
    pub(crate) started: Instant,
    /// Monotonic time of the last sent byte, once the stream has ended.
    pub(crate) finished: Option<Instant>,
    /// Request body bytes received so far.
    pub(crate) request_bytes: u64,
    /// Response body bytes sent so far.
    pub(crate) response_bytes: u64,
    /// Response code details, as in Envoy: the reason of a local reply. `None` for a response of the upstream.
    pub(crate) details: Option<Arc<str>>,
    /// Name of the plugin that replied locally, if one did.
    pub(crate) replied_by: Option<Arc<str>>,
    /// Properties that filters have set (`proxy_set_property`).
    pub(crate) properties: Vec<StreamProperty>,
}

impl StreamInfo {
    /// Returns the facts that are known when a request's head has arrived on a connection.
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
            failed_attempts: Vec::new(),
            started_at: SystemTime::now(),
            started: Instant::now(),
            finished: None,
            request_bytes: 0,
            response_bytes: 0,
            details: None,
            replied_by: None,
            properties: Vec::new(),
        }
    }
}
