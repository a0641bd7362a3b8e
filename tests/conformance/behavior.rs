//! Cases of a filter's effects on its stream and on state that filters share.

use crate::case::{Case, RequestSpec};
use crate::matrix::http_call;
use crate::probe_script::pairs;

/// Returns every case of this file except those of WASI.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(bodies());
    cases.extend(pauses());
    cases.extend(heads());
    cases.extend(replies());
    cases.extend(shared());
    cases.extend(callouts());
    cases.extend(pointers());
    cases
}

/// Returns two cases that run `steps` on a request with a body: with trailers and without.
fn with_bodies(name: &str, steps: &[&str]) -> [Case; 2] {
    let plain = RequestSpec { trailers: false, ..RequestSpec::full() };
    [
        Case::new(format!("{name}, then trailers"), steps).with_request(RequestSpec::full()),
        Case::new(name, steps).with_request(plain),
    ]
}

fn bodies() -> Vec<Case> {
    let writes: [(&str, &str); 9] = [
        ("replaces", "0 100 \"NEW\""),
        ("replaces by nothing", "0 100 \"\""),
        ("prepends", "0 0 \"NEW \""),
        ("appends", "2147483647 0 \" NEW\""),
        ("appends at the end", "12 0 \" NEW\""),
        ("cuts off the beginning", "0 3 \"\""),
        ("replaces the beginning", "0 3 \"NEW\""),
        ("writes into the middle", "3 2 \"NEW\""),
        ("makes it longer", "0 100 \"a body that is longer than what there was before\""),
    ];
    let mut cases = Vec::new();
    for (label, write) in writes {
        let request = format!("request_body proxy_set_buffer_bytes 0 {write}");
        let read = "request_body proxy_get_buffer_bytes 0 0 100";
        cases.extend(with_bodies(&format!("a request body: {label}"), &[&request, read]));
        let response = format!("response_body proxy_set_buffer_bytes 1 {write}");
        let read = "response_body proxy_get_buffer_bytes 1 0 100";
        cases
            .push(Case::new(format!("a response body: {label}"), &[&response, read]).with_request(RequestSpec::full()));
    }
    for action in [1, 2, 3] {
        let step = format!("request_body return {action}");
        let go_on = ["request_trailers proxy_get_buffer_bytes 0 0 100", "request_trailers return 0"];
        let steps = [step.as_str(), go_on[0], go_on[1]];
        cases.push(Case::new(format!("a request body: return {action}"), &steps).with_request(RequestSpec::full()));
        let step = format!("response_body return {action}");
        let steps = [step.as_str(), "response_trailers proxy_get_buffer_bytes 1 0 100"];
        cases.push(Case::new(format!("a response body: return {action}"), &steps).with_request(RequestSpec::full()));
    }
    cases
}

fn pauses() -> Vec<Case> {
    let mut cases = Vec::new();
    for (callback, direction) in [
        ("request_headers", 0),
        ("request_body", 0),
        ("request_trailers", 0),
        ("response_headers", 1),
        ("response_body", 1),
        ("response_trailers", 1),
    ] {
        for action in [1, 3, 4, 9] {
            let mut steps = vec![
                format!("{callback} {}", http_call("/answer")),
                format!("{callback} return {action}"),
                "http_call_response proxy_get_header_map_value 6 \":status\"".to_owned(),
                "http_call_response proxy_get_buffer_bytes 4 0 100".to_owned(),
                "http_call_response proxy_get_header_map_value 7 \"x-callout-trailer\"".to_owned(),
                "http_call_response proxy_set_effective_context ctx".to_owned(),
                format!("http_call_response proxy_continue_stream {direction}"),
            ];
            // Trailers resume a paused body, so the trailers pause until the callout's response, too. It arrives long
            // after them, since they are sent with the body.
            steps.extend(callback.strip_suffix("_body").map(|message| format!("{message}_trailers return 1")));
            let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
            cases.push(
                Case::new(format!("{callback}: return {action} until a callout"), &steps)
                    .with_request(RequestSpec::full()),
            );
        }
    }
    cases
}

