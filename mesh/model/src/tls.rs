//! TLS settings of listeners and clusters.

use serde::Serialize;

use crate::identity::Workload;
use crate::matcher::HostMatch;
use crate::name::SecretName;

/// The TLS mode of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum DownstreamTls {
    /// Mutual TLS 1.3: both sides present a workload certificate of the mesh.
    #[serde(rename_all = "camelCase")]
    Mesh {
        /// The end of permissive mode, in seconds since 1970 (UTC): plaintext is accepted until then. `None` accepts
        /// mutual TLS only.
        #[serde(rename = "plainUntil")]
        plaintext_until: Option<u64>,
    },
    /// Server-side TLS 1.3, without a client certificate. The certificate of the most specific matching host is
    /// presented; a connection whose server name matches no host is rejected.
    Https(Vec<HostCertificate>),
}

/// The certificate for one server name (SNI, RFC 6066 §3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostCertificate {
    /// The server name; `Any` also matches a connection without one.
    pub host: HostMatch,
    /// The secret with the certificate and its key.
    pub secret: SecretName,
}

impl DownstreamTls {
    /// Returns the secrets that this mode refers to.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        let certificates = match self {
            Self::Mesh { .. } => &[],
            Self::Https(certificates) => certificates.as_slice(),
        };
        certificates.iter().map(|certificate| &certificate.secret)
    }
}

/// Mutual TLS 1.3 to the endpoints of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamTls {
    /// The workload that each endpoint must authenticate as, in the proxy's own trust domain.
    pub workload: Workload,
}
