//! `TestGuest`: a guest that makes requested calls, so that one compiled module serves millions of inputs. Arguments
//! and results are in globals, so that every byte of its memory can be compared.
//!
//! Callbacks with numeric arguments control it. `proxy_on_http_call_response` sets an argument, `proxy_on_grpc_close`
//! and `proxy_on_grpc_receive` write its memory, `proxy_on_queue_ready` makes a call, `proxy_on_tick` reports its
//! memory, and `proxy_on_log` its other numbers.

use std::fmt::Write;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::test_host::TestHost;
use weir_host_abi::abi::calls::{HOSTCALLS, HostcallSpec, ImportModule, ValueType};
use weir_host_abi::shared::SharedState;
use weir_host_abi::{CalloutResponseSizes, ContextId, Engine, Failure, Limits, Module, Plugin, PluginSettings, Vm};

use crate::calls::ENVIRONMENT;

/// Initial and maximum memory of the guest in bytes.
pub(crate) const MEMORY: u32 = 2 * PAGE;
pub(crate) const MAX_MEMORY: u32 = 6 * PAGE;
pub(crate) const PAGE: u32 = 65_536;

/// Maximum number of arguments of a hostcall.
const ARGUMENTS: usize = 12;

/// The behavior of the guest's allocator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allocator {
    /// Grows the memory and returns the new bytes.
    Grows = 0,
    /// Returns the configured pointer.
    ReturnsPointer = 1,
    /// Grows the memory and returns the configured pointer.
    GrowsAndReturnsPointer = 2,
    /// Returns the last bytes of the memory.
    ReturnsEnd = 3,
    /// Traps.
    Traps = 4,
}

impl Allocator {
    pub(crate) const ALL: [Self; 5] =
        [Self::Grows, Self::ReturnsPointer, Self::GrowsAndReturnsPointer, Self::ReturnsEnd, Self::Traps];
}

/// The outcome of a hostcall.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Result of the hostcall; `None` if it has none.
    pub(crate) answer: Option<u32>,
    /// Number of calls of the allocator.
    pub(crate) allocations: u32,
    /// The last pointer that the allocator returned, and the size that was requested.
    pub(crate) pointer: u32,
    pub(crate) size: u32,
}

/// A started guest and its host.
pub(crate) struct TestGuest {
    pub(crate) vm: Vm,
    pub(crate) host: TestHost,
}

impl TestGuest {
    pub(crate) fn start() -> Self {
        static PLUGIN: OnceLock<Arc<Plugin>> = OnceLock::new();
        let plugin = PLUGIN.get_or_init(|| {
            let module = Module::compile(engine(), &wat::parse_str(text()).unwrap()).unwrap();
            Arc::new(Plugin::new(settings(), module))
        });
        let mut host = TestHost::new(&SharedState::default(), "vm");
        let vm = Vm::start(std::slice::from_ref(plugin), &mut host).unwrap();
        Self { vm, host }
    }

    /// Writes into the guest's memory.
    pub(crate) fn poke(&mut self, address: u32, bytes: &[u8]) {
        let words = bytes.chunks_exact(4);
        let rest = words.remainder();
        let mut at = address;
        for word in words {
            let word = u32::from_le_bytes(word.try_into().unwrap());
            self.vm.on_grpc_close(&mut self.host, at, word).unwrap();
            at += 4;
        }
        for byte in rest {
            self.vm.on_grpc_receive(&mut self.host, at, usize::from(*byte)).unwrap();
            at += 1;
        }
    }

    /// Configures the allocator.
    pub(crate) fn set_allocator(&mut self, allocator: Allocator, place: u32) {
        self.set(ARGUMENTS, allocator as u64);
        self.set(ARGUMENTS + 1, u64::from(place));
    }

