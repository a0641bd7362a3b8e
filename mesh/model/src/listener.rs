//! Listeners: addresses that the proxy accepts connections on.

use std::net::SocketAddr;

use serde::Serialize;

use crate::name::{ListenerName, RouteTableName};
use crate::protocol_options::DownstreamProtocolOptions;
use crate::tls::DownstreamTls;

/// An address that the proxy accepts connections on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// The name of the listener: `namespace/gateway/listener`.
    pub name: ListenerName,
    /// The address to bind; port 0 binds a free port.
    pub address: SocketAddr,
    /// The protocol of its connections.
    pub protocol: ListenerProtocol,
    /// The routes of its requests. The table of a TCP listener has one route, which every connection takes.
    pub route_table: RouteTableName,
    /// TLS towards the downstream; `None` is plaintext.
    pub tls: Option<DownstreamTls>,
    /// Bounds and timeouts of its HTTP connections; the defaults for TCP.
    pub options: DownstreamProtocolOptions,
}

/// The protocol of a listener's connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ListenerProtocol {
    /// HTTP/1.1, and HTTP/2 by prior knowledge or by ALPN.
    #[default]
    Http,
    /// Opaque bytes in both directions.
    Tcp,
}
