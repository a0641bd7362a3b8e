//! Cases of every hostcall in every callback of an HTTP stream.

use crate::case::{Case, RequestSpec};
use crate::probe_script::{pairs, quoted};

/// Callbacks of a stream from which each hostcall is made.
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

/// Returns the callbacks of a callout's response, each with the hostcall that starts the callout.
fn callout_callbacks() -> [(&'static str, String); 1] {
    [("http_call_response", http_call("/answer"))]
}

/// Returns an HTTP callout to the callout cluster.
pub(crate) fn http_call(path: &str) -> String {
    let headers = [(":method", "POST"), (":path", path), (":authority", "callout.test"), (":scheme", "http")];
    format!("proxy_http_call \"default/callout:80\" {} \"callout-body\" \"\" 2000", pairs(&headers))
}

/// Returns the callout cluster as a serialized `GrpcService`. Its authority is set, since the cluster's name has a
/// slash, which no authority may have.
fn grpc_service() -> String {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    quoted(field(1, &[field(1, b"default/callout:80"), field(2, b"callout.test")].concat()))
}

/// Returns a unary gRPC callout.
pub(crate) fn grpc_call(method: &str) -> String {
    let (metadata, service) = (pairs(&[("x-metadata", "sent")]), grpc_service());
    format!("proxy_grpc_call {service} \"test.Service\" \"{method}\" {metadata} \"message\" 2000")
}

/// Returns a hostcall that opens a gRPC stream.
pub(crate) fn grpc_stream(method: &str) -> String {
    let (metadata, service) = (pairs(&[("x-metadata", "sent")]), grpc_service());
    format!("proxy_grpc_stream {service} \"test.Service\" \"{method}\" {metadata}")
}

/// Returns hostcalls with arguments. Each is a case in each callback.
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
    let response_list = pairs(&[(":status", "202"), ("x-set", "1")]);
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
        format!("proxy_set_header_map_pairs 2 {response_list}"),
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

/// Returns one case for each hostcall in each callback.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for call in calls() {
        let is_callout = is_callout(&call);
        for callback in STREAM_CALLBACKS {
            let title = title(callback, &call);
            let mut steps = vec![format!("{callback} {call}")];
            if call.starts_with("proxy_grpc_stream") && !call.contains("nobody") {
                // An open stream lives until the guest closes it, since the origin waits for its end.
                steps.push(format!("{callback} proxy_grpc_send id \"message\" 1"));
            }
            let waits = is_callout && !call.contains("nobody");
            steps.extend(steps_until_response(callback, &call).filter(|_| waits).into_iter().flatten());
            let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
            let ignores_callout_responses = waits && steps_until_response(callback, &call).is_none();
            cases
                .push(Case { ignores_callout_responses, ..Case::new(title, &steps).with_request(RequestSpec::full()) });
        }
        if is_callout {
            continue;
        }
        for (callback, starts) in callout_callbacks() {
            let start = format!("request_headers {starts}");
            let hostcall = format!("{callback} {call}");
            let effective = format!("{callback} proxy_set_effective_context ctx");
            let resume = format!("{callback} proxy_continue_stream 0");
            let root = [&start, "request_headers return 1", &hostcall, &effective, &resume];
            cases.push(Case::new(title(callback, &call), &root).with_request(RequestSpec::full()));
            let stream = [&start, "request_headers return 1", &effective, &hostcall, &resume];
            cases.push(
                Case::new(title("http_call_response_of_stream", &call), &stream).with_request(RequestSpec::full()),
            );
        }
    }
    cases
}

/// Returns true if a hostcall starts a callout.
pub(crate) fn is_callout(call: &str) -> bool {
    ["proxy_http_call", "proxy_grpc_call", "proxy_grpc_stream"].iter().any(|name| call.starts_with(name))
}

/// Returns the steps that pause a stream in this callback until the callout's response. Without them the order of the
/// lines depends on timing. `None` if the callback cannot pause.
fn steps_until_response(callback: &str, call: &str) -> Option<Vec<String>> {
    let direction = match callback {
        "request_headers" => 0,
        "response_headers" => 1,
        _ => return None,
    };
    let mut steps = vec![format!("{callback} return 1"), "grpc_receive proxy_get_buffer_bytes 5 0 100".to_owned()];
    // A gRPC stream ends with `grpc_close`. A unary call ends with either a message or `grpc_close`.
    let last: &[&str] = match call.split(' ').next() {
        Some("proxy_http_call") => &["http_call_response"],
        Some("proxy_grpc_stream") => &["grpc_close"],
        _ => &["grpc_receive", "grpc_close"],
    };
    for callback_name in last {
        steps.push(format!("{callback_name} proxy_set_effective_context ctx"));
        steps.push(format!("{callback_name} proxy_continue_stream {direction}"));
    }
    Some(steps)
}

/// Returns the case's name, such as `log: proxy_log 2 "hello"`. Serialized lists and messages are shown as `…`.
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
