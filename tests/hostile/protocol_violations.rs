//! Hostile modules that violate the protocol between guest and host: calls in callbacks where they do not belong,
//! malformed header lists, unbounded bodies and local replies, exits.

use crate::table::{
    ModuleTable, ON_LOG, ON_TICK, REQUEST_BODY, REQUEST_HEADERS, RESPONSE_BODY, RESPONSE_HEADERS, callout, set_tick,
};
use crate::wat::{
    BIG, BIG_SIZE, CALLOUT_HEADERS, LETTERS, ModuleParts, OUT, PATH_NAME, SPLITTING_HEADER, call, data, times,
};

pub(crate) fn add(table: &mut ModuleTable) {
    calls_out_of_turn(table);
    lists(table);
    bodies(table);
    replies(table);
    ends(table);
}

/// Returns the code of every call that controls or changes a stream.
fn all_stream_calls() -> String {
    [
        reply(200, [0, 0]),
        call("proxy_continue_stream", &[0]),
        call("proxy_continue_stream", &[1]),
        call("proxy_continue_stream", &[3]),
        call("proxy_close_stream", &[1]),
        call("proxy_add_header_map_value", &[0, PATH_NAME[0] + 1, 4, PATH_NAME[0], PATH_NAME[1]]),
        call("proxy_set_header_map_pairs", &[2, CALLOUT_HEADERS[0], CALLOUT_HEADERS[1]]),
        call("proxy_set_buffer_bytes", &[0, 0, 9, 0, 9]),
        call("proxy_set_buffer_bytes", &[1, 0, 9, 0, 9]),
        call("proxy_set_property", &[PATH_NAME[0], PATH_NAME[1], PATH_NAME[0], PATH_NAME[1]]),
        call("proxy_clear_route_cache", &[]),
        call("proxy_done", &[]),
        callout([0, 0]),
    ]
    .concat()
}

fn reply(status: i64, body: [i64; 2]) -> String {
    call("proxy_send_local_response", &[status, 0, 0, body[0], body[1], 0, 0, -1])
}

fn calls_out_of_turn(table: &mut ModuleTable) {
    for (name, callback) in [
        ("everything-while-created", "proxy_on_context_create"),
        ("everything-while-logged", ON_LOG),
        ("everything-while-done", "proxy_on_done"),
        ("everything-while-deleted", "proxy_on_delete"),
        ("everything-in-the-answer", RESPONSE_BODY),
    ] {
        table.add(name, None, &ModuleParts::harmful_in(callback, all_stream_calls()));
    }
    let ticking = ModuleParts::harmful_in(ON_TICK, all_stream_calls()).always("proxy_on_configure", set_tick(10));
    table.add("everything-in-ticks", None, &ticking);
    let start = format!("(func $early {} {}) (start $early)", all_stream_calls(), call("proxy_log", &[2, 1_024, 8]));
    table.add("everything-in-the-start", None, &ModuleParts::default().with(start));
    let initialize = format!("(func (export \"_initialize\") {})", all_stream_calls());
    table.add("everything-in-initialize", None, &ModuleParts::default().with(initialize));
    let other = "(drop (call $proxy_set_effective_context (i32.sub (i32.const 60) (local.get $i))))";
    let others = times(60, &format!("{other} {}", all_stream_calls()));
    table.survives("other-contexts", others.clone());
    let ticking = ModuleParts::harmful_in(ON_TICK, others).always("proxy_on_configure", set_tick(10));
    table.add("other-contexts-in-ticks", None, &ticking);
    let never = ModuleParts::harmful_in("proxy_on_done", "(return (i32.const 0))")
        .and(ON_TICK, times(1_000, &call("proxy_done", &[])));
    table.add("never-done", None, &never.always("proxy_on_configure", set_tick(10)));
    table.survives("done-storm", times(20_000, &call("proxy_done", &[])));
    let calls = [call("proxy_continue_stream", &[0]), call("proxy_close_stream", &[0]), reply(200, [0, 0])].concat();
    table.survives("close-reply-and-continue", calls.clone());
    table.survives("asks-without-end", times(5_000, &calls));
    table.survives("never-continues", "(return (i32.const 1))");
    let unknown = "(import \"env\" \"proxy_from_tomorrow\" (func $tomorrow (param i32) (result i32)))";
    table.add(
        "calls-from-tomorrow",
        None,
        &ModuleParts::harmful_in(REQUEST_HEADERS, "(drop (call $tomorrow (i32.const 1)))").importing(unknown),
    );
    let unknown = "(import \"elsewhere\" \"thing\" (func $thing))";
    let parts = ModuleParts::harmful_in(REQUEST_HEADERS, "(call $thing)").importing(unknown);
    table.add("calls-to-elsewhere", Some("elsewhere.thing"), &parts);
}

