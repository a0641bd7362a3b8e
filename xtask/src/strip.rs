//! Removes callbacks that a filter does not use from its module.
//!
//! The `proxy_wasm` crate exports every callback, so a host has to pass each part of each body to the filter. A filter
//! that only reads headers declares it in its `Cargo.toml`,
//!
//! ```toml
//! [package.metadata.weir]
//! callbacks = ["proxy_on_request_headers"]
//! ```
//!
//! and the other stream callbacks are removed from the export section, together with the code of their functions. Of
//! the function names, which backtraces show, only those of the filter itself remain: all others are a quarter of a
//! module. Debug sections are removed.

use anyhow::{Context, Result, ensure};
use wasmparser::{ElementItems, Operator, OperatorsReader, Parser, Payload};

/// The bytes before the first section: magic and version.
const PREAMBLE: &[u8] = b"\0asm\x01\0\0\0";
const CUSTOM_SECTION: u8 = 0;
const IMPORT_SECTION: u8 = 2;
const EXPORT_SECTION: u8 = 7;
const CODE_SECTION: u8 = 10;

/// The kind of a function in imports and exports.
const FUNCTION: u8 = 0;

/// A function body without locals that traps: `unreachable`, `end`.
const EMPTY_BODY: &[u8] = &[0, 0x00, 0x0b];

/// The subsection of the custom section `name` that names functions.
const FUNCTION_NAMES: u8 = 1;

/// Part of the mangled name of every function of a shipped filter, and of generic functions over its types.
const OURS: &str = "weir_plugin_";

/// Callbacks that a host skips when they are not exported.
const OPTIONAL: [&str; 21] = [
    "proxy_on_new_connection",
    "proxy_on_downstream_data",
    "proxy_on_downstream_connection_close",
    "proxy_on_upstream_data",
    "proxy_on_upstream_connection_close",
    "proxy_on_request_headers",
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_response_headers",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
    "proxy_on_http_call_response",
    "proxy_on_grpc_receive_initial_metadata",
    "proxy_on_grpc_receive",
    "proxy_on_grpc_receive_trailing_metadata",
    "proxy_on_grpc_close",
    "proxy_on_queue_ready",
    "proxy_on_tick",
    "proxy_on_foreign_function",
    "proxy_on_log",
    "proxy_on_done",
];

/// Returns the module without the optional callbacks that are not in `callbacks`.
pub(crate) fn strip_callbacks(module: &[u8], callbacks: &[String]) -> Result<Vec<u8>> {
    let unknown = callbacks.iter().find(|name| !OPTIONAL.contains(&name.as_str()));
    ensure!(unknown.is_none(), "`{}` is not a stream callback", unknown.map_or("", String::as_str));
    let mut rest = module.strip_prefix(PREAMBLE).context("is not a Wasm module")?;
    let mut stripped = PREAMBLE.to_vec();
    let (mut imported, mut gone) = (0, Vec::new());
    while let Some((&id, after_id)) = rest.split_first() {
        let (size, after_size) = read_number(after_id)?;
        let (section, next) = after_size.split_at_checked(size).context("a section is cut off")?;
        rest = next;
        if id == CUSTOM_SECTION && section.get(1..).is_some_and(is_for_tools) {
            continue;
        }
        let section = match id {
            IMPORT_SECTION => {
                imported = imported_functions(section)?;
                section.to_vec()
            }
            EXPORT_SECTION => {
                gone = functions_without(section, callbacks)?;
                without(section, callbacks)?
            }
            CODE_SECTION => without_bodies(section, |function| gone.contains(&(imported + function)))?,
            CUSTOM_SECTION => match section.strip_prefix(b"\x04name") {
                Some(names) => [b"\x04name".to_vec(), our_names(names)?].concat(),
                None => section.to_vec(),
            },
            _ => section.to_vec(),
        };
        stripped.push(id);
        write_number(section.len(), &mut stripped);
        stripped.extend_from_slice(&section);
    }
    ensure_unreferenced(&stripped, &gone)?;
    Ok(stripped)
}

