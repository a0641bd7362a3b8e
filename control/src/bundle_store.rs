//! Stored bundles: pushed modules, each with a manifest and signatures. A name and version always mean the same
//! module. Its bytes are stored in parts, and read when a snapshot needs them.
//!
//! ```text
//! bundles/NAME/VERSION ─► metadata       modules/SHA256/PART ─► bytes
//! ```
//!
//! Methods block on the store, unless their documentation states otherwise.

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
use weir_resources::{BundleCatalog, Diagnostic, Manifest, SourceFile};

use crate::limits::{MAX_BUNDLES, MAX_BUNDLES_BYTES, MAX_CONFLICTS};
use crate::store::{BUNDLES, BlobRef, BundleSetVersion, ObjectSet, ResourceStore, StoreError};

/// The metadata of a pushed bundle.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoredBundle {
    /// The name that Filters use.
    pub name: String,
    /// The version.
    pub version: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// SHA-256 of the signed content. It stays the same when signatures are added.
    pub content_sha256: String,
    /// The length of the file in bytes.
    pub bytes: usize,
    /// The Proxy-Wasm ABI version of the module.
    pub abi: String,
    /// The manifest.
    pub manifest: Value,
    /// The public keys of the signers.
    pub signers: Vec<String>,
    /// The time of the push.
    #[schemars(with = "String")]
    pub pushed: jiff::Timestamp,
    /// The name of the token that pushed it.
    pub author: String,
    /// The location of the bytes in the store.
    #[schemars(skip)]
    pub(crate) record: Option<BlobRef>,
}

impl StoredBundle {
    /// Returns the name and version.
    pub fn id(&self) -> BundleName {
        BundleName { name: self.name.as_str().into(), version: self.version.as_str().into() }
    }
}

/// A pushed file, parsed and not yet validated.
#[derive(Debug)]
pub struct ParsedBundle {
    /// The manifest.
    pub manifest: Manifest,
    /// SHA-256 of the file.
    pub sha256: ModuleHash,
    content_sha256: ModuleHash,
    signers: Vec<PublicKey>,
    /// The file.
    pub bytes: Arc<[u8]>,
}

impl ParsedBundle {
    /// Parses a file.
    ///
    /// # Errors
    /// The file is no bundle, or its manifest is missing or invalid.
    pub fn read(bytes: Arc<[u8]>) -> Result<Self, Vec<Diagnostic>> {
        let failed = |error: String, hint: &str| vec![Diagnostic::without_position(error, hint)];
        let bundle = Bundle::read(&bytes).map_err(|error| failed(format!("the file {error}"), "build it again"))?;
        let Some(manifest) = bundle.manifest() else {
            return Err(failed(
                "the file has no manifest".to_owned(),
                "push it with `weir bundle push --manifest FILE`",
            ));
        };
        let manifest = Manifest::read(&SourceFile { path: "manifest".into(), text: manifest.into() })?;
        let hash = |bytes: &[u8]| ModuleHash(Sha256::digest(bytes).into());
        let (signers, content_sha256) = (bundle.signers(), hash(bundle.content()));
        Ok(Self { manifest, sha256: hash(&bytes), content_sha256, signers, bytes })
    }

