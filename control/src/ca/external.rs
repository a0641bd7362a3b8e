//! An external CA above the mesh: its files contain a certificate that may sign, and the certificate's key.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rcgen::KeyPair;
use weir_identity::pki_types::CertificateDer;
use weir_identity::pki_types::pem::PemObject;
use weir_identity::trust_bundle::control_plane_workload;
use weir_identity::{TrustBundle, WorkloadIdentity, not_after};
use weir_model::TrustDomain;

use crate::ca::error::CaError;
use crate::ca::root::{Root, Validity};
use crate::limits::{DEFAULT_CLOCK_SKEW, MIN_CERTIFICATE_LIFETIME};

/// The files of an external CA, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaFiles {
    /// The signing certificate, then those between it and a root.
    pub certificates: PathBuf,
    /// The signing certificate's key (PKCS #8).
    pub key: PathBuf,
    /// The trusted roots.
    pub roots: PathBuf,
}

/// An external CA's signing certificate and roots.
pub(super) struct ExternalCa {
    pub(super) signer: Root,
    /// The signing certificate, and those between it and a root.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// The root that the chain leads to.
    pub(super) anchor: CertificateDer<'static>,
    /// Every trusted root.
    pub(super) roots: Vec<CertificateDer<'static>>,
}

impl ExternalCa {
    /// Reads the files, and checks that a certificate signed with them is trusted. Blocks on disk.
    pub(super) fn read(files: &CaFiles, domain: &TrustDomain) -> Result<Self, CaError> {
        let bad = |path: &Path, reason: String| CaError::InvalidState { location: path.display().to_string(), reason };
        let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| bad(path, error.to_string()));
        let certificates = |path: &Path| {
            let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(read(path)?.as_bytes()).collect();
            let found = found.map_err(|error| bad(path, error.to_string()))?;
            if found.is_empty() { Err(bad(path, "there is no certificate in it".to_owned())) } else { Ok(found) }
        };
        let (chain, roots) = (certificates(&files.certificates)?, certificates(&files.roots)?);
        let key = read(&files.key)?;
        let expires = chain.iter().filter_map(|der| Timestamp::try_from(not_after(der).ok()?).ok()).min();
        let signer = Root::from_external(&chain[0], key, expires);
        let mut reason = String::new();
        for anchor in &roots {
            let external =
                Self { signer: signer.clone(), chain: chain.clone(), anchor: anchor.clone(), roots: roots.clone() };
            match external.check_trust(domain) {
                Ok(()) => return Ok(external),
                Err(why) => reason = why,
            }
        }
        Err(bad(&files.certificates, format!("what it signs is not believed by {}: {reason}", files.roots.display())))
    }

    /// Signs a certificate and verifies its chain against the anchor.
    fn check_trust(&self, domain: &TrustDomain) -> Result<(), String> {
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let (from, clock_skew) = (Timestamp::now(), DEFAULT_CLOCK_SKEW);
        let validity = Validity { from, lifetime: MIN_CERTIFICATE_LIFETIME, clock_skew };
        let id = domain.id(&control_plane_workload());
        let leaf = self.signer.sign(&key, &id, validity).map_err(|error| error.to_string())?;
        let chain = [std::slice::from_ref(&leaf), self.chain.as_slice()].concat();
        let bundle = TrustBundle::new(vec![self.anchor.clone()]);
        let identity = WorkloadIdentity::new(chain, key.serialize_der(), bundle).map_err(|error| error.to_string())?;
        identity.check().map_err(|error| error.to_string())
    }
}