/// Errors when the module calls or references a function whose body is removed.
fn ensure_unreferenced(module: &[u8], gone: &[usize]) -> Result<()> {
    let check = |function: u32| -> Result<()> {
        let is_gone = usize::try_from(function).is_ok_and(|function| gone.contains(&function));
        ensure!(!is_gone, "function {function}, a callback that is taken out, is called from elsewhere");
        Ok(())
    };
    let check_all = |mut operators: OperatorsReader<'_>| -> Result<()> {
        while !operators.eof() {
            if let Operator::Call { function_index }
            | Operator::ReturnCall { function_index }
            | Operator::RefFunc { function_index } = operators.read()?
            {
                check(function_index)?;
            }
        }
        Ok(())
    };
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::StartSection { func, .. } => check(func)?,
            Payload::CodeSectionEntry(body) => check_all(body.get_operators_reader()?)?,
            Payload::GlobalSection(globals) => {
                for global in globals {
                    check_all(global?.init_expr.get_operators_reader())?;
                }
            }
            Payload::ElementSection(elements) => {
                for element in elements {
                    match element?.items {
                        ElementItems::Functions(functions) => {
                            functions.into_iter().try_for_each(|function| check(function?))?;
                        }
                        // Rust's compiler emits none.
                        ElementItems::Expressions(..) => anyhow::bail!("a table is filled by expressions"),
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns whether a custom section is for tools only, so that a host ignores it.
fn is_for_tools(name: &[u8]) -> bool {
    name.starts_with(b".debug_") || name.starts_with(b"producers")
}

/// Returns the number of imported functions: the indexes of the module's own functions start after them.
fn imported_functions(section: &[u8]) -> Result<usize> {
    let (count, mut rest) = read_number(section)?;
    for _ in 0..count {
        let (_module, after_module) = read_text(rest)?;
        let (name, after_name) = read_text(after_module)?;
        let (kind, after_kind) = after_name.split_first().context("an import is cut off")?;
        ensure!(*kind == FUNCTION, "imports `{name}`, which is no function");
        rest = read_number(after_kind)?.1;
    }
    Ok(count)
}

/// Filters an export section: a count, and for each export its name, kind and index.
fn without(section: &[u8], callbacks: &[String]) -> Result<Vec<u8>> {
    retain_entries(section, |entry| {
        let (export, next) = read_export(entry)?;
        Ok((export.is_retained(callbacks), next))
    })
}

/// Returns the functions that the host can no longer call without the removed exports.
fn functions_without(section: &[u8], callbacks: &[String]) -> Result<Vec<usize>> {
    let (count, mut rest) = read_number(section)?;
    let (mut gone, mut stay) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (export, next) = read_export(rest)?;
        if export.kind == FUNCTION {
            let list = if export.is_retained(callbacks) { &mut stay } else { &mut gone };
            list.push(export.index);
        }
        rest = next;
    }
    gone.retain(|function| !stay.contains(function)); // Equal functions may have become one.
    Ok(gone)
}

struct Export<'a> {
    name: &'a str,
    kind: u8,
    index: usize,
}

impl Export<'_> {
    fn is_retained(&self, callbacks: &[String]) -> bool {
        !OPTIONAL.contains(&self.name) || callbacks.iter().any(|callbacks| callbacks == self.name)
    }
}

fn read_export(bytes: &[u8]) -> Result<(Export<'_>, &[u8])> {
    let (name, after_name) = read_text(bytes)?;
    let (&kind, after_kind) = after_name.split_first().context("an export is cut off")?;
    let (index, next) = read_number(after_kind)?;
    Ok((Export { name, kind, index }, next))
}

/// Filters a code section: a count, and for each function its size and body.
fn without_bodies(section: &[u8], is_gone: impl Fn(usize) -> bool) -> Result<Vec<u8>> {
    let (count, mut rest) = read_number(section)?;
    let mut callbacks = Vec::new();
    write_number(count, &mut callbacks);
    for function in 0..count {
        let (size, after_size) = read_number(rest)?;
        let (body, next) = after_size.split_at_checked(size).context("a function is cut off")?;
        rest = next;
        let body = if is_gone(function) { EMPTY_BODY } else { body };
        write_number(body.len(), &mut callbacks);
        callbacks.extend_from_slice(body);
    }
    Ok(callbacks)
}

/// Returns the entries of a counted list that `read` retains. `read` parses the first entry of its argument, and
/// returns whether to retain it, and the bytes after it.
fn retain_entries(list: &[u8], read: impl Fn(&[u8]) -> Result<(bool, &[u8])>) -> Result<Vec<u8>> {
    let (count, mut rest) = read_number(list)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let (is_retained, next) = read(rest)?;
        if is_retained {
            entries.push(&rest[..rest.len() - next.len()]);
        }
        rest = next;
    }
    let mut callbacks = Vec::new();
    write_number(entries.len(), &mut callbacks);
    callbacks.extend(entries.concat());
    Ok(callbacks)
}

/// Filters the name section: subsections with kind and size. Of functions: a count, and for each its index and name.
fn our_names(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut callbacks = Vec::new();
    while let Some((&kind, after_kind)) = rest.split_first() {
        let (size, after_size) = read_number(after_kind)?;
        let (subsection, next) = after_size.split_at_checked(size).context("names are cut off")?;
        rest = next;
        if kind != FUNCTION_NAMES {
            continue;
        }
        let content = retain_entries(subsection, |entry| {
            let (_index, after_index) = read_number(entry)?;
            let (name, next) = read_text(after_index)?;
            Ok((name.contains(OURS), next))
        })?;
        callbacks.push(FUNCTION_NAMES);
        write_number(content.len(), &mut callbacks);
        callbacks.extend(content);
    }
    Ok(callbacks)
}

