//! Hostile modules that speak out of turn, in words that mean nothing, or too much: calls from where none belong,
//! malformed lists, bodies and replies without measure, ends.

use crate::modules::{ANSWER_BODY, ANSWER_HEADERS, BODY, HEADERS, LOG, TICK, Table, callout, set_tick};
use crate::wat::{ANSWER, BIG, BIG_SIZE, CALL_HEAD, LETTERS, PATH, Parts, SPLITTING, call, data, times};

pub(crate) fn add(table: &mut Table) {
    out_of_turn(table);
    lists(table);
    bodies(table);
    replies(table);
    ends(table);
}

/// One of each call that steers or changes a stream.
fn everything() -> String {
    [
        reply(200, [0, 0]),
        call("proxy_continue_stream", &[0]),
        call("proxy_continue_stream", &[1]),
        call("proxy_continue_stream", &[3]),
        call("proxy_close_stream", &[1]),
        call("proxy_add_header_map_value", &[0, PATH[0] + 1, 4, PATH[0], PATH[1]]),
        call("proxy_set_header_map_pairs", &[2, CALL_HEAD[0], CALL_HEAD[1]]),
        call("proxy_set_buffer_bytes", &[0, 0, 9, 0, 9]),
        call("proxy_set_buffer_bytes", &[1, 0, 9, 0, 9]),
        call("proxy_set_property", &[PATH[0], PATH[1], PATH[0], PATH[1]]),
        call("proxy_clear_route_cache", &[]),
        call("proxy_done", &[]),
        callout([0, 0]),
    ]
    .concat()
}

fn reply(status: i64, body: [i64; 2]) -> String {
    call("proxy_send_local_response", &[status, 0, 0, body[0], body[1], 0, 0, -1])
}

fn out_of_turn(table: &mut Table) {
    for (name, callback) in [
        ("everything-while-created", "proxy_on_context_create"),
        ("everything-while-logged", LOG),
        ("everything-while-done", "proxy_on_done"),
        ("everything-while-deleted", "proxy_on_delete"),
        ("everything-in-the-answer", ANSWER_BODY),
    ] {
        table.add(name, None, &Parts::harm(callback, everything()));
    }
    let ticking = Parts::harm(TICK, everything()).always("proxy_on_configure", set_tick(10));
    table.add("everything-in-ticks", None, &ticking);
    let start = format!("(func $early {} {}) (start $early)", everything(), call("proxy_log", &[2, 1_024, 8]));
    table.add("everything-in-the-start", None, &Parts::default().with(start));
    let initialise = format!("(func (export \"_initialize\") {})", everything());
    table.add("everything-in-initialize", None, &Parts::default().with(initialise));
    let other = "(drop (call $proxy_set_effective_context (i32.sub (i32.const 60) (local.get $i))))";
    let others = times(60, &format!("{other} {}", everything()));
    table.lives("other-contexts", others.clone());
    let ticking = Parts::harm(TICK, others).always("proxy_on_configure", set_tick(10));
    table.add("other-contexts-in-ticks", None, &ticking);
    let never =
        Parts::harm("proxy_on_done", "(return (i32.const 0))").and(TICK, times(1_000, &call("proxy_done", &[])));
    table.add("never-done", None, &never.always("proxy_on_configure", set_tick(10)));
    table.lives("done-storm", times(20_000, &call("proxy_done", &[])));
    let asks = [call("proxy_continue_stream", &[0]), call("proxy_close_stream", &[0]), reply(200, [0, 0])].concat();
    table.lives("close-reply-and-continue", asks.clone());
    table.lives("asks-without-end", times(5_000, &asks));
    table.lives("never-continues", "(return (i32.const 1))");
    let unknown = "(import \"env\" \"proxy_from_tomorrow\" (func $tomorrow (param i32) (result i32)))";
    table.add(
        "calls-from-tomorrow",
        None,
        &Parts::harm(HEADERS, "(drop (call $tomorrow (i32.const 1)))").importing(unknown),
    );
    let unknown = "(import \"elsewhere\" \"thing\" (func $thing))";
    let parts = Parts::harm(HEADERS, "(call $thing)").importing(unknown);
    table.add("calls-to-elsewhere", Some("elsewhere.thing"), &parts);
}

