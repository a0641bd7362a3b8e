//! Wasm modules by hash: the bytes that proxies fetch. A file is read when a snapshot names it, and again after it has
//! changed. A bundle is read when a snapshot names it.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use weir_model::{BundleName, ModuleHash, ModuleSource, Snapshot};

use crate::bundle_store::BundleStore;
use crate::limits::MAX_MODULE_BYTES;

/// The bytes of a module.
type Bytes = Arc<[u8]>;

/// A younger file is read each time, because another change may leave its timestamps equal.
const MIN_FILE_AGE: Duration = Duration::from_secs(1);

/// The modules of the current snapshot, by hash.
#[derive(Debug)]
pub struct ModuleStore {
    /// The folder of shipped modules.
    builtins: PathBuf,
    /// The bundles that were pushed.
    bundles: Option<Arc<BundleStore>>,
    modules: RwLock<HashMap<ModuleHash, Bytes>>,
    /// The stamp and the hash of each file that was read.
    files: RwLock<HashMap<PathBuf, (FileStamp, ModuleHash)>>,
}

/// Length, inode and ctime (seconds, nanoseconds). At least one differs after a file has changed.
type FileStamp = (u64, u64, i64, i64);

/// The present hash of each module source.
pub type ModuleHashes = HashMap<ModuleSource, ModuleHash>;

impl ModuleStore {
    /// Returns an empty store. Shipped modules are in the folder `builtins`.
    pub fn new(builtins: PathBuf) -> Self {
        Self { builtins, bundles: None, modules: RwLock::default(), files: RwLock::default() }
    }

    /// Adds the source of bundles.
    #[must_use]
    pub fn with_bundles(self, bundles: Arc<BundleStore>) -> Self {
        Self { bundles: Some(bundles), ..self }
    }

    /// Returns the folder of shipped modules.
    pub fn builtins(&self) -> &Path {
        &self.builtins
    }

    /// Reads the modules that a snapshot names. Blocks.
    ///
    /// # Errors
    /// A module cannot be read; the text names it.
    pub fn read(&self, snapshot: &Snapshot) -> Result<ModuleHashes, String> {
        let mut hashes = ModuleHashes::new();
        for plugin in snapshot.plugins.values() {
            if hashes.contains_key(&plugin.module) {
                continue;
            }
            let hash = match (plugin.module.path(&self.builtins), &plugin.module) {
                (_, ModuleSource::Remote(module)) => module.sha256,
                (_, ModuleSource::Bundle(name)) => self.read_bundle(name)?,
                (Some(path), _) => self
                    .read_file(&path)
                    .map_err(|error| format!("the module {} cannot be read: {error}", path.display()))?,
                (None, _) => continue,
            };
            hashes.insert(plugin.module.clone(), hash);
        }
        Ok(hashes)
    }

    /// Returns the bytes of a module.
    pub fn get(&self, hash: &ModuleHash) -> Option<Bytes> {
        self.modules.read().get(hash).cloned()
    }

    /// Evicts the modules that are not in `used`.
    pub fn retain(&self, used: &ModuleHashes) {
        self.modules.write().retain(|hash, _| used.values().any(|used| used == hash));
        self.files.write().retain(|_, (_, hash)| used.values().any(|used| used == hash));
    }

    fn read_bundle(&self, name: &BundleName) -> Result<ModuleHash, String> {
        let missing = || format!("the bundle {name} is not stored");
        let bundles = self.bundles.as_ref().ok_or_else(missing)?;
        let hash = bundles.hash(name).ok_or_else(missing)?;
        if !self.modules.read().contains_key(&hash) {
            let bytes = bundles.bytes(name).map_err(|error| error.to_string())?;
            self.modules.write().insert(hash, bytes);
        }
        Ok(hash)
    }

    fn read_file(&self, path: &Path) -> io::Result<ModuleHash> {
        let metadata = fs::metadata(path)?;
        let stamp = (metadata.len(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec());
        if let Some((of, hash)) = self.files.read().get(path)
            && *of == stamp
            && self.modules.read().contains_key(hash)
        {
            return Ok(*hash);
        }
        if metadata.len() > MAX_MODULE_BYTES as u64 {
            let length = metadata.len();
            return Err(io::Error::other(format!("has {length} bytes; the limit is {MAX_MODULE_BYTES}")));
        }
        let bytes = Bytes::from(fs::read(path)?);
        let hash = ModuleHash(Sha256::digest(&bytes).into());
        self.modules.write().entry(hash).or_insert(bytes);
        if !is_recent(&metadata) {
            self.files.write().insert(path.to_owned(), (stamp, hash));
        }
        Ok(hash)
    }
}

fn is_recent(metadata: &Metadata) -> bool {
    let age = metadata.modified().ok().and_then(|time| time.elapsed().ok());
    age.is_none_or(|age| age < MIN_FILE_AGE)
}
