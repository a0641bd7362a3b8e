//! An address that the proxy accepts connections on.

use std::net::SocketAddr;

use serde::Serialize;

use crate::name::{ListenerName, RouteTableName};
use crate::tls::DownstreamTls;

/// An address that the proxy accepts HTTP/1.1 and HTTP/2 (prior knowledge) connections on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Its name: `namespace/gateway/listener`.
    pub name: ListenerName,
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// Where its requests go.
    pub route_table: RouteTableName,
    /// Who may connect; `None` is plain text from anybody.
    pub tls: Option<DownstreamTls>,
}
