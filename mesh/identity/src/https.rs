//! TLS of a listener that shows certificates to the world and asks nothing of it: a certificate for each host.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use weir_model::HostMatch;

use crate::peer::end_of;
use crate::roots::provider;

/// Why something is not a certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadCertificate(String);

/// A certificate with its key.
#[derive(Clone)]
pub struct ServerCertificate {
    certified: Arc<CertifiedKey>,
    /// When it ends.
    pub not_after: SystemTime,
}

impl fmt::Debug for ServerCertificate {
    /// Without the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ServerCertificate").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl ServerCertificate {
    /// From PEM: a chain, whose first certificate is the one that is shown, and its key (PKCS #8, PKCS #1 or SEC 1).
    ///
    /// # Errors
    /// One of them is missing or cannot be read, or the key is not the certificate's. No text of it is repeated.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, BadCertificate> {
        let bad = |text: &str| BadCertificate(text.to_owned());
        let parts = pem::parse_many(chain).map_err(|_| bad("the certificate is no PEM"))?;
        let chain: Vec<CertificateDer<'static>> = parts
            .into_iter()
            .filter(|part| part.tag() == "CERTIFICATE")
            .map(|part| CertificateDer::from(part.into_contents()))
            .collect();
        let first = chain.first().ok_or_else(|| bad("there is no CERTIFICATE in it"))?;
        let not_after =
            end_of(first).map_err(|error| BadCertificate(format!("the certificate cannot be read: {error}")))?;
        let parts = pem::parse_many(key).map_err(|_| bad("the key is no PEM"))?;
        let key = parts.into_iter().find_map(|part| match part.tag() {
            "PRIVATE KEY" => Some(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(part.into_contents()))),
            "RSA PRIVATE KEY" => Some(PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(part.into_contents()))),
            "EC PRIVATE KEY" => Some(PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(part.into_contents()))),
            _ => None,
        });
        let key = key.ok_or_else(|| bad("there is no PRIVATE KEY in the key"))?;
        let certified = CertifiedKey::from_der(chain, key, &provider());
        let certified =
            certified.map_err(|error| BadCertificate(format!("the key is not the certificate's: {error}")))?;
        Ok(Self { certified: Arc::new(certified), not_after })
    }
}

/// TLS 1.3 with a certificate for each host; the most specific host counts. `protocols` are those of ALPN, best first.
pub fn https_config(certificates: Vec<(HostMatch, ServerCertificate)>, protocols: &[&[u8]]) -> Arc<ServerConfig> {
    let mut certificates = certificates;
    certificates.sort_by_key(|(host, _)| std::cmp::Reverse(specificity(host)));
    let certificates = certificates.into_iter().map(|(host, it)| (host, it.certified)).collect();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider knows TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByHost(certificates)));
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

/// Whether a name that is asked for is one of a host's; names are compared in any case (RFC 6066 §3).
fn is_of_host(host: &HostMatch, name: Option<&str>) -> bool {
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

/// Certificates by host, the most specific first.
#[derive(Debug)]
struct ByHost(Vec<(HostMatch, Arc<CertifiedKey>)>);

impl ResolvesServerCert for ByHost {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        self.0.iter().find(|(host, _)| is_of_host(host, name)).map(|(_, certified)| Arc::clone(certified))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_needs_its_own_key() {
        let ((one, one_key), (other, other_key)) = (made("a.example"), made("b.example"));
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
    fn the_most_specific_host_counts() {
        let suffix = HostMatch::Suffix(".b.example".into());
        assert!(is_of_host(&suffix, Some("x.B.example")) && is_of_host(&suffix, Some("x.y.b.example")));
        assert!(!is_of_host(&suffix, Some("b.example")) && !is_of_host(&suffix, Some(".b.example")));
        assert!(!is_of_host(&suffix, None) && is_of_host(&HostMatch::Any, None));
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