/// Adds modules that pass malformed header lists.
fn lists(table: &mut ModuleTable) {
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
            call("proxy_http_call", &[PATH_NAME[0], 5, 3_000, size, 0, 0, 3_000, size, 0, OUT]),
        ];
        let parts = ModuleParts::harmful_in(REQUEST_HEADERS, times(500, &calls.concat())).with(data(3_000, &list));
        table.add(&format!("lists-{what}"), None, &parts);
    }
    // The largest number of entries, each a header "a" with an empty value.
    let mut full = number(&[1_024]);
    full.extend(number(&[1, 0]).repeat(1_024));
    full.extend(b"a\0\0".repeat(1_024));
    let size = i64::try_from(full.len()).unwrap();
    let set = times(100, &call("proxy_set_header_map_pairs", &[0, 3_000, size]));
    table.add("lists-that-are-full", None, &ModuleParts::harmful_in(REQUEST_HEADERS, set).with(data(3_000, &full)));
    let huge = call("proxy_set_header_map_pairs", &[0, BIG, BIG_SIZE]);
    table.survives("lists-of-a-megabyte", times(100, &huge));
}

fn bodies(table: &mut ModuleTable) {
    for (side, callback, buffer) in [("request", REQUEST_BODY, 0), ("response", RESPONSE_BODY, 1)] {
        let append = call("proxy_set_buffer_bytes", &[buffer, i64::from(i32::MAX), 0, BIG, 100_000]);
        let grown = ModuleParts::harmful_in(callback, format!("{LETTERS} {}", times(100, &append)));
        table.add(&format!("{side}-body-without-end"), None, &grown);
        let pause = format!("{append} (return (i32.const 1))");
        table.add(&format!("{side}-body-held-and-grown"), None, &ModuleParts::harmful_in(callback, pause));
        let crumbs = times(20_000, &call("proxy_set_buffer_bytes", &[buffer, 0, 0, 0, 1]));
        table.add(&format!("{side}-body-in-crumbs"), None, &ModuleParts::harmful_in(callback, crumbs));
    }
}

fn replies(table: &mut ModuleTable) {
    for status in [0, 99, 101, 199, 600, 70_000, -1] {
        table.survives(&format!("reply-of-status-{}", status & 0xffff_ffff), reply(status, [0, 0]));
    }
    table.survives("reply-of-a-megabyte", format!("{LETTERS} {}", reply(200, [BIG, BIG_SIZE])));
    table.survives("replies-of-a-megabyte", format!("{LETTERS} {}", times(90, &reply(200, [BIG, BIG_SIZE]))));
    table.survives("reply-after-reply", [reply(200, [PATH_NAME[0], PATH_NAME[1]]), reply(500, [0, 0])].concat());
    table.add(
        "reply-to-an-answer",
        None,
        &ModuleParts::harmful_in(RESPONSE_HEADERS, reply(418, [PATH_NAME[0], PATH_NAME[1]])),
    );
    table.add(
        "reply-within-an-answer",
        None,
        &ModuleParts::harmful_in(RESPONSE_BODY, reply(418, [PATH_NAME[0], PATH_NAME[1]])),
    );
    // One header "a" whose value splits the response.
    let list = [&[1, 0, 0, 0, 1, 0, 0, 0, 6, 0, 0, 0][..], b"a\0a\r\nb:c\0"].concat();
    let size = i64::try_from(list.len()).unwrap();
    let split =
        call("proxy_send_local_response", &[200, SPLITTING_HEADER[0], SPLITTING_HEADER[1], 0, 0, 3_000, size, -1]);
    table.add("reply-that-splits", None, &ModuleParts::harmful_in(REQUEST_HEADERS, split).with(data(3_000, &list)));
}

fn ends(table: &mut ModuleTable) {
    table.fails("exit", "exit code 0", call("proc_exit", &[0]));
    table.fails("exit-with-a-code", "exit code", call("proc_exit", &[-1]));
    table.add("exit-while-logged", Some("exit code 3"), &ModuleParts::harmful_in(ON_LOG, call("proc_exit", &[3])));
    table.fails("abort", "aborted", call("abort", &[BIG, -1, 0, 0]));
    table.survives("raise", call("proc_raise", &[9]));
    table.add("close-the-answer", None, &ModuleParts::harmful_in(RESPONSE_HEADERS, call("proxy_close_stream", &[1])));
}
