//! The table of hostile modules that start: endless, greedy and lying ones here, flooding ones in `floods.rs`, ones that
//! speak out of turn in `turns.rs`. What they do is in their names; `main.rs` runs each behind a route of its own.

use weir_host_abi::abi::calls::HOSTCALLS;

use crate::wat::{ANSWER, CALL_HEAD, CALL_TO, END, PATH, Parts, call, data, forever, times};
use crate::{floods, turns};

/// A module, and what stops it.
#[derive(Debug, Clone)]
pub(crate) struct Hostile {
    pub(crate) name: String,
    pub(crate) text: String,
    /// A part of what is said of its failure; `None` when it may live on.
    pub(crate) fails: Option<&'static str>,
}

pub(crate) const HEADERS: &str = "proxy_on_request_headers";
pub(crate) const BODY: &str = "proxy_on_request_body";
pub(crate) const ANSWER_HEADERS: &str = "proxy_on_response_headers";
pub(crate) const ANSWER_BODY: &str = "proxy_on_response_body";
pub(crate) const TICK: &str = "proxy_on_tick";
pub(crate) const LOG: &str = "proxy_on_log";
pub(crate) const CALL_RESPONSE: &str = "proxy_on_http_call_response";

/// How the clock, the stack, a trap and a broken promise are spoken of.
pub(crate) const TIME: &str = "stopped after";
const LIE: &str = "which is not";

/// Callbacks that a request leads to, by the name that modules have for them.
const CALLBACKS: [(&str, &str); 12] = [
    ("create", "proxy_on_context_create"),
    ("request-headers", HEADERS),
    ("request-body", BODY),
    ("request-trailers", "proxy_on_request_trailers"),
    ("response-headers", ANSWER_HEADERS),
    ("response-body", ANSWER_BODY),
    ("response-trailers", "proxy_on_response_trailers"),
    ("log", LOG),
    ("done", "proxy_on_done"),
    ("delete", "proxy_on_delete"),
    ("tick", TICK),
    ("callout-response", CALL_RESPONSE),
];

/// All of them.
pub(crate) fn all() -> Vec<Hostile> {
    let mut table = Table(Vec::new());
    in_every_callback(&mut table);
    greed(&mut table);
    giants(&mut table);
    bad_pointers(&mut table);
    allocators(&mut table);
    floods::add(&mut table);
    turns::add(&mut table);
    table.0
}

/// The table as it grows.
pub(crate) struct Table(Vec<Hostile>);

impl Table {
    pub(crate) fn add(&mut self, name: &str, fails: Option<&'static str>, parts: &Parts) {
        self.0.push(Hostile { name: name.to_owned(), text: parts.module(name), fails });
    }

    /// A module that does harm in the request's headers and may live on.
    pub(crate) fn lives(&mut self, name: &str, body: impl Into<String>) {
        self.add(name, None, &Parts::harm(HEADERS, body));
    }

    /// One that fails there.
    pub(crate) fn fails(&mut self, name: &str, fails: &'static str, body: impl Into<String>) {
        self.add(name, Some(fails), &Parts::harm(HEADERS, body));
    }
}

pub(crate) fn set_tick(milliseconds: i64) -> String {
    call("proxy_set_tick_period_milliseconds", &[milliseconds])
}

pub(crate) fn callout(body: [i64; 2]) -> String {
    let [to, to_size] = CALL_TO;
    let [head, head_size] = CALL_HEAD;
    call("proxy_http_call", &[to, to_size, head, head_size, body[0], body[1], 0, 0, 1_000, ANSWER])
}

fn in_every_callback(table: &mut Table) {
    for (harm, body, fails) in [("loop", forever(""), TIME), ("trap", "unreachable".to_owned(), "unreachable")] {
        for (place, callback) in CALLBACKS {
            let mut parts = Parts::harm(callback, body.clone());
            if callback == TICK {
                parts = parts.always("proxy_on_configure", set_tick(10));
            }
            if place == "callout-response" {
                parts = parts.and(HEADERS, callout([0, 0]));
            }
            table.add(&format!("{harm}-in-{place}"), Some(fails), &parts);
        }
    }
}