    /// Makes a hostcall on behalf of the plugin context.
    pub(crate) fn call(&mut self, hostcall: usize, arguments: &[u64]) -> Result<Outcome, Failure> {
        for (at, argument) in arguments.iter().enumerate() {
            self.set(at, *argument);
        }
        let number = u32::try_from(hostcall).unwrap();
        self.vm.on_queue_ready(&mut self.host, number)?;
        self.vm.on_log(&mut self.host, ContextId::ROOT).unwrap();
        let numbers: Vec<u32> =
            self.shown().chunks(4).map(|number| u32::from_le_bytes(number.try_into().unwrap())).collect();
        let [answer, allocations, pointer, size] = numbers[..] else { unreachable!() };
        let answer = HOSTCALLS[hostcall].result.filter(|result| *result == ValueType::I32).map(|_| answer);
        Ok(Outcome { answer, allocations, pointer, size })
    }

    /// Returns the guest's whole memory.
    pub(crate) fn memory(&mut self) -> Vec<u8> {
        self.vm.on_tick(&mut self.host).unwrap();
        self.shown()
    }

    fn set(&mut self, at: usize, value: u64) {
        let [low, high] = [value & u64::from(u32::MAX), value >> 32].map(|half| u32::try_from(half).unwrap());
        let response = CalloutResponseSizes { headers: low, body: high as usize, trailers: 0 };
        self.vm.on_http_call_response(&mut self.host, u32::try_from(at).unwrap(), response).unwrap();
    }

    /// Returns the bytes that the guest reported as the property without a name.
    fn shown(&mut self) -> Vec<u8> {
        self.host.properties.remove(&b""[..]).unwrap()
    }
}

/// Returns the engine of all tests; its ticker is a thread.
pub(crate) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new().unwrap())
}

/// Returns the settings of all fuzzed guests. The time limit of a call suffices on a busy machine.
pub(crate) fn settings() -> PluginSettings {
    PluginSettings {
        name: "guest".to_owned(),
        vm_configuration: b"vm-bytes".to_vec(),
        configuration: b"plugin-bytes".to_vec(),
        environment: ENVIRONMENT.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        limits: Limits {
            memory: MAX_MEMORY as usize,
            call_time: Duration::from_millis(500),
            start_time: Duration::from_millis(500),
            ..Limits::default()
        },
        ..PluginSettings::default()
    }
}

/// Returns the import of a hostcall in the text format.
pub(crate) fn import(row: &HostcallSpec) -> String {
    let name = |value: &ValueType| match value {
        ValueType::I32 => "i32",
        ValueType::I64 => "i64",
        ValueType::F32 => "f32",
        ValueType::F64 => "f64",
    };
    let module = if row.import_module == ImportModule::Env { "env" } else { "wasi_snapshot_preview1" };
    let mut text = format!("(import \"{module}\" \"{0}\" (func ${0} ", row.name);
    for value in row.params {
        write!(text, "(param {})", name(value)).unwrap();
    }
    if let Some(value) = &row.result {
        write!(text, "(result {})", name(value)).unwrap();
    }
    text + "))\n"
}

/// Returns code that calls the hostcall with the requested index, with the arguments in the globals.
fn dispatch() -> String {
    let mut text = String::new();
    for (at, row) in HOSTCALLS.iter().enumerate() {
        let argument = |(at, value): (usize, &ValueType)| match value {
            ValueType::I64 => format!(" (global.get $a{at})"),
            _ => format!(" (i32.wrap_i64 (global.get $a{at}))"),
        };
        let arguments: String = row.params.iter().enumerate().map(argument).collect();
        let call = format!("(call ${}{arguments})", row.name);
        let call = match row.result {
            None => call,
            Some(ValueType::I32) => format!("(global.set $answer {call})"),
            Some(_) => format!("(drop {call})"),
        };
        writeln!(text, "(if (i32.eq (local.get 1) (i32.const {at})) (then {call}))").unwrap();
    }
    text
}

