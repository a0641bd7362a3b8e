//! The trust bundle of a trust domain, the crypto provider, and the control plane's workload name.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use sha2::{Digest, Sha256};
use weir_model::Workload;

/// Returns the crypto provider of every TLS connection: aws-lc-rs.
pub fn crypto_provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

/// Returns the control plane's workload, which has the same path in every trust domain.
pub fn control_plane_workload() -> Workload {
    Workload::new("/weir/control-plane").expect("it is the path of a SPIFFE ID")
}

/// The root certificates of a trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle(Vec<CertificateDer<'static>>);

impl TrustBundle {
    /// Creates a trust bundle from root certificates.
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Self {
        Self(certificates)
    }

    /// Returns the root certificates.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    pub(crate) fn anchors(&self) -> Result<Vec<TrustAnchor<'_>>, webpki::Error> {
        self.0.iter().map(webpki::anchor_from_trusted_cert).collect()
    }
}

/// Returns the SHA-256 of a certificate. A join token contains that of its root.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}
