//! TLS of a client with a server that a CA has signed: the CAs, the names of the certificate, and the client's own
//! certificate. The proxy opens connections to endpoints with it; the control plane checks CA certificates. Verification
//! is that of rustls and webpki.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError as CertificateFault, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme, SupportedProtocolVersion,
};
use webpki::EndEntityCert;
use weir_model::{ServerTls, SubjectAltName, TlsVersion};

use crate::server_cert::{CertificateError, ServerCertificate};
use crate::verify::{handshake_error, with_clock};

/// The certificates of the CAs that may sign the certificate of a server.
#[derive(Debug, Clone)]
pub struct Authorities(Arc<RootCertStore>);

impl Authorities {
    /// Parses PEM with at least one certificate.
    ///
    /// # Errors
    /// There is no certificate in it, or one is malformed.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let certificates: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        let certificates = certificates.map_err(|_| CertificateError::new("the CA certificates are no PEM"))?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            let added = roots.add(certificate);
            added.map_err(|error| CertificateError::new(&format!("a CA certificate cannot be read: {error}")))?;
        }
        match roots.is_empty() {
            true => Err(CertificateError::new("there is no CERTIFICATE in it")),
            false => Ok(Self(Arc::new(roots))),
        }
    }

    /// Creates the CAs of a machine. Certificates that cannot be read are left out.
    ///
    /// # Errors
    /// No certificate can be read.
    pub fn of_machine(certificates: Vec<CertificateDer<'static>>) -> Result<Self, CertificateError> {
        let mut roots = RootCertStore::empty();
        match roots.add_parsable_certificates(certificates) {
            (0, _) => Err(CertificateError::new("this machine has no CA certificates")),
            _ => Ok(Self(Arc::new(roots))),
        }
    }
}

/// Returns TLS with a server. It has no ALPN and no resumption. `certificate` is presented to servers that request one.
pub fn client_tls_config(
    settings: &ServerTls,
    authorities: &Authorities,
    certificate: Option<&ServerCertificate>,
) -> ClientConfig {
    let provider = upstream_provider();
    let algorithms = provider.signature_verification_algorithms;
    let verifier = NameVerifier { roots: Arc::clone(&authorities.0), names: expected_names(settings), algorithms };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(settings.min_version, settings.max_version))
        .expect("the provider knows TLS 1.2 and 1.3, and the range of versions is not empty")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match certificate {
        Some(certificate) => {
            let resolver = SingleCertAndKey::from(Arc::clone(certificate.certified_key()));
            builder.with_client_cert_resolver(Arc::new(resolver))
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config
}

/// Returns the reason for which a handshake with a server failed.
pub fn server_handshake_error(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(fault)) = inner else { return handshake_error(error) };
    match fault {
        CertificateFault::ExpiredContext { time, .. } => with_clock("the certificate has expired", *time),
        CertificateFault::Expired => "the certificate has expired".to_owned(),
        CertificateFault::NotValidYetContext { time, .. } => with_clock("the certificate is not valid yet", *time),
        // The second fault is that of an issuer with the name of a trusted CA and another key.
        CertificateFault::UnknownIssuer | CertificateFault::BadSignature => {
            "no trusted CA has signed the certificate (unknown issuer)".to_owned()
        }
        CertificateFault::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            let presented = if presented.is_empty() { "no name".to_owned() } else { presented.join(", ") };
            format!("the certificate is not valid for name {expected}; it is valid for {presented}")
        }
        _ => handshake_error(error),
    }
}

/// Returns the crypto provider of connections to servers. It prefers the hybrid key exchange, which resists quantum
/// computers.
fn upstream_provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    let provider = PROVIDER.get_or_init(|| {
        let kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
        Arc::new(CryptoProvider { kx_groups, ..rustls::crypto::aws_lc_rs::default_provider() })
    });
    Arc::clone(provider)
}

fn versions(min: TlsVersion, max: TlsVersion) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(TlsVersion::V1_3, &rustls::version::TLS13), (TlsVersion::V1_2, &rustls::version::TLS12)];
    all.into_iter().filter(|(version, _)| (min..=max).contains(version)).map(|(_, version)| version).collect()
}

fn expected_names(settings: &ServerTls) -> Vec<ExpectedName> {
    let expected = |name: &SubjectAltName| match name {
        SubjectAltName::Dns(name) => {
            ServerName::try_from(name.to_string()).map_or_else(|_| ExpectedName::Never(name.clone()), ExpectedName::Dns)
        }
        SubjectAltName::Uri(uri) => ExpectedName::Uri(uri.clone()),
    };
    settings.names.iter().map(expected).collect()
}

/// A name that a certificate may have.
#[derive(Debug)]
enum ExpectedName {
    Dns(ServerName<'static>),
    Uri(Arc<str>),
    /// A text that no certificate can have as a DNS name.
    Never(Arc<str>),
}

impl fmt::Display for ExpectedName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => formatter.write_str(&name.to_str()),
            Self::Uri(name) | Self::Never(name) => formatter.write_str(name),
        }
    }
}

