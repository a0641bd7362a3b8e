//! Modules, known by their hash: what proxies fetch. A file is read when a snapshot names it, and again when it changes;
//! a bundle when a snapshot names it.

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

use crate::bundle::BundleShelf;
use crate::limits::MAX_MODULE_BYTES;

/// The bytes of a module.
type Bytes = Arc<[u8]>;

/// A file changed so recently may change once more within the resolution of its times.
const FRESH: Duration = Duration::from_secs(1);

/// Modules by hash.
#[derive(Debug)]
pub struct ModuleStore {
    /// The folder of shipped modules.
    builtins: PathBuf,
    /// Modules that were pushed.
    bundles: Option<Arc<BundleShelf>>,
    modules: RwLock<HashMap<ModuleHash, Bytes>>,
    /// What each file was when it was read.
    files: RwLock<HashMap<PathBuf, (Stamp, ModuleHash)>>,
}

/// What changes when a file does: length, inode, and time of the last change.
type Stamp = (u64, u64, i64, i64);

/// Which module each source is at the moment.
pub type ModuleHashes = HashMap<ModuleSource, ModuleHash>;

impl ModuleStore {
    /// No module yet; shipped ones lie in the folder `builtins`.
    pub fn new(builtins: PathBuf) -> Self {
        Self { builtins, bundles: None, modules: RwLock::default(), files: RwLock::default() }
    }

    /// The same with modules that were pushed.
    #[must_use]
    pub fn with_bundles(self, bundles: Arc<BundleShelf>) -> Self {
        Self { bundles: Some(bundles), ..self }
    }

    /// The folder of shipped modules.
    pub fn builtins(&self) -> &Path {
        &self.builtins
    }

    /// Reads the modules that a snapshot names. Blocks.
    ///
    /// # Errors
    /// Which one cannot be read, and why.
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

    /// The bytes of a module.
    pub fn get(&self, hash: &ModuleHash) -> Option<Bytes> {
        self.modules.read().get(hash).cloned()
    }

    /// Forgets the modules that are in none of these.
    pub fn retain(&self, used: &ModuleHashes) {
        self.modules.write().retain(|hash, _| used.values().any(|used| used == hash));
        self.files.write().retain(|_, (_, hash)| used.values().any(|used| used == hash));
    }

    fn read_bundle(&self, name: &BundleName) -> Result<ModuleHash, String> {
        let missing = || format!("the bundle {name} is not here");
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
            return Err(io::Error::other(format!("has {length} bytes; at most {MAX_MODULE_BYTES} are taken")));
        }
        let bytes = Bytes::from(fs::read(path)?);
        let hash = ModuleHash(Sha256::digest(&bytes).into());
        self.modules.write().entry(hash).or_insert(bytes);
        if !is_fresh(&metadata) {
            self.files.write().insert(path.to_owned(), (stamp, hash));
        }
        Ok(hash)
    }
}

fn is_fresh(metadata: &Metadata) -> bool {
    let age = metadata.modified().ok().and_then(|time| time.elapsed().ok());
    age.is_none_or(|age| age < FRESH)
}
