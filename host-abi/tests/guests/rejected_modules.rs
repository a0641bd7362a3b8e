//! Tests of rejected modules, and of unusual ones that are accepted. Messages state what is wrong and what to do.

use weir_host_abi::abi::calls::{AbiVersion, HOSTCALLS, ImportModule};
use weir_host_abi::limits::MAX_MODULE_BYTES;
use weir_host_abi::{EndOfStream, Module, ModuleError, ModuleHash};

use crate::fixture::{compile, engine, guest, host, plugin, run_guest, settings, start, types};

const MEMORY: &str = r#"(memory (export "memory") 1)"#;
const MARKER: &str = r#"(func (export "proxy_abi_version_0_2_0"))"#;
const MALLOC: &str = r#"(func (export "malloc") (param i32) (result i32) (i32.const 8))"#;

#[test]
fn invalid_module_is_rejected_with_its_name() {
    let headers = |types: &str| format!(r#"(func (export "proxy_on_request_headers") {types} (i32.const 0))"#);
    let rows: [(String, &str); 14] = [
        (format!("(module {MEMORY} {MALLOC})"), "exports no proxy_abi_version"),
        (format!("(module {MARKER} {MALLOC})"), "exports no memory"),
        (format!("(module {MARKER} {MEMORY})"), "neither proxy_on_memory_allocate nor malloc"),
        (
            format!(r#"(module {MARKER} {MEMORY} (func (export "malloc") (param i64) (result i32) (i32.const 8)))"#),
            "export malloc has type (i64) -> i32, but must have (i32) -> i32",
        ),
        (
            format!("(module {MARKER} {MEMORY} {MALLOC} {})", headers("(param i32) (result i32)")),
            "(i32) -> i32, but must have (i32, i32, i32) -> i32 or (i32, i32) -> i32",
        ),
        (
            format!(r#"(module {MARKER} {MEMORY} {MALLOC} (func (export "proxy_on_tick") (param v128)))"#),
            "export proxy_on_tick has type (v128) -> nothing",
        ),
        (guest(r#"(import "env" "table" (table 1 funcref))"#, ""), "import env.table is a table"),
        (guest(r#"(import "env" "g" (global i32))"#, ""), "import env.g is a global"),
        (
            guest(r#"(import "env" "proxy_log" (func (param i32 i32) (result i32)))"#, ""),
            "import env.proxy_log has type (i32, i32) -> i32, but the host has (i32, i32, i32) -> i32",
        ),
        (guest(r#"(import "env" "proxy_done" (func (result i64)))"#, ""), "import env.proxy_done has type () -> i64"),
        (
            guest(r#"(import "env" "x" (func)) (import "env" "x" (func (param i32)))"#, ""),
            "import env.x has type (i32) -> nothing, but the host has the type of its first declaration",
        ),
        (
            guest(r#"(import "wasi_unstable" "fd_write" (func (param i32) (result i32)))"#, ""),
            "import wasi_unstable.fd_write has type",
        ),
        (format!("(module {MARKER} {MALLOC} {MEMORY} (memory 1))"), "does not compile"),
        (format!("(module {MARKER} {MALLOC} (memory (export \"memory\") i64 1))"), "does not compile"),
    ];
    for (text, expected) in rows {
        let message = compile(&text).unwrap_err().to_string();
        assert!(message.contains(expected), "{text}\n{message}");
        let message = Module::precompile(engine(), &wat::parse_str(&text).unwrap()).unwrap_err().to_string();
        assert!(message.contains(expected), "{text}\n{message}");
    }
}

#[test]
fn non_module_file_is_rejected_before_compilation() {
    let truncated = &wat::parse_str(guest("", "")).unwrap()[..60];
    let rows: [(&[u8], &str); 6] = [
        (b"", "not a WebAssembly module"),
        (b"(module)", r#"begins with "(module)""#),
        (b"\x1f\x8b\x08\0", "not an archive"),
        (b"\0asm\x0d\0\x01\0", "component"),
        (b"\0asm\x01\0\0\0", "exports no proxy_abi_version"),
        (truncated, "does not compile"),
    ];
    for (bytes, expected) in rows {
        let message = Module::compile(engine(), bytes).unwrap_err().to_string();
        assert!(message.contains(expected), "{bytes:?}\n{message}");
    }
    let large = vec![0; MAX_MODULE_BYTES + 1];
    assert_eq!(Module::compile(engine(), &large).unwrap_err(), ModuleError::TooLarge { bytes: large.len() });
}

#[test]
fn damaged_module_does_not_panic() {
    let good = wat::parse_str(guest("", "")).unwrap();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x15;
        let _outcome = Module::compile(engine(), &bytes);
        let _outcome = Module::compile(engine(), &good[..at]);
    }
}

#[test]
fn every_hostcall_links_in_every_version_and_twice() {
    for version in AbiVersion::ALL {
        let mut imports = String::new();
        for row in HOSTCALLS {
            let modules: &[&str] = match row.import_module {
                ImportModule::Env => &["env"],
                ImportModule::Wasi => &["wasi_snapshot_preview1", "wasi_unstable"],
            };
            for module in modules.iter().chain(modules) {
                imports += &format!("(import \"{module}\" \"{}\" (func {}))", row.name, types(row.params, row.result));
            }
        }
        let text = guest(&imports, "").replace("proxy_abi_version_0_2_1", version.marker());
        let module = compile(&text).unwrap();
        assert_eq!(module.abi_version(), *version);
        assert!(module.unknown_imports().is_empty());
        start(&text, &mut host());
    }
}

#[test]
fn imports_without_result_or_metadata_link() {
    let mut imports = String::new();
    for row in HOSTCALLS.iter().filter(|row| row.import_module == ImportModule::Env) {
        imports += &format!("(import \"env\" \"{}\" (func {}))", row.name, types(row.params, None));
    }
    start(&guest(&imports, ""), &mut host());

    let grpc = r#"(import "env" "proxy_grpc_call" (func $c (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_grpc_stream" (func $s (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_set_property" (func $proxy_set_property (param i32 i32 i32 i32) (result i32)))"#;
    let zeroes = |count| "(i32.const 0)".repeat(count);
    let rest = format!(
        r#"(data (i32.const 0) "snv") (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (i32.store (i32.const 8) (call $s {}))
            (i32.store (i32.const 16) (call $c {} (i32.const -1) (i32.const 0)))
            (drop (call $proxy_set_property (i32.const 0) (i32.const 1) (i32.const 8) (i32.const 4)))
            (drop (call $proxy_set_property (i32.const 1) (i32.const 1) (i32.const 16) (i32.const 12)))
            (i32.const 0))"#,
        zeroes(7),
        zeroes(8),
    );
    let answer = run_guest(&mut host(), &guest(grpc, &rest));
    assert_eq!((answer.status, answer.numbers[0]), (10, 10), "no gRPC in the test host");
}

#[test]
fn unknown_import_fails_when_called() {
    let imports = r#"(import "env" "proxy_future" (func $future (param i64 f32) (result i32)))
        (import "env" "mystery" (func $mystery)) (import "elsewhere" "thing" (func (param v128) (result f64)))"#;
    let rest = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (if (i32.ne (call $future (i64.const 1) (f32.const 2)) (i32.const 12)) (then unreachable)) (i32.const 0))
        (func (export "proxy_on_log") (param i32) (call $mystery))"#;
    let text = guest(imports, rest);
    let module = compile(&text).unwrap();
    assert_eq!(module.unknown_imports(), ["env.proxy_future", "env.mystery", "elsewhere.thing"]);
    let mut host = host();
    let mut vm = start(&text, &mut host);
    let stream = vm.create_stream(&mut host).unwrap();
    assert!(vm.on_request_headers(&mut host, stream, 0, EndOfStream::No).is_ok());
    let failure = vm.on_log(&mut host, stream).unwrap_err();
    assert!(failure.message.contains("called env.mystery"), "{failure}");
}

#[test]
fn marker_memory_and_allocator_are_chosen_by_precedence() {
    let both = r#"(func (export "proxy_abi_version_0_1_0"))"#;
    let module = compile(&format!("(module {both} {MARKER} {MEMORY} {MALLOC})")).unwrap();
    assert_eq!(module.abi_version(), AbiVersion::V0_1_0);
    compile(&format!("(module {MARKER} (memory (export \"m\") (export \"n\") 1) {MALLOC})")).unwrap();
    let wasm = wat::parse_str(guest("", "")).unwrap();
    assert_eq!(compile(&guest("", "")).unwrap().hash(), ModuleHash::of(&wasm));
    assert_eq!(plugin(&guest("", ""), settings()).settings().name, "guest");
    assert_eq!(ModuleHash::of(b"").to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}
