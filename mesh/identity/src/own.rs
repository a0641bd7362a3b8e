//! One's own identity: a certificate, its key, and the roots that one believes. TLS with it is 1.3 alone, without
//! resumption: a session is never taken up again with somebody else's authority.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::{Resumption, WantsClientCert};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ConfigBuilder, ServerConfig};
use webpki::KeyUsage;
use weir_model::{SpiffeId, Workload};

use crate::peer::{PeerError, PeerVerifier, Trust, end_of, peer_of};
use crate::roots::{Roots, provider};

/// Why something is not an identity.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotOurs(String);

fn not_ours(what: &str, error: impl fmt::Display) -> NotOurs {
    NotOurs(format!("{what}: {error}"))
}

/// A workload's identity.
#[derive(Clone)]
pub struct WorkloadIdentity {
    /// Who it is.
    pub id: SpiffeId,
    /// When its certificate ends.
    pub not_after: SystemTime,
    chain: Vec<CertificateDer<'static>>,
    /// PKCS #8, for whoever keeps it on disk.
    key: Vec<u8>,
    roots: Arc<Roots>,
    certified: Arc<CertifiedKey>,
}

impl fmt::Debug for WorkloadIdentity {
    /// Without the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WorkloadIdentity").field("id", &self.id).finish_non_exhaustive()
    }
}

impl WorkloadIdentity {
    /// The identity that a chain proves with its key (PKCS #8).
    ///
    /// # Errors
    /// The chain says no identity, or the key is not its own.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: Vec<u8>, roots: Roots) -> Result<Self, NotOurs> {
        let first = chain.first().ok_or_else(|| NotOurs("the chain is empty".to_owned()))?;
        let id = peer_of(first).map_err(|error| not_ours("the certificate", error))?;
        let not_after = end_of(first).map_err(|error| not_ours("the certificate", error))?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.clone()));
        let certified =
            CertifiedKey::from_der(chain.clone(), der, &provider()).map_err(|error| not_ours("the key", error))?;
        let (roots, certified) = (Arc::new(roots), Arc::new(certified));
        Ok(Self { id, not_after, chain, key, roots, certified })
    }

    /// The roots that it believes.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// Its certificate, and those between it and a root.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Its certificate and those between it and a root; its key; and the roots: each as PEM.
    pub fn to_pems(&self) -> [String; 3] {
        let certificates = |all: &[CertificateDer<'_>]| -> String {
            all.iter().map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der.as_ref()))).collect()
        };
        let key = pem::encode(&pem::Pem::new("PRIVATE KEY", self.key.as_slice()));
        [certificates(&self.chain), key, certificates(self.roots.certificates())]
    }

    /// Certificate, key and roots as PEM, for a file that nobody else may read.
    pub fn to_pem(&self) -> String {
        let certificate = |label: &str, der: &[u8]| pem::encode(&pem::Pem::new(label, der));
        let chain = self.chain.iter().map(|der| certificate("CERTIFICATE", der));
        let roots = self.roots.certificates().iter().map(|der| certificate("TRUSTED CERTIFICATE", der));
        let key = std::iter::once(certificate("PRIVATE KEY", &self.key));
        chain.chain(key).chain(roots).collect()
    }

    /// What [`WorkloadIdentity::to_pem`] has written.
    ///
    /// # Errors
    /// The text is something else.
    pub fn from_pem(text: &str) -> Result<Self, NotOurs> {
        let parts = pem::parse_many(text).map_err(|error| not_ours("the file", error))?;
        let of = |label: &str| {
            let parts = parts.iter().filter(|part| part.tag() == label);
            parts.map(|part| part.contents().to_vec()).collect::<Vec<_>>()
        };
        let key = of("PRIVATE KEY").pop().ok_or_else(|| NotOurs("there is no key".to_owned()))?;
        let certificates = |label| of(label).into_iter().map(CertificateDer::from).collect();
        Self::new(certificates("CERTIFICATE"), key, Roots::new(certificates("TRUSTED CERTIFICATE")))
    }

    /// TLS of one who is connected to; `protocols` are those of ALPN, best first. Whoever `must_prove` nothing may stay
    /// unknown; who shows a certificate must be of the same trust domain in any case.
    pub fn server_config(&self, protocols: &[&[u8]], must_prove: bool) -> Arc<ServerConfig> {
        let verifier = PeerVerifier::new(self.trust(None), must_prove);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider knows TLS 1.3")
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.certified))));
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config.send_tls13_tickets = 0;
        Arc::new(config)
    }

    /// TLS of one who connects to a workload of the same trust domain.
    pub fn client_config(&self, workload: &Workload, protocol: &[u8]) -> Arc<ClientConfig> {
        let builder = client_builder(self.trust(Some(self.id.domain.id(workload))));
        let own = SingleCertAndKey::from(Arc::clone(&self.certified));
        finished(builder.with_client_cert_resolver(Arc::new(own)), protocol)
    }

    /// Whether others who believe the same roots believe it now.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), PeerError> {
        let (first, others) = self.chain.split_first().ok_or(PeerError::NoCertificate)?;
        PeerVerifier::new(self.trust(None), true).judge(first, others, (UnixTime::now(), KeyUsage::server_auth()))
    }

    fn trust(&self, expected: Option<SpiffeId>) -> Trust {
        Trust::Domain { roots: Arc::clone(&self.roots), domain: self.id.domain.clone(), expected }
    }
}

/// TLS of one who has no identity yet and knows the hash of its control plane's root.
pub(crate) fn pinned_config(pin: [u8; 32]) -> Arc<ClientConfig> {
    finished(client_builder(Trust::Pinned(pin)).with_no_client_auth(), b"h2")
}

fn client_builder(trust: Trust) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider knows TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PeerVerifier::new(trust, true)))
}

fn finished(mut config: ClientConfig, protocol: &[u8]) -> Arc<ClientConfig> {
    if !protocol.is_empty() {
        config.alpn_protocols = vec![protocol.to_vec()]; // None is for bytes that are no protocol of ours.
    }
    config.resumption = Resumption::disabled();
    Arc::new(config)
}
