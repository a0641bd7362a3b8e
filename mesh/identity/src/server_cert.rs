//! TLS of a public listener: a server certificate per host name (SNI), no client certificates.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use weir_model::HostMatch;

use crate::trust_bundle::crypto_provider;
use crate::verify::not_after;

/// An error in a certificate or its key. Contains none of their text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CertificateError(String);

impl CertificateError {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// A certificate with its key: of a server, or of a client.
#[derive(Clone)]
pub struct ServerCertificate {
    certified_key: Arc<CertifiedKey>,
    /// The expiry of the certificate.
    pub not_after: SystemTime,
}

impl fmt::Debug for ServerCertificate {
    /// Omits the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ServerCertificate").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl ServerCertificate {
    pub(crate) fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.certified_key
    }

    /// Parses PEM: a chain that begins with the server certificate, and its key (PKCS #8, PKCS #1 or SEC 1).
    ///
    /// # Errors
    /// The certificate or the key is missing or malformed, or the key is not the certificate's.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, CertificateError> {
        let bad = |text: &str| CertificateError(text.to_owned());
        let chain: Result<Vec<CertificateDer<'static>>, PemError> =
            CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
        let chain = chain.map_err(|_| bad("the certificate is no PEM"))?;
        let first = chain.first().ok_or_else(|| bad("there is no CERTIFICATE in it"))?;
        let not_after =
            not_after(first).map_err(|error| CertificateError(format!("the certificate cannot be read: {error}")))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| match error {
            PemError::NoItemsFound => bad("there is no PRIVATE KEY in the key"),
            _ => bad("the key is no PEM"),
        })?;
        let certified_key = CertifiedKey::from_der(chain, key, &crypto_provider());
        let certified_key =
            certified_key.map_err(|error| CertificateError(format!("the key is not the certificate's: {error}")))?;
        Ok(Self { certified_key: Arc::new(certified_key), not_after })
    }
}

/// Returns TLS 1.3 with a certificate per host; the most specific matching host wins. `protocols` are ALPN protocols,
/// in order of preference.
pub fn server_tls_config(certificates: Vec<(HostMatch, ServerCertificate)>, protocols: &[&[u8]]) -> Arc<ServerConfig> {
    let mut certificates = certificates;
    certificates.sort_by_key(|(host, _)| std::cmp::Reverse(specificity(host)));
    let certificates = certificates.into_iter().map(|(host, certificate)| (host, certificate.certified_key)).collect();
    let mut config = ServerConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the crypto_provider knows TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SniResolver(certificates)));
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

fn specificity(host: &HostMatch) -> (u8, usize) {
    match host {
        HostMatch::Exact(name) => (2, name.len()),
        HostMatch::Suffix(suffix) => (1, suffix.len()),
        HostMatch::Any => (0, 0),
    }
}

/// Returns true if the requested name matches a host. Names are compared case-insensitively (RFC 6066 §3).
fn matches_host(host: &HostMatch, name: Option<&str>) -> bool {
    match (host, name) {
        (HostMatch::Any, _) => true,
        (_, None) => false,
        (HostMatch::Exact(exact), Some(name)) => name.eq_ignore_ascii_case(exact),
        (HostMatch::Suffix(suffix), Some(name)) => {
            let start = name.len().checked_sub(suffix.len()).filter(|start| *start > 0);
            start.and_then(|start| name.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
        }
    }
}

/// Resolves a certificate by SNI. The most specific host is first.
#[derive(Debug)]
struct SniResolver(Vec<(HostMatch, Arc<CertifiedKey>)>);

impl ResolvesServerCert for SniResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        self.0.iter().find(|(host, _)| matches_host(host, name)).map(|(_, certified_key)| Arc::clone(certified_key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn self_signed(name: &str) -> (String, String) {
        let certified = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        (certified.cert.pem(), certified.signing_key.serialize_pem())
    }

    #[test]
    fn certificate_without_its_own_key_is_rejected() {
        let ((one, one_key), (other, other_key)) = (self_signed("a.example"), self_signed("b.example"));
        assert!(ServerCertificate::from_pem(&one, &one_key).unwrap().not_after > SystemTime::now());
        assert!(ServerCertificate::from_pem(&format!("{one}{other}"), &one_key).is_ok(), "a chain");
        for (chain, key, reason) in [
            (&*one, &*other_key, "the key is not the certificate's"),
            (&*one_key, &*one_key, "there is no CERTIFICATE"),
            (&*one, &*one, "there is no PRIVATE KEY"),
            ("", "", "there is no CERTIFICATE"),
        ] {
            let error = ServerCertificate::from_pem(chain, key).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let certificate = ServerCertificate::from_pem(&one, &one_key).unwrap();
        assert!(!format!("{certificate:?}").contains("key"), "{certificate:?}");
    }

    #[test]
    fn most_specific_host_wins() {
        let suffix = HostMatch::Suffix(".b.example".into());
        assert!(matches_host(&suffix, Some("x.B.example")) && matches_host(&suffix, Some("x.y.b.example")));
        assert!(!matches_host(&suffix, Some("b.example")) && !matches_host(&suffix, Some(".b.example")));
        assert!(!matches_host(&suffix, None) && matches_host(&HostMatch::Any, None));
        let mut hosts = [
            HostMatch::Any,
            suffix.clone(),
            HostMatch::Exact("a.b.example".into()),
            HostMatch::Suffix(".a.b.example".into()),
        ];
        hosts.sort_by_key(|host| std::cmp::Reverse(specificity(host)));
        assert!(matches!(&hosts[0], HostMatch::Exact(_)) && hosts[2] == suffix && hosts[3] == HostMatch::Any);
    }
}
