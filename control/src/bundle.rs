//! Bundles: modules that were pushed, each with a manifest and those who signed it. A name and a version are always the
//! same module; its bytes lie in the store, cut into parts, and are read when something is told that needs them.
//!
//! ```text
//! bundles/NAME/VERSION ─► what it is, who pushed it       modules/SHA256/PART ─► its bytes
//! ```
//!
//! Every call that is not said to be quick blocks.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tracing::warn;
use weir_bundle::{Bundle, PublicKey};
use weir_model::{BundleName, ModuleHash};
use weir_resources::{Bundles, Manifest, Refusal, SourceFile};

use crate::limits::{MAX_BUNDLES, MAX_BUNDLES_BYTES, MAX_CONFLICTS};
use crate::store::{BUNDLES, BundleStamp, RecordPlace, ResourceStore, State, StoreError};

/// A bundle that was pushed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeptBundle {
    /// What Filters call it.
    pub name: String,
    /// Which one of that name.
    pub version: String,
    /// SHA-256 of its file.
    pub sha256: String,
    /// SHA-256 of what of it is signed: the same again may be pushed with other signatures.
    pub content_sha256: String,
    /// How long its file is.
    pub bytes: usize,
    /// The version of Proxy-Wasm that it was built for.
    pub abi: String,
    /// What it says of itself.
    pub manifest: Value,
    /// The public keys of those who signed it.
    pub signers: Vec<String>,
    /// When it was pushed.
    #[schemars(with = "String")]
    pub pushed: jiff::Timestamp,
    /// The name of the token that pushed it.
    pub author: String,
    /// Where its bytes lie.
    #[schemars(skip)]
    pub(crate) record: Option<RecordPlace>,
}

impl KeptBundle {
    /// Its name and version.
    pub fn id(&self) -> BundleName {
        BundleName { name: self.name.as_str().into(), version: self.version.as_str().into() }
    }
}

/// A file that somebody pushes, taken apart and not yet tried.
#[derive(Debug)]
pub struct PushedFile {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Its hash.
    pub sha256: ModuleHash,
    content: ModuleHash,
    signers: Vec<PublicKey>,
    /// Its bytes.
    pub bytes: Arc<[u8]>,
}

impl PushedFile {
    /// Takes a file apart.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: Arc<[u8]>) -> Result<Self, Vec<Refusal>> {
        let failed = |error: String, hint: &str| vec![Refusal::unplaced(error, hint)];
        let bundle = Bundle::read(&bytes).map_err(|error| failed(format!("the file {error}"), "build it anew"))?;
        let Some(manifest) = bundle.manifest() else {
            return Err(failed(
                "the file has no manifest".to_owned(),
                "push it with `weir plugin push --manifest FILE`",
            ));
        };
        let manifest = Manifest::read(&SourceFile { path: "manifest".into(), text: manifest.into() })?;
        let hash = |bytes: &[u8]| ModuleHash(Sha256::digest(bytes).into());
        let (signers, content) = (bundle.signers(), hash(bundle.content()));
        Ok(Self { manifest, sha256: hash(&bytes), content, signers, bytes })
    }

    /// What is kept of it.
    pub fn kept(&self, abi: String, author: &str) -> KeptBundle {
        let BundleName { name, version } = &self.manifest.bundle;
        KeptBundle {
            name: name.to_string(),
            version: version.to_string(),
            sha256: self.sha256.to_string(),
            content_sha256: self.content.to_string(),
            bytes: self.bytes.len(),
            abi,
            manifest: self.manifest.value.clone(),
            signers: self.signers.iter().map(ToString::to_string).collect(),
            pushed: jiff::Timestamp::now(),
            author: author.to_owned(),
            record: None,
        }
    }
}

/// Whose bundles are taken; everybody's when there is no such list.
#[derive(Debug, Clone, Default)]
pub struct TrustedSigners(Option<Vec<String>>);

impl TrustedSigners {
    /// The public keys of a file.
    ///
    /// # Errors
    /// It cannot be read, or holds something else.
    pub fn read(path: &Path) -> Result<Self, String> {
        let failed = |error: String| format!("--trusted-signers {}: {error}", path.display());
        let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let keys = PublicKey::all_from_pem(&text).map_err(|error| failed(error.to_string()))?;
        Ok(Self(Some(keys.iter().map(ToString::to_string).collect())))
    }

