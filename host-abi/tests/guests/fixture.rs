//! What the tests share: one engine, a frame for guests, and a way to make one hostcall and see what it answers.

use std::fmt::Write;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use weir_host_abi::abi::calls::{HOSTCALLS, Hostcall, ValueType};
use weir_host_abi::shared::SharedState;
use weir_host_abi::test_host::TestHost;
use weir_host_abi::{Engine, EngineOptions, Host, Limits, Module, ModuleError, Plugin, PluginSettings, StartError, Vm};

/// One engine for all tests: its ticker is a thread.
pub(crate) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(EngineOptions::default()).unwrap())
}

/// A guest's text: imports first, then what every filter has, then the rest. Its allocator gives what lies behind 64 KiB.
pub(crate) fn guest(imports: &str, rest: &str) -> String {
    format!(
        r#"(module {imports}
            (memory (export "memory") 2)
            (global $next (mut i32) (i32.const 65536))
            (func $allocate (export "proxy_on_memory_allocate") (param $size i32) (result i32)
                (local $pointer i32)
                (local.set $pointer (global.get $next))
                (global.set $next (i32.add (global.get $next) (local.get $size)))
                (local.get $pointer))
            (func (export "proxy_abi_version_0_2_1"))
            {rest})"#
    )
}

/// A module in memory.
pub(crate) fn compile(text: &str) -> Result<Module, ModuleError> {
    Module::compile(engine(), &wat::parse_str(text).unwrap())
}

/// Settings with limits that a slow machine keeps.
pub(crate) fn settings() -> PluginSettings {
    PluginSettings {
        name: "guest".to_owned(),
        vm_configuration: b"vm-bytes".to_vec(),
        configuration: b"plugin-bytes".to_vec(),
        environment: vec![("ONE".to_owned(), "1".to_owned()), ("TWO".to_owned(), String::new())],
        limits: Limits { start_time: Duration::from_millis(100), ..Limits::default() },
        ..PluginSettings::default()
    }
}

/// A plugin with a module and settings.
pub(crate) fn plugin(text: &str, settings: PluginSettings) -> Arc<Plugin> {
    Arc::new(Plugin::new(settings, compile(text).unwrap()))
}

/// A host with nothing in it.
pub(crate) fn host() -> TestHost {
    TestHost::new(&SharedState::default(), "vm")
}

/// Starts a guest that starts.
pub(crate) fn start(text: &str, host: &mut dyn Host) -> Vm {
    Vm::start(&plugin(text, settings()), host).unwrap()
}

/// Starts a guest that does not start.
pub(crate) fn start_error(text: &str, host: &mut dyn Host) -> StartError {
    Vm::start(&plugin(text, settings()), host).unwrap_err()
}

/// The row of a hostcall in the table.
pub(crate) fn row(name: &str) -> &'static Hostcall {
    HOSTCALLS.iter().find(|row| row.name == name).unwrap()
}

/// The types of a hostcall in the text format.
pub(crate) fn types(params: &[ValueType], result: Option<ValueType>) -> String {
    let name = |value: &ValueType| match value {
        ValueType::I32 => "i32",
        ValueType::I64 => "i64",
        ValueType::F32 => "f32",
        ValueType::F64 => "f64",
    };
    let mut text = String::new();
    for value in params {
        write!(text, "(param {})", name(value)).unwrap();
    }
    if let Some(value) = &result {
        write!(text, "(result {})", name(value)).unwrap();
    }
    text
}

/// The import of a hostcall, as `$name`.
pub(crate) fn import(name: &str) -> String {
    let row = row(name);
    let module =
        if matches!(row.library, weir_host_abi::abi::calls::Library::Env) { "env" } else { "wasi_snapshot_preview1" };
    format!(r#"(import "{module}" "{name}" (func ${name} {}))"#, types(row.params, row.result))
}

/// The call of a hostcall with these arguments; leaves its result.
pub(crate) fn call(name: &str, arguments: &[i64]) -> String {
    let mut text = format!("(call ${name}");
    for (value, argument) in row(name).params.iter().zip(arguments) {
        match value {
            ValueType::I32 => write!(text, " (i32.const {argument})"),
            ValueType::I64 => write!(text, " (i64.const {argument})"),
            ValueType::F32 | ValueType::F64 => unreachable!("no hostcall takes one"),
        }
        .unwrap();
    }
    text + ")"
}

/// A data segment.
pub(crate) fn data(at: u32, bytes: &[u8]) -> String {
    let mut text = format!("(data (i32.const {at}) \"");
    for byte in bytes {
        write!(text, "\\{byte:02x}").unwrap();
    }
    text + "\")"
}

/// Where [`ask`] puts its input.
pub(crate) const INPUT: u32 = 1024;
/// Where guests that [`ask`] makes keep answers: two numbers for pointer and size, then one more.
pub(crate) const ANSWER: u32 = 16;

/// What a hostcall answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u32,
    /// The numbers at [`ANSWER`].
    pub(crate) numbers: [u32; 3],
    /// The bytes that the first two numbers name.
    pub(crate) value: Vec<u8>,
}

/// Has a guest make one hostcall from `proxy_on_request_headers` of its first stream, with `input` at [`INPUT`].
pub(crate) fn ask(host: &mut TestHost, name: &str, arguments: &[i64], input: &[u8]) -> Answer {
    let text = asking(name, arguments, input, "proxy_abi_version_0_2_1");
    ask_guest(host, &text)
}

/// The guest of [`ask`], with the marker of an ABI version.
pub(crate) fn asking(name: &str, arguments: &[i64], input: &[u8], marker: &str) -> String {
    let out = if name == "proxy_set_property" { String::new() } else { import("proxy_set_property") };
    let reveal = |path: u32, pointer: &str, size: &str| {
        format!("(drop (call $proxy_set_property (i32.const {path}) (i32.const 1) {pointer} {size}))")
    };
    let rest = format!(
        r#"{input} {paths}
        (func $asking (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (i32.store (i32.const 8) {call}) {status} {numbers} {value}
            (i32.const 0))"#,
        input = data(INPUT, input),
        paths = data(0, b"snv"),
        call = call(name, arguments),
        status = reveal(0, "(i32.const 8)", "(i32.const 4)"),
        numbers = reveal(1, "(i32.const 16)", "(i32.const 12)"),
        value = reveal(2, "(i32.load (i32.const 16))", "(i32.load (i32.const 20))"),
    );
    guest(&format!("{}{out}", import(name)), &rest).replace("proxy_abi_version_0_2_1", marker)
}

/// Runs a guest of [`asking`].
pub(crate) fn ask_guest(host: &mut TestHost, text: &str) -> Answer {
    let mut vm = start(text, host);
    let stream = vm.create_stream(host).unwrap();
    vm.on_request_headers(host, stream, 0, weir_host_abi::EndOfStream::No).unwrap();
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    let numbers = host.properties.remove(&b"n"[..]).unwrap();
    Answer {
        status: number(&host.properties.remove(&b"s"[..]).unwrap()),
        numbers: [number(&numbers[..4]), number(&numbers[4..8]), number(&numbers[8..])],
        value: host.properties.remove(&b"v"[..]).unwrap_or_default(),
    }
}
