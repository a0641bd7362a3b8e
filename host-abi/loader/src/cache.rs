//! Compiled modules: the folder that they are kept in, and the engine that runs them. The proxy and the control plane of one
//! user have the same folder, so that what one has compiled the other finds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use weir_host_abi::{Engine, EngineOptions, ModuleCache};

use crate::ModuleRefusal;

/// The folder of compiled modules: the one that was given, or that of the user. XDG Base Directory Specification:
/// `$XDG_CACHE_HOME`, or `~/.cache`; a daemon without a home has `/var/cache`.
///
/// # Errors
/// The path cannot be made absolute, which it must be: the child process that compiles gets it too.
pub fn cache_folder(given: Option<PathBuf>) -> Result<PathBuf, String> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = || variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    let chosen = given.or_else(|| user().map(|folder| folder.join("weir")));
    let chosen = chosen.unwrap_or_else(|| PathBuf::from("/var/cache/weir"));
    std::path::absolute(&chosen).map_err(|error| format!("--cache {}: {error}", chosen.display()))
}

/// The engine and its cache, made when the first module needs them: who runs no filter does not pay for them.
#[derive(Default)]
pub struct LazyEngine(Mutex<Option<(Engine, Arc<ModuleCache>)>>);

impl LazyEngine {
    /// The engine, and the compiled modules of a folder, which is the same each time.
    ///
    /// # Errors
    /// The engine cannot be made, or the folder is not ours alone.
    pub fn get(&self, cache: &Path) -> Result<(Engine, Arc<ModuleCache>), ModuleRefusal> {
        let mut made = self.0.lock();
        if let Some((engine, cache)) = &*made {
            return Ok((engine.clone(), Arc::clone(cache)));
        }
        let engine =
            Engine::new(EngineOptions::default()).map_err(|error| ModuleRefusal::new(error.to_string(), ""))?;
        let cache = ModuleCache::open(cache)
            .map_err(|error| ModuleRefusal::new(error.to_string(), "give --cache a folder that is yours alone"))?;
        let (engine, cache) = made.insert((engine, Arc::new(cache)));
        Ok((engine.clone(), Arc::clone(cache)))
    }
}
