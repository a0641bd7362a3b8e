//! `ModuleError`: the reason why a module was rejected. Messages state what is wrong, where, and what to do.

use crate::limits::{MAX_IMPORTS, MAX_MODULE_BYTES};

/// The reason why a module was rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModuleError {
    /// The module is larger than [`MAX_MODULE_BYTES`].
    #[error(
        "the module has {bytes} bytes, more than {MAX_MODULE_BYTES}: build it in release mode and strip debug information"
    )]
    TooLarge {
        /// Size in bytes.
        bytes: usize,
    },
    /// The file is not WebAssembly.
    #[error(
        "this is not a WebAssembly module (it begins with \"{start}\"): use the .wasm file itself, not an archive or text form"
    )]
    NotWasm {
        /// The first bytes of the file, escaped.
        start: String,
    },
    /// The file is a WebAssembly component, another format with the same magic.
    #[error(
        "this is a WebAssembly component; Proxy-Wasm filters are core modules: build for wasm32-unknown-unknown or wasm32-wasip1"
    )]
    Component,
    /// The compiler rejected the module.
    #[error("the module does not compile: {0}")]
    Invalid(String),
    /// The module has no marker of a supported ABI version.
    #[error(
        "the module exports no proxy_abi_version_0_1_0, _0_2_0 or _0_2_1: is this a Proxy-Wasm filter, built with one of its SDKs?"
    )]
    NoAbiVersion,
    /// The module exports no memory.
    #[error("the module exports no memory, so the host cannot pass data to it: let the linker export it as `memory`")]
    NoMemory,
    /// The module exports no allocator.
    #[error(
        "the module exports neither proxy_on_memory_allocate nor malloc, so the host cannot pass data to it: export one of them"
    )]
    NoAllocator,
    /// An export has a type that the host cannot call.
    #[error("export {name} has type {found}, but must have {expected}: was it built for another version of the ABI?")]
    ExportType {
        /// Name of the export.
        name: String,
        /// The required type.
        expected: String,
        /// The actual type.
        found: String,
    },
    /// The module has more imports than [`MAX_IMPORTS`].
    #[error("the module has {count} imports, more than {MAX_IMPORTS}")]
    TooManyImports {
        /// Number of imports.
        count: usize,
    },
    /// The module imports a memory, table or global.
    #[error(
        "import {name} is a {kind}, but the host provides functions only: link the module with a {kind} of its own"
    )]
    ImportKind {
        /// Name of the import, as `module.name`.
        name: String,
        /// Kind of the import.
        kind: &'static str,
    },
    /// An import has a type that the host does not implement.
    #[error(
        "import {name} has type {found}, but the host has {expected}: was it built for another version of the ABI?"
    )]
    ImportType {
        /// Name of the import, as `module.name`.
        name: String,
        /// The type that the host has.
        expected: String,
        /// The type that the module declares.
        found: String,
    },
    /// The engine cannot link the module, or its artifact does not load.
    #[error("the module does not load: {0}")]
    Unloadable(String),
}
