//! The mesh's certificate authority: it says who is who in one trust domain.
//!
//! ```text
//! rotation asked        the new root signs             the old root is gone
//!       │── one lifetime ──────│── one lifetime ─────────────│
//! roots:  old, new               old, new                      new
//! signs:  old                    new                           new
//! ```
//!
//! Whoever has a certificate renews it at half of its life and gets all roots with it, so that after one lifetime everybody
//! believes the new root, and after another one nothing is left that the old one has signed. Certificate and key of each
//! root lie in one file of the store's folder that nobody else may read; or in the etcd, so that control planes that share
//! it sign alike.

mod given;
mod place;
mod root;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use rcgen::{CertificateSigningRequestParams, KeyPair};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_identity::pki_types::{CertificateDer, CertificateSigningRequestDer};
use weir_identity::roots::{control_plane, hash_of};
use weir_identity::wire::Signed;
use weir_identity::{Roots, WorkloadIdentity, end_of};
use weir_model::{SpiffeId, TrustDomain};

use crate::access::hex;
use crate::authority::given::Given;
use crate::authority::root::{Root, signed};
use crate::limits::CLOCK_SKEW;
use crate::store::StoreError;

pub use given::GivenFiles;
pub use place::RootsPlace;

/// What an authority is made from.
pub struct AuthorityOptions {
    /// Where its roots are kept.
    pub place: RootsPlace,
    /// What an authority above the mesh has given; then no root is made or kept.
    pub given: Option<GivenFiles>,
    /// Whose identities it signs.
    pub domain: TrustDomain,
    /// How long a certificate lives.
    pub lifetime: Duration,
}

/// The certificate authority of a trust domain.
pub struct Authority {
    options: AuthorityOptions,
    given: Option<Given>,
    state: Mutex<State>,
    /// Held by the one who reads and writes what is kept; whoever signs does not wait for that.
    changing: Mutex<()>,
}

/// What is kept, and the control plane's own identity.
struct State {
    kept: Kept,
    /// As it was read or written.
    bytes: Vec<u8>,
    own: Option<Arc<WorkloadIdentity>>,
}

/// What is kept.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    trust_domain: String,
    /// Oldest first; the last one whose time has come signs.
    roots: Vec<Root>,
    /// The longest life of a certificate that any process has signed since the last rotation: a rotation waits for it.
    #[serde(default)]
    longest_lifetime_seconds: u64,
}

/// What signs, and whom those believe that it signs for.
struct Signer<'a> {
    root: &'a Root,
    /// The certificates between what it signs and the anchor.
    chain: &'a [CertificateDer<'static>],
    /// The root that all of it leads to.
    anchor: CertificateDer<'static>,
    /// Every root that is believed.
    roots: Vec<CertificateDer<'static>>,
}

/// What the API says of the authority.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityStatus {
    /// Whose identities it signs.
    pub trust_domain: String,
    /// How long a certificate lives, in seconds.
    pub certificate_lifetime_seconds: u64,
    /// The roots that are believed, oldest first.
    pub roots: Vec<RootStatus>,
}

/// One root.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RootStatus {
    /// SHA-256 of its certificate.
    pub sha256: String,
    /// Since when it signs, or from when on.
    #[schemars(with = "String")]
    pub signs_from: Timestamp,
    /// When it is believed no more; nothing when a rotation has not taken its place yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub ends: Option<Timestamp>,
    /// True for the one that signs now.
    pub signs: bool,
}

/// Why the authority did not do something.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Its roots cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// They are not ours, or of another trust domain.
    #[error("{0}: {1}")]
    Unreadable(String, String),
    /// A certificate cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Signing(#[from] rcgen::Error),
    /// What is to be signed is wrong.
    #[error("the request to sign is wrong: {0}")]
    Request(String),
    /// It is not ours to rotate.
    #[error(
        "the roots are given in files: replace --ca-cert, --ca-key and --ca-root, and start the control planes anew"
    )]
    Given,
    /// What was given has ended.
    #[error("the certificate of --ca-cert has ended at {0}: replace it")]
    Ended(Timestamp),
    /// A rotation is under way.
    #[error("a rotation is under way; the old root is believed until {0}")]
    Rotating(Timestamp),
}

impl Authority {
    /// The authority whose roots are at a place; with a new root, if there are none.
    ///
    /// # Errors
    /// They cannot be read or written, or are of another trust domain.
    pub fn open(options: AuthorityOptions) -> Result<Self, AuthorityError> {
        if let Some(files) = &options.given {
            let given = Some(Given::read(files, &options.domain)?);
            let kept =
                Kept { trust_domain: options.domain.to_string(), roots: Vec::new(), longest_lifetime_seconds: 0 };
            let state = Mutex::new(State { kept, bytes: Vec::new(), own: None });
            return Ok(Self { options, given, state, changing: Mutex::default() });
        }
        let bytes = match options.place.read()? {
            Some(bytes) => bytes,
            None => options.begin()?,
        };
        let kept = options.understand(&bytes)?;
        let state = Mutex::new(State { kept, bytes, own: None });
        let authority = Self { options, given: None, state, changing: Mutex::default() };
        authority.note_lifetime()?;
        Ok(authority)
    }

