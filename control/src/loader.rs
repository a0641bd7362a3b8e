//! Modules, loaded before they are told: compiled, linked, started and configured by the very code that runs them in the
//! proxy, so that what no proxy would take is refused to whoever brings it. Called by `board` for what is new, and by
//! `publish` for what is pushed.

use std::collections::{HashMap, HashSet};
use std::mem::take;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::info;
use weir_host_abi::abi::log::LogLevel;
use weir_host_abi::shared::SharedState;
use weir_host_abi::{Module, StartHost, StartRefusal};
use weir_loader::{CompilerProcess, LazyEngine, ModuleRefusal, settings};
use weir_model::{ModuleHash, Plugin, PluginLimits, Version};

use crate::limits::{MAX_TRIAL_MEMORY, MAX_TRIAL_QUEUE_BYTES, MAX_TRIAL_TIME, MAX_TRIALS_TIME};

/// Loads modules.
pub struct Loader {
    cache: PathBuf,
    compiler: CompilerProcess,
    engine: LazyEngine,
    loaded: Mutex<HashMap<ModuleHash, Module>>,
    started: Mutex<Started>,
    /// Held by the one who compiles, and by the one who tries: each takes much of the machine, and neither waits for the
    /// other.
    compiling: Mutex<()>,
    trying: Mutex<()>,
}

/// What has started before: the same starts again.
#[derive(Default)]
struct Started {
    starts: HashSet<Start>,
    /// Whether there are more than when some were forgotten last.
    has_grown: bool,
}

/// What a plugin was started with, by its hash: a configuration may be long and hold secrets.
pub type Start = Version;

/// What a plugin is started with.
pub fn start_of(plugin: &Plugin, module: ModuleHash) -> Start {
    Version::of(&(module, &plugin.configuration, &plugin.limits))
}

/// When trying the filters of one change is given up.
pub struct TrialTime(Instant);

impl TrialTime {
    /// Begins now.
    pub fn begin() -> Self {
        Self(Instant::now() + MAX_TRIALS_TIME)
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        Instant::now() > self.0
    }
}

/// Why something is not told.
#[derive(Debug, Clone)]
pub struct LoadRefusal {
    /// The field of the plugin to blame: `module`, `configuration` or `limits`.
    pub field: &'static str,
    /// What happened, with the guest's own words.
    pub reason: String,
    /// What to do next.
    pub hint: String,
}

impl From<ModuleRefusal> for LoadRefusal {
    fn from(ModuleRefusal { reason, hint }: ModuleRefusal) -> Self {
        Self { field: "module", reason, hint }
    }
}

impl From<StartRefusal> for LoadRefusal {
    fn from(StartRefusal { plugin: _, field, reason, hint }: StartRefusal) -> Self {
        Self { field, reason, hint: hint.to_owned() }
    }
}

impl Loader {
    /// Nothing is loaded yet; compiled modules are kept in the folder `cache`.
    pub fn new(cache: PathBuf) -> Self {
        let compiler = CompilerProcess::this_program();
        Self {
            cache,
            compiler,
            engine: LazyEngine::default(),
            loaded: Mutex::default(),
            started: Mutex::default(),
            compiling: Mutex::default(),
            trying: Mutex::default(),
        }
    }

    /// Whether a plugin starts, within what is tried here. Blocks: for a millisecond, or for a second when its module was
    /// never compiled.
    ///
    /// # Errors
    /// Why it does not.
    pub fn try_start(&self, plugin: &Plugin, hash: ModuleHash, bytes: &[u8]) -> Result<(), LoadRefusal> {
        let start = start_of(plugin, hash);
        if self.started.lock().starts.contains(&start) {
            return Ok(());
        }
        let module = self.load(hash, bytes)?;
        let _turn = self.trying.lock();
        let namespace = SharedState::default().namespace(&plugin.vm_id());
        let began = Instant::now();
        let plugin = Arc::new(weir_host_abi::Plugin::new(settings(plugin), module));
        let host = StartHost::new(&[plugin], &namespace, move || began.elapsed(), LogLevel::Warn);
        drop(weir_host_abi::start(host.with_queue_bytes(MAX_TRIAL_QUEUE_BYTES))?);
        let mut started = self.started.lock();
        started.has_grown |= started.starts.insert(start);
        Ok(())
    }

    /// Whether a plugin asks for no more than is tried here: the rest is found out by proxies.
    pub fn can_try(plugin: &Plugin) -> bool {
        let PluginLimits { memory, start_time, .. } = plugin.limits;
        memory <= MAX_TRIAL_MEMORY && start_time <= MAX_TRIAL_TIME
    }

    /// A module, ready to run. Blocks.
    ///
    /// # Errors
    /// It is no module for this host, or does not compile within bounds.
    pub fn load(&self, hash: ModuleHash, bytes: &[u8]) -> Result<Module, ModuleRefusal> {
        let (engine, cache) = self.engine.get(&self.cache)?;
        let key = weir_host_abi::ModuleHash::of(bytes);
        let known = || self.loaded.lock().get(&hash).cloned();
        if let Some(module) = known() {
            return Ok(module);
        }
        let _turn = self.compiling.lock();
        if let Some(module) = known() {
            return Ok(module); // Somebody else had it compiled meanwhile.
        }
        let module = match cache.load(&engine, &key) {
            Some(module) => module,
            None => {
                self.compile(hash, bytes)?;
                let hint = "the log says why; check --cache";
                let lost = || ModuleRefusal::new("was compiled, but the compiled code cannot be loaded", hint);
                cache.load(&engine, &key).ok_or_else(lost)?
            }
        };
        self.loaded.lock().insert(hash, module.clone());
        Ok(module)
    }

    /// Forgets modules that are not used, and starts that are not among these. To name all starts takes time, so nobody is
    /// asked while there are no more of them than before.
    pub fn retain(&self, is_used: impl Fn(&ModuleHash) -> bool, starts: impl FnOnce() -> HashSet<Start>) {
        self.loaded.lock().retain(|hash, _| is_used(hash));
        let mut started = self.started.lock();
        if take(&mut started.has_grown) {
            let named = starts();
            started.starts.retain(|start| named.contains(start));
        }
    }

    fn compile(&self, hash: ModuleHash, bytes: &[u8]) -> Result<(), ModuleRefusal> {
        let began = Instant::now();
        // Whoever blocks does so beside a runtime, which waits for the child.
        let runtime = Handle::try_current().map_err(|error| ModuleRefusal::new(error.to_string(), ""))?;
        runtime.block_on(self.compiler.compile(&self.cache, bytes.to_vec()))?;
        info!(sha256 = %hash, duration_ms = began.elapsed().as_millis(), "module compiled");
        Ok(())
    }
}