fn greed(table: &mut Table) {
    let deep = "(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))";
    let recursion = Parts::harm(HEADERS, "(drop (call $deep (i32.const 0)))").with(deep);
    table.add("recursion", Some("call stack exhausted"), &recursion);
    let both = "(type $f (func)) (table $t funcref (elem $ping $pong))
        (func $ping (call_indirect $t (type $f) (i32.const 1))) (func $pong (call_indirect $t (type $f) (i32.const 0)))";
    table.add("recursion-of-two", Some("call stack exhausted"), &Parts::harm(HEADERS, "(call $ping)").with(both));
    let until_refused = |grow: &str| format!("(loop $more (br_if $more (i32.ne {grow} (i32.const -1)))) unreachable");
    table.fails("memory-bomb", "unreachable", until_refused("(memory.grow (i32.const 1))"));
    table.lives("memory-bomb-that-lives", times(10_000, "(drop (memory.grow (i32.const 60000)))"));
    table.fails("memory-walk", TIME, forever("(memory.fill (i32.const 0) (i32.const 7) (i32.const 1310720))"));
    let elements = "(table.grow $t (ref.null func) (i32.const 100))";
    let tables = Parts::harm(HEADERS, until_refused(elements)).with("(table $t 1 funcref)");
    table.add("table-bomb", Some("unreachable"), &tables);
    table.fails("division-by-zero", "divide by zero", "(drop (i32.div_u (i32.const 1) (i32.const 0)))");
    table.fails("load-from-nowhere", "out of bounds memory", "(drop (i32.load (i32.const -4)))");
    let empty = Parts::harm(HEADERS, "(call_indirect $t (type $f) (i32.const 3))");
    table.add("call-of-nothing", Some("element"), &empty.with("(type $f (func)) (table $t 8 funcref)"));
}

/// Modules that are large, each in its own way, and not harmful otherwise.
fn giants(table: &mut Table) {
    let many = |count: u32, make: &dyn Fn(u32) -> String| (0..count).map(make).collect::<String>();
    let segments = many(2_000, &|at| data(200_000 + at * 500, &[b'x'; 500]));
    table.add("giant-data", None, &Parts::default().with(segments));
    table.add(
        "giant-functions",
        None,
        &Parts::default().with(many(3_000, &|at| format!("(func (drop (i32.const {at})))"))),
    );
    let locals = format!("(func $locals (local {}))", "i64 ".repeat(20_000));
    let parts = Parts::harm(HEADERS, times(1_000_000, "(call $locals)")).with(locals);
    table.add("giant-locals", None, &parts);
    let exports = many(3_000, &|at| format!("(func (export \"an-export-with-number-{at}\"))"));
    table.add("giant-exports", None, &Parts::default().with(exports));
    let globals = many(3_000, &|at| format!("(global (mut i64) (i64.const {at}))"));
    table.add("giant-globals", None, &Parts::default().with(globals));
    let name = format!("(func $very (export \"{}\") unreachable)", "very-long".repeat(2_000));
    table.add("giant-name", Some("unreachable"), &Parts::harm(HEADERS, "(call $very)").with(name));
}

/// Each family of hostcalls with pointers at both ends of the memory and far beyond.
fn bad_pointers(table: &mut Table) {
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
    let values = [0, 1, -1, -4, END, END - 1, END - 3, i64::from(i32::MIN), i64::from(i32::MAX)];
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
        table.lives(&format!("bad-pointers-of-{family}"), body);
    }
    let logs = values.map(|at| call("proxy_log", &[4, at, i64::from(i32::MAX)])).concat();
    table.lives("bad-pointers-of-logs", logs);
    let replies = values.map(|at| call("proxy_send_local_response", &[200, at, at, at, at, at, at, -1])).concat();
    table.lives("bad-pointers-of-replies", replies);
}

/// Allocators that do not do what they promise, when a header is read.
fn allocators(table: &mut Table) {
    let read = call("proxy_get_header_map_value", &[0, PATH[0], PATH[1], ANSWER, ANSWER + 4]);
    let rows = [
        ("gives-nothing", "(i32.const 0)", Some(LIE)),
        ("gives-what-is-not-there", "(i32.const -16)", Some(LIE)),
        ("gives-past-the-end", "(i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1))", Some(LIE)),
        ("gives-the-same", "(i32.const 1400)", None),
        ("grows", "(i32.mul (memory.grow (i32.const 1)) (i32.const 65536))", None),
        ("traps", "unreachable", Some("unreachable")),
        ("loops", "(loop $ever (br $ever)) (i32.const 0)", Some(TIME)),
        ("recurses", "(i32.add (i32.const 1) (call $allocate (local.get 0)))", Some("call stack exhausted")),
    ];
    for (what, body, fails) in rows {
        let body_in_callback = times(20, &read);
        let parts = Parts::harm(HEADERS, body_in_callback).allocator(body);
        table.add(&format!("allocator-{what}"), fails, &parts);
    }
    let calls = "
        (drop (call $proxy_send_local_response (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
            (i32.const 0) (i32.const 0) (i32.const -1)))
        (drop (call $proxy_continue_stream (i32.const 0))) (drop (call $proxy_close_stream (i32.const 0)))
        (drop (call $proxy_set_effective_context (i32.const 1))) (drop (call $proxy_done))
        (drop (call $proxy_get_header_map_value (i32.const 0) (i32.const 1400) (i32.const 5) (i32.const 16) (i32.const 20)))
        (i32.const 4096)";
    table.add("allocator-calls-back", None, &Parts::harm(HEADERS, times(20, &read)).allocator(calls));
}
