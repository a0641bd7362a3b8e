//! Which sides of a connection prove who they are.

use serde::Serialize;

use crate::identity::Workload;

/// What a listener asks of those that connect to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum DownstreamTls {
    /// TLS 1.3, and each side proves by a certificate of the mesh which workload it is. Nothing else is answered.
    Mesh,
}

/// What a cluster's endpoints are asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamTls {
    /// TLS 1.3, and each endpoint must prove that it is this workload of the proxy's own trust domain.
    pub workload: Workload,
}
