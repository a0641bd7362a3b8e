//! Who is at the other end: a certificate of the mesh is believed when a root of its trust domain has signed it, its time
//! is now, and it says exactly one SPIFFE ID (X509-SVID, sections 4 and 5). Host names play no part.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};
use weir_model::{SpiffeId, TrustDomain};

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

/// Why a handshake has failed, in words that name what is wrong with the peer.
pub fn reason_of(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(error)))) => error.to_string(),
        Some(rustls::Error::NoCertificatesPresented) => PeerError::NoCertificate.to_string(),
        Some(rustls::Error::AlertReceived(alert)) => format!("it has refused us: {alert:?}"),
        Some(error) => error.to_string(),
        None => error.to_string(),
    }
}

/// Judges peers by the roots of one trust domain.
#[derive(Debug)]
pub(crate) struct PeerVerifier {
    roots: Arc<Roots>,
    domain: TrustDomain,
    /// Who must be there; anybody of the domain when nobody is named.
    expected: Option<SpiffeId>,
    is_required: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PeerVerifier {
    pub(crate) fn new(roots: Arc<Roots>, domain: TrustDomain, expected: Option<SpiffeId>, is_required: bool) -> Self {
        let algorithms = provider().signature_verification_algorithms;
        Self { roots, domain, expected, is_required, algorithms }
    }

    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        (now, usage): (UnixTime, KeyUsage),
    ) -> Result<(), PeerError> {
        let id = peer_of(certificate)?;
        if id.domain != self.domain {
            return Err(PeerError::OtherDomain { id, ours: self.domain.clone() });
        }
        let not_valid = |error: webpki::Error| {
            let reason = match error {
                webpki::Error::CertExpired { not_after, .. } => format!("it has expired at {}", time(not_after)),
                webpki::Error::CertNotValidYet { not_before, .. } => format!("it begins at {}", time(not_before)),
                // The latter for one who calls himself as a root is called.
                webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
                    format!("no root of {} has signed it", self.domain)
                }
                other => other.to_string(),
            };
            PeerError::NotValid { id: id.clone(), reason }
        };
        let entity = EndEntityCert::try_from(certificate).map_err(not_valid)?;
        let anchors = self.roots.anchors().map_err(not_valid)?;
        entity.verify_for_usage(self.algorithms.all, &anchors, others, now, usage, None, None).map_err(not_valid)?;
        match &self.expected {
            Some(expected) if *expected != id => Err(PeerError::SomebodyElse { id, expected: expected.clone() }),
            _ => Ok(()),
        }
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

/// Believes whoever shows a certificate that a root with this hash has signed: how a workload without an identity finds its
/// control plane.
#[derive(Debug)]
pub(crate) struct PinVerifier {
    pub(crate) pin: [u8; 32],
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let id = peer_of(certificate).map_err(refused)?;
        let Some(root) = others.iter().find(|other| hash_of(other) == self.pin) else {
            let reason =
                "the root that the join token names has not signed it; the token may be of another control plane";
            return Err(refused(PeerError::NotValid { id, reason: reason.to_owned() }));
        };
        let roots = Arc::new(Roots::new(vec![root.clone().into_owned()]));
        let domain = id.domain;
        let verifier = PeerVerifier::new(roots, domain.clone(), Some(domain.id(&control_plane())), true);
        verifier.verify_server_cert(certificate, others, name, ocsp, now)
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
