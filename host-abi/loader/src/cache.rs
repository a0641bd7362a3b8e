//! The cache folder of compiled modules, and the engine that runs them. The proxy and the control plane of one user
//! share the folder, so that each module is compiled once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use weir_host_abi::{Engine, ModuleCache};

use crate::ModuleLoadError;

/// Returns the cache folder: `option` if set, else that of the user. XDG Base Directory Specification:
/// `$XDG_CACHE_HOME`, or `~/.cache`; `/var/cache` for a daemon without a home.
///
/// # Errors
/// The path cannot be made absolute, which the child process that compiles needs.
pub fn cache_folder(option: Option<PathBuf>) -> Result<PathBuf, String> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = || variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    let chosen = option.or_else(|| user().map(|folder| folder.join("weir")));
    let chosen = chosen.unwrap_or_else(|| PathBuf::from("/var/cache/weir"));
    std::path::absolute(&chosen).map_err(|error| format!("--cache {}: {error}", chosen.display()))
}

/// The engine and its cache, created when the first module is loaded. A process without filters does not pay for them.
#[derive(Default)]
pub struct LazyEngine(Mutex<Option<(Engine, Arc<ModuleCache>)>>);

impl LazyEngine {
    /// Returns the engine, and the cache in `cache`. All calls must pass the same folder.
    ///
    /// # Errors
    /// The engine cannot be created, or other users may write to the folder.
    pub fn get(&self, cache: &Path) -> Result<(Engine, Arc<ModuleCache>), ModuleLoadError> {
        let mut made = self.0.lock();
        if let Some((engine, cache)) = &*made {
            return Ok((engine.clone(), Arc::clone(cache)));
        }
        let engine = Engine::new().map_err(|error| ModuleLoadError::new(error.to_string(), ""))?;
        let cache = ModuleCache::open(cache).map_err(|error| {
            ModuleLoadError::new(error.to_string(), "set --cache to a folder that only this user can write to")
        })?;
        let (engine, cache) = made.insert((engine, Arc::new(cache)));
        Ok((engine.clone(), Arc::clone(cache)))
    }
}
