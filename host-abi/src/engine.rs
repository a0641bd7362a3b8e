//! `Engine`: the Wasm engine's settings, and the ticker that bounds the run time of guests. A process has one engine.
//!
//! The ticker is a thread that increments the engine's epoch once per [`TICK`]. A guest that observes the change checks
//! its deadline. The ticker never catches up on missed ticks, because a process that was stopped would resume with
//! every guest past its deadline. It slows down while no guest runs, and stops with the last `Engine`.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;

use sha2::{Digest, Sha256};
use wasmtime::{Config, EngineWeak, OptLevel, WasmBacktraceDetails};

use crate::limits::{
    GUEST_STACK, IDLE_TICK, MAX_BACKTRACE_FRAMES, MEMORY_GUARD, MEMORY_RESERVATION, TICK, TICKS_UNTIL_IDLE,
};

/// A failure to create an engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine does not support this machine.
    #[error("the Wasm engine does not start here: {0}")]
    Unsupported(String),
    /// The ticker's thread cannot be started.
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
    /// Creates an engine and starts its ticker.
    ///
    /// # Errors
    /// The machine is not supported, or no thread can be started.
    pub fn new() -> Result<Self, EngineError> {
        let unsupported = |error: wasmtime::Error| EngineError::Unsupported(format!("{error:#}"));
        let engine = wasmtime::Engine::new(&settings()).map_err(unsupported)?;
        let ticker = Ticker::start(engine.weak()).map_err(EngineError::Ticker)?;
        Ok(Self { engine, ticker: Arc::new(ticker) })
    }

    /// Returns a hash of the engine's version and settings. An artifact of one engine loads in another exactly when
    /// their hashes are equal.
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

    /// Wakes the ticker before a guest runs.
    pub(crate) fn wake_ticker(&self) {
        self.ticker.activity.note();
    }

    /// Returns the activity flag by which a running guest keeps the ticker awake.
    pub(crate) fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.ticker.activity)
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Engine")
    }
}

fn settings() -> Config {
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
    config
}

/// Guest activity, shared by the ticker and the VMs.
#[derive(Debug)]
pub(crate) struct Activity {
    noted: AtomicBool,
    idle: AtomicBool,
    ended: AtomicBool,
    thread: std::sync::OnceLock<Thread>,
}

impl Activity {
    /// Keeps the ticker awake for [`TICKS_UNTIL_IDLE`] ticks. Costs one load if activity was already recorded since the
    /// last tick.
    pub(crate) fn note(&self) {
        if self.noted.load(Ordering::Relaxed) {
            return;
        }
        // The ticker sets `idle` before it reads `noted`, so one of the two threads sees the other's store.
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
        // A call before this line waits for one idle tick at most.
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
    fn equal_engines_have_equal_compatibility_hashes() {
        let worker = Engine::new().unwrap();
        let other = Engine::new().unwrap();
        assert_eq!(worker.compatibility(), other.compatibility());
    }

    #[test]
    fn ticker_stops_with_last_engine() {
        let engine = Engine::new().unwrap();
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
