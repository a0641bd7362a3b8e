//! Validation of filters before they are published: compiles, links, starts and configures a module with the code that
//! runs it in the proxy. `publish` calls it for new and changed filters, and for pushed bundles.

use std::collections::{HashMap, HashSet};
use std::mem::take;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::info;
use weir_host_abi::abi::log::LogLevel;
use weir_host_abi::shared::SharedState;
use weir_host_abi::{Module, StartFailure, StartHost};
use weir_loader::{CompilerProcess, LazyEngine, ModuleLoadError, settings};
use weir_model::{ContentHash, ModuleHash, Plugin, PluginLimits};

use crate::limits::{MAX_VALIDATION_MEMORY, MAX_VALIDATION_QUEUE_BYTES, MAX_VALIDATION_TIME, VALIDATION_BUDGET};

/// Starts filters, and remembers which have started.
pub struct FilterValidator {
    cache: PathBuf,
    compiler: CompilerProcess,
    engine: LazyEngine,
    loaded: Mutex<HashMap<ModuleHash, Module>>,
    started: Mutex<StartedFilters>,
    /// Serialize compiling and starting. Each takes much CPU and memory; neither waits for the other.
    compiling: Mutex<()>,
    starting: Mutex<()>,
}

/// The filters that have started. They are not started again.
#[derive(Default)]
struct StartedFilters {
    starts: HashSet<StartKey>,
    /// True if starts were added since the last eviction.
    has_grown: bool,
}

/// A hash of everything that a plugin is started with. A hash, because a configuration may be long and contain
/// secrets.
pub type StartKey = ContentHash;

/// Returns the hash of the module, configuration and limits of a plugin.
pub fn start_key(plugin: &Plugin, module: ModuleHash) -> StartKey {
    ContentHash::of(&(module, &plugin.configuration, &plugin.limits))
}

/// The time limit for validating the filters of one change.
pub struct ValidationDeadline(Instant);

impl ValidationDeadline {
    /// Starts the time limit, [`VALIDATION_BUDGET`] from now.
    pub fn start() -> Self {
        Self(Instant::now() + VALIDATION_BUDGET)
    }

    /// Returns true after the time limit.
    pub fn has_passed(&self) -> bool {
        Instant::now() > self.0
    }
}

/// The reason that a filter does not load or start.
#[derive(Debug, Clone)]
pub struct FilterError {
    /// The field of the plugin that causes it: `module`, `configuration` or `limits`.
    pub field: &'static str,
    /// The error, with the guest's own message.
    pub reason: String,
    /// The next step for the author.
    pub hint: String,
}

impl From<ModuleLoadError> for FilterError {
    fn from(ModuleLoadError { reason, hint }: ModuleLoadError) -> Self {
        Self { field: "module", reason, hint }
    }
}

impl From<StartFailure> for FilterError {
    fn from(StartFailure { plugin: _, field, reason, hint }: StartFailure) -> Self {
        Self { field, reason, hint }
    }
}

impl FilterValidator {
    /// Returns a validator without modules. Compiled modules are cached in the folder `cache`; compiling one takes at most
    /// `compile_timeout`.
    pub fn new(cache: PathBuf, compile_timeout: Duration) -> Self {
        let compiler = CompilerProcess::this_program(compile_timeout);
        Self {
            cache,
            compiler,
            engine: LazyEngine::default(),
            loaded: Mutex::default(),
            started: Mutex::default(),
            compiling: Mutex::default(),
            starting: Mutex::default(),
        }
    }

    /// Starts a plugin with its configuration, unless it has started before. Blocks: for about a millisecond, or for a
    /// second if its module was never compiled.
    ///
    /// # Errors
    /// The module does not load, or the plugin does not start.
    pub fn validate(&self, plugin: &Plugin, hash: ModuleHash, bytes: &[u8]) -> Result<(), FilterError> {
        let start = start_key(plugin, hash);
        if self.started.lock().starts.contains(&start) {
            return Ok(());
        }
        let module = self.load(hash, bytes)?;
        let _turn = self.starting.lock();
        let namespace = SharedState::default().namespace(&plugin.vm_id());
        let began = Instant::now();
        let plugin = Arc::new(weir_host_abi::Plugin::new(settings(plugin), module));
        let host = StartHost::new(&[plugin], &namespace, move || began.elapsed(), LogLevel::Warn);
        drop(weir_host_abi::start(host.with_queue_bytes(MAX_VALIDATION_QUEUE_BYTES))?);
        let mut started = self.started.lock();
        started.has_grown |= started.starts.insert(start);
        Ok(())
    }

    /// Returns whether the limits of a plugin allow a start here. Other plugins are validated by proxies only.
    pub fn can_validate(plugin: &Plugin) -> bool {
        let PluginLimits { memory, start_time, .. } = plugin.limits;
        memory <= MAX_VALIDATION_MEMORY && start_time <= MAX_VALIDATION_TIME
    }

    /// Loads a module, and compiles it first if the cache does not have it. Blocks.
    ///
    /// # Errors
    /// The bytes are no module for this host, or do not compile within limits.
    pub fn load(&self, hash: ModuleHash, bytes: &[u8]) -> Result<Module, ModuleLoadError> {
        let (engine, cache) = self.engine.get(&self.cache)?;
        let key = weir_host_abi::ModuleHash::of(bytes);
        let known = || self.loaded.lock().get(&hash).cloned();
        if let Some(module) = known() {
            return Ok(module);
        }
        let _turn = self.compiling.lock();
        if let Some(module) = known() {
            return Ok(module); // Another thread has compiled it meanwhile.
        }
        let module = match cache.load(&engine, &key) {
            Some(module) => module,
            None => {
                self.compile(hash, bytes)?;
                let hint = "the log has the reason; check --cache";
                let lost = || ModuleLoadError::new("was compiled, but the compiled code cannot be loaded", hint);
                cache.load(&engine, &key).ok_or_else(lost)?
            }
        };
        self.loaded.lock().insert(hash, module.clone());
        Ok(module)
    }

    /// Evicts unused modules, and starts that are not in `starts`. Computing `starts` takes time, so it is called only
    /// after starts were added.
    pub fn retain(&self, is_used: impl Fn(&ModuleHash) -> bool, starts: impl FnOnce() -> HashSet<StartKey>) {
        self.loaded.lock().retain(|hash, _| is_used(hash));
        let mut started = self.started.lock();
        if take(&mut started.has_grown) {
            let named = starts();
            started.starts.retain(|start| named.contains(start));
        }
    }

    fn compile(&self, hash: ModuleHash, bytes: &[u8]) -> Result<(), ModuleLoadError> {
        let began = Instant::now();
        // Blocking callers run on a thread of a runtime, which waits for the child process.
        let runtime = Handle::try_current().map_err(|error| ModuleLoadError::new(error.to_string(), ""))?;
        runtime.block_on(self.compiler.compile(&self.cache, bytes.to_vec()))?;
        info!(sha256 = %hash, duration_ms = began.elapsed().as_millis(), "module compiled");
        Ok(())
    }
}
