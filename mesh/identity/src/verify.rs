//! Verifies the certificate of a peer: a root of its trust domain has signed it, it is valid now, and it contains
//! exactly one SPIFFE ID (X509-SVID, sections 4 and 5). Host names are not compared.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};
use weir_model::{SpiffeId, TrustDomain};
use x509_parser::parse_x509_certificate;

use crate::trust_bundle::{TrustBundle, control_plane_workload, crypto_provider, fingerprint};

/// The reason for which a peer is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The certificate has no SPIFFE ID, several, or is malformed.
    #[error("its certificate has no SPIFFE ID: {0}")]
    NoSpiffeId(String),
    /// No trusted root has signed the certificate, or it is not valid now.
    #[error("the certificate of {id} is not valid: {reason}")]
    InvalidCertificate {
        /// The SPIFFE ID in the certificate.
        id: SpiffeId,
        /// The fault.
        reason: String,
    },
    /// The SPIFFE ID belongs to another trust domain.
    #[error("{id} is of another trust domain than {ours}")]
    ForeignTrustDomain {
        /// The SPIFFE ID in the certificate.
        id: SpiffeId,
        /// The local trust domain.
        ours: TrustDomain,
    },
    /// The certificate is valid and belongs to another workload than the expected one.
    #[error("the peer is {id}, but {expected} is expected")]
    UnexpectedIdentity {
        /// The SPIFFE ID in the certificate.
        id: SpiffeId,
        /// The expected SPIFFE ID.
        expected: SpiffeId,
    },
    /// The peer has sent no certificate.
    #[error("the peer sent no certificate")]
    NoCertificate,
}

/// Returns the SPIFFE ID in a certificate, without verifying the certificate.
///
/// # Errors
/// The certificate does not contain exactly one URI, or the URI is no SPIFFE ID.
pub fn spiffe_id(certificate: &CertificateDer<'_>) -> Result<SpiffeId, PeerError> {
    let none = |reason: &dyn fmt::Display| PeerError::NoSpiffeId(reason.to_string());
    let certificate = EndEntityCert::try_from(certificate).map_err(|error| none(&error))?;
    let mut names = certificate.valid_uri_names();
    match (names.next(), names.next()) {
        (Some(name), None) => name.parse().map_err(|error| none(&error)),
        (None, _) => Err(none(&"there is no URI in it")),
        (Some(_), Some(_)) => Err(none(&"there are several URIs in it")),
    }
}

/// Returns the expiry of a certificate.
///
/// # Errors
/// The certificate is malformed.
pub fn not_after(certificate: &CertificateDer<'_>) -> Result<SystemTime, PeerError> {
    let read = parse_x509_certificate(certificate).map_err(|error| PeerError::NoSpiffeId(error.to_string()))?;
    let seconds = u64::try_from(read.1.validity().not_after.timestamp()).unwrap_or(0);
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Returns the reason for which a TLS handshake failed, with the fault of the peer's certificate.
pub fn handshake_error(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(error)))) => error.to_string(),
        Some(rustls::Error::NoCertificatesPresented) => PeerError::NoCertificate.to_string(),
        // The error of rustls when the resolver returns no certificate.
        Some(rustls::Error::General(text)) if text.starts_with("no server certificate chain resolved") => {
            "there is no certificate for the requested host (SNI)".to_owned()
        }
        Some(rustls::Error::AlertReceived(alert)) => format!("it has refused us: {alert:?}; its log has the reason"),
        Some(error) => error.to_string(),
        None => error.to_string(),
    }
}

/// The source of trust in a peer.
#[derive(Debug)]
pub(crate) enum TrustSource {
    /// The roots of the own trust domain.
    Domain {
        /// The trust bundle of the domain.
        bundle: Arc<TrustBundle>,
        /// The own trust domain.
        domain: TrustDomain,
        /// The only accepted SPIFFE ID; `None` accepts any of the domain.
        expected: Option<SpiffeId>,
    },
    /// The fingerprint of the control plane's root. The peer must send the root with its chain. Used by a workload that
    /// has no trust bundle yet.
    Pinned([u8; 32]),
}

/// The client authentication of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// A client without a certificate is rejected.
    Required,
    /// A client may connect without a certificate.
    Optional,
}

/// Verifies peers' certificates for rustls, on both sides of a connection.
#[derive(Debug)]
pub(crate) struct PeerVerifier {
    trust: TrustSource,
    client_auth: ClientAuth,
    algorithms: WebPkiSupportedAlgorithms,
}

/// The certificates that a peer has sent.
struct PeerChain<'a> {
    /// The SPIFFE ID in the certificate.
    id: &'a SpiffeId,
    certificate: &'a CertificateDer<'a>,
    /// Intermediates, and the root if it was sent.
    others: &'a [CertificateDer<'a>],
}

impl PeerVerifier {
    pub(crate) fn new(trust: TrustSource, client_auth: ClientAuth) -> Self {
        Self { trust, client_auth, algorithms: crypto_provider().signature_verification_algorithms }
    }

