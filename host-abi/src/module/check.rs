//! The checks of a module's bytes and exports, before any of its code runs.

use wasmtime::{ExternType, FuncType};

use crate::abi::calls::{ALLOCATORS, AbiVersion, CallbackSpec, ValueType, callback_named};
use crate::interface::{Exports, ModuleInterface};
use crate::limits::MAX_MODULE_BYTES;
use crate::module::error::ModuleError;
use crate::module::signature::{Signature, function_in_words, in_words};

const MAGIC: &[u8] = b"\0asm";
const CORE_VERSION: &[u8] = &[1, 0, 0, 0];

/// Checks the size and format of a module before it is compiled.
pub(super) fn check_bytes(wasm: &[u8]) -> Result<(), ModuleError> {
    if wasm.len() > MAX_MODULE_BYTES {
        return Err(ModuleError::TooLarge { bytes: wasm.len() });
    }
    let Some(rest) = wasm.strip_prefix(MAGIC) else {
        let start = wasm.iter().take(12).flat_map(|byte| byte.escape_ascii()).map(char::from).collect();
        return Err(ModuleError::NotWasm { start });
    };
    if rest.starts_with(CORE_VERSION) { Ok(()) } else { Err(ModuleError::Component) }
}

/// Finds the exports that a VM needs, and checks the types of the callbacks.
pub(super) fn check_exports(module: &wasmtime::Module) -> Result<ModuleInterface, ModuleError> {
    let mut abi = None;
    let mut memory = None;
    let mut exports = Exports::default();
    for export in module.exports() {
        match export.ty() {
            ExternType::Memory(_) => memory = memory.or(Some(export.name())),
            ExternType::Func(function) => {
                let marked = AbiVersion::ALL.iter().find(|version| version.marker() == export.name());
                abi = abi.or(marked.copied());
                if let Some(callback) = callback_named(export.name()) {
                    check_callback(callback, &function)?;
                    exports.insert(callback.name);
                }
            }
            ExternType::Table(_) | ExternType::Global(_) | ExternType::Tag(_) => {}
        }
    }
    let abi = abi.ok_or(ModuleError::NoAbiVersion)?;
    let memory = memory.ok_or(ModuleError::NoMemory)?;
    Ok(ModuleInterface { abi, memory: memory.to_owned(), allocator: find_allocator(module)?, exports })
}

fn check_callback(callback: &CallbackSpec, function: &FuncType) -> Result<(), ModuleError> {
    let signature = Signature::of(function);
    let fits = |params: &[ValueType]| signature.as_ref().is_some_and(|found| found.is(params, callback.result));
    if callback.params.iter().any(|params| fits(params)) {
        return Ok(());
    }
    let forms: Vec<_> = callback.params.iter().map(|params| in_words(params, callback.result)).collect();
    let (name, expected, found) = (callback.name.to_owned(), forms.join(" or "), function_in_words(function));
    Err(ModuleError::ExportType { name, expected, found })
}

/// Finds the allocator. The allocator of the specification comes first, because modules that export both leak with the
/// other one.
fn find_allocator(module: &wasmtime::Module) -> Result<&'static str, ModuleError> {
    for name in ALLOCATORS.iter().copied() {
        let Some(ExternType::Func(function)) = module.get_export(name) else { continue };
        let (params, result) = (&[ValueType::I32], Some(ValueType::I32));
        if Signature::of(&function).is_some_and(|found| found.is(params, result)) {
            return Ok(name);
        }
        let (name, expected, found) = (name.to_owned(), in_words(params, result), function_in_words(&function));
        return Err(ModuleError::ExportType { name, expected, found });
    }
    Err(ModuleError::NoAllocator)
}
