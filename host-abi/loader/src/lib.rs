//! Loads filters: compiles modules in a child process and converts plugin settings. The proxy loads the filters that it
//! runs; the control plane loads uploaded filters to check them. Both therefore accept the same filters.
//!
//! ```text
//! bytes ─► compile (child process, into the cache) ─► weir-host-abi: Module ─► + settings ─► started Vm
//! ```

mod cache;
mod compile;
pub mod limits;
mod settings;

pub use cache::{LazyEngine, cache_folder};
pub use compile::{CompileRequest, CompilerProcess, compile_here, parse_compile_timeout};
pub use settings::settings;

/// The reason why a module cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleLoadError {
    /// Description of the problem.
    pub reason: String,
    /// Advice for the operator; may be empty.
    pub hint: String,
}

impl ModuleLoadError {
    /// Creates an error with this reason and hint.
    pub fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: hint.into() }
    }
}