    /// Takes up what another control plane has written.
    ///
    /// # Errors
    /// As those of opening it; what was there before goes on.
    pub fn reload(&self) -> Result<(), AuthorityError> {
        if self.given.is_some() {
            return Ok(());
        }
        let _changing = self.changing.lock();
        self.read_again()?;
        self.note_lifetime()
    }

    /// Whose identities it signs.
    pub fn domain(&self) -> &TrustDomain {
        &self.options.domain
    }

    /// Signs a request (PKCS #10, in DER) for a workload. Of the request only the key is used, and the proof that whoever
    /// asks has it. Blocks for a millisecond.
    ///
    /// # Errors
    /// The request is none.
    pub fn sign(&self, request: &[u8], id: &SpiffeId) -> Result<Signed, AuthorityError> {
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
            .map_err(|error| AuthorityError::Request(error.to_string()))?;
        let now = Timestamp::now();
        let state = self.state.lock();
        let signer = self.signer(&state, now)?;
        let certificate = signer.root.sign(&request.public_key, id, (now, self.options.lifetime))?;
        let bytes = |certificates: &[CertificateDer<'_>]| certificates.iter().map(|it| it.to_vec()).collect();
        Ok(Signed { chain: bytes(&[&[certificate], signer.chain].concat()), roots: bytes(&signer.roots) })
    }

    /// The control plane's own identity, made anew when half of its life is over. Its chain has the root in it, for those
    /// who know nothing but the root's hash.
    ///
    /// # Errors
    /// A certificate cannot be made.
    pub fn own_identity(&self) -> Result<Arc<WorkloadIdentity>, AuthorityError> {
        let now = Timestamp::now();
        let mut state = self.state.lock();
        let signer = self.signer(&state, now)?;
        let is_fresh = |own: &&Arc<WorkloadIdentity>| {
            let left = Timestamp::try_from(own.not_after).map(|end| end.duration_since(now));
            let is_young = left.is_ok_and(|left| left > signed(self.options.lifetime / 2));
            is_young && own.chain().last() == Some(&signer.anchor) && own.roots().certificates() == signer.roots
        };
        if let Some(own) = state.own.as_ref().filter(is_fresh) {
            return Ok(Arc::clone(own));
        }
        let key = KeyPair::generate()?;
        let id = self.options.domain.id(&control_plane());
        let certificate = signer.root.sign(&key, &id, (now, self.options.lifetime))?;
        let chain = [&[certificate], signer.chain, &[signer.anchor]].concat();
        let own = WorkloadIdentity::new(chain, key.serialize_der(), Roots::new(signer.roots))
            .map_err(|error| AuthorityError::Request(error.to_string()))?;
        let own = Arc::new(own);
        state.own = Some(Arc::clone(&own));
        Ok(own)
    }

    /// SHA-256 of the certificate of the root that signs now, in hexadecimal digits.
    ///
    /// # Errors
    /// Its certificate cannot be read.
    pub fn pin(&self) -> Result<String, AuthorityError> {
        let state = self.state.lock();
        Ok(fingerprint(&self.signer(&state, Timestamp::now())?.anchor))
    }

    /// Begins a rotation: a new root is believed from now on, signs after one lifetime of a certificate, and takes the old
    /// one's place after two.
    ///
    /// # Errors
    /// One is under way, or the roots cannot be written.
    pub fn rotate(&self) -> Result<AuthorityStatus, AuthorityError> {
        let _changing = self.changing.lock();
        while !self.try_rotate()? {
            self.read_again()?; // Another control plane was first, and may have begun one.
        }
        Ok(self.status())
    }

    fn try_rotate(&self) -> Result<bool, AuthorityError> {
        if self.given.is_some() {
            return Err(AuthorityError::Given);
        }
        let now = Timestamp::now();
        let kept = self.state.lock().kept.clone();
        let mut roots: Vec<Root> = kept.believed(now).cloned().collect();
        if let Some(ends) = roots.iter().find_map(|root| root.ends) {
            return Err(AuthorityError::Rotating(ends));
        }
        let longest = Duration::from_secs(kept.longest_lifetime_seconds).max(self.options.lifetime);
        let lifetime = signed(longest) + signed(CLOCK_SKEW.min(longest / 4));
        roots.iter_mut().for_each(|root| root.ends = Some(now + lifetime + lifetime));
        roots.push(Root::new(&self.options.domain, now + lifetime)?);
        self.replace(Kept { roots, ..kept })
    }

    /// What there is to say of it.
    pub fn status(&self) -> AuthorityStatus {
        let (now, state) = (Timestamp::now(), self.state.lock());
        let trust_domain = self.options.domain.to_string();
        let certificate_lifetime_seconds = self.options.lifetime.as_secs();
        if let Some(given) = &self.given {
            let root = |root: &CertificateDer<'_>| RootStatus {
                sha256: fingerprint(root),
                signs_from: Timestamp::UNIX_EPOCH,
                ends: end_of(root).ok().and_then(|end| Timestamp::try_from(end).ok()),
                signs: *root == given.anchor,
            };
            let roots = given.roots.iter().map(root).collect();
            return AuthorityStatus { trust_domain, certificate_lifetime_seconds, roots };
        }
        let signs = signing(&state.kept, now);
        let roots = state.kept.believed(now).map(|root| RootStatus {
            sha256: root.certificate().map(|certificate| fingerprint(&certificate)).unwrap_or_default(),
            signs_from: root.signs_from,
            ends: root.ends,
            signs: std::ptr::eq(root, signs),
        });
        AuthorityStatus { trust_domain, certificate_lifetime_seconds, roots: roots.collect() }
    }