fn heads() -> Vec<Case> {
    let request = |label: &str, steps: &[&str]| {
        let mut steps: Vec<String> = steps.iter().map(|step| format!("request_headers {step}")).collect();
        steps.push("request_headers proxy_get_header_map_pairs 0".to_owned());
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        Case::new(format!("a request head: {label}"), &steps)
    };
    let response = |label: &str, steps: &[&str]| {
        let mut steps: Vec<String> = steps.iter().map(|step| format!("response_headers {step}")).collect();
        steps.push("response_headers proxy_get_header_map_pairs 2".to_owned());
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        Case::new(format!("a response head: {label}"), &steps)
    };
    vec![
        request(
            "adds the same twice",
            &["proxy_add_header_map_value 0 \"x-a\" \"1\"", "proxy_add_header_map_value 0 \"x-a\" \"2\""],
        ),
        request(
            "replaces what it added",
            &[
                "proxy_add_header_map_value 0 \"x-a\" \"1\"",
                "proxy_add_header_map_value 0 \"x-a\" \"2\"",
                "proxy_replace_header_map_value 0 \"x-a\" \"3\"",
            ],
        ),
        request(
            "in capitals",
            &["proxy_replace_header_map_value 0 \"X-Sent\" \"Loud\"", "proxy_add_header_map_value 0 \"X-New\" \"1\""],
        ),
        request("removes in capitals", &["proxy_remove_header_map_value 0 \"X-Sent\""]),
        request(
            "an empty value",
            &["proxy_replace_header_map_value 0 \"x-sent\" \"\"", "proxy_get_header_map_value 0 \"x-sent\""],
        ),
        request(
            "bytes above ASCII",
            &["proxy_replace_header_map_value 0 \"x-sent\" \"\\xff\\xfe\"", "proxy_get_header_map_value 0 \"x-sent\""],
        ),
        request("another method", &["proxy_replace_header_map_value 0 \":method\" \"DELETE\""]),
        request("another path", &["proxy_replace_header_map_value 0 \":path\" \"/case/other?x=1\""]),
        request("another authority", &["proxy_replace_header_map_value 0 \":authority\" \"other.test\""]),
        request("reads the authority", &["proxy_get_header_map_value 0 \":authority\""]),
        request("a long value", &[&format!("proxy_replace_header_map_value 0 \"x-sent\" \"{}\"", "x".repeat(4_000))]),
        response("another status", &["proxy_replace_header_map_value 2 \":status\" \"202\""]),
        response("a status nobody knows", &["proxy_replace_header_map_value 2 \":status\" \"299\""]),
        response(
            "repeated headers",
            &["proxy_get_header_map_value 2 \"x-two\"", "proxy_remove_header_map_value 2 \"x-two\""],
        ),
        response("replaces repeated headers", &["proxy_replace_header_map_value 2 \"x-two\" \"one\""]),
        response(
            "adds a cookie",
            &[
                "proxy_add_header_map_value 2 \"set-cookie\" \"a=1\"",
                "proxy_add_header_map_value 2 \"set-cookie\" \"b=2\"",
            ],
        ),
        Case::new("trailers: added in a body callback", &["request_body proxy_add_header_map_value 1 \"x-new\" \"1\""])
            .with_request(RequestSpec { trailers: false, ..RequestSpec::full() }),
        Case::new(
            "trailers: changed",
            &[
                "request_trailers proxy_replace_header_map_value 1 \"x-sent-trailer\" \"changed\"",
                "request_trailers proxy_add_header_map_value 1 \"x-new\" \"1\"",
                "response_trailers proxy_remove_header_map_value 3 \"x-origin-trailer\"",
                "response_trailers proxy_add_header_map_value 3 \"x-new\" \"1\"",
            ],
        )
        .with_request(RequestSpec::full()),
    ]
}

fn reply(status: u32, details: &str, body: &str, headers: &[(&str, &str)], grpc: i64) -> String {
    format!("proxy_send_local_response {status} \"{details}\" \"{body}\" {} {grpc}", pairs(headers))
}

