//! Which sides of a connection prove who they are.

use serde::Serialize;

use crate::identity::Workload;
use crate::matcher::HostMatch;
use crate::name::SecretName;

/// What a listener asks of those that connect to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum DownstreamTls {
    /// TLS 1.3, and each side proves by a certificate of the mesh which workload it is.
    #[serde(rename_all = "camelCase")]
    Mesh {
        /// Until when plain text is answered too, in seconds since 1970 (UTC); nothing else is answered when left out.
        plain_until: Option<u64>,
    },
    /// TLS 1.3; a certificate for each host that is served, and nothing is asked of those that connect. The most specific
    /// host counts; a connection that asks for none of them is refused.
    Https(Vec<HostCertificate>),
}

/// What is shown to those that ask for a host (SNI, RFC 6066 §3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostCertificate {
    /// The host; `Any` is also for those that ask for none.
    pub host: HostMatch,
    /// The certificate.
    pub secret: SecretName,
}

impl DownstreamTls {
    /// The secrets that it needs.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        let certificates = match self {
            Self::Mesh { .. } => &[],
            Self::Https(certificates) => certificates.as_slice(),
        };
        certificates.iter().map(|it| &it.secret)
    }
}

/// What a cluster's endpoints are asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamTls {
    /// TLS 1.3, and each endpoint must prove that it is this workload of the proxy's own trust domain.
    pub workload: Workload,
}
