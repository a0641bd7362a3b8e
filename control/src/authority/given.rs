//! An authority of somebody else above the mesh: it has given us a certificate that may sign, and its key, in files.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rcgen::KeyPair;
use weir_identity::pki_types::CertificateDer;
use weir_identity::pki_types::pem::PemObject;
use weir_identity::roots::control_plane;
use weir_identity::{Roots, WorkloadIdentity, end_of};
use weir_model::TrustDomain;

use crate::authority::AuthorityError;
use crate::authority::root::Root;
use crate::limits::MIN_CERTIFICATE_LIFETIME;

/// The files, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenFiles {
    /// The certificate that signs, then those between it and a root.
    pub certificates: PathBuf,
    /// Its key, PKCS #8.
    pub key: PathBuf,
    /// The roots that are believed.
    pub roots: PathBuf,
}

/// What signs, and whom everybody believes.
pub(super) struct Given {
    pub(super) signer: Root,
    /// The signer's certificate, and those between it and a root.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// The root that the chain leads to.
    pub(super) anchor: CertificateDer<'static>,
    /// Every root that is believed.
    pub(super) roots: Vec<CertificateDer<'static>>,
}

impl Given {
    /// Reads the files, and makes sure that what is signed with them is believed. Blocks.
    pub(super) fn read(files: &GivenFiles, domain: &TrustDomain) -> Result<Self, AuthorityError> {
        let bad = |path: &Path, reason: String| AuthorityError::Unreadable(path.display().to_string(), reason);
        let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| bad(path, error.to_string()));
        let certificates = |path: &Path| {
            let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(read(path)?.as_bytes()).collect();
            let found = found.map_err(|error| bad(path, error.to_string()))?;
            if found.is_empty() { Err(bad(path, "there is no certificate in it".to_owned())) } else { Ok(found) }
        };
        let (chain, roots) = (certificates(&files.certificates)?, certificates(&files.roots)?);
        let key = read(&files.key)?;
        let ends = chain.iter().filter_map(|it| Timestamp::try_from(end_of(it).ok()?).ok()).min();
        let signer = Root::given(&chain[0], key, ends);
        let mut reason = String::new();
        for anchor in &roots {
            let given =
                Self { signer: signer.clone(), chain: chain.clone(), anchor: anchor.clone(), roots: roots.clone() };
            match given.try_signing(domain) {
                Ok(()) => return Ok(given),
                Err(why) => reason = why,
            }
        }
        Err(bad(&files.certificates, format!("what it signs is not believed by {}: {reason}", files.roots.display())))
    }

    /// Whether a certificate that it signs is believed by whoever believes the root that it should lead to.
    fn try_signing(&self, domain: &TrustDomain) -> Result<(), String> {
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let lives = (Timestamp::now(), MIN_CERTIFICATE_LIFETIME);
        let leaf = self.signer.sign(&key, &domain.id(&control_plane()), lives).map_err(|error| error.to_string())?;
        let chain = [std::slice::from_ref(&leaf), self.chain.as_slice()].concat();
        let identity = WorkloadIdentity::new(chain, key.serialize_der(), Roots::new(vec![self.anchor.clone()]))
            .map_err(|error| error.to_string())?;
        identity.check().map_err(|error| error.to_string())
    }
}
