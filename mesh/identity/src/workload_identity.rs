//! A workload's own identity: a certificate, its key, and the trust bundle. TLS with it is 1.3 only, without
//! resumption: a resumed session would skip the verification of the peer.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::{Resumption, WantsClientCert};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ConfigBuilder, ServerConfig};
use webpki::KeyUsage;
use weir_model::{SpiffeId, Workload};

use crate::trust_bundle::{TrustBundle, crypto_provider};
use crate::verify::{ClientAuth, PeerError, PeerVerifier, TrustSource, not_after, spiffe_id};

/// An error in a certificate chain or its key.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct IdentityError(String);

fn identity_error(what: &str, error: impl fmt::Display) -> IdentityError {
    IdentityError(format!("{what}: {error}"))
}

/// A workload's certificate, key and trust bundle.
#[derive(Clone)]
pub struct WorkloadIdentity {
    /// The SPIFFE ID.
    pub id: SpiffeId,
    /// The expiry of the certificate.
    pub not_after: SystemTime,
    chain: Vec<CertificateDer<'static>>,
    /// The private key (PKCS #8), for storage on disk.
    key: Vec<u8>,
    trust_bundle: Arc<TrustBundle>,
    certified_key: Arc<CertifiedKey>,
}

impl fmt::Debug for WorkloadIdentity {
    /// Omits the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WorkloadIdentity").field("id", &self.id).finish_non_exhaustive()
    }
}

impl WorkloadIdentity {
    /// Creates an identity from a certificate chain, its key (PKCS #8) and a trust bundle.
    ///
    /// # Errors
    /// The first certificate has no SPIFFE ID, or the key is not its key.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: Vec<u8>,
        trust_bundle: TrustBundle,
    ) -> Result<Self, IdentityError> {
        let first = chain.first().ok_or_else(|| IdentityError("the chain is empty".to_owned()))?;
        let id = spiffe_id(first).map_err(|error| identity_error("the certificate", error))?;
        let not_after = not_after(first).map_err(|error| identity_error("the certificate", error))?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.clone()));
        let certified_key = CertifiedKey::from_der(chain.clone(), der, &crypto_provider())
            .map_err(|error| identity_error("the key", error))?;
        let (trust_bundle, certified_key) = (Arc::new(trust_bundle), Arc::new(certified_key));
        Ok(Self { id, not_after, chain, key, trust_bundle, certified_key })
    }

    /// Returns the trust bundle.
    pub fn trust_bundle(&self) -> &TrustBundle {
        &self.trust_bundle
    }

    /// Returns the certificate, and those between it and a root.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Returns three PEM texts: the chain, the key, and the roots.
    pub fn to_pems(&self) -> [String; 3] {
        let certificates = |all: &[CertificateDer<'_>]| -> String {
            all.iter().map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der.as_ref()))).collect()
        };
        let key = pem::encode(&pem::Pem::new("PRIVATE KEY", self.key.as_slice()));
        [certificates(&self.chain), key, certificates(self.trust_bundle.certificates())]
    }

    /// Returns chain, key and roots as one PEM text, for a private file.
    pub fn to_pem(&self) -> String {
        let certificate = |label: &str, der: &[u8]| pem::encode(&pem::Pem::new(label, der));
        let chain = self.chain.iter().map(|der| certificate("CERTIFICATE", der));
        let roots = self.trust_bundle.certificates().iter().map(|der| certificate("TRUSTED CERTIFICATE", der));
        let key = std::iter::once(certificate("PRIVATE KEY", &self.key));
        chain.chain(key).chain(roots).collect()
    }

    /// Parses the text that [`WorkloadIdentity::to_pem`] wrote.
    ///
    /// # Errors
    /// The text has no key, or is malformed.
    pub fn from_pem(text: &str) -> Result<Self, IdentityError> {
        let parts = pem::parse_many(text).map_err(|error| identity_error("the file", error))?;
        let labeled = |label: &str| {
            let parts = parts.iter().filter(|part| part.tag() == label);
            parts.map(|part| part.contents().to_vec()).collect::<Vec<_>>()
        };
        let key = labeled("PRIVATE KEY").pop().ok_or_else(|| IdentityError("there is no key".to_owned()))?;
        let certificates = |label| labeled(label).into_iter().map(CertificateDer::from).collect();
        Self::new(certificates("CERTIFICATE"), key, TrustBundle::new(certificates("TRUSTED CERTIFICATE")))
    }

    /// Returns TLS of a server; `protocols` are ALPN protocols, in order of preference. A client certificate of another
    /// trust domain is rejected, whether or not one is required.
    pub fn server_config(&self, protocols: &[&[u8]], client_auth: ClientAuth) -> Arc<ServerConfig> {
        let verifier = PeerVerifier::new(self.trust(None), client_auth);
        let mut config = ServerConfig::builder_with_provider(crypto_provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the crypto_provider knows TLS 1.3")
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.certified_key))));
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config.send_tls13_tickets = 0;
        Arc::new(config)
    }

    /// Returns TLS of a client that connects to a workload of the same trust domain. An empty `protocol` means no ALPN.
    pub fn client_config(&self, workload: &Workload, protocol: &[u8]) -> Arc<ClientConfig> {
        let builder = client_builder(self.trust(Some(self.id.domain.id(workload))));
        let certificate = SingleCertAndKey::from(Arc::clone(&self.certified_key));
        finish_client_config(builder.with_client_cert_resolver(Arc::new(certificate)), protocol)
    }

    /// Verifies the own chain against the trust bundle, as a peer with that bundle does.
    ///
    /// # Errors
    /// The chain is not trusted, or not valid now.
    pub fn check(&self) -> Result<(), PeerError> {
        let (first, others) = self.chain.split_first().ok_or(PeerError::NoCertificate)?;
        let verifier = PeerVerifier::new(self.trust(None), ClientAuth::Required);
        verifier.verify(first, others, UnixTime::now(), KeyUsage::server_auth())
    }

    fn trust(&self, expected: Option<SpiffeId>) -> TrustSource {
        TrustSource::Domain { bundle: Arc::clone(&self.trust_bundle), domain: self.id.domain.clone(), expected }
    }
}

/// Returns TLS of a workload without a certificate, which knows the fingerprint of the control plane's root.
pub(crate) fn pinned_config(root_fingerprint: [u8; 32]) -> Arc<ClientConfig> {
    finish_client_config(client_builder(TrustSource::Pinned(root_fingerprint)).with_no_client_auth(), b"h2")
}

fn client_builder(trust: TrustSource) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    ClientConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the crypto_provider knows TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PeerVerifier::new(trust, ClientAuth::Required)))
}

fn finish_client_config(mut config: ClientConfig, protocol: &[u8]) -> Arc<ClientConfig> {
    if !protocol.is_empty() {
        config.alpn_protocols = vec![protocol.to_vec()];
    }
    config.resumption = Resumption::disabled();
    Arc::new(config)
}
