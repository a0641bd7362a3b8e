//! Modules, known by their hash: what proxies fetch. A file is read when a snapshot names it, and again when it changes.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use weir_model::{ModuleHash, ModuleSource, Snapshot};

use crate::limits::MAX_MODULE_BYTES;

/// The bytes of a module.
type Bytes = Arc<[u8]>;

/// Modules by hash.
#[derive(Debug)]
pub struct ModuleStore {
    /// The folder of shipped modules.
    builtins: PathBuf,
    modules: RwLock<HashMap<ModuleHash, Bytes>>,
}

/// Which module each source is at the moment.
pub type ModuleHashes = HashMap<ModuleSource, ModuleHash>;

impl ModuleStore {
    /// No module yet; shipped ones lie in the folder `builtins`.
    pub fn new(builtins: PathBuf) -> Self {
        Self { builtins, modules: RwLock::default() }
    }

    /// Reads the modules that a snapshot names. Blocks.
    ///
    /// # Errors
    /// The file that cannot be read, and why.
    pub fn read(&self, snapshot: &Snapshot) -> Result<ModuleHashes, (PathBuf, io::Error)> {
        let mut hashes = ModuleHashes::new();
        for plugin in snapshot.plugins.values() {
            if hashes.contains_key(&plugin.module) {
                continue;
            }
            let path = match &plugin.module {
                ModuleSource::File(path) => path.clone(),
                ModuleSource::Builtin(name) => self.builtins.join(format!("{name}.wasm")),
                ModuleSource::Remote(module) => {
                    hashes.insert(plugin.module.clone(), module.sha256);
                    continue;
                }
            };
            let bytes = read_module(&path).map_err(|error| (path, error))?;
            let hash = ModuleHash(Sha256::digest(&bytes).into());
            self.modules.write().entry(hash).or_insert(bytes);
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
    }
}

fn read_module(path: &Path) -> io::Result<Bytes> {
    let length = fs::metadata(path)?.len();
    if length > MAX_MODULE_BYTES as u64 {
        return Err(io::Error::other(format!("has {length} bytes; at most {MAX_MODULE_BYTES} are taken")));
    }
    fs::read(path).map(Bytes::from)
}
