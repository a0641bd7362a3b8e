//! The linker of a module's imports, run once per module. The import's own type selects the form. The canonical type is
//! linked as a typed function. Functions with boxed values serve the same type without a result, and two shortened
//! types that one SDK declares. Names that the host does not know become stubs, so that a module works as long as it
//! does not call them.

use std::collections::HashMap;
use std::fmt;

use wasmtime::{Caller, ExternType, FuncType, InstancePre, Linker, Val};

use crate::abi::calls::{HostcallSpec, ImportModule, ValueType, hostcall};
use crate::abi::status::Status;
use crate::engine::Engine;
use crate::failure::HostTrap;
use crate::hostcalls;
use crate::hostcalls::function::{HostFunction, HostImport};
use crate::limits::MAX_IMPORTS;
use crate::module::error::ModuleError;
use crate::module::signature::{Signature, function_in_words, in_words};
use crate::vm_state::VmState;
use crate::wasi;

/// Index of the metadata pointer and size in the gRPC calls. One SDK declares two calls without them.
const METADATA_AT: usize = 6;

/// A module with its imports linked, and the imports that became stubs.
pub(super) struct LinkedModule {
    pub(super) pre: InstancePre<VmState>,
    pub(super) unknown_imports: Vec<String>,
}

/// The name of an import. Displays as `module.name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ImportName {
    module: String,
    name: String,
}

impl fmt::Display for ImportName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.module, self.name)
    }
}

/// Links all imports of a module.
pub(super) fn link(engine: &Engine, module: &wasmtime::Module) -> Result<LinkedModule, ModuleError> {
    if module.imports().len() > MAX_IMPORTS {
        return Err(ModuleError::TooManyImports { count: module.imports().len() });
    }
    let mut linker = Linker::new(engine.inner());
    let mut linked: HashMap<ImportName, Option<Signature>> = HashMap::new();
    let mut unknown_imports = Vec::new();
    for import in module.imports() {
        let function = function_type(import.module(), import.name(), import.ty())?;
        let signature = Signature::of(&function);
        let key = ImportName { module: import.module().to_owned(), name: import.name().to_owned() };
        if let Some(first) = linked.get(&key) {
            // Duplicate imports are legal, and one toolchain emits them.
            if *first == signature {
                continue;
            }
            return Err(wrong_type(&key, &function, "the type of its first declaration".to_owned()));
        }
        match hostcall(import.module(), import.name()) {
            Some(row) => link_known(&mut linker, &key, row, &function)?,
            None => {
                link_stub(&mut linker, &key, &function)?;
                unknown_imports.push(key.to_string());
            }
        }
        linked.insert(key, signature);
    }
    let pre = linker.instantiate_pre(module).map_err(unloadable)?;
    Ok(LinkedModule { pre, unknown_imports })
}

fn unloadable(error: impl fmt::Debug) -> ModuleError {
    ModuleError::Unloadable(format!("{error:?}"))
}

fn wrong_type(key: &ImportName, function: &FuncType, expected: String) -> ModuleError {
    ModuleError::ImportType { name: key.to_string(), expected, found: function_in_words(function) }
}

fn function_type(module: &str, name: &str, import: ExternType) -> Result<FuncType, ModuleError> {
    let kind = match import {
        ExternType::Func(function) => return Ok(function),
        ExternType::Memory(_) => "memory",
        ExternType::Table(_) => "table",
        ExternType::Global(_) => "global",
        ExternType::Tag(_) => "tag",
    };
    Err(ModuleError::ImportKind { name: format!("{module}.{name}"), kind })
}

