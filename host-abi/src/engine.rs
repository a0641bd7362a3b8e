//! `Engine`: the Wasm engine's settings and the ticker that bounds how long guests run. One per process and isolation.
//!
//! The ticker is a thread that moves the engine's epoch once per [`TICK`]; a guest that sees it move asks its deadline.
//! It never catches up ticks that it missed (a stopped process would come back with every guest past its deadline),
//! ticks rarely while no guest runs, and ends with the last `Engine`.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;

use sha2::{Digest, Sha256};
use wasmtime::{
    Config, EngineWeak, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, WasmBacktraceDetails,
};

use crate::limits::{
    DEFAULT_MEMORY, DEFAULT_STREAM_VMS, DEFAULT_TABLE_ELEMENTS, GUEST_STACK, IDLE_TICK, MAX_BACKTRACE_FRAMES,
    MAX_TABLES, MEMORY_GUARD, MEMORY_RESERVATION, POOLED_VM_BYTES, TICK, TICKS_UNTIL_IDLE,
};

/// How many VMs a plugin has, which decides how their memory is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// One VM per worker: few VMs, memory from the system on demand.
    #[default]
    Worker,
    /// One VM per stream: many short-lived VMs, memory from a pool. `vms` may live at once, each with at most `memory`
    /// bytes.
    Stream {
        /// VMs that may live at once, at least 1.
        vms: u32,
        /// Linear memory of each in bytes: the largest of the plugins that use this engine.
        memory: usize,
    },
}

impl Isolation {
    /// One VM per stream, with the default bounds.
    #[must_use]
    pub const fn stream() -> Self {
        Self::Stream { vms: DEFAULT_STREAM_VMS, memory: DEFAULT_MEMORY }
    }
}

/// Settings of an [`Engine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineOptions {
    /// How VMs are allocated.
    pub isolation: Isolation,
}

/// Why an engine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine does not run on this machine, or the pool does not fit in its address space.
    #[error("the Wasm engine does not start here: {0}")]
    Unsupported(String),
    /// The ticker's thread could not be started.
    #[error("no thread for the engine's ticker: {0}")]
    Ticker(std::io::Error),
}

/// Compiles and runs modules. Cheap to clone; all clones share one ticker.
#[derive(Clone)]
pub struct Engine {
    engine: wasmtime::Engine,
    ticker: Arc<Ticker>,
}

impl Engine {
    /// Makes an engine and starts its ticker.
    ///
    /// # Errors
    /// When the machine is not supported, the pool does not fit, or no thread can be started.
    pub fn new(options: EngineOptions) -> Result<Self, EngineError> {
        let unsupported = |error: wasmtime::Error| EngineError::Unsupported(format!("{error:#}"));
        let engine = wasmtime::Engine::new(&settings(options)).map_err(unsupported)?;
        let ticker = Ticker::start(engine.weak()).map_err(EngineError::Ticker)?;
        Ok(Self { engine, ticker: Arc::new(ticker) })
    }

    /// Names the engine's version and settings: artefacts of one engine load in another exactly when this is equal.
    #[must_use]
    pub fn compatibility(&self) -> [u8; 32] {
        struct Sha(Sha256);
        impl Hasher for Sha {
            fn write(&mut self, bytes: &[u8]) {
                self.0.update(bytes);
            }
            fn finish(&self) -> u64 {
                0
            }
        }
        let mut sha = Sha(Sha256::new());
        self.engine.precompile_compatibility_hash().hash(&mut sha);
        sha.0.update(env!("CARGO_PKG_VERSION"));
        sha.0.finalize().into()
    }

    pub(crate) const fn inner(&self) -> &wasmtime::Engine {
        &self.engine
    }

    /// Tells the ticker that a guest is about to run.
    pub(crate) fn wake_ticker(&self) {
        self.ticker.activity.note();
    }

    /// A handle for the ticker that a running guest keeps awake.
    pub(crate) fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.ticker.activity)
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Engine")
    }
}

fn settings(options: EngineOptions) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        .generate_address_map(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(MAX_BACKTRACE_FRAMES))
        .native_unwind_info(false)
        .max_wasm_stack(GUEST_STACK)
        .memory_reservation(MEMORY_RESERVATION)
        .memory_guard_size(MEMORY_GUARD)
        .memory_may_move(false)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        .wasm_tail_call(false)
        .wasm_custom_page_sizes(false);
    if let Isolation::Stream { vms, memory } = options.isolation {
        let vms = vms.max(1);
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(vms)
            .total_memories(vms)
            .total_tables(vms.saturating_mul(2))
            .max_tables_per_module(u32::try_from(MAX_TABLES).unwrap_or(u32::MAX))
            .table_elements(DEFAULT_TABLE_ELEMENTS)
            .max_core_instance_size(POOLED_VM_BYTES)
            .max_memory_size(memory);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

/// Whether guests run, as the ticker sees it.
#[derive(Debug)]
pub(crate) struct Activity {
    noted: AtomicBool,
    idle: AtomicBool,
    ended: AtomicBool,
    thread: std::sync::OnceLock<Thread>,
}

impl Activity {
    /// Keeps the ticker awake for a while. Costs one load when it was noted since the last tick.
    pub(crate) fn note(&self) {
        if self.noted.load(Ordering::Relaxed) {
            return;
        }
        // The ticker sets `idle` before it looks at `noted`, so one of the two sees the other's store.
        self.noted.store(true, Ordering::SeqCst);
        if self.idle.load(Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
}

struct Ticker {
    activity: Arc<Activity>,
}

impl Ticker {
    fn start(engine: EngineWeak) -> std::io::Result<Self> {
        let activity = Arc::new(Activity {
            noted: AtomicBool::new(false),
            idle: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            thread: std::sync::OnceLock::new(),
        });
        let seen = Arc::clone(&activity);
        let thread = std::thread::Builder::new()
            .name("wasm-ticker".to_owned())
            .stack_size(64 << 10)
            .spawn(move || tick(&engine, &seen))?;
        // A call that came before this line waits for one idle tick at most.
        activity.thread.get_or_init(|| thread.thread().clone());
        Ok(Self { activity })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.activity.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.activity.thread.get() {
            thread.unpark();
        }
    }
}

fn tick(engine: &EngineWeak, activity: &Activity) {
    let mut quiet = 0_u32;
    while !activity.ended.load(Ordering::SeqCst) {
        let idle = quiet >= TICKS_UNTIL_IDLE;
        activity.idle.store(idle, Ordering::SeqCst);
        if activity.noted.swap(false, Ordering::SeqCst) {
            quiet = 0;
            activity.idle.store(false, Ordering::SeqCst);
            std::thread::park_timeout(TICK);
        } else {
            quiet = quiet.saturating_add(1);
            std::thread::park_timeout(if idle { IDLE_TICK } else { TICK });
        }
        let Some(engine) = engine.upgrade() else { return };
        engine.increment_epoch();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artefacts_are_shared_between_equal_engines_only() {
        let worker = Engine::new(EngineOptions::default()).unwrap();
        let other = Engine::new(EngineOptions::default()).unwrap();
        assert_eq!(worker.compatibility(), other.compatibility());
    }

    #[test]
    fn the_ticker_ends_with_the_last_engine() {
        let engine = Engine::new(EngineOptions::default()).unwrap();
        let activity = engine.activity();
        let clone = engine.clone();
        drop(engine);
        assert!(!activity.ended.load(Ordering::SeqCst));
        drop(clone);
        while Arc::strong_count(&activity) > 1 {
            std::thread::yield_now();
        }
    }
}
