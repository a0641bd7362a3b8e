//! The roots of a trust domain, the cryptography, and the one name that every trust domain has.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use sha2::{Digest, Sha256};
use weir_model::Workload;

/// The cryptography of every connection.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

/// Who the control plane is in every trust domain.
pub fn control_plane() -> Workload {
    Workload::new("/weir/control-plane").expect("it is the path of a SPIFFE ID")
}

/// The root certificates of a trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots(Vec<CertificateDer<'static>>);

impl Roots {
    /// These.
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Self {
        Self(certificates)
    }

    /// Their certificates.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    pub(crate) fn anchors(&self) -> Result<Vec<TrustAnchor<'_>>, webpki::Error> {
        self.0.iter().map(webpki::anchor_from_trusted_cert).collect()
    }
}

/// SHA-256 of a certificate: what a join token names its root by.
pub fn hash_of(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}
