//! Every hostcall from every callback.

use crate::case::{Case, Sent};
use crate::guest::{pairs, quoted};

/// Where a hostcall is made from.
const STREAM_CALLBACKS: [&str; 9] = [
    "request_headers",
    "request_body",
    "request_trailers",
    "response_headers",
    "response_body",
    "response_trailers",
    "done",
    "log",
    "delete",
];

/// The callbacks of a callout's answer, and what makes the callout.
fn callout_callbacks() -> [(&'static str, String); 1] {
    [("http_call_response", http_call("/answer"))]
}

/// A callout to the other cluster.
pub(crate) fn http_call(path: &str) -> String {
    let headers = [(":method", "POST"), (":path", path), (":authority", "callout.test"), (":scheme", "http")];
    format!("proxy_http_call \"default/callout:80\" {} \"callout-body\" \"\" 2000", pairs(&headers))
}

/// The cluster of callouts, as a serialised `GrpcService`: its name has a slash, which no authority may have.
fn grpc_service() -> String {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    quoted(field(1, &[field(1, b"default/callout:80"), field(2, b"callout.test")].concat()))
}

/// A unary gRPC callout.
pub(crate) fn grpc_call(method: &str) -> String {
    let (metadata, service) = (pairs(&[("x-metadata", "sent")]), grpc_service());
    format!("proxy_grpc_call {service} \"test.Service\" \"{method}\" {metadata} \"message\" 2000")
}

/// A gRPC stream.
pub(crate) fn grpc_stream(method: &str) -> String {
    let (metadata, service) = (pairs(&[("x-metadata", "sent")]), grpc_service());
    format!("proxy_grpc_stream {service} \"test.Service\" \"{method}\" {metadata}")
}

/// Hostcalls with arguments, each a case in each callback.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(crate) fn calls() -> Vec<String> {
    let reply = format!(
        "proxy_send_local_response 403 \"because of it\" \"refused\" {} 4294967295",
        pairs(&[("x-reply", "yes")])
    );
    let lists = pairs(&[
        (":method", "PUT"),
        (":path", "/set"),
        (":authority", "set.test"),
        (":scheme", "http"),
        ("x-set", "1"),
    ]);
    let answer_list = pairs(&[(":status", "202"), ("x-set", "1")]);
    let trailer_list = pairs(&[("x-set", "1")]);
    let mut calls: Vec<String> = [
        "proxy_log 2 \"hello\"",
        "proxy_get_log_level",
        "proxy_get_current_time_nanoseconds",
        "proxy_set_tick_period_milliseconds 0",
        "proxy_get_status",
        "proxy_set_effective_context 99999",
        "proxy_set_effective_context ctx",
        "proxy_done",
        "proxy_call_foreign_function \"nothing\" \"x\"",
        "proxy_call_foreign_function \"compress\" \"hello world!\"",
        "proxy_get_property \"plugin_name\"",
        "proxy_get_property \"plugin_root_id\"",
        "proxy_get_property \"plugin_vm_id\"",
        "proxy_get_property \"request\\0path\"",
        "proxy_get_property \"request\\0headers\\0x-sent\"",
        "proxy_get_property \"response\\0code\"",
        "proxy_get_property \"nothing\"",
        "proxy_get_property \"\"",
        "proxy_set_property \"mine\" \"value\"",
        "proxy_get_header_map_size 0",
        "proxy_get_header_map_size 2",
        "proxy_get_header_map_pairs 0",
        "proxy_get_header_map_pairs 1",
        "proxy_get_header_map_pairs 2",
        "proxy_get_header_map_pairs 3",
        "proxy_get_header_map_pairs 6",
        "proxy_get_header_map_pairs 4",
        "proxy_get_header_map_pairs 8",
        "proxy_get_header_map_value 0 \"x-sent\"",
        "proxy_get_header_map_value 0 \"X-Sent\"",
        "proxy_get_header_map_value 0 \"x-missing\"",
        "proxy_get_header_map_value 1 \"x-sent-trailer\"",
        "proxy_get_header_map_value 2 \"x-origin\"",
        "proxy_get_header_map_value 3 \"x-origin-trailer\"",
        "proxy_get_header_map_value 6 \"x-callout\"",
        "proxy_add_header_map_value 0 \"x-added\" \"1\"",
        "proxy_add_header_map_value 1 \"x-added\" \"1\"",
        "proxy_add_header_map_value 2 \"x-added\" \"1\"",
        "proxy_add_header_map_value 3 \"x-added\" \"1\"",
        "proxy_add_header_map_value 6 \"x-added\" \"1\"",
        "proxy_replace_header_map_value 0 \"x-sent\" \"replaced\"",
        "proxy_replace_header_map_value 2 \"x-origin\" \"replaced\"",
        "proxy_remove_header_map_value 0 \"x-sent\"",
        "proxy_remove_header_map_value 0 \"x-missing\"",
        "proxy_remove_header_map_value 2 \"x-origin\"",
        "proxy_get_buffer_bytes 0 0 100",
        "proxy_get_buffer_bytes 0 8 2",
        "proxy_get_buffer_bytes 0 99 1",
        "proxy_get_buffer_bytes 1 0 100",
        "proxy_get_buffer_bytes 4 0 100",
        "proxy_get_buffer_bytes 5 0 100",
        "proxy_get_buffer_bytes 6 0 9",
        "proxy_get_buffer_bytes 8 0 9",
        "proxy_get_buffer_bytes 9 0 9",
        "proxy_get_buffer_status 0",
        "proxy_get_buffer_status 1",
        "proxy_get_buffer_status 6",
        "proxy_set_buffer_bytes 0 0 100 \"REPLACED\"",
        "proxy_set_buffer_bytes 1 0 100 \"REPLACED\"",
        "proxy_set_buffer_bytes 0 0 0 \"before \"",
        "proxy_set_buffer_bytes 1 100 0 \" after\"",
        "proxy_set_buffer_bytes 7 0 1 \"x\"",
        "proxy_continue_stream 0",
        "proxy_continue_stream 1",
        "proxy_continue_stream 2",
        "proxy_continue_stream 4",
        "proxy_close_stream 0",
        "proxy_close_stream 1",
        "proxy_close_stream 4",
        "proxy_grpc_send 6 \"x\" 0",
        "proxy_grpc_send 5 \"x\" 0",
        "proxy_grpc_close 6",
        "proxy_grpc_close 5",
        "proxy_grpc_cancel 6",
        "proxy_grpc_cancel 5",
        "proxy_get_shared_data \"never\"",
        "proxy_set_shared_data \"unversioned\" \"value\" 0",
        "proxy_set_shared_data \"unversioned\" \"value\" 4000000000",
        "proxy_register_shared_queue \"queue\"",
        "proxy_resolve_shared_queue \"\" \"queue\"",
        "proxy_resolve_shared_queue \"\" \"never\"",
        "proxy_enqueue_shared_queue 99 \"x\"",
        "proxy_dequeue_shared_queue 99",
        "proxy_define_metric 0 \"counter\"",
        "proxy_define_metric 3 \"none\"",
        "proxy_increment_metric 4 1",
        "proxy_increment_metric 4 -1",
        "proxy_increment_metric 9999 1",
        "proxy_record_metric 9999 1",
        "proxy_get_metric 9999",
    ]
    .map(str::to_owned)
    .to_vec();
    calls.extend([
        format!("proxy_set_header_map_pairs 0 {lists}"),
        format!("proxy_set_header_map_pairs 2 {answer_list}"),
        format!("proxy_set_header_map_pairs 1 {trailer_list}"),
        format!("proxy_set_header_map_pairs 3 {trailer_list}"),
        format!("proxy_set_header_map_pairs 6 {trailer_list}"),
        reply,
        http_call("/answer"),
        http_call("/answer").replace("callout:80", "nobody:80"),
        grpc_call("Unary"),
        grpc_call("Fail"),
        grpc_stream("Stream"),
        "proxy_grpc_call \"default/nobody:80\" \"test.Service\" \"Unary\" \"\" \"message\" 2000".to_owned(),
        "proxy_grpc_stream \"default/nobody:80\" \"test.Service\" \"Stream\" \"\"".to_owned(),
    ]);
    calls
}

