//! An address that the proxy accepts connections on.

use std::net::SocketAddr;

use serde::Serialize;

use crate::name::{ListenerName, RouteTableName};
use crate::tls::DownstreamTls;

/// An address that the proxy accepts connections on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Its name: `namespace/gateway/listener`.
    pub name: ListenerName,
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// What its connections carry.
    pub protocol: ListenerProtocol,
    /// Where its requests go. Of a TCP listener's table every connection takes the one route there is.
    pub route_table: RouteTableName,
    /// Who may connect; `None` is plain text from anybody.
    pub tls: Option<DownstreamTls>,
}

/// What the connections of a listener carry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ListenerProtocol {
    /// HTTP/1.1, and HTTP/2 by prior knowledge or as agreed upon in TLS.
    #[default]
    Http,
    /// Bytes of any kind, in both directions.
    Tcp,
}