/// The error for a valid certificate that has none of several names.
#[derive(Debug, thiserror::Error)]
#[error("the certificate is valid for none of these names: {0}")]
struct NoExpectedName(String);

/// Verifies the certificate of a server: a CA has signed it, it is valid now, and it has one of the names.
#[derive(Debug)]
struct NameVerifier {
    roots: Arc<RootCertStore>,
    names: Vec<ExpectedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl NameVerifier {
    fn check_names(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let uris = EndEntityCert::try_from(certificate);
        let uris = uris.map_err(|_| rustls::Error::InvalidCertificate(CertificateFault::BadEncoding))?;
        let mut fault = None;
        for name in &self.names {
            match name {
                ExpectedName::Dns(name) => match verify_server_name(&parsed, name) {
                    Ok(()) => return Ok(()),
                    Err(error) => fault = Some(error),
                },
                ExpectedName::Uri(uri) if uris.valid_uri_names().any(|found| *found == **uri) => return Ok(()),
                ExpectedName::Uri(_) | ExpectedName::Never(_) => {}
            }
        }
        match (fault, self.names.as_slice()) {
            (Some(fault), [_]) => Err(fault),
            (_, names) => {
                let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                let error = OtherError(Arc::new(NoExpectedName(names.join(", "))));
                Err(rustls::Error::InvalidCertificate(CertificateFault::Other(error)))
            }
        }
    }
}

impl ServerCertVerifier for NameVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, others, now, self.algorithms.all)?;
        self.check_names(certificate)?;
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

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

    use super::*;

    /// Returns the CA as PEM, and a certificate of it with two DNS names and a URI.
    fn issue() -> (String, CertificateDer<'static>) {
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = ca.self_signed(&ca_key).unwrap().pem();
        let mut params = CertificateParams::new(vec!["a.example".to_owned(), "*.b.example".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://a/b".try_into().unwrap()));
        let certificate = params.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
        (pem, certificate.der().clone())
    }

    fn settings(names: &[SubjectAltName]) -> ServerTls {
        ServerTls {
            sni: None,
            trust: weir_model::ServerTrust::System,
            names: names.to_vec(),
            client_certificate: None,
            min_version: TlsVersion::V1_2,
            max_version: TlsVersion::V1_3,
        }
    }

    #[test]
    fn certificate_needs_one_of_the_names() {
        let (ca, certificate) = issue();
        let verify = |names: &[SubjectAltName], ca: &str| {
            let Authorities(roots) = Authorities::from_pem(ca).unwrap();
            let algorithms = upstream_provider().signature_verification_algorithms;
            let verifier = NameVerifier { roots, names: expected_names(&settings(names)), algorithms };
            let any = ServerName::try_from("unused.example").unwrap();
            let verified = verifier.verify_server_cert(&certificate, &[], &any, &[], UnixTime::now());
            verified.map(drop).map_err(|error| server_handshake_error(&io::Error::other(error)))
        };
        let dns = |name: &str| SubjectAltName::Dns(name.into());
        let uri = |name: &str| SubjectAltName::Uri(name.into());
        let rejected = "the certificate is valid for none of these names: ";
        for (names, expected) in [
            (vec![dns("a.example")], Ok(())),
            (vec![dns("x.b.example")], Ok(())),
            (vec![dns("x.y.b.example"), uri("spiffe://a/b")], Ok(())),
            (
                vec![dns("c.example")],
                Err("the certificate is not valid for name c.example; it is valid for".to_owned()),
            ),
            (vec![uri("spiffe://a/b/")], Err(format!("{rejected}spiffe://a/b/"))),
            (vec![dns("spiffe://a/b"), dns("c")], Err(format!("{rejected}spiffe://a/b, c"))),
            (Vec::new(), Err(rejected.to_owned())),
        ] {
            match (verify(&names, &ca), expected) {
                (Err(error), Err(expected)) => assert!(error.starts_with(&expected), "{names:?}: {error}"),
                (verified, expected) => assert_eq!(verified, expected, "{names:?}"),
            }
        }
        let unknown = verify(&[dns("a.example")], &issue().0).unwrap_err();
        assert!(unknown.contains("unknown issuer"), "{unknown}");
    }

    #[test]
    fn text_without_certificate_is_no_ca_bundle() {
        for (text, reason) in [
            ("", "there is no CERTIFICATE"),
            ("-----BEGIN CERTIFICATE-----\naGk=\n-----END CERTIFICATE-----\n", "a CA certificate cannot be read"),
            ("-----BEGIN CERTIFICATE-----\n", "the CA certificates are no PEM"),
        ] {
            let error = Authorities::from_pem(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }
}