    /// What signs now.
    fn signer<'a>(&'a self, state: &'a State, now: Timestamp) -> Result<Signer<'a>, AuthorityError> {
        if let Some(Given { signer, chain, anchor, roots }) = &self.given {
            return match signer.ends {
                Some(ends) if ends <= now => Err(AuthorityError::Ended(ends)),
                _ => Ok(Signer { root: signer, chain, anchor: anchor.clone(), roots: roots.clone() }),
            };
        }
        let root = signing(&state.kept, now);
        let roots = state.kept.believed(now).map(Root::certificate).collect::<Result<Vec<_>, _>>()?;
        Ok(Signer { root, chain: &[], anchor: root.certificate()?, roots })
    }

    /// A rotation waits for the longest life that anybody has signed.
    fn note_lifetime(&self) -> Result<(), AuthorityError> {
        let longest_lifetime_seconds = self.options.lifetime.as_secs();
        loop {
            let kept = self.state.lock().kept.clone();
            let is_noted = kept.longest_lifetime_seconds >= longest_lifetime_seconds;
            if is_noted || self.replace(Kept { longest_lifetime_seconds, ..kept })? {
                return Ok(());
            }
            self.read_again()?;
        }
    }

    /// Writes what is to be kept from now on; false when another control plane has written meanwhile.
    fn replace(&self, kept: Kept) -> Result<bool, AuthorityError> {
        let (before, bytes) = (self.state.lock().bytes.clone(), to_bytes(&kept)?);
        if !self.options.place.replace(Some(&before), &bytes)? {
            return Ok(false);
        }
        let mut state = self.state.lock();
        (state.kept, state.bytes) = (kept, bytes);
        Ok(true)
    }

    fn read_again(&self) -> Result<(), AuthorityError> {
        let gone = || StoreError::Damaged("the roots of the mesh are gone".to_owned());
        let bytes = self.options.place.read()?.ok_or_else(gone)?;
        let kept = self.options.understand(&bytes)?;
        let mut state = self.state.lock();
        (state.kept, state.bytes) = (kept, bytes);
        Ok(())
    }
}

impl AuthorityOptions {
    /// The first root; or that of whoever was first.
    fn begin(&self) -> Result<Vec<u8>, AuthorityError> {
        let root = Root::new(&self.domain, Timestamp::now())?;
        let trust_domain = self.domain.to_string();
        let kept = Kept { trust_domain, roots: vec![root], longest_lifetime_seconds: self.lifetime.as_secs() };
        let bytes = to_bytes(&kept)?;
        if self.place.replace(None, &bytes)? {
            return Ok(bytes);
        }
        let gone = || StoreError::Damaged("the roots of the mesh come and go".to_owned());
        Ok(self.place.read()?.ok_or_else(gone)?)
    }

    fn understand(&self, bytes: &[u8]) -> Result<Kept, AuthorityError> {
        let bad = |reason: String| AuthorityError::Unreadable(self.place.to_string(), reason);
        let kept: Kept = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
        if kept.trust_domain != self.domain.as_str() {
            let (theirs, ours) = (&kept.trust_domain, &self.domain);
            return Err(bad(format!("it is the authority of `{theirs}`, not of `{ours}`; see --trust-domain")));
        }
        if kept.roots.is_empty() || kept.roots.iter().any(|root| root.certificate().is_err()) {
            return Err(bad("there is no root in it, or one that cannot be read".to_owned()));
        }
        Ok(kept)
    }
}