fn link_known(
    linker: &mut Linker<VmState>,
    key: &ImportName,
    row: &'static HostcallSpec,
    function: &FuncType,
) -> Result<(), ModuleError> {
    let implementation = match row.import_module {
        ImportModule::Env => hostcalls::host_function(row.name),
        ImportModule::Wasi => wasi::host_function(row.name),
    };
    let expected = || in_words(row.params, row.result);
    let (Some(implementation), Some(signature)) = (implementation, Signature::of(function)) else {
        return Err(wrong_type(key, function, expected()));
    };
    let import = HostImport { module: &key.module, name: &key.name, row };
    if signature.is(row.params, row.result)
        && row.result == Some(ValueType::I32)
        && implementation.link_typed(linker, import).map_err(unloadable)?
    {
        return Ok(());
    }
    let missing_metadata = lacks_metadata(row, &signature);
    let fits = signature.params == row.params || missing_metadata;
    if !fits || !(signature.results.is_empty() || signature.results == row.result.as_slice()) {
        return Err(wrong_type(key, function, expected()));
    }
    link_boxed(linker, import, BoxedImport { implementation, missing_metadata }, function)
}

/// Returns whether this is a gRPC call declared without its initial metadata.
fn lacks_metadata(row: &HostcallSpec, signature: &Signature) -> bool {
    matches!(row.name, "proxy_grpc_call" | "proxy_grpc_stream")
        && signature.params.len() + 2 == row.params.len()
        && signature.params.iter().all(|value| *value == ValueType::I32)
}

/// An import that is linked with boxed values.
#[derive(Clone, Copy)]
struct BoxedImport {
    implementation: HostFunction,
    /// True if the guest declares the call without its initial metadata.
    missing_metadata: bool,
}

fn link_boxed(
    linker: &mut Linker<VmState>,
    import: HostImport<'_>,
    boxed: BoxedImport,
    function: &FuncType,
) -> Result<(), ModuleError> {
    let row = import.row;
    let run = move |caller: Caller<'_, VmState>, arguments: &[Val], results: &mut [Val]| {
        let mut numbers: Vec<u64> = arguments.iter().map(number).collect();
        if boxed.missing_metadata {
            numbers.splice(METADATA_AT..METADATA_AT, [0, 0]);
        }
        boxed.implementation.run_untyped(caller, row, &numbers, results)
    };
    linker.func_new(import.module, import.name, function.clone(), run).map_err(unloadable)?;
    Ok(())
}

fn number(value: &Val) -> u64 {
    match value {
        Val::I32(number) => number.cast_unsigned().into(),
        Val::I64(number) => number.cast_unsigned(),
        Val::F32(bits) => u64::from(*bits),
        Val::F64(bits) => *bits,
        _ => 0,
    }
}

/// Links a stub for an unknown import. Unknown `proxy_*` calls return `Unimplemented`, which some guests handle. Calls
/// of another type stop the guest.
fn link_stub(linker: &mut Linker<VmState>, key: &ImportName, function: &FuncType) -> Result<(), ModuleError> {
    let returns_status = Signature::of(function).is_some_and(|signature| signature.results == [ValueType::I32]);
    let returns_status = returns_status && key.module == "env" && key.name.starts_with("proxy_");
    let name = key.to_string();
    let run = move |_: Caller<'_, VmState>, _: &[Val], results: &mut [Val]| match results.first_mut() {
        Some(result) if returns_status => {
            *result = Val::I32(Status::Unimplemented.number().cast_signed());
            Ok(())
        }
        _ => Err(wasmtime::Error::new(HostTrap::Violation(format!("called {name}, which this host does not have")))),
    };
    linker.func_new(&key.module, &key.name, function.clone(), run).map_err(unloadable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::calls::HOSTCALLS;

    #[test]
    fn every_hostcall_has_implementation_of_its_arity() {
        for row in HOSTCALLS {
            let implementation = match row.import_module {
                ImportModule::Env => hostcalls::host_function(row.name),
                ImportModule::Wasi => wasi::host_function(row.name),
            };
            let arity = implementation.map(HostFunction::arity);
            assert!(arity.is_some(), "{} has no implementation", row.name);
            assert!(arity.flatten().is_none_or(|arity| arity == row.params.len()), "{}", row.name);
        }
    }
}