fn replies() -> Vec<Case> {
    let mut cases = Vec::new();
    let grpc = || RequestSpec {
        method: "POST",
        headers: vec![("x-sent", "yes"), ("content-type", "application/grpc")],
        body: "\0\0\0\0\0",
        ..RequestSpec::default()
    };
    for (label, made) in [
        ("plain", reply(403, "why", "refused", &[], -1)),
        ("without a body", reply(204, "", "", &[], -1)),
        ("with headers", reply(401, "why", "who?", &[("www-authenticate", "Basic"), ("x-a", "1"), ("x-a", "2")], -1)),
        ("with a content type", reply(418, "why", "{}", &[("content-type", "application/json")], -1)),
        ("a redirect", reply(302, "why", "", &[("location", "/elsewhere")], -1)),
        ("of a server's kind", reply(503, "why", "later", &[], -1)),
        ("with a gRPC status", reply(403, "why", "refused", &[], 7)),
        ("with a gRPC status that is none", reply(403, "why", "refused", &[], 99)),
    ] {
        for callback in ["request_headers", "request_body", "request_trailers", "response_headers"] {
            let step = format!("{callback} {made}");
            let pause = format!("{callback} return 1");
            cases.push(
                Case::new(format!("a reply {label} from {callback}"), &[&step, &pause])
                    .with_request(RequestSpec::full()),
            );
        }
        let step = format!("request_headers {made}");
        cases.push(
            Case::new(format!("a reply {label} to gRPC"), &[&step, "request_headers return 1"]).with_request(grpc()),
        );
    }
    let (first, second) = (reply(403, "one", "first", &[], -1), reply(404, "two", "second", &[], -1));
    let [first, second] = [first, second].map(|reply| format!("request_headers {reply}"));
    cases.push(Case::new("a reply: two of them", &[&first, &second, "request_headers return 1"]));
    cases.push(Case::new("a reply, and goes on", &[&first, "request_headers return 0"]));
    cases.push(Case::new(
        "a reply that its own filter sees",
        &[
            &first,
            "request_headers return 1",
            "response_headers proxy_add_header_map_value 2 \"x-seen\" \"yes\"",
            "response_headers proxy_get_property \"response\\0code_details\"",
        ],
    ));
    cases
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn shared() -> Vec<Case> {
    let case = |label: &str, steps: &[&str]| {
        let steps: Vec<String> = steps.iter().map(|step| format!("request_headers {step}")).collect();
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        Case::new(format!("shared: {label}"), &steps)
    };
    vec![
        case(
            "a value and its versions",
            &[
                "proxy_set_shared_data \"key\" \"one\" 0",
                "proxy_set_shared_data \"key\" \"two\" 4000000000",
                "proxy_set_shared_data \"key\" \"\" 0",
                "proxy_set_shared_data \"\" \"no key\" 0",
            ],
        ),
        case(
            "a queue",
            &[
                "proxy_register_shared_queue \"q\"",
                "proxy_enqueue_shared_queue id \"one\"",
                "proxy_enqueue_shared_queue id \"\"",
                "proxy_dequeue_shared_queue id",
                "proxy_dequeue_shared_queue id",
                "proxy_dequeue_shared_queue id",
                "proxy_resolve_shared_queue \"\" \"q\"",
                "proxy_resolve_shared_queue \"nobody\" \"q\"",
            ],
        ),
        case(
            "a counter",
            &[
                "proxy_define_metric 0 \"c\"",
                "proxy_increment_metric id 5",
                "proxy_record_metric id 2",
                "proxy_get_metric id",
                "proxy_increment_metric id 0",
                "proxy_increment_metric id -1",
                "proxy_get_metric id",
            ],
        ),
        case(
            "a gauge",
            &[
                "proxy_define_metric 1 \"g\"",
                "proxy_increment_metric id 5",
                "proxy_increment_metric id -2",
                "proxy_get_metric id",
                "proxy_record_metric id 9",
                "proxy_get_metric id",
            ],
        ),
        case(
            "a histogram",
            &[
                "proxy_define_metric 2 \"h\"",
                "proxy_record_metric id 5",
                "proxy_increment_metric id 1",
                "proxy_get_metric id",
            ],
        ),
        case(
            "a metric that is not there",
            &[
                "proxy_increment_metric 40000 1",
                "proxy_record_metric 40000 1",
                "proxy_get_metric 40000",
                "proxy_increment_metric 40001 1",
                "proxy_get_metric 40001",
                "proxy_record_metric 40002 1",
                "proxy_get_metric 40002",
            ],
        ),
        case(
            "a property",
            &[
                "proxy_set_property \"own\" \"value\"",
                "proxy_get_property \"own\"",
                "proxy_set_property \"own\" \"other\"",
                "proxy_get_property \"own\"",
                "proxy_set_property \"\" \"value\"",
            ],
        ),
        case(
            "a property of two segments",
            &["proxy_set_property \"own\\0part\" \"value\"", "proxy_get_property \"own\\0part\""],
        ),
        case(
            "a property of a built-in name",
            &["proxy_set_property \"request\\0path\" \"/spoofed\"", "proxy_get_property \"request\\0path\""],
        ),
        case(
            "a declared property",
            &[
                "proxy_call_foreign_function \"declare_property\" \"\\x0a\\x08declared\\x10\\x01\"",
                "proxy_call_foreign_function \"declare_property\" \"\\x0a\\x08declared\\x10\\x01\"",
                "proxy_set_property \"declared\" \"once\"",
                "proxy_set_property \"declared\" \"twice\"",
                "proxy_get_property \"declared\"",
            ],
        ),
        case(
            "functions of the host",
            &[
                "proxy_call_foreign_function \"clear_route_cache\" \"\"",
                "proxy_call_foreign_function \"uncompress\" \"x\\x9c\\xcbH\\xcd\\xc9\\xc9W(\\xcf/\\xcaIQ\\x04\\x00\\x1e\\x89\\x04~\"",
                "proxy_call_foreign_function \"uncompress\" \"nonsense\"",
                "proxy_call_foreign_function \"compress\" \"\"",
                "proxy_call_foreign_function \"verify_signature\" \"\"",
                "proxy_call_foreign_function \"set_envoy_filter_state\" \"\\x0a\\x07nothing\\x12\\x01x\"",
            ],
        ),
    ]
}

fn callouts() -> Vec<Case> {
    let case =
        |label: &str, call: &str| Case::new(format!("a callout: {label}"), &[&format!("request_headers {call}")]);
    let full = [(":method", "GET"), (":path", "/x"), (":authority", "a"), (":scheme", "http")];
    let without = |name: &str| pairs(&full.iter().filter(|(key, _)| *key != name).copied().collect::<Vec<_>>());
    let call = |list: &str, timeout: i64| format!("proxy_http_call \"default/callout:80\" {list} \"\" \"\" {timeout}");
    vec![
        case("without a method", &call(&without(":method"), 1000)),
        case("without a path", &call(&without(":path"), 1000)),
        case("without an authority", &call(&without(":authority"), 1000)),
        case("without headers", &call("\"\"", 1000)),
        case("with a time below zero", &call(&pairs(&full), -1)),
        case("to nobody", "proxy_http_call \"\" \"\" \"\" \"\" 1000"),
        case("with a broken list", &call("\"\\xff\\xff\\xff\\xff\"", 1000)),
        case("of gRPC to nobody", "proxy_grpc_call \"nobody\" \"s\" \"m\" \"\" \"\" 1000"),
        case("of gRPC, sent to the wrong kind", "proxy_grpc_send 4 \"x\" 0"),
        case("of gRPC, closed that is HTTP", "proxy_grpc_close 4"),
        case("of gRPC, cancelled that is HTTP", "proxy_grpc_cancel 4"),
        with_trailers(&pairs(&full)),
    ]
}

/// Returns a case of an HTTP callout with trailers. The callout's origin repeats them in its response.
fn with_trailers(headers: &str) -> Case {
    let trailers = pairs(&[("x-sent-in-callout", "yes")]);
    let steps = [
        &format!("request_headers proxy_http_call \"default/callout:80\" {headers} \"body\" {trailers} 2000"),
        "request_headers return 1",
        "http_call_response proxy_get_buffer_bytes 4 0 100",
        "http_call_response proxy_set_effective_context ctx",
        "http_call_response proxy_continue_stream 0",
    ];
    Case::new("a callout: with trailers", &steps)
}

/// Returns cases with invalid addresses and numbers, for each family of hostcalls.
fn pointers() -> Vec<Case> {
    let calls = [
        "proxy_log 2 @-16,64",
        "proxy_log 2 @0,-1",
        "proxy_log 9 \"text\"",
        "proxy_get_property @-4,8",
        "proxy_set_property @-4,8 \"x\"",
        "proxy_set_property \"x\" @-4,8",
        "proxy_get_header_map_value 0 @-4,8",
        "proxy_get_header_map_value 99 \"x\"",
        "proxy_add_header_map_value 0 @-4,8 \"x\"",
        "proxy_add_header_map_value 99 \"x\" \"x\"",
        "proxy_replace_header_map_value 0 \"x\" @-4,8",
        "proxy_remove_header_map_value 0 @-4,8",
        "proxy_get_header_map_pairs 99",
        "proxy_set_header_map_pairs 0 @-4,8",
        "proxy_get_buffer_bytes 99 0 1",
        "proxy_get_buffer_status 99",
        "proxy_set_buffer_bytes 99 0 0 \"x\"",
        "proxy_continue_stream 99",
        "proxy_close_stream 99",
        "proxy_get_shared_data @-4,8",
        "proxy_set_shared_data @-4,8 \"x\" 0",
        "proxy_register_shared_queue @-4,8",
        "proxy_enqueue_shared_queue 1 @-4,8",
        "proxy_define_metric 0 @-4,8",
        "proxy_define_metric 99 \"x\"",
        "proxy_http_call @-4,8 \"\" \"\" \"\" 1",
        "proxy_grpc_call @-4,8 \"\" \"\" \"\" \"\" 1",
        "proxy_call_foreign_function @-4,8 \"\"",
        "proxy_call_foreign_function \"compress\" @-4,8",
        "proxy_set_effective_context 0",
    ];
    calls.iter().map(|call| Case::new(format!("bad: {call}"), &[&format!("request_headers {call}")])).collect()
}

/// Returns cases of the WASI calls that both proxies have.
pub(crate) fn wasi() -> Vec<Case> {
    let calls = [
        "args_get",
        "args_sizes_get",
        "clock_res_get 0",
        "clock_res_get 9",
        "clock_time_get 0 0",
        "clock_time_get 1 0",
        "clock_time_get 9 0",
        "environ_get",
        "environ_sizes_get",
        "fd_advise 1 0 0 0",
        "fd_allocate 1 0 0",
        "fd_allocate 9 0 0",
        "fd_close 1",
        "fd_close 9",
        "fd_datasync 1",
        "fd_datasync 9",
        "fd_fdstat_get 1",
        "fd_fdstat_get 9",
        "fd_fdstat_set_flags 1 0",
        "fd_fdstat_set_rights 1 0 0",
        "fd_filestat_get 1",
        "fd_filestat_set_size 1 0",
        "fd_filestat_set_times 1 0 0 0",
        "fd_pread 1 0 0 0",
        "fd_prestat_dir_name 3",
        "fd_prestat_get 3",
        "fd_pwrite 1 \"text\" 0",
        "fd_pwrite 9 \"text\" 0",
        "fd_read 0 0 0",
        "fd_readdir 3 0 0 0",
        "fd_renumber 1 2",
        "fd_seek 1 0 0",
        "fd_sync 1",
        "fd_sync 9",
        "fd_tell 1",
        "fd_write 1 \"text\"",
        "fd_write 2 \"text\"",
        "fd_write 9 \"text\"",
        "path_create_directory 3 \"x\"",
        "path_filestat_get 3 0 \"x\"",
        "path_filestat_set_times 3 0 \"x\" 0 0 0",
        "path_open 3 0 \"x\" 0 0 0 0",
        "path_readlink 3 \"x\" 0 0",
        "path_remove_directory 3 \"x\"",
        "path_rename 3 \"x\" 3 \"y\"",
        "path_unlink_file 3 \"x\"",
        "poll_oneoff 0 0 0",
        "random_get",
        "sched_yield",
        "sock_accept 1 0",
        "sock_recv 1 0 0 0",
        "sock_send 1 0 0 0",
        "sock_shutdown 1 0",
    ];
    calls.iter().map(|call| Case::new(format!("WASI: {call}"), &[&format!("request_headers {call}")])).collect()
}
