//! `ModuleError`: why a module was refused, in words for the person who built or deployed it: what is wrong, where,
//! what to do.

use crate::limits::{MAX_IMPORTS, MAX_MODULE_BYTES};

/// Why a module was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModuleError {
    /// More bytes than [`MAX_MODULE_BYTES`].
    #[error(
        "the module has {bytes} bytes, more than {MAX_MODULE_BYTES}: build it in release mode and strip debug information"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not a WebAssembly file.
    #[error(
        "this is not a WebAssembly module (it begins with \"{start}\"): give the .wasm file itself, not an archive or text form"
    )]
    NotWasm {
        /// Its first bytes, as text where possible.
        start: String,
    },
    /// A component, which is another format with the same magic.
    #[error(
        "this is a WebAssembly component; Proxy-Wasm filters are core modules: build for wasm32-unknown-unknown or wasm32-wasip1"
    )]
    Component,
    /// The compiler refused it.
    #[error("the module does not compile: {0}")]
    Invalid(String),
    /// No marker of an ABI version that this host speaks.
    #[error(
        "the module exports no proxy_abi_version_0_1_0, _0_2_0 or _0_2_1: is this a Proxy-Wasm filter, built with one of its SDKs?"
    )]
    NoAbiVersion,
    /// No exported memory.
    #[error("the module exports no memory, so the host cannot hand it anything: let the linker export it as `memory`")]
    NoMemory,
    /// No way to allocate in the guest.
    #[error(
        "the module exports neither proxy_on_memory_allocate nor malloc, so the host cannot hand it anything: export one of them"
    )]
    NoAllocator,
    /// An export has a type that the host cannot call.
    #[error("export {name} has type {found}, but must have {expected}: was it built for another version of the ABI?")]
    ExportType {
        /// The export.
        name: String,
        /// The type it must have.
        expected: String,
        /// The type it has.
        found: String,
    },
    /// More imports than [`MAX_IMPORTS`].
    #[error("the module has {count} imports, more than {MAX_IMPORTS}")]
    TooManyImports {
        /// How many there are.
        count: usize,
    },
    /// It wants a memory, table or global of the host.
    #[error("import {name} is a {kind}, but the host offers functions only: link the module with a {kind} of its own")]
    ImportKind {
        /// The import, as `module.name`.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// An import has a type that the host cannot answer.
    #[error(
        "import {name} has type {found}, but the host has {expected}: was it built for another version of the ABI?"
    )]
    ImportType {
        /// The import, as `module.name`.
        name: String,
        /// The type that the host has.
        expected: String,
        /// The type that the module declares.
        found: String,
    },
    /// The engine would not link it, or its compiled form does not load.
    #[error("the module does not load: {0}")]
    Unloadable(String),
}
