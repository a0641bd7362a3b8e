//! TLS settings of listeners and clusters.

use std::sync::Arc;

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

/// TLS to the endpoints of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum UpstreamTls {
    /// Mutual TLS 1.3 between workloads of the mesh.
    #[serde(rename_all = "camelCase")]
    Mesh {
        /// The workload that each endpoint must authenticate as, in the proxy's own trust domain.
        workload: Workload,
    },
    /// TLS with a server whose certificate a CA has signed.
    Server(ServerTls),
}

/// TLS with a server: the CAs and the names of its certificate, and the client's own certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerTls {
    /// The server name that is sent (SNI); `None` sends none.
    pub sni: Option<Arc<str>>,
    /// The CAs of which one must have signed the certificate.
    pub trust: ServerTrust,
    /// The names of which the certificate must have one; at least one.
    pub names: Vec<SubjectAltName>,
    /// The secret with the client certificate; `None` presents none.
    pub client_certificate: Option<SecretName>,
    /// The lowest version.
    pub min_version: TlsVersion,
    /// The highest version; at least `min_version`.
    pub max_version: TlsVersion,
}

/// The source of the CAs that a server's certificate is verified with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ServerTrust {
    /// The CAs of the machine that the proxy runs on.
    System,
    /// The CAs of a secret.
    Secret(SecretName),
}

/// A name in a certificate (RFC 5280 §4.2.1.6).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum SubjectAltName {
    /// A DNS name. A name of the certificate with a wildcard matches it, too (RFC 9525 §6.3).
    Dns(Arc<str>),
    /// A URI, compared exactly.
    Uri(Arc<str>),
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    V1_3,
}

impl UpstreamTls {
    /// Returns the settings of TLS with a server; `None` for the mesh.
    pub fn server(&self) -> Option<&ServerTls> {
        match self {
            Self::Server(server) => Some(server),
            Self::Mesh { .. } => None,
        }
    }

    /// Returns the secrets that these settings refer to.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        let server = self.server();
        let trust = server.and_then(|server| match &server.trust {
            ServerTrust::Secret(name) => Some(name),
            ServerTrust::System => None,
        });
        trust.into_iter().chain(server.and_then(|server| server.client_certificate.as_ref()))
    }
}
