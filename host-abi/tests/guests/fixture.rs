//! Test fixtures: one engine, a template for guests, and a way to make one hostcall and read its result.

use std::fmt::Write;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::test_host::TestHost;
use weir_host_abi::abi::calls::{HOSTCALLS, HostcallSpec, ValueType};
use weir_host_abi::shared::SharedState;
use weir_host_abi::{Engine, Host, Limits, Module, ModuleError, Plugin, PluginSettings, StartError, Vm};

/// Returns the engine of all tests; its ticker is a thread.
pub(crate) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new().unwrap())
}

/// Returns the text of a guest: imports, common definitions, then `rest`. Its allocator returns memory beyond 64 KiB.
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

/// Compiles a guest.
pub(crate) fn compile(text: &str) -> Result<Module, ModuleError> {
    Module::compile(engine(), &wat::parse_str(text).unwrap())
}

/// Returns settings with limits that suffice on a slow machine.
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

/// Returns a plugin of a guest.
pub(crate) fn plugin(text: &str, settings: PluginSettings) -> Arc<Plugin> {
    Arc::new(Plugin::new(settings, compile(text).unwrap()))
}

/// Returns an empty host.
pub(crate) fn host() -> TestHost {
    TestHost::new(&SharedState::default(), "vm")
}

/// Returns the texts of a host's log messages.
pub(crate) fn messages(host: &TestHost) -> impl Iterator<Item = &str> {
    host.logs.iter().map(|entry| entry.message.as_str())
}

/// Starts a guest.
pub(crate) fn start(text: &str, host: &mut dyn Host) -> Vm {
    Vm::start(&[plugin(text, settings())], host).unwrap()
}

/// Starts a guest that fails to start.
pub(crate) fn start_error(text: &str, host: &mut dyn Host) -> StartError {
    Vm::start(&[plugin(text, settings())], host).unwrap_err()
}

/// Returns a hostcall by name.
pub(crate) fn row(name: &str) -> &'static HostcallSpec {
    HOSTCALLS.iter().find(|row| row.name == name).unwrap()
}

/// Returns a function type in the text format.
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

/// Returns the import of a hostcall, as `$name`.
pub(crate) fn import(name: &str) -> String {
    let row = row(name);
    let module = if matches!(row.import_module, weir_host_abi::abi::calls::ImportModule::Env) {
        "env"
    } else {
        "wasi_snapshot_preview1"
    };
    format!(r#"(import "{module}" "{name}" (func ${name} {}))"#, types(row.params, row.result))
}

/// Returns the call of a hostcall with these arguments; its result stays on the stack.
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

/// Returns a data segment.
pub(crate) fn data(at: u32, bytes: &[u8]) -> String {
    let mut text = format!("(data (i32.const {at}) \"");
    for byte in bytes {
        write!(text, "\\{byte:02x}").unwrap();
    }
    text + "\")"
}

/// Address of the input of [`run_hostcall`].
pub(crate) const INPUT: u32 = 1024;
/// Address of the results in guests of [`run_hostcall`]: pointer, size, and one more number.
pub(crate) const RESULT: u32 = 16;

/// The outcome of a hostcall.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HostcallReply {
    /// Status of the hostcall.
    pub(crate) status: u32,
    /// The numbers at [`RESULT`].
    pub(crate) numbers: [u32; 3],
    /// The bytes that the first two numbers refer to.
    pub(crate) value: Vec<u8>,
}

/// Makes one hostcall from `proxy_on_request_headers` of a guest's first stream, with `input` at [`INPUT`].
pub(crate) fn run_hostcall(host: &mut TestHost, name: &str, arguments: &[i64], input: &[u8]) -> HostcallReply {
    let text = hostcall_guest(name, arguments, input, "proxy_abi_version_0_2_1");
    run_guest(host, &text)
}

/// Returns the guest of [`run_hostcall`] with the marker of an ABI version.
pub(crate) fn hostcall_guest(name: &str, arguments: &[i64], input: &[u8], marker: &str) -> String {
    let out = if name == "proxy_set_property" { String::new() } else { import("proxy_set_property") };
    let reveal = |path: u32, pointer: &str, size: &str| {
        format!("(drop (call $proxy_set_property (i32.const {path}) (i32.const 1) {pointer} {size}))")
    };
    let rest = format!(
        r#"{input} {paths}
        (func $headers (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
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

/// Runs a guest of [`hostcall_guest`].
pub(crate) fn run_guest(host: &mut TestHost, text: &str) -> HostcallReply {
    let mut vm = start(text, host);
    let stream = vm.create_stream(host).unwrap();
    vm.on_request_headers(host, stream, 0, weir_host_abi::EndOfStream::No).unwrap();
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    let numbers = host.properties.remove(&b"n"[..]).unwrap();
    HostcallReply {
        status: number(&host.properties.remove(&b"s"[..]).unwrap()),
        numbers: [number(&numbers[..4]), number(&numbers[4..8]), number(&numbers[8..])],
        value: host.properties.remove(&b"v"[..]).unwrap_or_default(),
    }
}