/// Serialized maps that are none.
fn lists(table: &mut Table) {
    let number = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    let rows = [
        ("too-many", number(&[u32::MAX, 1, 1])),
        ("too-long", number(&[1, u32::MAX, u32::MAX])),
        ("that-wrap", number(&[2, 0xffff_fff0, 0x20, 0, 0])),
        ("cut-off", number(&[1, 4, 4, 0x6161_6161])),
        ("of-nothing", number(&[1_000])),
    ];
    for (what, list) in rows {
        let size = i64::try_from(list.len()).unwrap();
        let calls = [
            call("proxy_set_header_map_pairs", &[0, 3_000, size]),
            call("proxy_set_header_map_pairs", &[2, 3_000, size]),
            call("proxy_send_local_response", &[200, 0, 0, 0, 0, 3_000, size, -1]),
            call("proxy_http_call", &[PATH[0], 5, 3_000, size, 0, 0, 3_000, size, 0, ANSWER]),
        ];
        let parts = Parts::harm(HEADERS, times(500, &calls.concat())).with(data(3_000, &list));
        table.add(&format!("lists-{what}"), None, &parts);
    }
    // As many entries as there may be, each a header "a" of nothing.
    let mut full = number(&[1_024]);
    full.extend(number(&[1, 0]).repeat(1_024));
    full.extend(b"a\0\0".repeat(1_024));
    let size = i64::try_from(full.len()).unwrap();
    let set = times(100, &call("proxy_set_header_map_pairs", &[0, 3_000, size]));
    table.add("lists-that-are-full", None, &Parts::harm(HEADERS, set).with(data(3_000, &full)));
    let huge = call("proxy_set_header_map_pairs", &[0, BIG, BIG_SIZE]);
    table.lives("lists-of-a-megabyte", times(100, &huge));
}

fn bodies(table: &mut Table) {
    for (side, callback, buffer) in [("request", BODY, 0), ("response", ANSWER_BODY, 1)] {
        let append = call("proxy_set_buffer_bytes", &[buffer, i64::from(i32::MAX), 0, BIG, 100_000]);
        let grown = Parts::harm(callback, format!("{LETTERS} {}", times(100, &append)));
        table.add(&format!("{side}-body-without-end"), None, &grown);
        let hold = format!("{append} (return (i32.const 1))");
        table.add(&format!("{side}-body-held-and-grown"), None, &Parts::harm(callback, hold));
        let crumbs = times(20_000, &call("proxy_set_buffer_bytes", &[buffer, 0, 0, 0, 1]));
        table.add(&format!("{side}-body-in-crumbs"), None, &Parts::harm(callback, crumbs));
    }
}

fn replies(table: &mut Table) {
    for status in [0, 99, 101, 199, 600, 70_000, -1] {
        table.lives(&format!("reply-of-status-{}", status & 0xffff_ffff), reply(status, [0, 0]));
    }
    table.lives("reply-of-a-megabyte", format!("{LETTERS} {}", reply(200, [BIG, BIG_SIZE])));
    table.lives("replies-of-a-megabyte", format!("{LETTERS} {}", times(90, &reply(200, [BIG, BIG_SIZE]))));
    table.lives("reply-after-reply", [reply(200, [PATH[0], PATH[1]]), reply(500, [0, 0])].concat());
    table.add("reply-to-an-answer", None, &Parts::harm(ANSWER_HEADERS, reply(418, [PATH[0], PATH[1]])));
    table.add("reply-within-an-answer", None, &Parts::harm(ANSWER_BODY, reply(418, [PATH[0], PATH[1]])));
    // One header "a" whose value splits the response.
    let list = [&[1, 0, 0, 0, 1, 0, 0, 0, 6, 0, 0, 0][..], b"a\0a\r\nb:c\0"].concat();
    let size = i64::try_from(list.len()).unwrap();
    let split = call("proxy_send_local_response", &[200, SPLITTING[0], SPLITTING[1], 0, 0, 3_000, size, -1]);
    table.add("reply-that-splits", None, &Parts::harm(HEADERS, split).with(data(3_000, &list)));
}

fn ends(table: &mut Table) {
    table.fails("exit", "exit code 0", call("proc_exit", &[0]));
    table.fails("exit-with-a-code", "exit code", call("proc_exit", &[-1]));
    table.add("exit-while-logged", Some("exit code 3"), &Parts::harm(LOG, call("proc_exit", &[3])));
    table.fails("abort", "aborted", call("abort", &[BIG, -1, 0, 0]));
    table.lives("raise", call("proc_raise", &[9]));
    table.add("close-the-answer", None, &Parts::harm(ANSWER_HEADERS, call("proxy_close_stream", &[1])));
}