/// Reads a length-prefixed text; returns it and the bytes after it.
fn read_text(bytes: &[u8]) -> Result<(&str, &[u8])> {
    let (length, after_length) = read_number(bytes)?;
    let (text, next) = after_length.split_at_checked(length).context("a name is cut off")?;
    Ok((std::str::from_utf8(text)?, next))
}

/// Reads an unsigned LEB128 number; returns it and the bytes after it.
fn read_number(bytes: &[u8]) -> Result<(usize, &[u8])> {
    let mut number = 0;
    for (index, &byte) in bytes.iter().take(5).enumerate() {
        number |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((number, &bytes[index + 1..]));
        }
    }
    anyhow::bail!("a number is cut off")
}

fn write_number(mut number: usize, to: &mut Vec<u8>) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return to.push(low & 0x7f);
        }
        to.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::{PREAMBLE, read_number, strip_callbacks, write_number};

    /// One imported function and three of the module's own, with the indexes 1 to 3.
    fn module(exports: &[(&str, u8, u8)], bodies: [&[u8]; 3]) -> Vec<u8> {
        let mut section = Vec::new();
        write_number(exports.len(), &mut section);
        for (name, kind, index) in exports {
            write_number(name.len(), &mut section);
            section.extend_from_slice(name.as_bytes());
            section.extend_from_slice(&[*kind, *index]);
        }
        let mut module = PREAMBLE.to_vec();
        module.extend_from_slice(&[1, 1, 0]);
        module.extend_from_slice(b"\x02\x09\x01\x03env\x01f\x00\x00\x03\x04\x03\x00\x00\x00\x07");
        write_number(section.len(), &mut module);
        module.extend_from_slice(&section);
        let code: Vec<u8> =
            bodies.iter().flat_map(|body| [&[u8::try_from(body.len()).unwrap()], *body].concat()).collect();
        module.extend_from_slice(&[10, u8::try_from(code.len() + 1).unwrap(), 3]);
        module.extend_from_slice(&code);
        module
    }

    #[test]
    fn only_what_is_asked_for_stays() {
        const BODY: &[u8] = &[0, 0x01, 0x01, 0x0b];
        const NOTHING: &[u8] = &[0, 0x00, 0x0b];
        // Function 2 implements two callbacks, one of which remains. Function 1 is removed. Memory 1 is no function.
        let (body, log) = (("proxy_on_request_body", 0, 1), ("proxy_on_log", 0, 2));
        let rest = [("memory", 2, 1), ("proxy_on_vm_start", 0, 3), ("proxy_on_request_headers", 0, 2)];
        let all = module(&[&rest[..], &[body, log]].concat(), [BODY; 3]);
        let callbacks = ["proxy_on_request_headers".to_owned()];
        let expected = module(&rest, [NOTHING, BODY, BODY]);
        assert_eq!(strip_callbacks(&all, &callbacks).unwrap(), expected);
        // `call 1`, from a function that remains.
        let called = module(&[&rest[..], &[body, log]].concat(), [BODY, &[0, 0x10, 0x01, 0x0b], BODY]);
        assert!(strip_callbacks(&called, &callbacks).is_err_and(|error| error.to_string().contains("function 1")));
        assert!(strip_callbacks(&all[..all.len() - 1], &callbacks).is_err());
        assert!(strip_callbacks(&all, &["proxy_on_vm_start".to_owned()]).is_err());
        assert!(strip_callbacks(b"\0asm", &callbacks).is_err());
    }

    #[test]
    fn of_names_ours_stay() {
        let module = |names: &[(u8, &str)]| {
            let mut content = vec![u8::try_from(names.len()).unwrap()];
            for (index, name) in names {
                content.extend([*index, u8::try_from(name.len()).unwrap()]);
                content.extend(name.bytes());
            }
            let mut section = b"\x04name\x01".to_vec();
            write_number(content.len(), &mut section);
            section.extend(content);
            let mut module = PREAMBLE.to_vec();
            module.push(0);
            write_number(section.len(), &mut module);
            module.extend(section);
            module
        };
        let all = module(&[(0, "_ZN4core3fmt5write"), (1, "_ZN16weir_plugin_auth6decide"), (7, "free")]);
        let ours = module(&[(1, "_ZN16weir_plugin_auth6decide")]);
        assert_eq!(strip_callbacks(&all, &[]).unwrap(), ours);
        assert!(strip_callbacks(&all[..all.len() - 1], &[]).is_err());
    }

    #[test]
    fn numbers() {
        for number in [0, 1, 127, 128, 300, 16_384, 0xffff_ffff] {
            let mut bytes = Vec::new();
            write_number(number, &mut bytes);
            assert_eq!(read_number(&bytes).unwrap(), (number, &[][..]));
        }
    }
}
