//! Hostile modules that do not start. A running proxy rejects each and continues with its active configuration.

use harness::wasm_from_wat;

use crate::wat::{call, imports};

/// A module that does not start.
#[derive(Debug, Clone)]
pub(crate) struct RejectedModule {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// Part of the text of the rejection.
    pub(crate) reason: &'static str,
}

const MARKER: &str = r#"(func (export "proxy_abi_version_0_2_1"))"#;
const MEMORY: &str = r#"(memory (export "memory") 2)"#;
const ALLOCATOR: &str = r#"(func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 4096))"#;

/// Returns every hostile module that does not start.
pub(crate) fn all() -> Vec<RejectedModule> {
    [failing_start(), excessive_size(), invalid_abi()].concat()
}

/// Returns a module with the parts that every filter needs, and `rest`.
fn complete_module(name: &'static str, reason: &'static str, rest: &str) -> RejectedModule {
    let text = format!("(module {} {MARKER} {MEMORY} {ALLOCATOR} {rest})", imports(rest));
    RejectedModule { name, bytes: wasm_from_wat(&text), reason }
}

fn returning(callback: &str, body: &str) -> String {
    format!("(func (export \"{callback}\") (param i32 i32) (result i32) {body})")
}

fn failing_start() -> Vec<RejectedModule> {
    let endless = "(loop $ever (br $ever))";
    let function = |body: &str| format!("(func $early {body}) (start $early)");
    let initialize = |body: &str| format!("(func (export \"_initialize\") {body})");
    let vm_start = |body: &str| returning("proxy_on_vm_start", body);
    let configure = |body: &str| returning("proxy_on_configure", body);
    let create = |body: &str| format!("(func (export \"proxy_on_context_create\") (param i32 i32) {body})");
    let deep = "(func $deep (call $deep) (call $deep))";
    let exit = call("proc_exit", &[0]);
    let log_and_reject = format!(
        "(data (i32.const 64) \"no service for strangers\") {}",
        configure(&format!("{} (i32.const 0)", call("proxy_log", &[4, 64, 24])))
    );
    vec![
        complete_module("trap-in-the-start-section", "instantiation: wasm `unreachable`", &function("unreachable")),
        complete_module("loop-in-the-start-section", "instantiation: stopped after", &function(endless)),
        complete_module(
            "recursion-in-the-start-section",
            "call stack exhausted",
            &format!("{deep} {}", function("(call $deep)")),
        ),
        complete_module("trap-in-initialize", "_initialize: wasm `unreachable`", &initialize("unreachable")),
        complete_module("loop-in-initialize", "_initialize: stopped after", &initialize(endless)),
        complete_module("exit-in-initialize", "ended itself with exit code 0", &initialize(&exit)),
        complete_module("trap-in-create", "proxy_on_context_create: wasm `unreachable`", &create("unreachable")),
        complete_module("loop-in-create", "proxy_on_context_create: stopped after", &create(endless)),
        complete_module("trap-in-vm-start", "proxy_on_vm_start: wasm `unreachable`", &vm_start("unreachable")),
        complete_module(
            "loop-in-vm-start",
            "proxy_on_vm_start: stopped after",
            &vm_start(&format!("{endless} (i32.const 1)")),
        ),
        complete_module("no-in-vm-start", "proxy_on_vm_start returned false", &vm_start("(i32.const 0)")),
        complete_module("trap-in-configure", "proxy_on_configure: wasm `unreachable`", &configure("unreachable")),
        complete_module(
            "loop-in-configure",
            "proxy_on_configure: stopped after",
            &configure(&format!("{endless} (i32.const 1)")),
        ),
        complete_module("no-in-configure", "filter log: no service for strangers", &log_and_reject),
    ]
}

fn excessive_size() -> Vec<RejectedModule> {
    let named = |name, reason, text: String| RejectedModule { name, bytes: wasm_from_wat(&text), reason };
    let frame = |memory: &str, rest: &str| format!("(module {memory} {MARKER} {ALLOCATOR} {rest})");
    let bomb = "(func (export \"_initialize\")
        (loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable)";
    let imports = (0..1_025).map(|at| format!("(import \"env\" \"thing{at}\" (func))")).collect::<String>();
    let past = "(data (i32.const 131071) \"xx\")";
    vec![
        named("memory-of-a-gigabyte", "instantiation: ", frame("(memory (export \"memory\") 16384)", "")),
        named("table-of-millions", "instantiation: ", frame(MEMORY, "(table 9000000 funcref)")),
        named("tables-by-the-dozen", "instantiation: ", frame(MEMORY, &"(table 1 funcref)".repeat(20))),
        named("memory-bomb-in-the-start", "_initialize: wasm `unreachable`", frame(MEMORY, bomb)),
        named(
            "imports-by-the-thousand",
            "has 1025 imports, more than 1024",
            format!("(module {imports} {MEMORY} {MARKER} {ALLOCATOR})"),
        ),
        RejectedModule { name: "too-large", bytes: vec![0; (64 << 20) + 1], reason: "has more than 67108864 bytes" },
        named("data-past-the-end", "out of bounds memory access", frame(MEMORY, past)),
    ]
}

fn invalid_abi() -> Vec<RejectedModule> {
    let named = |name, reason, text: String| RejectedModule { name, bytes: wasm_from_wat(&text), reason };
    let unknown = returning("proxy_on_vm_start", "(call $thing) (i32.const 1)");
    vec![
        named("no-abi", "exports no proxy_abi_version", format!("(module {MEMORY} {ALLOCATOR})")),
        named("no-memory", "exports no memory", format!("(module {MARKER} {ALLOCATOR})")),
        named(
            "no-allocator",
            "exports neither proxy_on_memory_allocate nor malloc",
            format!("(module {MARKER} {MEMORY})"),
        ),
        named(
            "unknown-import-that-is-called",
            "called env.thing, which this host does not have",
            format!("(module (import \"env\" \"thing\" (func $thing)) {MARKER} {MEMORY} {ALLOCATOR} {unknown})"),
        ),
        named(
            "import-of-another-type",
            "import env.proxy_log has type",
            format!("(module (import \"env\" \"proxy_log\" (func (param i64))) {MARKER} {MEMORY} {ALLOCATOR})"),
        ),
        named(
            "memory-of-the-host",
            "import env.memory is a memory",
            format!(
                "(module (import \"env\" \"memory\" (memory 1)) (export \"memory\" (memory 0)) {MARKER} {ALLOCATOR})"
            ),
        ),
        complete_module(
            "callback-of-another-type",
            "export proxy_on_log has type",
            "(func (export \"proxy_on_log\") (param f64))",
        ),
    ]
}
