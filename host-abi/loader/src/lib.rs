//! Loads filters: compiled in a child process, configured as they are to be. The proxy does it with what it runs, the
//! control plane with what it is given to keep, so that what the one takes the other takes too.
//!
//! ```text
//! bytes ─► compile (a child process, into the cache) ─► weir-host-abi: Module ─► + settings ─► started Vm
//! ```

mod cache;
mod compile;
pub mod limits;
mod settings;

pub use cache::{LazyEngine, cache_folder};
pub use compile::{CompileRequest, CompilerProcess, compile_here};
pub use settings::settings;

/// Why a module cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleRefusal {
    /// What is wrong, in words.
    pub reason: String,
    /// What to do about it.
    pub hint: String,
}

impl ModuleRefusal {
    /// A refusal of these words.
    pub fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: hint.into() }
    }
}
