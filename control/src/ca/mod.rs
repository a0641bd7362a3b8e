//! The certificate authority of the mesh: signs the certificates of one trust domain.
//!
//! ```text
//! rotation requested    the new root signs             the old root is removed
//!       │── one lifetime ──────│── one lifetime ─────────────│
//! roots:  old, new               old, new                      new
//! signs:  old                    new                           new
//! ```
//!
//! A workload renews its certificate at half of its lifetime and receives all roots with it. So after one lifetime
//! every workload trusts the new root, and after a second one no certificate of the old root is left.
//!
//! The certificates and keys of all roots are one file in the store's folder, readable by this user only. Control
//! planes that share an etcd store them there, so that all of them sign with the same root.

mod external;
mod root;
mod storage;

mod error;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use rcgen::{CertificateSigningRequestParams, KeyPair};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_identity::ca_proto::SignResponse;
use weir_identity::pki_types::{CertificateDer, CertificateSigningRequestDer};
use weir_identity::trust_bundle::{control_plane_workload, fingerprint};
use weir_identity::{TrustBundle, WorkloadIdentity};
use weir_model::{SpiffeId, TrustDomain, hex};

use crate::ca::external::ExternalCa;
use crate::ca::root::{Root, Validity, certificate_end, signed};
use crate::ca::storage::RECOVERY;
use crate::limits::EXTERNAL_CA_WARNING;
use crate::store::StoreError;

pub use error::CaError;
pub use external::CaFiles;
pub use storage::CaStorage;

/// The options of a certificate authority.
pub struct CaOptions {
    /// The storage of the roots.
    pub storage: CaStorage,
    /// The files of an external CA. With them no root is created or stored.
    pub external: Option<CaFiles>,
    /// The trust domain of the signed identities.
    pub domain: TrustDomain,
    /// The lifetime of a certificate.
    pub lifetime: Duration,
    /// The lifetime of a root.
    pub root_lifetime: Duration,
    /// True if the mesh is new, so that a storage without roots has not lost them.
    pub may_create_root: bool,
    /// The largest difference between the clocks of the mesh.
    pub clock_skew: Duration,
}

/// The certificate authority of a trust domain.
pub struct CertificateAuthority {
    options: CaOptions,
    external: Option<ExternalCa>,
    state: Mutex<CachedState>,
    /// Serializes updates of the storage. Signing does not take this lock.
    write_lock: Mutex<()>,
}

/// The stored state as it was last read or written, and the control plane's own identity.
struct CachedState {
    ca: CaState,
    /// The bytes of `ca` in the storage, for compare-and-swap.
    bytes: Vec<u8>,
    server_identity: Option<Arc<WorkloadIdentity>>,
}

/// The stored state.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaState {
    trust_domain: String,
    /// The roots, oldest first. The newest root whose `active_from` has passed signs.
    roots: Vec<Root>,
    /// The longest certificate lifetime of all processes since the last rotation, which the next rotation waits for.
    #[serde(default)]
    longest_lifetime_seconds: u64,
}

/// The active signing key, its chain, and the trust bundle that is returned with every certificate.
struct SigningChain<'a> {
    root: &'a Root,
    /// The certificates between a signed certificate and the anchor.
    chain: &'a [CertificateDer<'static>],
    /// The root certificate that the chain leads to.
    anchor: CertificateDer<'static>,
    /// Every trusted root.
    roots: Vec<CertificateDer<'static>>,
}

/// The state of the certificate authority, as the API shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaStatus {
    /// The trust domain of the signed identities.
    pub trust_domain: String,
    /// The lifetime of a certificate, in seconds.
    pub certificate_lifetime_seconds: u64,
    /// The trusted roots, oldest first.
    pub roots: Vec<CaRootStatus>,
}

/// The state of one root.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaRootStatus {
    /// The SHA-256 of the root's certificate.
    pub sha256: String,
    /// The time from which the root signs.
    #[schemars(with = "String")]
    pub signs_from: Timestamp,
    /// The end of the root's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub certificate_ends: Option<Timestamp>,
    /// The time from which the root is not trusted any more; absent for a root that no rotation replaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub ends: Option<Timestamp>,
    /// True for the root that signs now.
    pub signs: bool,
}

