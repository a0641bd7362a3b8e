//! Hostile modules that flood: headers, logs, properties, what plugins share, callouts, timers.

use crate::modules::{ANSWER_HEADERS, CALL_RESPONSE, HEADERS, LOG, TICK, Table, callout, set_tick};
use crate::wat::{ANSWER, BIG, BIG_SIZE, FRESH, LETTERS, PATH, Parts, SPLITTING, call, data, forever, times};

pub(crate) fn add(table: &mut Table) {
    headers(table);
    words(table);
    shared(table);
    storms(table);
}

fn headers(table: &mut Table) {
    for (side, callback, map) in [("request", HEADERS, 0), ("response", ANSWER_HEADERS, 2)] {
        let mut add =
            |what: &str, body: String| table.add(&format!("{side}-{what}"), None, &Parts::harm(callback, body));
        let name = call("proxy_add_header_map_value", &[map, FRESH, 8, PATH[0], PATH[1]]);
        add("header-names", times(5_000, &format!("(call $fresh) {name}")));
        let value = call("proxy_add_header_map_value", &[map, FRESH, 8, BIG, BIG_SIZE]);
        add("header-values", format!("{LETTERS} {}", times(500, &format!("(call $fresh) {value}"))));
        let size = call("proxy_replace_header_map_value", &[map, FRESH, 8, BIG, 60_000]);
        add("header-sizes", format!("{LETTERS} {}", times(100, &format!("(call $fresh) {size}"))));
        let split = call("proxy_add_header_map_value", &[map, PATH[0] + 1, 4, SPLITTING[0], SPLITTING[1]]);
        add("header-splitting", times(1_000, &split));
        let read = call("proxy_get_header_map_pairs", &[map, ANSWER, ANSWER + 4]);
        add("header-reads", times(5_000, &read));
    }
}

fn words(table: &mut Table) {
    for (what, level, at, size) in [("lines", 2, 1_024, 10), ("megabytes", 4, BIG, BIG_SIZE), ("empty-lines", 5, 0, 0)]
    {
        table.lives(&format!("log-{what}"), times(20_000, &call("proxy_log", &[level, at, size])));
    }
    let lines = b"a line\nforged by a filter";
    let forge = call("proxy_log", &[2, 3_000, i64::try_from(lines.len()).unwrap()]);
    table.add("log-forged", None, &Parts::harm(HEADERS, forge).with(data(3_000, lines)));
    let vectors = data(3_000, &[[0, 0, 2, 0], [0, 0, 16, 0]].concat().repeat(64));
    let print = times(5_000, &call("fd_write", &[1, 3_000, 64, ANSWER]));
    table.add("log-by-standard-output", None, &Parts::harm(HEADERS, print).with(vectors));
    table.lives(
        "property-floods",
        times(5_000, &format!("(call $fresh) {}", call("proxy_set_property", &[FRESH, 8, BIG, 60_000]))),
    );
    table.lives(
        "property-paths",
        times(200, &format!("(call $fresh) {}", call("proxy_set_property", &[FRESH, BIG_SIZE, 0, 4]))),
    );
    table.lives("property-reads", times(20_000, &call("proxy_get_property", &[PATH[0] + 1, 4, ANSWER, ANSWER + 4])));
}

/// What the VMs of a plugin share, and what is counted.
fn shared(table: &mut Table) {
    let register = format!("(call $fresh) {}", call("proxy_register_shared_queue", &[FRESH, 8, ANSWER]));
    table.lives("queues-without-end", times(20_000, &register));
    let fill =
        "(drop (call $proxy_enqueue_shared_queue (i32.load (i32.const 16)) (i32.const 131072) (i32.const 1000000)))";
    table.lives("queues-filled", format!("{register} {}", times(40, fill)));
    let own = call("proxy_register_shared_queue", &[PATH[0], PATH[1], ANSWER]);
    let small = "(drop (call $proxy_enqueue_shared_queue (i32.load (i32.const 16)) (i32.const 0) (i32.const 1)))";
    table.lives("queue-of-crumbs", format!("{own} {}", times(50_000, small)));
    let key = format!("(call $fresh) {}", call("proxy_set_shared_data", &[FRESH, 8, 0, 0, 0]));
    table.lives("shared-data-keys", times(20_000, &key));
    let value = format!("(call $fresh) {}", call("proxy_set_shared_data", &[FRESH, 8, BIG, BIG_SIZE, 0]));
    table.lives("shared-data-values", times(100, &value));
    let metric = format!("(call $fresh) {}", call("proxy_define_metric", &[0, FRESH, 8, ANSWER]));
    table.lives("metric-for-each-request", &metric);
    table.lives("metrics-without-end", times(20_000, &metric));
    let names = call("proxy_define_metric", &[2, FRESH, 4_096, ANSWER]);
    table.lives("metrics-with-long-names", format!("{LETTERS} {}", times(500, &format!("(call $fresh) {names}"))));
}

fn storms(table: &mut Table) {
    table.lives("callouts-from-headers", times(2_000, &callout([0, 0])));
    table.lives("callouts-with-megabytes", times(300, &callout([BIG, BIG_SIZE])));
    let from_tick = Parts::harm(TICK, times(100, &callout([0, 0]))).always("proxy_on_configure", set_tick(1));
    table.add("callouts-from-ticks", None, &from_tick);
    table.add("callouts-from-logs", None, &Parts::harm(LOG, times(100, &callout([0, 0]))));
    let again = Parts::harm(CALL_RESPONSE, times(2, &callout([0, 0]))).and(HEADERS, callout([0, 0]));
    table.add("callouts-from-their-answers", None, &again);
    let [nowhere, size] = PATH;
    let refused = call("proxy_http_call", &[nowhere, size, 0, 0, 0, 0, 0, 0, 0, ANSWER]);
    table.lives("callouts-to-nowhere", times(20_000, &refused));
    let calls = call("proxy_grpc_call", &[nowhere, size, 0, 0, 0, 0, 0, 0, 0, 0, 0, ANSWER]);
    table.lives("callouts-of-grpc", times(20_000, &calls));
    let long =
        Parts::harm(TICK, times(300_000, "(drop (i32.load (i32.const 0)))")).always("proxy_on_configure", set_tick(1));
    table.add("ticks-that-take-long", None, &long);
    let reset = Parts::harm(TICK, set_tick(1)).and(HEADERS, times(10_000, &set_tick(1)));
    table.add("ticks-set-anew", None, &reset);
    table.fails(
        "foreign-calls",
        crate::modules::TIME,
        forever(&call("proxy_call_foreign_function", &[PATH[0], 5, 0, 0, 0, 0])),
    );
}
