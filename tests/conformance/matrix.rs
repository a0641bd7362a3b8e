//! Every hostcall from every callback.

use crate::case::{Case, Sent};
use crate::guest::pairs;

/// Where a hostcall is made from.
const STREAM_CALLBACKS: [&str; 9] = [
    "request_headers", "request_body", "request_trailers", "response_headers", "response_body", "response_trailers",
    "done", "log", "delete",
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

/// A unary gRPC callout.
pub(crate) fn grpc_call(method: &str) -> String {
    let metadata = pairs(&[("x-metadata", "sent")]);
    format!("proxy_grpc_call \"default/callout:80\" \"test.Service\" \"{method}\" {metadata} \"message\" 2000")
}

/// A gRPC stream.
pub(crate) fn grpc_stream(method: &str) -> String {
    let metadata = pairs(&[("x-metadata", "sent")]);
    format!("proxy_grpc_stream \"default/callout:80\" \"test.Service\" \"{method}\" {metadata}")
}

/// Hostcalls with arguments, each a case in each callback.
pub(crate) fn calls() -> Vec<String> {
    let reply = format!(
        "proxy_send_local_response 403 \"because of it\" \"refused\" {} 4294967295",
        pairs(&[("x-reply", "yes")])
    );
    let lists = pairs(&[(":method", "PUT"), (":path", "/set"), (":authority", "set.test"), (":scheme", "http"), ("x-set", "1")]);
    let answer_list = pairs(&[(":status", "202"), ("x-set", "1")]);
    let trailer_list = pairs(&[("x-set", "1")]);
    let mut calls: Vec<String> = [
        "proxy_log 2 \"hello\"", "proxy_get_log_level", "proxy_get_current_time_nanoseconds",
        "proxy_set_tick_period_milliseconds 0", "proxy_get_status", "proxy_set_effective_context 99999",
        "proxy_set_effective_context ctx", "proxy_done",
        "proxy_call_foreign_function \"nothing\" \"x\"", "proxy_call_foreign_function \"compress\" \"hello world!\"",
        "proxy_get_property \"plugin_name\"", "proxy_get_property \"plugin_root_id\"", "proxy_get_property \"plugin_vm_id\"",
        "proxy_get_property \"request\\0path\"", "proxy_get_property \"request\\0headers\\0x-sent\"",
        "proxy_get_property \"response\\0code\"", "proxy_get_property \"nothing\"", "proxy_get_property \"\"",
        "proxy_set_property \"mine\" \"value\"",
        "proxy_get_header_map_size 0", "proxy_get_header_map_size 2",
        "proxy_get_header_map_pairs 0", "proxy_get_header_map_pairs 1", "proxy_get_header_map_pairs 2",
        "proxy_get_header_map_pairs 3", "proxy_get_header_map_pairs 6", "proxy_get_header_map_pairs 4",
        "proxy_get_header_map_pairs 8",
        "proxy_get_header_map_value 0 \"x-sent\"", "proxy_get_header_map_value 0 \"X-Sent\"",
        "proxy_get_header_map_value 0 \"x-missing\"", "proxy_get_header_map_value 1 \"x-sent-trailer\"",
        "proxy_get_header_map_value 2 \"x-origin\"", "proxy_get_header_map_value 3 \"x-origin-trailer\"",
        "proxy_get_header_map_value 6 \"x-callout\"",
        "proxy_add_header_map_value 0 \"x-added\" \"1\"", "proxy_add_header_map_value 1 \"x-added\" \"1\"",
        "proxy_add_header_map_value 2 \"x-added\" \"1\"", "proxy_add_header_map_value 3 \"x-added\" \"1\"",
        "proxy_add_header_map_value 6 \"x-added\" \"1\"",
        "proxy_replace_header_map_value 0 \"x-sent\" \"replaced\"",
        "proxy_replace_header_map_value 2 \"x-origin\" \"replaced\"",
        "proxy_remove_header_map_value 0 \"x-sent\"", "proxy_remove_header_map_value 0 \"x-missing\"",
        "proxy_remove_header_map_value 2 \"x-origin\"",
        "proxy_get_buffer_bytes 0 0 100", "proxy_get_buffer_bytes 0 8 2", "proxy_get_buffer_bytes 0 99 1",
        "proxy_get_buffer_bytes 1 0 100", "proxy_get_buffer_bytes 4 0 100", "proxy_get_buffer_bytes 5 0 100",
        "proxy_get_buffer_bytes 6 0 9", "proxy_get_buffer_bytes 8 0 9", "proxy_get_buffer_bytes 9 0 9",
        "proxy_get_buffer_status 0", "proxy_get_buffer_status 1", "proxy_get_buffer_status 6",
        "proxy_set_buffer_bytes 0 0 100 \"REPLACED\"", "proxy_set_buffer_bytes 1 0 100 \"REPLACED\"",
        "proxy_set_buffer_bytes 0 0 0 \"before \"", "proxy_set_buffer_bytes 1 100 0 \" after\"",
        "proxy_set_buffer_bytes 7 0 1 \"x\"",
        "proxy_continue_stream 0", "proxy_continue_stream 1", "proxy_continue_stream 2", "proxy_continue_stream 4",
        "proxy_close_stream 0", "proxy_close_stream 1", "proxy_close_stream 4",
        "proxy_grpc_send 6 \"x\" 0", "proxy_grpc_send 5 \"x\" 0", "proxy_grpc_close 6", "proxy_grpc_close 5",
        "proxy_grpc_cancel 6", "proxy_grpc_cancel 5",
        "proxy_get_shared_data \"never\"", "proxy_set_shared_data \"unversioned\" \"value\" 0",
        "proxy_set_shared_data \"unversioned\" \"value\" 4000000000",
        "proxy_register_shared_queue \"queue\"", "proxy_resolve_shared_queue \"\" \"queue\"",
        "proxy_resolve_shared_queue \"\" \"never\"", "proxy_enqueue_shared_queue 99 \"x\"",
        "proxy_dequeue_shared_queue 99",
        "proxy_define_metric 0 \"counter\"", "proxy_define_metric 3 \"none\"", "proxy_increment_metric 4 1",
        "proxy_increment_metric 4 -1", "proxy_increment_metric 9999 1", "proxy_record_metric 9999 1", "proxy_get_metric 9999",
    ].map(str::to_owned).to_vec();
    calls.extend([
        format!("proxy_set_header_map_pairs 0 {lists}"), format!("proxy_set_header_map_pairs 2 {answer_list}"),
        format!("proxy_set_header_map_pairs 1 {trailer_list}"), format!("proxy_set_header_map_pairs 3 {trailer_list}"),
        format!("proxy_set_header_map_pairs 6 {trailer_list}"),
        reply, http_call("/answer"), http_call("/answer").replace("callout:80", "nobody:80"),
        grpc_call("Unary"), grpc_stream("Stream"), grpc_call("Unary").replace("callout:80", "nobody:80"),
    ]);
    calls
}

/// One case for each hostcall in each callback.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for call in calls() {
        for callback in STREAM_CALLBACKS {
            cases.push(Case::new(title(callback, &call), &[&format!("{callback} {call}")]).sending(Sent::whole()));
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

/// `proxy_log(2, "hello") in log`, with what is long left out.
fn title(callback: &str, call: &str) -> String {
    let short: String = call.chars().take(70).collect();
    format!("{callback}: {}", short.replace('|', "/"))
}
