//! A certificate authority: it issues certificates for TLS servers of tests, and for their clients.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use tempfile::TempDir;

/// A certificate authority with a folder for the files that servers read.
#[derive(Debug)]
pub struct Authority {
    /// The certificate as PEM.
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

/// A certificate to issue.
#[derive(Debug, Clone, Default)]
pub struct CertificateRequest<'a> {
    /// DNS names.
    pub hosts: &'a [&'a str],
    /// URIs.
    pub uris: &'a [&'a str],
    /// True for a certificate that ended in 2021.
    pub is_expired: bool,
}

/// An issued certificate, also as files.
#[derive(Debug)]
pub struct Issued {
    /// The certificate as PEM.
    pub certificate: String,
    /// The private key as PEM.
    pub key: String,
    /// The file with the certificate.
    pub certificate_file: PathBuf,
    /// The file with the private key.
    pub key_file: PathBuf,
}

impl Authority {
    /// Creates an authority with this name.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        let folder = tempfile::Builder::new().prefix("authority-").tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("ca.pem"), &certificate).expect("a temporary folder can be written");
        Self { certificate, issuer: Issuer::new(params, key), folder }
    }

    /// Returns the file with the certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Issues a certificate for a host.
    pub fn for_host(&self, host: &str) -> Issued {
        self.issue(&CertificateRequest { hosts: &[host], ..CertificateRequest::default() })
    }

    /// Issues a certificate.
    pub fn issue(&self, request: &CertificateRequest<'_>) -> Issued {
        let hosts: Vec<String> = request.hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("DNS names");
        let uris = request.uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("ASCII")));
        params.subject_alt_names.extend(uris);
        params.distinguished_name.push(DnType::CommonName, "leaf");
        if request.is_expired {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        let key = key.serialize_pem();
        let name = tempfile::Builder::new().tempdir_in(self.folder.path()).expect("a temporary folder").keep();
        let write = |file: &str, text: &str| {
            let path: PathBuf = Path::new(&name).join(file);
            std::fs::write(&path, text).expect("a temporary folder can be written");
            path
        };
        let (certificate_file, key_file) = (write("tls.crt", &certificate), write("tls.key", &key));
        Issued { certificate, key, certificate_file, key_file }
    }

    /// Returns the ConfigMap `name` with the certificate.
    pub fn config_map(&self, name: &str) -> String {
        config_map(name, &self.certificate)
    }
}

impl Issued {
    /// Returns the Secret `name` with the certificate and the key.
    pub fn secret(&self, name: &str) -> String {
        let (certificate, key) = (block(&self.certificate), block(&self.key));
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: \
             |\n{certificate}  tls.key: |\n{key}"
        )
    }
}

/// Returns the ConfigMap `name` with CA certificates.
pub fn config_map(name: &str, certificates: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n  ca.crt: |\n{}", block(certificates))
}

/// Returns a text as the lines of a YAML block.
fn block(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
