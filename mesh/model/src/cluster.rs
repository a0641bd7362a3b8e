//! A named group of endpoints with one policy.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::endpoint::Endpoint;
use crate::limits::{DEFAULT_CONNECT_TIMEOUT, MAX_ENDPOINTS};
use crate::metadata::Metadata;
use crate::name::ClusterName;
use crate::tls::UpstreamTls;

/// How a cluster's endpoints are known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Discovery {
    /// They are listed; at most [`MAX_ENDPOINTS`].
    Static(Vec<Endpoint>),
    /// Every address that `host` resolves to, each at `port`; resolved again and again.
    Dns {
        /// The DNS name.
        host: Arc<str>,
        /// The port at each address.
        port: u16,
    },
}

/// How an endpoint is picked among its siblings (`Cluster.LbPolicy` in xDS).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Balancing {
    /// Each in turn, as often as its weight says.
    #[default]
    RoundRobin,
    /// The less busy of two picked at random.
    LeastRequest,
    /// At random, by weight.
    Random,
}

/// What the endpoints of a cluster speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge (RFC 9113 §3.3).
    Http2,
}

/// A named group of endpoints with one policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// Its name.
    pub name: ClusterName,
    /// How its endpoints are known.
    pub discovery: Discovery,
    /// What they speak.
    pub protocol: UpstreamProtocol,
    /// How one is picked.
    pub balancing: Balancing,
    /// Time to open a connection.
    pub connect_timeout: Duration,
    /// Time for a whole request and response, where the route says nothing; `None` = no limit.
    pub request_timeout: Option<Duration>,
    /// Who its endpoints must be; `None` is plain text to anybody.
    pub tls: Option<UpstreamTls>,
    /// What filters can read about it.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

impl Cluster {
    /// A cluster of listed endpoints with every policy at its default.
    ///
    /// # Errors
    /// How many endpoints were given, when they are more than [`MAX_ENDPOINTS`].
    pub fn of_endpoints(name: ClusterName, endpoints: Vec<Endpoint>) -> Result<Self, usize> {
        if endpoints.len() > MAX_ENDPOINTS {
            return Err(endpoints.len());
        }
        Ok(Self {
            name,
            discovery: Discovery::Static(endpoints),
            protocol: UpstreamProtocol::default(),
            balancing: Balancing::default(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            request_timeout: None,
            tls: None,
            metadata: Metadata::default(),
        })
    }
}