impl Kept {
    /// The roots that are still believed, oldest first.
    fn believed(&self, now: Timestamp) -> impl DoubleEndedIterator<Item = &Root> {
        self.roots.iter().filter(move |root| root.ends.is_none_or(|ends| now < ends))
    }
}

/// The newest root whose time has come.
fn signing(kept: &Kept, now: Timestamp) -> &Root {
    let begun = kept.believed(now).rev().find(|root| root.signs_from <= now);
    // The clock may have gone back: then the oldest one.
    begun.or(kept.roots.first()).expect("there is always a root")
}

fn to_bytes(kept: &Kept) -> Result<Vec<u8>, AuthorityError> {
    serde_json::to_vec_pretty(kept).map_err(|error| StoreError::Unavailable(error.to_string()).into())
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    hex(&hash_of(certificate))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use weir_identity::peer_of;
    use weir_model::Workload;

    use super::*;

    fn open(folder: &Path, domain: &str, lifetime: Duration) -> Result<Authority, AuthorityError> {
        let domain = TrustDomain::new(domain).unwrap();
        let place = RootsPlace::File(folder.join("authority.json"));
        Authority::open(AuthorityOptions { place, given: None, domain, lifetime })
    }

    fn request() -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        rcgen::CertificateParams::default().serialize_request(&key).unwrap().der().to_vec()
    }

    #[test]
    fn signs_for_whom_it_is_told_whatever_the_request_says() {
        let folder = tempfile::tempdir().unwrap();
        let authority = open(folder.path(), "mesh.example", Duration::from_secs(60)).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut odd = rcgen::CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
        odd.subject_alt_names.push(rcgen::SanType::URI("spiffe://mesh.example/ns/x/sa/root".try_into().unwrap()));
        let odd = odd.serialize_request(&key).unwrap();
        let id = authority.domain().id(&Workload::of_account("shop", "edge").unwrap());
        let signed = authority.sign(odd.der(), &id).unwrap();
        assert_eq!(peer_of(&CertificateDer::from(signed.chain[0].clone())), Ok(id.clone()));
        assert_eq!(signed.roots.len(), 1);
        let mut broken = request();
        *broken.last_mut().unwrap() ^= 1;
        assert!(authority.sign(&broken, &id).is_err(), "a request whose signature does not fit");
    }

    #[test]
    fn is_the_same_after_a_restart_and_of_one_trust_domain() {
        let folder = tempfile::tempdir().unwrap();
        let lifetime = Duration::from_secs(60);
        let pin = open(folder.path(), "mesh.example", lifetime).unwrap().pin().unwrap();
        assert_eq!(open(folder.path(), "mesh.example", lifetime).unwrap().pin().unwrap(), pin);
        let error = open(folder.path(), "other.example", lifetime).err().unwrap().to_string();
        assert!(error.contains("it is the authority of `mesh.example`, not of `other.example`"), "{error}");
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(folder.path().join("authority.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_rotation_waits_for_the_longest_life_that_was_signed() {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path(), "mesh.example", Duration::from_secs(3_600)).unwrap());
        let authority = open(folder.path(), "mesh.example", Duration::from_secs(60)).unwrap();
        let status = authority.rotate().unwrap();
        let waits = status.roots[1].signs_from.duration_since(Timestamp::now());
        assert!(waits > jiff::SignedDuration::from_secs(3_500), "{waits:?}");
    }

    #[test]
    fn nothing_outlives_the_root_that_has_signed_it() {
        let (domain, now) = (TrustDomain::new("mesh.example").unwrap(), Timestamp::now());
        let mut root = Root::new(&domain, now).unwrap();
        root.ends = Some(now + jiff::SignedDuration::from_secs(10));
        let id = domain.id(&control_plane());
        let signed = root.sign(&KeyPair::generate().unwrap(), &id, (now, Duration::from_secs(3_600))).unwrap();
        let end = Timestamp::try_from(end_of(&signed).unwrap()).unwrap();
        assert!(end <= now + jiff::SignedDuration::from_secs(10), "{end}");
    }

    #[test]
    fn a_rotation_is_one_at_a_time_and_the_old_root_signs_at_first() {
        let folder = tempfile::tempdir().unwrap();
        let authority = open(folder.path(), "mesh.example", Duration::from_secs(3_600)).unwrap();
        let old = authority.pin().unwrap();
        let status = authority.rotate().unwrap();
        assert_eq!(status.roots.iter().map(|root| root.signs).collect::<Vec<_>>(), [true, false]);
        assert_eq!((authority.pin().unwrap(), status.roots.len()), (old, 2));
        let id = authority.domain().id(&control_plane());
        assert_eq!(authority.sign(&request(), &id).unwrap().roots.len(), 2);
        assert!(matches!(authority.rotate(), Err(AuthorityError::Rotating(_))));
    }
}
