//! Every hostile module that starts. Endless loops, resource exhaustion and invalid results are in this file, floods in
//! `floods.rs`, calls out of turn in `protocol_violations.rs`. A module's name is its harm; `main.rs` runs each on a
//! route of its own.

use weir_host_abi::abi::calls::HOSTCALLS;

use crate::table::{
    CALL_RESPONSE, HostileModule, ModuleTable, ON_LOG, ON_TICK, REQUEST_BODY, REQUEST_HEADERS, RESPONSE_BODY,
    RESPONSE_HEADERS, STOPPED, callout, set_tick,
};
use crate::wat::{MEMORY_END, ModuleParts, OUT, PATH_NAME, call, data, forever, times};
use crate::{floods, protocol_violations};

/// Text of the failure of an allocator whose result is not usable.
const BAD_ALLOCATION: &str = "which is not";

/// Callbacks that a request causes, with the label that names of modules have for each.
const CALLBACKS: [(&str, &str); 12] = [
    ("create", "proxy_on_context_create"),
    ("request-headers", REQUEST_HEADERS),
    ("request-body", REQUEST_BODY),
    ("request-trailers", "proxy_on_request_trailers"),
    ("response-headers", RESPONSE_HEADERS),
    ("response-body", RESPONSE_BODY),
    ("response-trailers", "proxy_on_response_trailers"),
    ("log", ON_LOG),
    ("done", "proxy_on_done"),
    ("delete", "proxy_on_delete"),
    ("tick", ON_TICK),
    ("callout-response", CALL_RESPONSE),
];

/// Returns every hostile module that starts.
pub(crate) fn all() -> Vec<HostileModule> {
    let mut table = ModuleTable::default();
    failures_in_every_callback(&mut table);
    resource_exhaustion(&mut table);
    oversized_modules(&mut table);
    bad_pointers(&mut table);
    allocators(&mut table);
    floods::add(&mut table);
    protocol_violations::add(&mut table);
    table.modules
}

fn failures_in_every_callback(table: &mut ModuleTable) {
    for (name, body, fails) in [("loop", forever(""), STOPPED), ("trap", "unreachable".to_owned(), "unreachable")] {
        for (label, callback) in CALLBACKS {
            let mut parts = ModuleParts::harmful_in(callback, body.clone());
            if callback == ON_TICK {
                parts = parts.always("proxy_on_configure", set_tick(10));
            }
            if label == "callout-response" {
                parts = parts.and(REQUEST_HEADERS, callout([0, 0]));
            }
            table.add(&format!("{name}-in-{label}"), Some(fails), &parts);
        }
    }
}

fn resource_exhaustion(table: &mut ModuleTable) {
    let deep = "(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))";
    let recursion = ModuleParts::harmful_in(REQUEST_HEADERS, "(drop (call $deep (i32.const 0)))").with(deep);
    table.add("recursion", Some("call stack exhausted"), &recursion);
    let both = "(type $f (func)) (table $t funcref (elem $ping $pong))
        (func $ping (call_indirect $t (type $f) (i32.const 1))) (func $pong (call_indirect $t (type $f) (i32.const 0)))";
    table.add(
        "recursion-of-two",
        Some("call stack exhausted"),
        &ModuleParts::harmful_in(REQUEST_HEADERS, "(call $ping)").with(both),
    );
    let until_refused = |grow: &str| format!("(loop $more (br_if $more (i32.ne {grow} (i32.const -1)))) unreachable");
    table.fails("memory-bomb", "unreachable", until_refused("(memory.grow (i32.const 1))"));
    table.survives("memory-bomb-that-lives", times(10_000, "(drop (memory.grow (i32.const 60000)))"));
    table.fails("memory-walk", STOPPED, forever("(memory.fill (i32.const 0) (i32.const 7) (i32.const 1310720))"));
    let elements = "(table.grow $t (ref.null func) (i32.const 100))";
    let tables = ModuleParts::harmful_in(REQUEST_HEADERS, until_refused(elements)).with("(table $t 1 funcref)");
    table.add("table-bomb", Some("unreachable"), &tables);
    table.fails("division-by-zero", "divide by zero", "(drop (i32.div_u (i32.const 1) (i32.const 0)))");
    table.fails("load-from-nowhere", "out of bounds memory", "(drop (i32.load (i32.const -4)))");
    let empty = ModuleParts::harmful_in(REQUEST_HEADERS, "(call_indirect $t (type $f) (i32.const 3))");
    table.add("call-of-nothing", Some("element"), &empty.with("(type $f (func)) (table $t 8 funcref)"));
}