fn text() -> String {
    let imports: String = HOSTCALLS.iter().map(import).collect();
    let globals: String = (0..ARGUMENTS).map(|at| format!("(global $a{at} (mut i64) (i64.const 0))")).collect();
    let set = |(at, name): (usize, String)| {
        format!("(if (i32.eq (local.get 1) (i32.const {at})) (then (global.set ${name} (local.get $value))))")
    };
    let names = (0..ARGUMENTS).map(|at| format!("a{at}")).chain(["how".to_owned(), "place".to_owned()]);
    let setters: String = names.enumerate().map(set).collect();
    format!(
        r#"(module {imports} {globals}
        (memory (export "memory") 2)
        (global $how (mut i64) (i64.const 0)) (global $place (mut i64) (i64.const 0))
        (global $answer (mut i32) (i32.const 0)) (global $allocations (mut i32) (i32.const 0))
        (global $pointer (mut i32) (i32.const 0)) (global $size (mut i32) (i32.const 0))
        (func (export "proxy_abi_version_0_2_1"))
        {ALLOCATE} {SHOW}
        (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32) (local $value i64)
            (local.set $value (i64.or (i64.extend_i32_u (local.get 2))
                (i64.shl (i64.extend_i32_u (local.get 3)) (i64.const 32))))
            {setters})
        (func (export "proxy_on_grpc_close") (param i32 i32 i32) (i32.store (local.get 1) (local.get 2)))
        (func (export "proxy_on_grpc_receive") (param i32 i32 i32) (i32.store8 (local.get 1) (local.get 2)))
        (func (export "proxy_on_queue_ready") (param i32 i32)
            (global.set $allocations (i32.const 0))
            {})
        )"#,
        dispatch()
    )
}

const ALLOCATE: &str = r#"
    (func $grow (param $size i32) (result i32)
        (i32.mul (i32.const 65536)
            (memory.grow (i32.div_u (i32.add (local.get $size) (i32.const 65535)) (i32.const 65536)))))
    (func $give (param $size i32) (result i32) (local $how i32)
        (local.set $how (i32.wrap_i64 (global.get $how)))
        (if (i32.eqz (local.get $how)) (then (return (call $grow (local.get $size)))))
        (if (i32.eq (local.get $how) (i32.const 2)) (then (drop (call $grow (local.get $size)))))
        (if (i32.eq (local.get $how) (i32.const 3)) (then
            (return (i32.sub (i32.mul (memory.size) (i32.const 65536)) (local.get $size)))))
        (if (i32.eq (local.get $how) (i32.const 4)) (then unreachable))
        (i32.wrap_i64 (global.get $place)))
    (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
        (global.set $allocations (i32.add (global.get $allocations) (i32.const 1)))
        (global.set $size (local.get $size))
        (global.set $pointer (call $give (local.get $size)))
        (global.get $pointer))"#;

/// Functions that fill the memory with values that no result is likely to have, and report it. Numbers are reported
/// through 16 bytes, which are restored.
const SHOW: &str = r#"
    (func (export "_initialize") (local $at i32)
        (loop $next
            (i32.store (local.get $at) (i32.mul (i32.add (local.get $at) (i32.const 77)) (i32.const 0x9e3779b1)))
            (local.set $at (i32.add (local.get $at) (i32.const 4)))
            (br_if $next (i32.lt_u (local.get $at) (i32.const 131072)))))
    (func (export "proxy_on_tick") (param i32)
        (drop (call $proxy_set_property (i32.const 0) (i32.const 0)
            (i32.const 0) (i32.mul (memory.size) (i32.const 65536)))))
    (func (export "proxy_on_log") (param i32) (local $a i64) (local $b i64)
        (local.set $a (i64.load (i32.const 0))) (local.set $b (i64.load (i32.const 8)))
        (i32.store (i32.const 0) (global.get $answer)) (i32.store (i32.const 4) (global.get $allocations))
        (i32.store (i32.const 8) (global.get $pointer)) (i32.store (i32.const 12) (global.get $size))
        (drop (call $proxy_set_property (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16)))
        (i64.store (i32.const 0) (local.get $a)) (i64.store (i32.const 8) (local.get $b)))"#;
