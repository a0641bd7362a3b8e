//! Hostile modules that flood the host: headers, logs, properties, shared data, queues, metrics, callouts, ticks.

use crate::table::{
    CALL_RESPONSE, ModuleTable, ON_LOG, ON_TICK, REQUEST_HEADERS, RESPONSE_HEADERS, STOPPED, callout, set_tick,
};
use crate::wat::{
    BIG, BIG_SIZE, FRESH, LETTERS, ModuleParts, OUT, PATH_NAME, SPLITTING_HEADER, call, data, forever, times,
};

pub(crate) fn add(table: &mut ModuleTable) {
    headers(table);
    logs_and_properties(table);
    shared_state(table);
    callouts_and_ticks(table);
}

fn headers(table: &mut ModuleTable) {
    for (side, callback, map) in [("request", REQUEST_HEADERS, 0), ("response", RESPONSE_HEADERS, 2)] {
        let mut add = |what: &str, body: String| {
            table.add(&format!("{side}-{what}"), None, &ModuleParts::harmful_in(callback, body));
        };
        let name = call("proxy_add_header_map_value", &[map, FRESH, 8, PATH_NAME[0], PATH_NAME[1]]);
        add("header-names", times(5_000, &format!("(call $fresh) {name}")));
        let value = call("proxy_add_header_map_value", &[map, FRESH, 8, BIG, BIG_SIZE]);
        add("header-values", format!("{LETTERS} {}", times(500, &format!("(call $fresh) {value}"))));
        let size = call("proxy_replace_header_map_value", &[map, FRESH, 8, BIG, 60_000]);
        add("header-sizes", format!("{LETTERS} {}", times(100, &format!("(call $fresh) {size}"))));
        let split =
            call("proxy_add_header_map_value", &[map, PATH_NAME[0] + 1, 4, SPLITTING_HEADER[0], SPLITTING_HEADER[1]]);
        add("header-splitting", times(1_000, &split));
        let read = call("proxy_get_header_map_pairs", &[map, OUT, OUT + 4]);
        add("header-reads", times(5_000, &read));
    }
}

fn logs_and_properties(table: &mut ModuleTable) {
    for (what, level, at, size) in [("lines", 2, 1_024, 10), ("megabytes", 4, BIG, BIG_SIZE), ("empty-lines", 5, 0, 0)]
    {
        table.survives(&format!("log-{what}"), times(20_000, &call("proxy_log", &[level, at, size])));
    }
    let lines = b"a line\nforged by a filter";
    let forge = call("proxy_log", &[2, 3_000, i64::try_from(lines.len()).unwrap()]);
    table.add("log-forged", None, &ModuleParts::harmful_in(REQUEST_HEADERS, forge).with(data(3_000, lines)));
    let vectors = data(3_000, &[[0, 0, 2, 0], [0, 0, 16, 0]].concat().repeat(64));
    let print = times(5_000, &call("fd_write", &[1, 3_000, 64, OUT]));
    table.add("log-by-standard-output", None, &ModuleParts::harmful_in(REQUEST_HEADERS, print).with(vectors));
    table.survives(
        "property-floods",
        times(5_000, &format!("(call $fresh) {}", call("proxy_set_property", &[FRESH, 8, BIG, 60_000]))),
    );
    table.survives(
        "property-paths",
        times(200, &format!("(call $fresh) {}", call("proxy_set_property", &[FRESH, BIG_SIZE, 0, 4]))),
    );
    table.survives("property-reads", times(20_000, &call("proxy_get_property", &[PATH_NAME[0] + 1, 4, OUT, OUT + 4])));
}

/// Adds floods of shared data, queues and metrics.
fn shared_state(table: &mut ModuleTable) {
    let register = format!("(call $fresh) {}", call("proxy_register_shared_queue", &[FRESH, 8, OUT]));
    table.survives("queues-without-end", times(20_000, &register));
    let fill =
        "(drop (call $proxy_enqueue_shared_queue (i32.load (i32.const 16)) (i32.const 131072) (i32.const 1000000)))";
    table.survives("queues-filled", format!("{register} {}", times(40, fill)));
    let own = call("proxy_register_shared_queue", &[PATH_NAME[0], PATH_NAME[1], OUT]);
    let small = "(drop (call $proxy_enqueue_shared_queue (i32.load (i32.const 16)) (i32.const 0) (i32.const 1)))";
    table.survives("queue-of-crumbs", format!("{own} {}", times(50_000, small)));
    let key = format!("(call $fresh) {}", call("proxy_set_shared_data", &[FRESH, 8, 0, 0, 0]));
    table.survives("shared-data-keys", times(20_000, &key));
    let value = format!("(call $fresh) {}", call("proxy_set_shared_data", &[FRESH, 8, BIG, BIG_SIZE, 0]));
    table.survives("shared-data-values", times(100, &value));
    let metric = format!("(call $fresh) {}", call("proxy_define_metric", &[0, FRESH, 8, OUT]));
    table.survives("metric-for-each-request", &metric);
    table.survives("metrics-without-end", times(20_000, &metric));
    let names = call("proxy_define_metric", &[2, FRESH, 4_096, OUT]);
    table.survives("metrics-with-long-names", format!("{LETTERS} {}", times(500, &format!("(call $fresh) {names}"))));
}

fn callouts_and_ticks(table: &mut ModuleTable) {
    table.survives("callouts-from-headers", times(2_000, &callout([0, 0])));
    table.survives("callouts-with-megabytes", times(300, &callout([BIG, BIG_SIZE])));
    let from_tick =
        ModuleParts::harmful_in(ON_TICK, times(100, &callout([0, 0]))).always("proxy_on_configure", set_tick(1));
    table.add("callouts-from-ticks", None, &from_tick);
    table.add("callouts-from-logs", None, &ModuleParts::harmful_in(ON_LOG, times(100, &callout([0, 0]))));
    let again =
        ModuleParts::harmful_in(CALL_RESPONSE, times(2, &callout([0, 0]))).and(REQUEST_HEADERS, callout([0, 0]));
    table.add("callouts-from-their-answers", None, &again);
    let [nowhere, size] = PATH_NAME;
    let unknown_upstream = call("proxy_http_call", &[nowhere, size, 0, 0, 0, 0, 0, 0, 0, OUT]);
    table.survives("callouts-to-nowhere", times(20_000, &unknown_upstream));
    let calls = call("proxy_grpc_call", &[nowhere, size, 0, 0, 0, 0, 0, 0, 0, 0, 0, OUT]);
    table.survives("callouts-of-grpc", times(20_000, &calls));
    let long = ModuleParts::harmful_in(ON_TICK, times(300_000, "(drop (i32.load (i32.const 0)))"))
        .always("proxy_on_configure", set_tick(1));
    table.add("ticks-that-take-long", None, &long);
    let reset = ModuleParts::harmful_in(ON_TICK, set_tick(1)).and(REQUEST_HEADERS, times(10_000, &set_tick(1)));
    table.add("ticks-set-anew", None, &reset);
    table.fails(
        "foreign-calls",
        STOPPED,
        forever(&call("proxy_call_foreign_function", &[PATH_NAME[0], 5, 0, 0, 0, 0])),
    );
}