/// Adds modules with a very large section each. Most are harmless otherwise.
fn oversized_modules(table: &mut ModuleTable) {
    let many = |count: u32, make: &dyn Fn(u32) -> String| (0..count).map(make).collect::<String>();
    let segments = many(2_000, &|at| data(200_000 + at * 500, &[b'x'; 500]));
    table.add("giant-data", None, &ModuleParts::default().with(segments));
    table.add(
        "giant-functions",
        None,
        &ModuleParts::default().with(many(3_000, &|at| format!("(func (drop (i32.const {at})))"))),
    );
    let locals = format!("(func $locals (local {}))", "i64 ".repeat(20_000));
    let parts = ModuleParts::harmful_in(REQUEST_HEADERS, times(1_000_000, "(call $locals)")).with(locals);
    table.add("giant-locals", None, &parts);
    let exports = many(3_000, &|at| format!("(func (export \"an-export-with-number-{at}\"))"));
    table.add("giant-exports", None, &ModuleParts::default().with(exports));
    let globals = many(3_000, &|at| format!("(global (mut i64) (i64.const {at}))"));
    table.add("giant-globals", None, &ModuleParts::default().with(globals));
    let name = format!("(func $very (export \"{}\") unreachable)", "very-long".repeat(2_000));
    table.add("giant-name", Some("unreachable"), &ModuleParts::harmful_in(REQUEST_HEADERS, "(call $very)").with(name));
}

/// Adds modules that call each family of hostcalls with pointers at both ends of the memory and far beyond.
fn bad_pointers(table: &mut ModuleTable) {
    let families: [(&str, &[&str]); 9] = [
        ("maps", &["proxy_get_header_map_pairs", "proxy_get_header_map_size", "proxy_set_header_map_pairs"]),
        ("headers", &["proxy_get_header_map_value", "proxy_add_header_map_value", "proxy_replace_header_map_value"]),
        ("buffers", &["proxy_get_buffer_bytes", "proxy_get_buffer_status", "proxy_set_buffer_bytes"]),
        ("properties", &["proxy_get_property", "proxy_set_property"]),
        ("shared-data", &["proxy_get_shared_data", "proxy_set_shared_data"]),
        ("queues", &["proxy_register_shared_queue", "proxy_enqueue_shared_queue", "proxy_dequeue_shared_queue"]),
        ("metrics", &["proxy_define_metric", "proxy_get_metric"]),
        ("callouts", &["proxy_http_call", "proxy_grpc_call", "proxy_grpc_stream", "proxy_get_status"]),
        ("wasi", &["fd_write", "random_get", "environ_get", "clock_time_get", "poll_oneoff", "fd_seek", "sock_recv"]),
    ];
    let values = [0, 1, -1, -4, MEMORY_END, MEMORY_END - 1, MEMORY_END - 3, i64::from(i32::MIN), i64::from(i32::MAX)];
    for (family, names) in families {
        let mut body = String::new();
        for name in names {
            let count = HOSTCALLS.iter().find(|row| row.name == *name).unwrap().params.len();
            for value in values {
                let mut arguments = vec![value; count];
                body += &call(name, &arguments);
                arguments[0] = 0;
                body += &call(name, &arguments);
            }
        }
        table.survives(&format!("bad-pointers-of-{family}"), body);
    }
    let logs = values.map(|at| call("proxy_log", &[4, at, i64::from(i32::MAX)])).concat();
    table.survives("bad-pointers-of-logs", logs);
    let replies = values.map(|at| call("proxy_send_local_response", &[200, at, at, at, at, at, at, -1])).concat();
    table.survives("bad-pointers-of-replies", replies);
}

/// Adds modules whose allocator fails or returns invalid addresses when a header is read.
fn allocators(table: &mut ModuleTable) {
    let read = call("proxy_get_header_map_value", &[0, PATH_NAME[0], PATH_NAME[1], OUT, OUT + 4]);
    let rows = [
        ("gives-nothing", "(i32.const 0)", Some(BAD_ALLOCATION)),
        ("gives-what-is-not-there", "(i32.const -16)", Some(BAD_ALLOCATION)),
        (
            "gives-past-the-end",
            "(i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1))",
            Some(BAD_ALLOCATION),
        ),
        ("gives-the-same", "(i32.const 1400)", None),
        ("grows", "(i32.mul (memory.grow (i32.const 1)) (i32.const 65536))", None),
        ("traps", "unreachable", Some("unreachable")),
        ("loops", "(loop $ever (br $ever)) (i32.const 0)", Some(STOPPED)),
        ("recurses", "(i32.add (i32.const 1) (call $allocate (local.get 0)))", Some("call stack exhausted")),
    ];
    for (what, body, fails) in rows {
        let body_in_callback = times(20, &read);
        let parts = ModuleParts::harmful_in(REQUEST_HEADERS, body_in_callback).allocator(body);
        table.add(&format!("allocator-{what}"), fails, &parts);
    }
    let calls = "
        (drop (call $proxy_send_local_response (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
            (i32.const 0) (i32.const 0) (i32.const -1)))
        (drop (call $proxy_continue_stream (i32.const 0))) (drop (call $proxy_close_stream (i32.const 0)))
        (drop (call $proxy_set_effective_context (i32.const 1))) (drop (call $proxy_done))
        (drop (call $proxy_get_header_map_value (i32.const 0) (i32.const 1400) (i32.const 5) (i32.const 16) (i32.const 20)))
        (i32.const 4096)";
    table.add(
        "allocator-calls-back",
        None,
        &ModuleParts::harmful_in(REQUEST_HEADERS, times(20, &read)).allocator(calls),
    );
}
