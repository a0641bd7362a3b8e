//! `Module`: a filter's code, checked, compiled and linked. Compiled in a child process ([`Module::precompile`]) or
//! from the [`crate::cache::ModuleCache`]; plugins share it, VMs are made from it.
//!
//! A `Module` that exists has an ABI version that this host speaks, one memory, an allocator, callbacks of the right
//! types, and an answer for each of its imports.

mod check;
mod error;
mod hash;
mod link;
mod signature;

use std::sync::Arc;

use wasmtime::InstancePre;

use crate::abi::calls::AbiVersion;
use crate::artefact::CheckedArtefact;
use crate::engine::Engine;
use crate::interface::{Exports, Interface};
use crate::state::VmState;

pub use error::ModuleError;
pub use hash::ModuleHash;

/// Compiled code of a filter. Cheap to clone.
#[derive(Clone)]
pub struct Module(Arc<Inner>);

struct Inner {
    engine: Engine,
    hash: ModuleHash,
    interface: Arc<Interface>,
    pre: InstancePre<VmState>,
    unknown_imports: Vec<String>,
}

impl Module {
    /// Checks and compiles a module, and gives its artefact for [`crate::cache::ModuleCache::store`]. Takes seconds and
    /// much memory for a large module: meant for a child process with limits of its own.
    ///
    /// # Errors
    /// When it is not a filter, or does not compile.
    pub fn precompile(engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>, ModuleError> {
        let (module, _) = compile_checked(engine, wasm)?;
        link::link(engine, &module)?;
        module.serialize().map_err(|error| ModuleError::Invalid(format!("{error:#}")))
    }

    /// Checks and compiles a module in this process: for tests and small tools.
    ///
    /// # Errors
    /// When it is not a filter, or does not compile.
    pub fn compile(engine: &Engine, wasm: &[u8]) -> Result<Self, ModuleError> {
        let (module, interface) = compile_checked(engine, wasm)?;
        Self::from_parts(engine, ModuleHash::of(wasm), (&module, interface))
    }

    /// Loads an artefact. The proof that it was checked is its type.
    pub(crate) fn load(engine: &Engine, hash: ModuleHash, artefact: &CheckedArtefact<'_>) -> Result<Self, ModuleError> {
        let loaded = {
            #[expect(unsafe_code, reason = "loading compiled code is trusting it")]
            // SAFETY: the bytes are what `Module::precompile` gave for an engine with this version and these settings:
            // a `CheckedArtefact` has the digest that was written beside it, in a folder that only this user can write
            // to.
            unsafe {
                wasmtime::Module::deserialize(engine.inner(), artefact.code())
            }
        };
        let module = loaded.map_err(|error| ModuleError::Unloadable(format!("{error:#}")))?;
        let interface = check::check_exports(&module)?;
        Self::from_parts(engine, hash, (&module, interface))
    }

    fn from_parts(
        engine: &Engine,
        hash: ModuleHash,
        (module, interface): (&wasmtime::Module, Interface),
    ) -> Result<Self, ModuleError> {
        let linked = link::link(engine, module)?;
        if !linked.unknown_imports.is_empty() {
            let names = linked.unknown_imports.join(", ");
            tracing::warn!(module = %hash, %names, "imports that this host does not have; calling them fails");
        }
        Ok(Self(Arc::new(Inner {
            engine: engine.clone(),
            hash,
            interface: Arc::new(interface),
            pre: linked.pre,
            unknown_imports: linked.unknown_imports,
        })))
    }

    /// SHA-256 of the WebAssembly bytes.
    #[must_use]
    pub fn hash(&self) -> ModuleHash {
        self.0.hash
    }

    /// The ABI version that it announces.
    #[must_use]
    pub fn abi_version(&self) -> AbiVersion {
        self.0.interface.abi
    }

    /// The callbacks that it exports.
    #[must_use]
    pub fn exports(&self) -> Exports {
        self.0.interface.exports
    }

    /// Imports that this host does not have, as `module.name`. Calling one answers `Unimplemented` or stops the guest.
    #[must_use]
    pub fn unknown_imports(&self) -> &[String] {
        &self.0.unknown_imports
    }

    /// The engine that it was compiled for.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub(crate) fn interface(&self) -> &Arc<Interface> {
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

fn compile_checked(engine: &Engine, wasm: &[u8]) -> Result<(wasmtime::Module, Interface), ModuleError> {
    check::check_bytes(wasm)?;
    let compiled = wasmtime::Module::from_binary(engine.inner(), wasm);
    let module = compiled.map_err(|error| ModuleError::Invalid(format!("{error:#}")))?;
    let interface = check::check_exports(&module)?;
    Ok((module, interface))
}
