//! Pieces that hostile modules are made of, in the WebAssembly text format, and the frame that makes a filter of them.
//!
//! Each module does its harm for requests with many headers, and serves others as a filter should: it stamps their
//! responses with its name. So the same filter can be harmful first and be asked for its stamp afterwards.

use std::fmt::Write;

use weir_host_abi::abi::calls::{CALLBACKS, HOSTCALLS, Library, ValueType};
use weir_host_abi::abi::pairs::encode;

/// A request with more headers than this, pseudo headers included, asks for harm.
pub(crate) const HARMLESS_HEADERS: usize = 20;

/// Where answers are written: two numbers and a third one.
pub(crate) const ANSWER: i64 = 16;
/// A name that `$fresh` changes each time: eight letters.
pub(crate) const FRESH: i64 = 2_000;
/// A megabyte of letters, once [`LETTERS`] was run.
pub(crate) const BIG: i64 = 131_072;
pub(crate) const BIG_SIZE: i64 = 1 << 20;
pub(crate) const LETTERS: &str = "(memory.fill (i32.const 131072) (i32.const 97) (i32.const 1048576))";
/// The end of the memory that a module begins with.
pub(crate) const END: i64 = 20 * 65_536;

/// The head of a callout, and its upstream: the service `echo`.
pub(crate) const CALL_HEAD: [i64; 2] = [1_200, 62];
pub(crate) const CALL_TO: [i64; 2] = [1_300, 4];
/// `:path`, and headers that must not go on the wire.
pub(crate) const PATH: [i64; 2] = [1_400, 5];
pub(crate) const SPLITTING: [i64; 2] = [1_420, 6];

/// Calls a hostcall and drops what it answers.
pub(crate) fn call(name: &str, arguments: &[i64]) -> String {
    let row = HOSTCALLS.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no hostcall {name}"));
    assert_eq!(row.params.len(), arguments.len(), "{name}");
    let mut text = format!("(call ${name}");
    for (value, argument) in row.params.iter().zip(arguments) {
        write!(text, " ({}.const {argument})", type_name(value)).unwrap();
    }
    if row.result.is_some() { format!("(drop {text}))") } else { text + ")" }
}

pub(crate) fn forever(body: &str) -> String {
    format!("(loop $forever {body} (br $forever))")
}

/// Does something again and again, with the local `$i` as the count.
pub(crate) fn times(count: u32, body: &str) -> String {
    format!(
        "(local.set $i (i32.const 0))
        (loop $again {body}
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $i) (i32.const {count}))))"
    )
}

fn type_name(value: &ValueType) -> &'static str {
    match value {
        ValueType::I32 => "i32",
        ValueType::I64 => "i64",
        ValueType::F32 => "f32",
        ValueType::F64 => "f64",
    }
}