    /// Verifies the certificate that a peer has sent with the others, as of `now`.
    pub(crate) fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), PeerError> {
        let id = spiffe_id(certificate)?;
        let chain = PeerChain { id: &id, certificate, others };
        let expected = match &self.trust {
            TrustSource::Domain { bundle, domain, expected } => {
                if id.domain != *domain {
                    return Err(PeerError::ForeignTrustDomain { id, ours: domain.clone() });
                }
                self.check_chain(&chain, bundle, now, usage)?;
                expected.clone()
            }
            TrustSource::Pinned(pinned) => {
                let Some(root) = others.iter().find(|other| fingerprint(other) == *pinned) else {
                    let reason = "the root that the join token names has not signed it; the token may be of another \
                                  control plane";
                    return Err(PeerError::InvalidCertificate { id, reason: reason.to_owned() });
                };
                let bundle = TrustBundle::new(vec![root.clone().into_owned()]);
                self.check_chain(&chain, &bundle, now, usage)?;
                Some(id.domain.id(&control_plane_workload()))
            }
        };
        match expected {
            Some(expected) if expected != id => Err(PeerError::UnexpectedIdentity { id, expected }),
            _ => Ok(()),
        }
    }

    /// Checks that a root of the bundle has signed the certificate, directly or through the others, and that all are
    /// valid now.
    fn check_chain(
        &self,
        chain: &PeerChain<'_>,
        bundle: &TrustBundle,
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), PeerError> {
        let PeerChain { id, certificate, others } = *chain;
        let not_valid = |error: webpki::Error| {
            let reason = match error {
                webpki::Error::CertExpired { not_after, .. } => {
                    with_clock(&format!("it has expired at {}", time(not_after)), now)
                }
                webpki::Error::CertNotValidYet { not_before, .. } => {
                    with_clock(&format!("it is valid from {}", time(not_before)), now)
                }
                // The second error is that of an issuer with a trusted root's name and another key.
                webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
                    format!("no root of {} has signed it", id.domain)
                }
                other => other.to_string(),
            };
            PeerError::InvalidCertificate { id: id.clone(), reason }
        };
        let entity = EndEntityCert::try_from(certificate).map_err(not_valid)?;
        let anchors = bundle.anchors().map_err(not_valid)?;
        let verified = entity.verify_for_usage(self.algorithms.all, &anchors, others, now, usage, None, None).map(drop);
        verified.map_err(not_valid)
    }
}

/// Returns a fault with the clock that it was found by: the certificate's times are those of the signer's clock.
pub(crate) fn with_clock(fault: &str, now: UnixTime) -> String {
    format!("{fault}, and this machine's clock is {}; check the clocks of both", time(now))
}

fn time(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("{seconds} s"), |time| time.to_string())
}

/// Wraps the reason for the local log. The peer receives only the TLS alert `certificate_unknown`.
fn to_rustls_error(error: PeerError) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(certificate, others, now, KeyUsage::server_auth()).map_err(to_rustls_error)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.client_auth == ClientAuth::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(certificate, others, now, KeyUsage::client_auth()).map_err(to_rustls_error)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};

    use super::*;

    const ID: &str = "spiffe://mesh.example/ns/shop/sa/edge";

    fn at(text: &str) -> SystemTime {
        SystemTime::from(text.parse::<jiff::Timestamp>().unwrap())
    }

    fn unix(text: &str) -> UnixTime {
        UnixTime::since_unix_epoch(at(text).duration_since(SystemTime::UNIX_EPOCH).unwrap())
    }

    /// Returns the root, and a certificate of it that is valid from 10:00 to 11:00.
    fn issue() -> (CertificateDer<'static>, CertificateDer<'static>) {
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(ID.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = at("2026-11-30T10:00:00Z").into();
        params.not_after = at("2026-11-30T11:00:00Z").into();
        let anchor = root.self_signed(&root_key).unwrap().der().clone();
        let certificate = params.signed_by(&key, &Issuer::new(root, root_key)).unwrap();
        (anchor, certificate.der().clone())
    }

    #[test]
    fn rejection_by_time_names_both_clocks() {
        let (root, certificate) = issue();
        let domain = TrustDomain::new("mesh.example").unwrap();
        let bundle = Arc::new(TrustBundle::new(vec![root]));
        let trust = TrustSource::Domain { bundle, domain, expected: None };
        let verifier = PeerVerifier::new(trust, ClientAuth::Required);
        let verify = |now: &str| verifier.verify(&certificate, &[], unix(now), KeyUsage::server_auth());
        assert_eq!(verify("2026-11-30T10:30:00Z"), Ok(()));
        for (now, expected) in [
            (
                "2026-11-30T09:58:00Z",
                "it is valid from 2026-11-30T10:00:00Z, and this machine's clock is 2026-11-30T09:58:00Z; check the \
                 clocks of both",
            ),
            (
                "2026-11-30T11:02:00Z",
                "it has expired at 2026-11-30T11:00:00Z, and this machine's clock is 2026-11-30T11:02:00Z; check the \
                 clocks of both",
            ),
        ] {
            let error = verify(now).unwrap_err().to_string();
            assert_eq!(error, format!("the certificate of {ID} is not valid: {expected}"));
        }
    }
}
