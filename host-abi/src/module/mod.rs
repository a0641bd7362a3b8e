//! `Module`: a filter's code, checked, compiled and linked. It is compiled in a child process ([`Module::precompile`])
//! and loaded from the [`crate::cache::ModuleCache`]. Plugins share it, and VMs are instantiated from it.
//!
//! Every `Module` has a supported ABI version, one memory, an allocator, callbacks of the right types, and an
//! implementation or stub for each of its imports.

mod check;
mod error;
mod hash;
mod link;
mod signature;

use std::sync::Arc;

use wasmtime::InstancePre;

use crate::abi::calls::AbiVersion;
use crate::artifact::CheckedArtifact;
use crate::engine::Engine;
use crate::interface::{Exports, ModuleInterface};
use crate::vm_state::VmState;

pub use error::ModuleError;
pub use hash::ModuleHash;

/// The compiled code of a filter. Cheap to clone.
#[derive(Clone)]
pub struct Module(Arc<ModuleInner>);

struct ModuleInner {
    engine: Engine,
    hash: ModuleHash,
    interface: Arc<ModuleInterface>,
    pre: InstancePre<VmState>,
    unknown_imports: Vec<String>,
}

impl Module {
    /// Checks and compiles a module, and returns its artifact for [`crate::cache::ModuleCache::store`]. A large module
    /// takes seconds and much memory. It is meant for a child process with its own limits.
    ///
    /// # Errors
    /// The module is not a filter, or does not compile.
    pub fn precompile(engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>, ModuleError> {
        let CheckedModule { module, .. } = compile_checked(engine, wasm)?;
        link::link(engine, &module)?;
        module.serialize().map_err(|error| ModuleError::Invalid(format!("{error:#}")))
    }

    /// Checks and compiles a module in this process, for tests and small tools.
    ///
    /// # Errors
    /// The module is not a filter, or does not compile.
    pub fn compile(engine: &Engine, wasm: &[u8]) -> Result<Self, ModuleError> {
        let checked = compile_checked(engine, wasm)?;
        Self::from_checked(engine, ModuleHash::of(wasm), checked)
    }

    /// Loads an artifact. Its type proves that it was checked.
    pub(crate) fn load(engine: &Engine, hash: ModuleHash, artifact: &CheckedArtifact<'_>) -> Result<Self, ModuleError> {
        let loaded = {
            #[expect(unsafe_code, reason = "loading compiled code trusts it")]
            // SAFETY: the bytes were returned by `Module::precompile` for an engine with this version and these
            // settings. A checked artifact matches the digest that was written beside it, in a folder that only this
            // user can write to.
            unsafe {
                wasmtime::Module::deserialize(engine.inner(), artifact.code())
            }
        };
        let module = loaded.map_err(|error| ModuleError::Unloadable(format!("{error:#}")))?;
        let interface = check::check_exports(&module)?;
        Self::from_checked(engine, hash, CheckedModule { module, interface })
    }

    fn from_checked(engine: &Engine, hash: ModuleHash, checked: CheckedModule) -> Result<Self, ModuleError> {
        let linked = link::link(engine, &checked.module)?;
        if !linked.unknown_imports.is_empty() {
            let names = linked.unknown_imports.join(", ");
            tracing::warn!(module = %hash, %names, "module has unknown imports; calls to them fail");
        }
        Ok(Self(Arc::new(ModuleInner {
            engine: engine.clone(),
            hash,
            interface: Arc::new(checked.interface),
            pre: linked.pre,
            unknown_imports: linked.unknown_imports,
        })))
    }

    /// Returns the SHA-256 of the WebAssembly bytes.
    #[must_use]
    pub fn hash(&self) -> ModuleHash {
        self.0.hash
    }

    /// Returns the ABI version that the module declares.
    #[must_use]
    pub fn abi_version(&self) -> AbiVersion {
        self.0.interface.abi
    }

    /// Returns the callbacks that the module exports.
    #[must_use]
    pub fn exports(&self) -> Exports {
        self.0.interface.exports
    }

    /// Returns the imports that this host does not have, as `module.name`. A call to one returns `Unimplemented` or
    /// stops the guest.
    #[must_use]
    pub fn unknown_imports(&self) -> &[String] {
        &self.0.unknown_imports
    }

    /// Returns the engine that the module was compiled for.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub(crate) fn interface(&self) -> &Arc<ModuleInterface> {
        &self.0.interface
    }

    pub(crate) fn pre(&self) -> &InstancePre<VmState> {
        &self.0.pre
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Module").field(&self.0.hash).finish()
    }
}

/// A compiled module whose exports are checked.
struct CheckedModule {
    module: wasmtime::Module,
    interface: ModuleInterface,
}

fn compile_checked(engine: &Engine, wasm: &[u8]) -> Result<CheckedModule, ModuleError> {
    check::check_bytes(wasm)?;
    let compiled = wasmtime::Module::from_binary(engine.inner(), wasm);
    let module = compiled.map_err(|error| ModuleError::Invalid(format!("{error:#}")))?;
    let interface = check::check_exports(&module)?;
    Ok(CheckedModule { module, interface })
}