/// What a module is made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parts {
    /// What it does in which callback when it was asked for harm.
    pub(crate) harms: Vec<(&'static str, String)>,
    /// What it does there whether it was asked or not.
    pub(crate) habits: Vec<(&'static str, String)>,
    /// The body of its allocator, in place of one that works.
    pub(crate) allocator: Option<&'static str>,
    /// More of the module: functions, tables, data.
    pub(crate) rest: String,
    /// An import that the host does not have.
    pub(crate) unknown: &'static str,
}

impl Parts {
    /// Harm in one callback.
    pub(crate) fn harm(callback: &'static str, body: impl Into<String>) -> Self {
        Self::default().and(callback, body)
    }

    /// Harm in another callback, too.
    pub(crate) fn and(mut self, callback: &'static str, body: impl Into<String>) -> Self {
        self.harms.push((callback, body.into()));
        self
    }

    /// Something that it always does in a callback.
    pub(crate) fn always(mut self, callback: &'static str, body: impl Into<String>) -> Self {
        self.habits.push((callback, body.into()));
        self
    }

    pub(crate) fn allocator(self, body: &'static str) -> Self {
        Self { allocator: Some(body), ..self }
    }

    pub(crate) fn with(self, rest: impl Into<String>) -> Self {
        Self { rest: rest.into(), ..self }
    }

    pub(crate) fn importing(self, unknown: &'static str) -> Self {
        Self { unknown, ..self }
    }

    /// The whole module of the filter with this name.
    pub(crate) fn module(&self, name: &str) -> String {
        let mut body = format!("{FRAME} {} {}", data(1_024, name.as_bytes()), self.rest);
        let allocate = self.allocator.unwrap_or(ALLOCATE);
        write!(
            body,
            "(func $allocate (export \"proxy_on_memory_allocate\") (param i32) (result i32) (local $i i32) {allocate})"
        )
        .unwrap();
        for callback in CALLBACKS {
            body += &self.callback(callback.name, name.len());
        }
        let head = [(":method", "POST"), (":path", "/"), (":authority", "a")];
        let head = encode(head.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        assert_eq!(head.len() as i64, CALL_HEAD[1], "the list that modules name");
        body += &data(1_200, &head);
        format!("(module {} {} {body})", imports(&body), self.unknown)
    }

    fn callback(&self, name: &str, stamp: usize) -> String {
        let find = |bodies: &[(&'static str, String)]| {
            let bodies: Vec<_> = bodies.iter().filter(|(at, _)| *at == name).map(|(_, body)| body.as_str()).collect();
            bodies.concat()
        };
        let (harm, habit) = (find(&self.harms), find(&self.habits));
        let (before, after) = match name {
            "proxy_on_request_headers" => {
                (format!("(global.set $harm (i32.gt_u (local.get 1) (i32.const {HARMLESS_HEADERS})))"), String::new())
            }
            "proxy_on_response_headers" => {
                let stamp = i64::try_from(stamp).unwrap();
                (String::new(), call("proxy_add_header_map_value", &[2, 1_100, 8, 1_024, stamp]))
            }
            _ if harm.is_empty() && habit.is_empty() => return String::new(),
            _ => Default::default(),
        };
        let row = CALLBACKS.iter().find(|row| row.name == name).unwrap();
        let result = match (row.result, name) {
            (None, _) => "",
            (_, "proxy_on_vm_start" | "proxy_on_configure" | "proxy_on_done") => "(i32.const 1)",
            _ => "(i32.const 0)",
        };
        let params = "i32 ".repeat(row.params[0].len());
        let types = if row.result.is_some() { "(result i32)" } else { "" };
        format!(
            "(func (export \"{name}\") (param {params}) {types} (local $i i32) {habit} {before}
                (if (global.get $harm) (then {harm})) {after} {result})"
        )
    }
}

/// An allocator that works, for answers that are not kept.
const ALLOCATE: &str = "
    (if (i32.gt_u (local.get 0) (i32.const 60000)) (then
        (return (i32.mul (i32.const 65536)
            (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get 0) (i32.const 16))))))))
    (if (i32.gt_u (i32.add (global.get $next) (local.get 0)) (i32.const 131072)) (then
        (global.set $next (i32.const 65536))))
    (global.set $next (i32.add (global.get $next) (local.get 0)))
    (i32.sub (global.get $next) (local.get 0))";

const FRAME: &str = r#"
    (memory (export "memory") 20)
    (global $harm (mut i32) (i32.const 0)) (global $next (mut i32) (i32.const 65536))
    (global $count (mut i32) (i32.const 0))
    (func (export "proxy_abi_version_0_2_1"))
    (func $fresh (local $at i32) (local $left i32)
        (global.set $count (i32.add (global.get $count) (i32.const 1)))
        (local.set $left (global.get $count))
        (local.set $at (i32.const 2000))
        (loop $next
            (i32.store8 (local.get $at) (i32.add (i32.const 97) (i32.and (local.get $left) (i32.const 15))))
            (local.set $left (i32.shr_u (local.get $left) (i32.const 4)))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $at) (i32.const 2008)))))
    (data (i32.const 1100) "x-filter") (data (i32.const 1300) "echo") (data (i32.const 1400) ":path")
    (data (i32.const 1420) "a\r\nb:c")"#;

/// A data segment.
pub(crate) fn data(at: u32, bytes: &[u8]) -> String {
    let digits = bytes.iter().fold(String::new(), |text, byte| text + &format!("\\{byte:02x}"));
    format!("(data (i32.const {at}) \"{digits}\")")
}

/// Imports the hostcalls that a text names.
pub(crate) fn imports(text: &str) -> String {
    let mut imports = String::new();
    for row in HOSTCALLS {
        let named = [format!("${} ", row.name), format!("${})", row.name)];
        if !named.iter().any(|name| text.contains(name)) {
            continue;
        }
        let module = if row.library == Library::Env { "env" } else { "wasi_snapshot_preview1" };
        write!(imports, "(import \"{module}\" \"{0}\" (func ${0}", row.name).unwrap();
        row.params.iter().for_each(|value| write!(imports, " (param {})", type_name(value)).unwrap());
        row.result.iter().for_each(|value| write!(imports, " (result {})", type_name(value)).unwrap());
        imports += "))";
    }
    imports
}
