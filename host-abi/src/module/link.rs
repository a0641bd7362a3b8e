//! Gives each import of a module its hostcall, once per module. The import's own type decides: the canonical one is
//! linked as a typed function; the same one without a result, and two shortened forms that one SDK declares, go through
//! boxed values; names that the host does not know become stubs, so that a module that never calls them works.

use std::collections::HashMap;

use wasmtime::{Caller, ExternType, FuncType, InstancePre, Linker, Val};

use crate::abi::calls::{Hostcall, Library, ValueType, hostcall};
use crate::abi::status::Status;
use crate::engine::Engine;
use crate::failure::Stop;
use crate::hostcalls;
use crate::hostcalls::implementation::{Implementation, Import};
use crate::limits::MAX_IMPORTS;
use crate::module::error::ModuleError;
use crate::module::signature::{Signature, function_in_words, in_words};
use crate::state::VmState;
use crate::wasi;

/// Where two of the gRPC calls miss a pointer and a size (the initial metadata) in one SDK's declaration.
const METADATA_AT: usize = 6;

/// A module with its imports, and the names that became stubs.
pub(super) struct Linked {
    pub(super) pre: InstancePre<VmState>,
    pub(super) unknown_imports: Vec<String>,
}

/// Links all imports of a module.
pub(super) fn link(engine: &Engine, module: &wasmtime::Module) -> Result<Linked, ModuleError> {
    if module.imports().len() > MAX_IMPORTS {
        return Err(ModuleError::TooManyImports { count: module.imports().len() });
    }
    let mut linker = Linker::new(engine.inner());
    let mut linked: HashMap<(String, String), Option<Signature>> = HashMap::new();
    let mut unknown_imports = Vec::new();
    for import in module.imports() {
        let function = function_type(import.module(), import.name(), import.ty())?;
        let signature = Signature::of(&function);
        let key = (import.module().to_owned(), import.name().to_owned());
        if let Some(first) = linked.get(&key) {
            // The same import twice is legal, and one toolchain does it.
            if *first == signature {
                continue;
            }
            return Err(wrong_type(&key, &function, "the type of its first declaration".to_owned()));
        }
        match hostcall(import.module(), import.name()) {
            Some(row) => link_known(&mut linker, &key, row, &function)?,
            None => {
                link_stub(&mut linker, &key, &function)?;
                unknown_imports.push(format!("{}.{}", key.0, key.1));
            }
        }
        linked.insert(key, signature);
    }
    let pre = linker.instantiate_pre(module).map_err(unloadable)?;
    Ok(Linked { pre, unknown_imports })
}

fn unloadable(error: impl std::fmt::Debug) -> ModuleError {
    ModuleError::Unloadable(format!("{error:?}"))
}

fn wrong_type(key: &(String, String), function: &FuncType, expected: String) -> ModuleError {
    ModuleError::ImportType { name: format!("{}.{}", key.0, key.1), expected, found: function_in_words(function) }
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
    key: &(String, String),
    row: &'static Hostcall,
    function: &FuncType,
) -> Result<(), ModuleError> {
    let implementation = match row.library {
        Library::Env => hostcalls::implementation(row.name),
        Library::Wasi => wasi::implementation(row.name),
    };
    let expected = || in_words(row.params, row.result);
    let (Some(implementation), Some(signature)) = (implementation, Signature::of(function)) else {
        return Err(wrong_type(key, function, expected()));
    };
    let import = Import { module: &key.0, name: &key.1, row };
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
    link_boxed(linker, import, (implementation, missing_metadata), function)
}

/// Whether this is a gRPC call declared without its initial metadata.
fn lacks_metadata(row: &Hostcall, signature: &Signature) -> bool {
    matches!(row.name, "proxy_grpc_call" | "proxy_grpc_stream")
        && signature.params.len() + 2 == row.params.len()
        && signature.params.iter().all(|value| *value == ValueType::I32)
}

fn link_boxed(
    linker: &mut Linker<VmState>,
    import: Import<'_>,
    (implementation, missing_metadata): (Implementation, bool),
    function: &FuncType,
) -> Result<(), ModuleError> {
    let row = import.row;
    let run = move |caller: Caller<'_, VmState>, arguments: &[Val], results: &mut [Val]| {
        let mut numbers: Vec<u64> = arguments.iter().map(number).collect();
        if missing_metadata {
            numbers.splice(METADATA_AT..METADATA_AT, [0, 0]);
        }
        implementation.run_untyped(caller, row, &numbers, results)
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

/// Unknown `proxy_*` calls answer `Unimplemented`, which some guests handle; others cannot be answered and stop the
/// guest.
fn link_stub(linker: &mut Linker<VmState>, key: &(String, String), function: &FuncType) -> Result<(), ModuleError> {
    let answers = Signature::of(function).is_some_and(|signature| signature.results == [ValueType::I32]);
    let answers = answers && key.0 == "env" && key.1.starts_with("proxy_");
    let name = format!("{}.{}", key.0, key.1);
    let run = move |_: Caller<'_, VmState>, _: &[Val], results: &mut [Val]| match results.first_mut() {
        Some(result) if answers => {
            *result = Val::I32(Status::Unimplemented.number().cast_signed());
            Ok(())
        }
        _ => Err(wasmtime::Error::new(Stop::Violation(format!("called {name}, which this host does not have")))),
    };
    linker.func_new(&key.0, &key.1, function.clone(), run).map_err(unloadable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::calls::HOSTCALLS;

    #[test]
    fn every_row_of_the_table_has_an_implementation_that_fits() {
        for row in HOSTCALLS {
            let implementation = match row.library {
                Library::Env => hostcalls::implementation(row.name),
                Library::Wasi => wasi::implementation(row.name),
            };
            let arity = implementation.map(Implementation::arity);
            assert!(arity.is_some(), "{} has no implementation", row.name);
            assert!(arity.flatten().is_none_or(|arity| arity == row.params.len()), "{}", row.name);
        }
    }
}