    /// Returns the metadata to store. Its bytes have no location yet.
    pub fn to_stored(&self, abi: String, author: &str) -> StoredBundle {
        let BundleName { name, version } = &self.manifest.bundle;
        StoredBundle {
            name: name.to_string(),
            version: version.to_string(),
            sha256: self.sha256.to_string(),
            content_sha256: self.content_sha256.to_string(),
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

/// The public keys of trusted signers. By default every bundle is trusted, signed or not.
#[derive(Debug, Clone, Default)]
pub struct TrustedSigners(Option<Vec<String>>);

impl TrustedSigners {
    /// Reads public keys (PEM) from a file.
    ///
    /// # Errors
    /// The file cannot be read, or contains something else.
    pub fn read(path: &Path) -> Result<Self, String> {
        let failed = |error: String| format!("--trusted-signers {}: {error}", path.display());
        let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let keys = PublicKey::all_from_pem(&text).map_err(|error| failed(error.to_string()))?;
        Ok(Self(Some(keys.iter().map(ToString::to_string).collect())))
    }

    /// Checks that one of the signers is trusted.
    ///
    /// # Errors
    /// The reason, as the rest of a sentence about the bundle.
    pub fn check(&self, signers: &[String]) -> Result<(), String> {
        match &self.0 {
            None => Ok(()),
            Some(trusted) if signers.iter().any(|signer| trusted.contains(signer)) => Ok(()),
            Some(_) if signers.is_empty() => {
                Err("is not signed, and --trusted-signers requires a signature".to_owned())
            }
            Some(_) => Err(format!("is signed by {}, which are not in --trusted-signers", signers.join(", "))),
        }
    }
}

/// The reason that a bundle is not stored.
#[derive(Debug, thiserror::Error)]
pub enum BundleStoreError {
    /// Another module has this name and version.
    #[error("{0} exists with another module; use another version")]
    VersionExists(BundleName),
    /// The stored bundle has signatures that the pushed one lacks.
    #[error("{0} has more signatures; push the file with all of them")]
    SignatureDropped(BundleName),
    /// The number or the bytes of bundles would exceed the limit.
    #[error("{0}; delete unused versions")]
    Full(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All pushed bundles: their metadata in memory, their bytes in the store.
#[derive(Debug)]
pub struct BundleStore {
    store: Arc<ResourceStore>,
    trusted: TrustedSigners,
    index: RwLock<BundleIndex>,
}

#[derive(Debug, Default)]
struct BundleIndex {
    stored: BTreeMap<BundleName, StoredBundle>,
    /// The trusted bundles, as the compiler reads them.
    catalog: Arc<BundleCatalog>,
    /// The version of the set of bundles in the store.
    version: BundleSetVersion,
}

impl BundleStore {
    /// Loads the metadata of all bundles.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open(store: Arc<ResourceStore>, trusted: TrustedSigners) -> Result<Self, StoreError> {
        let bundles = Self { store, trusted, index: RwLock::default() };
        bundles.read_all(bundles.store.bundle_set_version()?)?;
        Ok(bundles)
    }

    /// Loads the bundles that another replica has changed. Returns false if none has changed. Requires the
    /// writer's lock.
    ///
    /// # Errors
    /// The store cannot be read. The loaded bundles stay.
    pub(crate) fn reload(&self) -> Result<bool, StoreError> {
        let version = self.store.bundle_set_version()?;
        if version == self.version() {
            return Ok(false);
        }
        self.read_all(version).map(|()| true)
    }

    fn read_all(&self, version: BundleSetVersion) -> Result<(), StoreError> {
        // Read after the version, so a later write has a newer version.
        let stored: Vec<StoredBundle> = self.store.list_entries(BUNDLES)?;
        self.set(stored.into_iter().map(|bundle| (bundle.id(), bundle)).collect(), version);
        Ok(())
    }

    /// Returns the version of the loaded set of bundles. Does not block.
    pub(crate) fn version(&self) -> BundleSetVersion {
        self.index.read().version.clone()
    }

    /// Returns the metadata of all bundles, by name and version. Does not block.
    pub fn all(&self) -> Vec<StoredBundle> {
        self.index.read().stored.values().cloned().collect()
    }

    /// Returns the metadata of a bundle. Does not block.
    pub fn get(&self, name: &BundleName) -> Option<StoredBundle> {
        self.index.read().stored.get(name).cloned()
    }

    /// Returns the trusted bundles, as the compiler reads them. Does not block.
    pub fn catalog(&self) -> Arc<BundleCatalog> {
        Arc::clone(&self.index.read().catalog)
    }

    /// Returns the trusted signers.
    pub const fn trusted(&self) -> &TrustedSigners {
        &self.trusted
    }

    /// Returns the hash of a bundle's file. Does not block.
    pub fn hash(&self, name: &BundleName) -> Option<ModuleHash> {
        self.index.read().stored.get(name)?.sha256.parse().ok()
    }

    /// Reads the bytes of a bundle.
    ///
    /// # Errors
    /// The bundle does not exist, or its bytes do not match its hash.
    pub fn bytes(&self, name: &BundleName) -> Result<Arc<[u8]>, StoreError> {
        let missing = || StoreError::Damaged(format!("the bundle {name} is not there"));
        let stored = self.get(name).ok_or_else(missing)?;
        let bytes = self.store.read_bytes(&stored.record.clone().ok_or_else(missing)?)?;
        let found = ModuleHash(Sha256::digest(&bytes).into());
        if found.to_string() != stored.sha256 {
            return Err(StoreError::Damaged(format!("the bundle {name} hashes to {found}, not to {}", stored.sha256)));
        }
        Ok(Arc::from(bytes))
    }

    /// Checks whether a bundle can be stored. Returns false if the same file is stored already. Does not block.
    ///
    /// # Errors
    /// As [`BundleStore::insert`].
    pub(crate) fn check(&self, bundle: &StoredBundle) -> Result<bool, BundleStoreError> {
        let id = bundle.id();
        let stored = &self.index.read().stored;
        match stored.get(&id) {
            Some(existing) if existing.sha256 == bundle.sha256 => return Ok(false),
            Some(existing) if existing.content_sha256 != bundle.content_sha256 => {
                return Err(BundleStoreError::VersionExists(id));
            }
            Some(existing) if existing.signers.iter().any(|signer| !bundle.signers.contains(signer)) => {
                return Err(BundleStoreError::SignatureDropped(id));
            }
            _ => {}
        }
        let others = stored.iter().filter(|(other, _)| **other != id).map(|(_, other)| other.bytes);
        let (count, total) = (others.clone().count(), others.sum::<usize>());
        if count >= MAX_BUNDLES || total.saturating_add(bundle.bytes) > MAX_BUNDLES_BYTES {
            return Err(BundleStoreError::Full(format!("{count} bundles with {total} bytes are stored already")));
        }
        Ok(true)
    }

    /// Stores a bundle. Returns false if the same file is stored already. Requires the writer's lock.
    ///
    /// # Errors
    /// Another module has its name and version, a limit is reached, or the store failed.
    pub(crate) fn insert(&self, mut bundle: StoredBundle, bytes: &[u8]) -> Result<bool, BundleStoreError> {
        let id = bundle.id();
        for _ in 0..MAX_CONFLICTS {
            match self.check(&bundle) {
                Ok(true) => {}
                done => {
                    self.delete_bytes(&bundle);
                    return done;
                }
            }
            if bundle.record.is_none() {
                bundle.record = Some(self.store.write_bytes(&format!("modules/{}", bundle.sha256), bytes)?);
            }
            let mut version = self.version();
            if self.store.put_bundle(&key(&id), &bundle, &mut version)? {
                let mut stored = self.index.read().stored.clone();
                let before = stored.insert(id, bundle);
                self.set(stored, version);
                before.iter().for_each(|before| self.delete_bytes(before));
                return Ok(true);
            }
            self.reload()?; // Another control plane has changed the set.
        }
        Err(StoreError::Unavailable("other replicas push at the same time; try again".to_owned()).into())
    }

    /// Deletes a bundle. Returns false if another replica has changed the store since `state`. Requires the
    /// writer's lock; the caller has checked that no Filter in `state` names the bundle.
    pub(crate) fn delete(&self, name: &BundleName, state: &ObjectSet) -> Result<bool, StoreError> {
        let (mut stored, mut version) = (self.index.read().stored.clone(), self.version());
        let Some(bundle) = stored.remove(name) else { return Ok(true) };
        if !self.store.delete_bundle(&key(name), state, &mut version)? {
            return Ok(false);
        }
        self.set(stored, version);
        self.delete_bytes(&bundle);
        Ok(true)
    }

    fn delete_bytes(&self, bundle: &StoredBundle) {
        if let Some(record) = &bundle.record
            && let Err(error) = self.store.delete_bytes(record)
        {
            warn!(%error, bundle = %bundle.id(), "the bytes of a bundle that is gone are still in the store");
        }
    }

    fn set(&self, stored: BTreeMap<BundleName, StoredBundle>, version: BundleSetVersion) {
        let mut rejected = Vec::new();
        let mut manifests = Vec::new();
        for (id, bundle) in &stored {
            let text = Arc::from(bundle.manifest.to_string());
            let manifest = Manifest::read(&SourceFile { path: "manifest".into(), text });
            let manifest = manifest.map_err(|refusals| refusals.iter().map(ToString::to_string).collect::<String>());
            match self.trusted.check(&bundle.signers).and(manifest) {
                Ok(manifest) => manifests.push(Arc::new(manifest)),
                Err(reason) => {
                    warn!(bundle = %id, "no Filter can use this bundle: it {reason}");
                    rejected.push((id.clone(), reason));
                }
            }
        }
        let catalog = Arc::new(BundleCatalog::new(manifests, rejected));
        *self.index.write() = BundleIndex { stored, catalog, version };
    }
}

fn key(name: &BundleName) -> String {
    format!("{}/{}", name.name, name.version)
}
