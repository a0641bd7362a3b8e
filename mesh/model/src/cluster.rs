//! Clusters: named groups of endpoints with one policy.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::endpoint::Endpoint;
use crate::limits::{DEFAULT_CONNECT_TIMEOUT, MAX_ENDPOINTS};
use crate::metadata::Metadata;
use crate::name::ClusterName;
use crate::outlier::OutlierDetection;
use crate::protocol_options::UpstreamProtocolOptions;
use crate::retry::RetryBudget;
use crate::tcp_keepalive::TcpKeepalive;
use crate::tls::UpstreamTls;

/// The source of a cluster's endpoints (`Cluster.DiscoveryType` in xDS).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Discovery {
    /// A list of at most [`MAX_ENDPOINTS`] endpoints.
    Static(Vec<Endpoint>),
    /// Every address that `host` resolves to, each at `port`; resolved again when its TTL has passed.
    Dns {
        /// The DNS name.
        host: Arc<str>,
        /// The port at each address.
        port: u16,
    },
}

/// The load balancing policy of a cluster (`Cluster.LbPolicy` in xDS).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum LbPolicy {
    /// Each endpoint in turn, in proportion to its weight.
    #[default]
    RoundRobin,
    /// The endpoint with fewer active requests of two picked at random.
    LeastRequest,
    /// A random endpoint, by weight.
    Random,
}

/// The HTTP version that the endpoints of a cluster speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge (RFC 9113 §3.3).
    Http2,
    /// HTTP/2 if the endpoint selects it by ALPN (RFC 7301), otherwise HTTP/1.1. Only with [`UpstreamTls::Server`].
    Auto,
}

/// A named group of endpoints with one policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// The name of the cluster.
    pub name: ClusterName,
    /// The source of its endpoints.
    pub discovery: Discovery,
    /// The HTTP version of its endpoints.
    pub protocol: UpstreamProtocol,
    /// The policy that picks an endpoint for a request.
    #[serde(rename = "balancing")]
    pub lb_policy: LbPolicy,
    /// Time limit for opening a connection.
    pub connect_timeout: Duration,
    /// Time limit for a whole request and response on routes without one. `None` = the default; `Some(ZERO)` = no limit.
    pub request_timeout: Option<Duration>,
    /// The share of its requests that may be retries; `None` for the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_budget: Option<Arc<RetryBudget>>,
    /// Ejects endpoints whose requests fail; `None` ejects none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<Arc<OutlierDetection>>,
    /// TCP keepalive of its connections.
    pub tcp_keepalive: TcpKeepalive,
    /// Bounds and timeouts of its HTTP connections.
    pub options: UpstreamProtocolOptions,
    /// TLS to the endpoints; `None` is plaintext.
    pub tls: Option<UpstreamTls>,
    /// Metadata that filters can read.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

impl Cluster {
    /// Returns a cluster of listed endpoints with every policy at its default.
    ///
    /// # Errors
    /// The number of endpoints, if there are more than [`MAX_ENDPOINTS`].
    pub fn of_endpoints(name: ClusterName, endpoints: Vec<Endpoint>) -> Result<Self, usize> {
        if endpoints.len() > MAX_ENDPOINTS {
            return Err(endpoints.len());
        }
        Ok(Self {
            name,
            discovery: Discovery::Static(endpoints),
            protocol: UpstreamProtocol::default(),
            lb_policy: LbPolicy::default(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            request_timeout: None,
            retry_budget: None,
            outlier_detection: None,
            tcp_keepalive: TcpKeepalive::default(),
            options: UpstreamProtocolOptions::default(),
            tls: None,
            metadata: Metadata::default(),
        })
    }
}