impl CertificateAuthority {
    /// Opens the certificate authority of a storage. Creates the root of a new mesh. Blocks on the storage.
    ///
    /// # Errors
    /// The storage cannot be read or written, has lost its roots, or belongs to another trust domain.
    pub fn open(options: CaOptions) -> Result<Self, CaError> {
        let (server_identity, write_lock) = (None, Mutex::default());
        if let Some(files) = &options.external {
            let external = Some(ExternalCa::read(files, &options.domain)?);
            let trust_domain = options.domain.to_string();
            let ca = CaState { trust_domain, roots: Vec::new(), longest_lifetime_seconds: 0 };
            let state = Mutex::new(CachedState { ca, bytes: Vec::new(), server_identity });
            return Ok(Self { options, external, state, write_lock });
        }
        let bytes = match options.storage.read()? {
            Some(bytes) => bytes,
            None if options.may_create_root => options.create_root(None)?,
            None => return Err(options.storage.lost()),
        };
        let ca = options.parse_state(&bytes)?;
        let state = Mutex::new(CachedState { ca, bytes, server_identity });
        let authority = Self { options, external: None, state, write_lock };
        authority.record_max_ttl()?;
        Ok(authority)
    }

    /// Checks that a storage has roots that can be read. Blocks on the storage.
    ///
    /// # Errors
    /// The storage cannot be read, or has no readable roots.
    pub fn check_roots(storage: &CaStorage) -> Result<(), CaError> {
        let bytes = storage.read()?.ok_or_else(|| storage.lost())?;
        let bad = |reason| CaError::InvalidState { location: storage.to_string(), reason };
        parse_roots(&bytes).map(drop).map_err(bad)
    }

    /// Creates a new root in place of roots that are lost or damaged, and returns its fingerprint. No workload of the mesh
    /// trusts it. Blocks on the storage.
    ///
    /// # Errors
    /// The storage cannot be read or written.
    pub fn replace_lost_roots(options: &CaOptions) -> Result<String, CaError> {
        let before = options.storage.read()?;
        let bytes = options.create_root(before.as_deref())?;
        let ca = options.parse_state(&bytes)?;
        Ok(hex_fingerprint(&active_root(&ca, Timestamp::now()).certificate()?))
    }

    /// Reads the state that another replica has written. Blocks on the storage.
    ///
    /// # Errors
    /// See [`CertificateAuthority::open`]. After an error the previous state stays in use.
    pub fn reload(&self) -> Result<(), CaError> {
        if self.external.is_some() {
            return Ok(());
        }
        let _guard = self.write_lock.lock();
        self.reload_state()?;
        self.record_max_ttl()
    }

    /// Returns the state as it is stored in a file of its own; `None` if it is in a shared store or of an external CA.
    pub fn stored_file(&self) -> Option<Vec<u8>> {
        let is_file = self.external.is_none() && matches!(self.options.storage, CaStorage::File(_));
        is_file.then(|| self.state.lock().bytes.clone())
    }

    /// Checks that the roots are stored as this process knows them. Blocks on the storage.
    ///
    /// # Errors
    /// The storage cannot be read, or another program has removed or changed the roots.
    pub fn check_storage(&self) -> Result<(), CaError> {
        let _guard = self.write_lock.lock();
        self.check_file()
    }

    fn check_file(&self) -> Result<(), CaError> {
        if self.external.is_some() || matches!(self.options.storage, CaStorage::Store(_)) {
            return Ok(()); // A shared store compares the bytes when it replaces them.
        }
        match self.options.storage.read()? {
            Some(bytes) if bytes == self.state.lock().bytes => Ok(()),
            Some(_) => Err(CaError::InvalidState {
                location: self.options.storage.to_string(),
                reason: format!("another program has changed it while it was in use; {RECOVERY}"),
            }),
            None => Err(self.options.storage.lost()),
        }
    }

    /// Returns the trust domain of the signed identities.
    pub fn domain(&self) -> &TrustDomain {
        &self.options.domain
    }