    /// Whether one of them has signed.
    ///
    /// # Errors
    /// Why that is not enough.
    pub fn check(&self, signers: &[String]) -> Result<(), String> {
        match &self.0 {
            None => Ok(()),
            Some(trusted) if signers.iter().any(|signer| trusted.contains(signer)) => Ok(()),
            Some(_) if signers.is_empty() => Err("is not signed, and only signed bundles are taken here".to_owned()),
            Some(_) => Err(format!("is signed by {}, whom nobody trusts here", signers.join(", "))),
        }
    }
}

/// Why a bundle is not kept.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// Another module has this name and version.
    #[error("{0} is another module already; give this one another version")]
    Taken(BundleName),
    /// It has signatures that this has not.
    #[error("{0} is signed by others too; push it with their signatures")]
    Unsigned(BundleName),
    /// There is no more room.
    #[error("{0}; delete versions that nobody uses")]
    Full(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All bundles that were pushed.
#[derive(Debug)]
pub struct BundleShelf {
    store: Arc<ResourceStore>,
    trusted: TrustedSigners,
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    kept: BTreeMap<BundleName, KeptBundle>,
    /// As the compiler knows them.
    known: Arc<Bundles>,
    /// Of when these were all there were.
    stamp: BundleStamp,
}

impl BundleShelf {
    /// What the store holds.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(store: Arc<ResourceStore>, trusted: TrustedSigners) -> Result<Self, StoreError> {
        let shelf = Self { store, trusted, inner: RwLock::default() };
        shelf.read_all(shelf.store.bundle_stamp()?)?;
        Ok(shelf)
    }

    /// Takes up what another control plane has pushed and deleted; false when there was nothing. One caller at a time.
    ///
    /// # Errors
    /// It cannot be read; what was known before goes on.
    pub(crate) fn reload(&self) -> Result<bool, StoreError> {
        let stamp = self.store.bundle_stamp()?;
        if stamp == self.stamp() {
            return Ok(false);
        }
        self.read_all(stamp).map(|()| true)
    }

    fn read_all(&self, stamp: BundleStamp) -> Result<(), StoreError> {
        let kept: Vec<KeptBundle> = self.store.entries(BUNDLES)?; // After the stamp: what is newer has moved it.
        self.set(kept.into_iter().map(|bundle| (bundle.id(), bundle)).collect(), stamp);
        Ok(())
    }

    /// Of when these were all there were. Quick.
    pub(crate) fn stamp(&self) -> BundleStamp {
        self.inner.read().stamp.clone()
    }

    /// Every bundle, by name and version. Quick.
    pub fn all(&self) -> Vec<KeptBundle> {
        self.inner.read().kept.values().cloned().collect()
    }

    /// One of them. Quick.
    pub fn get(&self, name: &BundleName) -> Option<KeptBundle> {
        self.inner.read().kept.get(name).cloned()
    }

    /// As the compiler knows them. Quick.
    pub fn known(&self) -> Arc<Bundles> {
        Arc::clone(&self.inner.read().known)
    }

    /// Whose bundles are taken.
    pub const fn trusted(&self) -> &TrustedSigners {
        &self.trusted
    }

    /// The hash of one. Quick.
    pub fn hash(&self, name: &BundleName) -> Option<ModuleHash> {
        self.inner.read().kept.get(name)?.sha256.parse().ok()
    }

    /// The bytes of one.
    ///
    /// # Errors
    /// They are not there, or not what was written.
    pub fn bytes(&self, name: &BundleName) -> Result<Arc<[u8]>, StoreError> {
        let missing = || StoreError::Damaged(format!("the bundle {name} is not there"));
        let kept = self.get(name).ok_or_else(missing)?;
        let bytes = self.store.read_bytes(&kept.record.clone().ok_or_else(missing)?)?;
        let found = ModuleHash(Sha256::digest(&bytes).into());
        if found.to_string() != kept.sha256 {
            return Err(StoreError::Damaged(format!("the bundle {name} hashes to {found}, not to {}", kept.sha256)));
        }
        Ok(Arc::from(bytes))
    }

    /// Whether one can be kept; false when it is there already, just so. Quick.
    ///
    /// # Errors
    /// As those of keeping it.
    pub(crate) fn check(&self, bundle: &KeptBundle) -> Result<bool, ShelfError> {
        let id = bundle.id();
        let kept = &self.inner.read().kept;
        match kept.get(&id) {
            Some(there) if there.sha256 == bundle.sha256 => return Ok(false),
            Some(there) if there.content_sha256 != bundle.content_sha256 => return Err(ShelfError::Taken(id)),
            Some(there) if there.signers.iter().any(|signer| !bundle.signers.contains(signer)) => {
                return Err(ShelfError::Unsigned(id));
            }
            _ => {}
        }
        let others = kept.iter().filter(|(other, _)| **other != id).map(|(_, other)| other.bytes);
        let (count, total) = (others.clone().count(), others.sum::<usize>());
        if count >= MAX_BUNDLES || total.saturating_add(bundle.bytes) > MAX_BUNDLES_BYTES {
            return Err(ShelfError::Full(format!("{count} bundles with {total} bytes are here already")));
        }
        Ok(true)
    }

    /// Keeps one; false when it is there already, just so. One caller at a time.
    ///
    /// # Errors
    /// Another module has its name and version; there is no room; the store failed.
    pub(crate) fn keep(&self, mut bundle: KeptBundle, bytes: &[u8]) -> Result<bool, ShelfError> {
        let id = bundle.id();
        for _ in 0..MAX_CONFLICTS {
            match self.check(&bundle) {
                Ok(true) => {}
                done => {
                    self.forget_bytes(&bundle);
                    return done;
                }
            }
            if bundle.record.is_none() {
                bundle.record = Some(self.store.write_bytes(&format!("modules/{}", bundle.sha256), bytes)?);
            }
            let mut stamp = self.stamp();
            if self.store.put_bundle((&key(&id), &bundle), &mut stamp)? {
                let mut kept = self.inner.read().kept.clone();
                let before = kept.insert(id, bundle);
                self.set(kept, stamp);
                before.iter().for_each(|before| self.forget_bytes(before));
                return Ok(true);
            }
            self.reload()?; // Another control plane was first.
        }
        Err(StoreError::Unavailable("other control planes push all the time; try again".to_owned()).into())
    }

    /// Deletes one; false when another control plane was first. One caller at a time, who has made sure that nothing uses
    /// it in this state.
    pub(crate) fn delete(&self, name: &BundleName, state: &State) -> Result<bool, StoreError> {
        let (mut kept, mut stamp) = (self.inner.read().kept.clone(), self.stamp());
        let Some(bundle) = kept.remove(name) else { return Ok(true) };
        if !self.store.delete_bundle(&key(name), state, &mut stamp)? {
            return Ok(false);
        }
        self.set(kept, stamp);
        self.forget_bytes(&bundle);
        Ok(true)
    }

    fn forget_bytes(&self, bundle: &KeptBundle) {
        if let Some(record) = &bundle.record
            && let Err(error) = self.store.delete_bytes(record)
        {
            warn!(%error, bundle = %bundle.id(), "the bytes of a bundle that is gone are still in the store");
        }
    }

    fn set(&self, kept: BTreeMap<BundleName, KeptBundle>, stamp: BundleStamp) {
        let mut refused = Vec::new();
        let mut manifests = Vec::new();
        for (id, bundle) in &kept {
            let text = Arc::from(bundle.manifest.to_string());
            let manifest = Manifest::read(&SourceFile { path: "manifest".into(), text });
            let manifest = manifest.map_err(|refusals| refusals.iter().map(ToString::to_string).collect::<String>());
            match self.trusted.check(&bundle.signers).and(manifest) {
                Ok(manifest) => manifests.push(Arc::new(manifest)),
                Err(reason) => {
                    warn!(bundle = %id, "no Filter can use this bundle: it {reason}");
                    refused.push((id.clone(), reason));
                }
            }
        }
        let known = Arc::new(Bundles::of(manifests, refused));
        *self.inner.write() = Inner { kept, known, stamp };
    }
}

fn key(name: &BundleName) -> String {
    format!("{}/{}", name.name, name.version)
}
