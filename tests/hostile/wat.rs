//! Parts of hostile modules in the WebAssembly text format, and the frame that makes a filter of them.
//!
//! A module does its harm on requests with many headers. It serves other requests as a filter should and adds its name
//! to their responses. So a test can check that the same filter recovers after its harm.

use std::fmt::Write;

use weir_host_abi::abi::calls::{CALLBACKS, HOSTCALLS, ImportModule, ValueType};
use weir_host_abi::abi::pairs::encode;

/// Largest number of headers, pseudo headers included, of a request that causes no harm.
pub(crate) const HARMLESS_HEADERS: usize = 20;

/// Address to which hostcalls write their results: up to three numbers.
pub(crate) const OUT: i64 = 16;
/// Address of a name of eight letters. The function `$fresh` changes it.
pub(crate) const FRESH: i64 = 2_000;
/// Address of a megabyte of letters, after [`LETTERS`] has run.
pub(crate) const BIG: i64 = 131_072;
pub(crate) const BIG_SIZE: i64 = 1 << 20;
pub(crate) const LETTERS: &str = "(memory.fill (i32.const 131072) (i32.const 97) (i32.const 1048576))";
/// End of the initial memory of a module.
pub(crate) const MEMORY_END: i64 = 20 * 65_536;

/// Address and size of a callout's headers, and of the name of its cluster: the Service `echo`.
pub(crate) const CALLOUT_HEADERS: [i64; 2] = [1_200, 62];
pub(crate) const CALLOUT_CLUSTER: [i64; 2] = [1_300, 4];
/// Address and size of the text `:path`, and of a header that would split a message.
pub(crate) const PATH_NAME: [i64; 2] = [1_400, 5];
pub(crate) const SPLITTING_HEADER: [i64; 2] = [1_420, 6];

/// Returns the code that makes a hostcall and drops its result.
pub(crate) fn call(name: &str, arguments: &[i64]) -> String {
    let row = HOSTCALLS.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no hostcall {name}"));
    assert_eq!(row.params.len(), arguments.len(), "{name}");
    let mut text = format!("(call ${name}");
    for (value, argument) in row.params.iter().zip(arguments) {
        write!(text, " ({}.const {argument})", type_name(value)).unwrap();
    }
    if row.result.is_some() { format!("(drop {text}))") } else { text + ")" }
}

/// Returns the code of an endless loop.
pub(crate) fn forever(body: &str) -> String {
    format!("(loop $forever {body} (br $forever))")
}

/// Returns the code of a loop that runs `body` `count` times. The local `$i` is its counter.
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

/// Parts of a hostile module.
#[derive(Debug, Clone, Default)]
pub(crate) struct ModuleParts {
    /// Code by callback, which runs for requests that cause harm.
    pub(crate) harmful: Vec<(&'static str, String)>,
    /// Code by callback, which always runs.
    pub(crate) unconditional: Vec<(&'static str, String)>,
    /// Body of the allocator. `None` for one that works.
    pub(crate) allocator: Option<&'static str>,
    /// Further functions, tables and data.
    pub(crate) rest: String,
    /// Import that the host does not have, or empty.
    pub(crate) unknown: &'static str,
}

impl ModuleParts {
    /// Returns a module with harm in one callback.
    pub(crate) fn harmful_in(callback: &'static str, body: impl Into<String>) -> Self {
        Self::default().and(callback, body)
    }

    /// Adds harm in another callback.
    pub(crate) fn and(mut self, callback: &'static str, body: impl Into<String>) -> Self {
        self.harmful.push((callback, body.into()));
        self
    }

    /// Adds code that always runs in a callback.
    pub(crate) fn always(mut self, callback: &'static str, body: impl Into<String>) -> Self {
        self.unconditional.push((callback, body.into()));
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

    /// Returns the module of the filter with this name, in the text format.
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
        assert_eq!(head.len() as i64, CALLOUT_HEADERS[1], "the size in CALLOUT_HEADERS is the list's");
        body += &data(1_200, &head);
        format!("(module {} {} {body})", imports(&body), self.unknown)
    }

    fn callback(&self, name: &str, stamp: usize) -> String {
        let find = |bodies: &[(&'static str, String)]| {
            let bodies: Vec<_> = bodies.iter().filter(|(at, _)| *at == name).map(|(_, body)| body.as_str()).collect();
            bodies.concat()
        };
        let (harm, always_run) = (find(&self.harmful), find(&self.unconditional));
        let (before, after) = match name {
            "proxy_on_request_headers" => {
                (format!("(global.set $harm (i32.gt_u (local.get 1) (i32.const {HARMLESS_HEADERS})))"), String::new())
            }
            "proxy_on_response_headers" => {
                let stamp = i64::try_from(stamp).unwrap();
                (String::new(), call("proxy_add_header_map_value", &[2, 1_100, 8, 1_024, stamp]))
            }
            _ if harm.is_empty() && always_run.is_empty() => return String::new(),
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
            "(func (export \"{name}\") (param {params}) {types} (local $i i32) {always_run} {before}
                (if (global.get $harm) (then {harm})) {after} {result})"
        )
    }
}

/// Body of an allocator that works. It reuses memory, so results of earlier calls are overwritten.
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

/// Returns a data segment.
pub(crate) fn data(at: u32, bytes: &[u8]) -> String {
    let digits = bytes.iter().fold(String::new(), |text, byte| text + &format!("\\{byte:02x}"));
    format!("(data (i32.const {at}) \"{digits}\")")
}

/// Returns imports of the hostcalls that a text names.
pub(crate) fn imports(text: &str) -> String {
    let mut imports = String::new();
    for row in HOSTCALLS {
        let named = [format!("${} ", row.name), format!("${})", row.name)];
        if !named.iter().any(|name| text.contains(name)) {
            continue;
        }
        let module = if row.import_module == ImportModule::Env { "env" } else { "wasi_snapshot_preview1" };
        write!(imports, "(import \"{module}\" \"{0}\" (func ${0}", row.name).unwrap();
        row.params.iter().for_each(|value| write!(imports, " (param {})", type_name(value)).unwrap());
        row.result.iter().for_each(|value| write!(imports, " (result {})", type_name(value)).unwrap());
        imports += "))";
    }
    imports
}