    /// Signs a certificate signing request (PKCS #10, DER) for a workload. Of the request only the public key is used,
    /// and the signature that proves possession of the private key. Blocks for about a millisecond of CPU time.
    ///
    /// # Errors
    /// The request is malformed, its signature is wrong, or the external signing certificate has expired.
    pub fn sign(&self, request: &[u8], id: &SpiffeId) -> Result<SignResponse, CaError> {
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
            .map_err(|error| CaError::Request(error.to_string()))?;
        let now = Timestamp::now();
        let state = self.state.lock();
        let signer = self.signing_chain(&state, now)?;
        let validity = Validity { from: now, lifetime: self.options.lifetime, clock_skew: self.options.clock_skew };
        let certificate = signer.root.sign(&request.public_key, id, validity)?;
        let bytes = |certificates: &[CertificateDer<'_>]| certificates.iter().map(|der| der.to_vec()).collect();
        Ok(SignResponse { chain: bytes(&[&[certificate], signer.chain].concat()), roots: bytes(&signer.roots) })
    }

    /// Returns the control plane's own identity, renewed at half of its lifetime. Its chain includes the root
    /// certificate, because a workload with a join token knows the root's fingerprint only.
    ///
    /// # Errors
    /// A certificate cannot be created.
    pub fn server_identity(&self) -> Result<Arc<WorkloadIdentity>, CaError> {
        let now = Timestamp::now();
        let mut state = self.state.lock();
        let signer = self.signing_chain(&state, now)?;
        let is_fresh = |identity: &&Arc<WorkloadIdentity>| {
            let left = Timestamp::try_from(identity.not_after).map(|end| end.duration_since(now));
            let is_young = left.is_ok_and(|left| left > signed(self.options.lifetime / 2));
            let chain_end = identity.chain().last();
            is_young && chain_end == Some(&signer.anchor) && identity.trust_bundle().certificates() == signer.roots
        };
        if let Some(identity) = state.server_identity.as_ref().filter(is_fresh) {
            return Ok(Arc::clone(identity));
        }
        let key = KeyPair::generate()?;
        let id = self.options.domain.id(&control_plane_workload());
        let validity = Validity { from: now, lifetime: self.options.lifetime, clock_skew: self.options.clock_skew };
        let certificate = signer.root.sign(&key, &id, validity)?;
        let chain = [&[certificate], signer.chain, &[signer.anchor]].concat();
        let identity = WorkloadIdentity::new(chain, key.serialize_der(), TrustBundle::new(signer.roots))
            .map_err(|error| CaError::Request(error.to_string()))?;
        let identity = Arc::new(identity);
        state.server_identity = Some(Arc::clone(&identity));
        Ok(identity)
    }

    /// Returns the SHA-256 of the active root's certificate, in hexadecimal digits.
    ///
    /// # Errors
    /// The certificate cannot be read.
    pub fn root_fingerprint(&self) -> Result<String, CaError> {
        let state = self.state.lock();
        Ok(hex_fingerprint(&self.signing_chain(&state, Timestamp::now())?.anchor))
    }

    /// Starts a rotation. The new root is trusted at once, signs after one certificate lifetime, and replaces the old
    /// root after two. Blocks on the storage.
    ///
    /// # Errors
    /// The CA is external, another rotation is under way, or the storage cannot be written.
    pub fn rotate(&self) -> Result<CaStatus, CaError> {
        let _guard = self.write_lock.lock();
        while !self.try_rotate()? {
            self.reload_state()?; // Another control plane wrote first, and may have started a rotation.
        }
        Ok(self.status())
    }

    fn try_rotate(&self) -> Result<bool, CaError> {
        if self.external.is_some() {
            return Err(CaError::ExternallyManaged);
        }
        let now = Timestamp::now();
        let ca = self.state.lock().ca.clone();
        let mut roots: Vec<Root> = ca.trusted_roots(now).cloned().collect();
        if let Some(expires) = roots.iter().find_map(|root| root.expires) {
            return Err(CaError::RotationInProgress(expires));
        }
        let longest = Duration::from_secs(ca.longest_lifetime_seconds).max(self.options.lifetime);
        let lifetime = signed(longest) + signed(self.options.clock_skew.min(longest / 4));
        roots.iter_mut().for_each(|root| root.expires = Some(now + lifetime + lifetime));
        roots.push(Root::new(&self.options.domain, now + lifetime, self.options.root_lifetime)?);
        self.replace(CaState { roots, ..ca })
    }

    /// Starts a rotation if the newest root ends so soon that its successor must be trusted by then. Returns true if it did.
    /// The roots of an external CA are renewed by its owner. Blocks on the storage.
    ///
    /// # Errors
    /// See [`CertificateAuthority::rotate`].
    pub fn renew_root_if_due(&self) -> Result<bool, CaError> {
        let is_due = {
            let state = self.state.lock();
            let newest = state.ca.roots.last().filter(|_| self.external.is_none());
            let end = newest.and_then(|root| certificate_end(&root.certificate().ok()?));
            end.is_some_and(|end| end.duration_since(Timestamp::now()) < self.root_renewal())
        };
        if !is_due {
            return Ok(false);
        }
        match self.rotate() {
            Ok(_) => Ok(true),
            Err(CaError::RotationInProgress(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the time before the end of a root at which it is replaced: a tenth of its lifetime, and at least the time of
    /// a whole rotation and one more certificate lifetime.
    fn root_renewal(&self) -> SignedDuration {
        let lifetime = self.options.lifetime + self.options.clock_skew;
        signed((self.options.root_lifetime / 10).max(3 * lifetime))
    }

    /// Returns a warning for each certificate of the CA that ends soon and that nothing renews; empty if none ends soon.
    pub fn warnings(&self) -> Vec<String> {
        let Some(external) = &self.external else { return Vec::new() };
        let now = Timestamp::now();
        let signer = external.signer.expires.map(|end| ("the certificate of --ca-cert", end));
        let roots = external.roots.iter().filter_map(|root| Some(("a root of --ca-root", certificate_end(root)?)));
        let is_soon = |end: Timestamp| end.duration_since(now) < signed(EXTERNAL_CA_WARNING);
        let text = |(what, end): (&str, Timestamp)| {
            let days = end.duration_since(now).as_hours() / 24;
            format!("{what} ends at {end}, in {days} days: replace the files of the CA and restart the control planes")
        };
        signer.into_iter().chain(roots).filter(|(_, end)| is_soon(*end)).map(text).collect()
    }

    /// Returns the state for the API.
    pub fn status(&self) -> CaStatus {
        let (now, state) = (Timestamp::now(), self.state.lock());
        let trust_domain = self.options.domain.to_string();
        let certificate_lifetime_seconds = self.options.lifetime.as_secs();
        if let Some(external) = &self.external {
            let root = |root: &CertificateDer<'_>| CaRootStatus {
                sha256: hex_fingerprint(root),
                signs_from: Timestamp::UNIX_EPOCH,
                certificate_ends: certificate_end(root),
                ends: certificate_end(root),
                signs: *root == external.anchor,
            };
            let roots = external.roots.iter().map(root).collect();
            return CaStatus { trust_domain, certificate_lifetime_seconds, roots };
        }
        let active = active_root(&state.ca, now);
        let roots = state.ca.trusted_roots(now).map(|root| CaRootStatus {
            sha256: root.certificate().map(|certificate| hex_fingerprint(&certificate)).unwrap_or_default(),
            signs_from: root.active_from,
            certificate_ends: root.certificate().ok().and_then(|certificate| certificate_end(&certificate)),
            ends: root.expires,
            signs: std::ptr::eq(root, active),
        });
        CaStatus { trust_domain, certificate_lifetime_seconds, roots: roots.collect() }
    }

    fn signing_chain<'a>(&'a self, state: &'a CachedState, now: Timestamp) -> Result<SigningChain<'a>, CaError> {
        if let Some(ExternalCa { signer, chain, anchor, roots }) = &self.external {
            return match signer.expires {
                Some(expires) if expires <= now => Err(CaError::SignerExpired(expires)),
                _ => Ok(SigningChain { root: signer, chain, anchor: anchor.clone(), roots: roots.clone() }),
            };
        }
        let root = active_root(&state.ca, now);
        let roots = state.ca.trusted_roots(now).map(Root::certificate).collect::<Result<Vec<_>, _>>()?;
        Ok(SigningChain { root, chain: &[], anchor: root.certificate()?, roots })
    }

    /// Stores this process's certificate lifetime if it is the longest one: a rotation waits for it.
    fn record_max_ttl(&self) -> Result<(), CaError> {
        let longest_lifetime_seconds = self.options.lifetime.as_secs();
        loop {
            let ca = self.state.lock().ca.clone();
            let is_recorded = ca.longest_lifetime_seconds >= longest_lifetime_seconds;
            if is_recorded || self.replace(CaState { longest_lifetime_seconds, ..ca })? {
                return Ok(());
            }
            self.reload_state()?;
        }
    }

    /// Replaces the stored state. Returns false, and changes nothing, if another replica has written meanwhile.
    fn replace(&self, ca: CaState) -> Result<bool, CaError> {
        self.check_file()?;
        let (before, bytes) = (self.state.lock().bytes.clone(), to_bytes(&ca)?);
        if !self.options.storage.replace(Some(&before), &bytes)? {
            return Ok(false);
        }
        let mut state = self.state.lock();
        (state.ca, state.bytes) = (ca, bytes);
        Ok(true)
    }

    fn reload_state(&self) -> Result<(), CaError> {
        let storage = &self.options.storage;
        let bytes = match storage.read()? {
            Some(bytes) => bytes,
            None if storage.is_new_store() => {
                // An operator has accepted an empty store. The workloads trust the roots of this process.
                storage.replace(None, &self.state.lock().bytes.clone())?;
                storage.read()?.ok_or_else(|| storage.lost())?
            }
            None => return Err(storage.lost()),
        };
        let ca = self.options.parse_state(&bytes)?;
        let mut state = self.state.lock();
        (state.ca, state.bytes) = (ca, bytes);
        Ok(())
    }
}

impl CaOptions {
    /// Creates and stores the first root in place of `before`, and returns the stored bytes: those of another replica if it
    /// wrote first.
    fn create_root(&self, before: Option<&[u8]>) -> Result<Vec<u8>, CaError> {
        let root = Root::new(&self.domain, Timestamp::now(), self.root_lifetime)?;
        let trust_domain = self.domain.to_string();
        let ca = CaState { trust_domain, roots: vec![root], longest_lifetime_seconds: self.lifetime.as_secs() };
        let bytes = to_bytes(&ca)?;
        if self.storage.replace(before, &bytes)? {
            return Ok(bytes);
        }
        let missing = || StoreError::Damaged("the roots of the mesh come and go".to_owned());
        Ok(self.storage.read()?.ok_or_else(missing)?)
    }

    fn parse_state(&self, bytes: &[u8]) -> Result<CaState, CaError> {
        let bad = |reason: String| CaError::InvalidState { location: self.storage.to_string(), reason };
        let ca = parse_roots(bytes).map_err(|reason| bad(format!("{reason}; {RECOVERY}")))?;
        if ca.trust_domain != self.domain.as_str() {
            let (theirs, ours) = (&ca.trust_domain, &self.domain);
            return Err(bad(format!("it is the authority of `{theirs}`, not of `{ours}`; see --trust-domain")));
        }
        Ok(ca)
    }
}

fn parse_roots(bytes: &[u8]) -> Result<CaState, String> {
    let ca: CaState = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if ca.roots.is_empty() || ca.roots.iter().any(|root| root.certificate().is_err()) {
        return Err("there is no root in it, or one that cannot be read".to_owned());
    }
    Ok(ca)
}

impl CaState {
    /// Returns the roots that have not expired, oldest first.
    fn trusted_roots(&self, now: Timestamp) -> impl DoubleEndedIterator<Item = &Root> {
        self.roots.iter().filter(move |root| root.expires.is_none_or(|expires| now < expires))
    }
}

/// Returns the newest trusted root whose `active_from` has passed.
fn active_root(ca: &CaState, now: Timestamp) -> &Root {
    let active = ca.trusted_roots(now).rev().find(|root| root.active_from <= now);
    // After the clock was set back no root may be active: then the oldest one signs.
    active.or(ca.roots.first()).expect("there is always a root")
}

fn to_bytes(ca: &CaState) -> Result<Vec<u8>, CaError> {
    serde_json::to_vec_pretty(ca).map_err(|error| StoreError::Unavailable(error.to_string()).into())
}

fn hex_fingerprint(certificate: &CertificateDer<'_>) -> String {
    hex::encode(&fingerprint(certificate))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use weir_identity::spiffe_id;
    use weir_model::Workload;

    use super::*;
    use crate::limits::ROOT_LIFETIME;
    use weir_identity::not_after;

    fn open(folder: &Path, domain: &str, lifetime: Duration) -> Result<CertificateAuthority, CaError> {
        let domain = TrustDomain::new(domain).unwrap();
        let storage = CaStorage::File(folder.join("authority.json"));
        let may_create_root = !folder.join("used").exists();
        let clock_skew = lifetime / 2;
        CertificateAuthority::open(CaOptions {
            storage,
            external: None,
            domain,
            lifetime,
            clock_skew,
            root_lifetime: ROOT_LIFETIME,
            may_create_root,
        })
    }

    fn request() -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        rcgen::CertificateParams::default().serialize_request(&key).unwrap().der().to_vec()
    }

    #[test]
    fn names_in_the_request_are_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let authority = open(folder.path(), "mesh.example", Duration::from_secs(60)).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut odd = rcgen::CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
        odd.subject_alt_names.push(rcgen::SanType::URI("spiffe://mesh.example/ns/x/sa/root".try_into().unwrap()));
        let odd = odd.serialize_request(&key).unwrap();
        let id = authority.domain().id(&Workload::from_service_account("shop", "edge").unwrap());
        let signed = authority.sign(odd.der(), &id).unwrap();
        assert_eq!(spiffe_id(&CertificateDer::from(signed.chain[0].clone())), Ok(id.clone()));
        assert_eq!(signed.roots.len(), 1);
        let mut broken = request();
        *broken.last_mut().unwrap() ^= 1;
        assert!(authority.sign(&broken, &id).is_err(), "a request whose signature does not fit");
    }

    #[test]
    fn root_survives_a_restart_and_belongs_to_one_trust_domain() {
        let folder = tempfile::tempdir().unwrap();
        let lifetime = Duration::from_secs(60);
        let fingerprint = open(folder.path(), "mesh.example", lifetime).unwrap().root_fingerprint().unwrap();
        assert_eq!(open(folder.path(), "mesh.example", lifetime).unwrap().root_fingerprint().unwrap(), fingerprint);
        let error = open(folder.path(), "other.example", lifetime).err().unwrap().to_string();
        assert!(error.contains("it is the authority of `mesh.example`, not of `other.example`"), "{error}");
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(folder.path().join("authority.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn lost_or_changed_roots_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (path, lifetime) = (folder.path().join("authority.json"), Duration::from_secs(60));
        let authority = open(folder.path(), "mesh.example", lifetime).unwrap();
        authority.check_storage().unwrap();
        let stored = std::fs::read(&path).unwrap();
        std::fs::write(folder.path().join("used"), "").unwrap();
        std::fs::remove_file(&path).unwrap();
        let is_advice = |error: CaError| error.to_string().contains("weir-control recover authority");
        assert!(authority.check_storage().is_err_and(is_advice));
        assert!(authority.rotate().is_err_and(is_advice), "a rotation would write the only copy");
        assert!(open(folder.path(), "mesh.example", lifetime).is_err_and(is_advice));
        assert!(!path.exists());
        std::fs::write(&path, "{}").unwrap();
        assert!(authority.check_storage().is_err_and(is_advice));
        std::fs::write(&path, stored).unwrap();
        authority.check_storage().unwrap();
        assert_eq!(authority.rotate().unwrap().roots.len(), 2);
    }

    #[test]
    fn rotation_waits_for_the_longest_recorded_lifetime() {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path(), "mesh.example", Duration::from_secs(3_600)).unwrap());
        let authority = open(folder.path(), "mesh.example", Duration::from_secs(60)).unwrap();
        let status = authority.rotate().unwrap();
        let waits = status.roots[1].signs_from.duration_since(Timestamp::now());
        assert!(waits > SignedDuration::from_secs(3_500), "{waits:?}");
    }

    #[test]
    fn certificate_does_not_outlive_its_root() {
        let (domain, now) = (TrustDomain::new("mesh.example").unwrap(), Timestamp::now());
        let mut root = Root::new(&domain, now, ROOT_LIFETIME).unwrap();
        root.expires = Some(now + SignedDuration::from_secs(10));
        let id = domain.id(&control_plane_workload());
        let clock_skew = Duration::from_secs(600);
        let validity = Validity { from: now, lifetime: Duration::from_secs(3_600), clock_skew };
        let signed = root.sign(&KeyPair::generate().unwrap(), &id, validity).unwrap();
        let end = Timestamp::try_from(not_after(&signed).unwrap()).unwrap();
        assert!(end <= now + SignedDuration::from_secs(10), "{end}");
    }

    #[test]
    fn second_rotation_fails_and_the_old_root_signs_first() {
        let folder = tempfile::tempdir().unwrap();
        let authority = open(folder.path(), "mesh.example", Duration::from_secs(3_600)).unwrap();
        let old = authority.root_fingerprint().unwrap();
        let status = authority.rotate().unwrap();
        assert_eq!(status.roots.iter().map(|root| root.signs).collect::<Vec<_>>(), [true, false]);
        assert_eq!((authority.root_fingerprint().unwrap(), status.roots.len()), (old, 2));
        let id = authority.domain().id(&control_plane_workload());
        assert_eq!(authority.sign(&request(), &id).unwrap().roots.len(), 2);
        assert!(matches!(authority.rotate(), Err(CaError::RotationInProgress(_))));
    }
}
