//! Who is at the other end: a certificate of the mesh is believed when a root of its trust domain has signed it, its time
//! is now, and it says exactly one SPIFFE ID (X509-SVID, sections 4 and 5). Host names play no part.

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

use crate::roots::{Roots, control_plane, hash_of, provider};

/// Why a peer is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It is not a certificate of the mesh.
    #[error("its certificate has no SPIFFE ID: {0}")]
    NoIdentity(String),
    /// Its certificate is not believed.
    #[error("the certificate of {id} is not valid: {reason}")]
    NotValid {
        /// Who it says to be.
        id: SpiffeId,
        /// What is wrong.
        reason: String,
    },
    /// It belongs to a trust domain whose roots we do not have.
    #[error("{id} is of another trust domain than {ours}")]
    OtherDomain {
        /// Who it says to be.
        id: SpiffeId,
        /// Ours.
        ours: TrustDomain,
    },
    /// It is somebody else than who should be there.
    #[error("it is {id}, and {expected} should be there")]
    SomebodyElse {
        /// Who it is.
        id: SpiffeId,
        /// Who it should be.
        expected: SpiffeId,
    },
    /// It has none.
    #[error("it has shown no certificate")]
    NoCertificate,
}

/// Who a certificate says it is. Says nothing of whether that is true.
///
/// # Errors
/// It does not say exactly one SPIFFE ID.
pub fn peer_of(certificate: &CertificateDer<'_>) -> Result<SpiffeId, PeerError> {
    let none = |reason: &dyn fmt::Display| PeerError::NoIdentity(reason.to_string());
    let certificate = EndEntityCert::try_from(certificate).map_err(|error| none(&error))?;
    let mut names = certificate.valid_uri_names();
    match (names.next(), names.next()) {
        (Some(name), None) => name.parse().map_err(|error| none(&error)),
        (None, _) => Err(none(&"there is no URI in it")),
        (Some(_), Some(_)) => Err(none(&"there are several URIs in it")),
    }
}

/// When a certificate ends.
///
/// # Errors
/// It is none.
pub fn end_of(certificate: &CertificateDer<'_>) -> Result<SystemTime, PeerError> {
    let read = parse_x509_certificate(certificate).map_err(|error| PeerError::NoIdentity(error.to_string()))?;
    let seconds = u64::try_from(read.1.validity().not_after.timestamp()).unwrap_or(0);
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Why a handshake has failed, in words that name what is wrong with the peer.
pub fn reason_of(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(error)))) => error.to_string(),
        Some(rustls::Error::NoCertificatesPresented) => PeerError::NoCertificate.to_string(),
        // What rustls says when a resolver has no certificate for a name.
        Some(rustls::Error::General(text)) if text.starts_with("no server certificate chain resolved") => {
            "there is no certificate for the host that it asks for (SNI)".to_owned()
        }
        Some(rustls::Error::AlertReceived(alert)) => format!("it has refused us: {alert:?}"),
        Some(error) => error.to_string(),
        None => error.to_string(),
    }
}

/// Who is believed.
#[derive(Debug)]
pub(crate) enum Trust {
    /// Whoever a root of our own trust domain has signed.
    Domain {
        /// The roots.
        roots: Arc<Roots>,
        /// Whose they are.
        domain: TrustDomain,
        /// Who must be there; anybody of the domain when nobody is named.
        expected: Option<SpiffeId>,
    },
    /// The control plane whose root has this hash, and shows it: how a workload without an identity finds its own.
    Pinned([u8; 32]),
}

/// Judges peers.
#[derive(Debug)]
pub(crate) struct PeerVerifier {
    trust: Trust,
    /// Whether a client may stay unknown.
    is_required: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PeerVerifier {
    pub(crate) fn new(trust: Trust, is_required: bool) -> Self {
        Self { trust, is_required, algorithms: provider().signature_verification_algorithms }
    }

    /// Says whether a certificate with what it was shown with is believed at a time.
    pub(crate) fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        when: (UnixTime, KeyUsage),
    ) -> Result<(), PeerError> {
        let id = peer_of(certificate)?;
        let shown = (&id, certificate, others);
        let expected = match &self.trust {
            Trust::Domain { roots, domain, expected } => {
                if id.domain != *domain {
                    return Err(PeerError::OtherDomain { id, ours: domain.clone() });
                }
                self.check_chain(shown, roots, when)?;
                expected.clone()
            }
            Trust::Pinned(pin) => {
                let Some(root) = others.iter().find(|other| hash_of(other) == *pin) else {
                    let reason = "the root that the join token names has not signed it; the token may be of another \
                                  control plane";
                    return Err(PeerError::NotValid { id, reason: reason.to_owned() });
                };
                self.check_chain(shown, &Roots::new(vec![root.clone().into_owned()]), when)?;
                Some(id.domain.id(&control_plane()))
            }
        };
        match expected {
            Some(expected) if expected != id => Err(PeerError::SomebodyElse { id, expected }),
            _ => Ok(()),
        }
    }

    /// One of the roots has signed it, directly or through the others, and it is valid now.
    fn check_chain(
        &self,
        (id, certificate, others): (&SpiffeId, &CertificateDer<'_>, &[CertificateDer<'_>]),
        roots: &Roots,
        (now, usage): (UnixTime, KeyUsage),
    ) -> Result<(), PeerError> {
        let not_valid = |error: webpki::Error| {
            let reason = match error {
                webpki::Error::CertExpired { not_after, .. } => format!("it has expired at {}", time(not_after)),
                webpki::Error::CertNotValidYet { not_before, .. } => format!("it begins at {}", time(not_before)),
                // The latter for one who calls himself as a root is called.
                webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
                    format!("no root of {} has signed it", id.domain)
                }
                other => other.to_string(),
            };
            PeerError::NotValid { id: id.clone(), reason }
        };
        let entity = EndEntityCert::try_from(certificate).map_err(not_valid)?;
        let anchors = roots.anchors().map_err(not_valid)?;
        let verified = entity.verify_for_usage(self.algorithms.all, &anchors, others, now, usage, None, None).map(drop);
        verified.map_err(not_valid)
    }
}

fn time(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("{seconds} s"), |time| time.to_string())
}

/// The alert that the peer gets says what kind of thing is wrong; the words stay here.
fn refused(error: PeerError) -> rustls::Error {
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
        self.judge(certificate, others, (now, KeyUsage::server_auth())).map_err(refused)?;
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
        self.is_required
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
        self.judge(certificate, others, (now, KeyUsage::client_auth())).map_err(refused)?;
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