/// One case for each hostcall in each callback.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for call in calls() {
        let calls_out =
            ["proxy_http_call", "proxy_grpc_call", "proxy_grpc_stream"].iter().any(|it| call.starts_with(it));
        for callback in STREAM_CALLBACKS {
            let title = title(callback, &call);
            let mut steps = vec![format!("{callback} {call}")];
            if call.starts_with("proxy_grpc_stream") && !call.contains("nobody") {
                // A stream that is left open would last as long as the origin waits for its end.
                steps.push(format!("{callback} proxy_grpc_send id \"message\" 1"));
            }
            let waits = calls_out && !call.contains("nobody");
            steps.extend(waiting(callback, &call).filter(|_| waits).into_iter().flatten());
            let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
            let leaves_answers_out = waits && waiting(callback, &call).is_none();
            cases.push(Case { leaves_answers_out, ..Case::new(title, &steps).sending(Sent::whole()) });
        }
        if calls_out {
            continue;
        }
        for (callback, starts) in callout_callbacks() {
            let start = format!("request_headers {starts}");
            let made = format!("{callback} {call}");
            let effective = format!("{callback} proxy_set_effective_context ctx");
            let goes_on = format!("{callback} proxy_continue_stream 0");
            let root = [&start, "request_headers return 1", &made, &effective, &goes_on];
            cases.push(Case::new(title(callback, &call), &root).sending(Sent::whole()));
            let stream = [&start, "request_headers return 1", &effective, &made, &goes_on];
            cases.push(Case::new(title("http_call_response_of_stream", &call), &stream).sending(Sent::whole()));
        }
    }
    cases
}

/// How a stream waits for a callout's answer in this callback, so that what it says does not depend on which is faster.
fn waiting(callback: &str, call: &str) -> Option<Vec<String>> {
    let direction = match callback {
        "request_headers" => 0,
        "response_headers" => 1,
        _ => return None,
    };
    let mut steps = vec![format!("{callback} return 1"), "grpc_receive proxy_get_buffer_bytes 5 0 100".to_owned()];
    // A stream of messages ends with its close; a call brings either a message or a close.
    let last: &[&str] = match call.split(' ').next() {
        Some("proxy_http_call") => &["http_call_response"],
        Some("proxy_grpc_stream") => &["grpc_close"],
        _ => &["grpc_receive", "grpc_close"],
    };
    for answer in last {
        steps.push(format!("{answer} proxy_set_effective_context ctx"));
        steps.push(format!("{answer} proxy_continue_stream {direction}"));
    }
    Some(steps)
}

/// `log: proxy_log 2 "hello"`; serialised lists and messages, which say nothing to people, are left out.
pub(crate) fn title(callback: &str, call: &str) -> String {
    let mut shown = String::new();
    for (number, part) in call.split('"').enumerate() {
        match number % 2 {
            1 if part.contains("\\x") => shown.push('…'),
            1 => shown.push_str(&format!("\"{part}\"")),
            _ => shown.push_str(part),
        }
    }
    format!("{callback}: {}", shown.trim_end())
}
