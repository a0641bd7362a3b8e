//! Tests of every Proxy-Wasm hostcall, made by a guest: its status, its result in the guest's memory, and its effect on
//! the host.

use std::time::Duration;

use crate::test_host::{HostRequest, TestHost};
use weir_host_abi::ContextId;
use weir_host_abi::abi::buffer::BufferKind;
use weir_host_abi::abi::map::MapKind;
use weir_host_abi::abi::pairs::encode;
use weir_host_abi::abi::stream::StreamKind;

use crate::fixture::{INPUT, RESULT, host, hostcall_guest, messages, run_guest, run_hostcall};

/// Context of the first stream.
const STREAM: ContextId = ContextId::new(2);
const AT: i64 = INPUT as i64;
/// Addresses of a result: pointer, size and one more number.
const OUT: [i64; 3] = [RESULT as i64, RESULT as i64 + 4, RESULT as i64 + 8];
/// The last address where a 32-bit number fits.
const LAST: i64 = 2 * 65536 - 4;

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const BAD_ARGUMENT: u32 = 2;
const SERIALIZATION: u32 = 3;
const MEMORY: u32 = 6;
const EMPTY: u32 = 7;
const CAS: u32 = 8;
const INTERNAL: u32 = 10;

fn filled() -> TestHost {
    let mut host = host();
    host.set_map(STREAM, MapKind::RequestHeaders, &[(":path", "/a"), ("x-one", "1"), ("x-one", "2"), ("empty", "")]);
    host.set_map(STREAM, MapKind::ResponseTrailers, &[]);
    host.buffers.insert((STREAM, BufferKind::RequestBody), b"0123456789".to_vec());
    host.buffers.insert((STREAM, BufferKind::ResponseBody), Vec::new());
    host.properties.insert(b"request\0path".to_vec(), b"/a".to_vec());
    host.properties.insert(b"empty".to_vec(), Vec::new());
    host
}

/// A hostcall: name, arguments, input, expected status, and expected bytes in the guest.
type HostcallCase<'a> = (&'a str, &'a [i64], &'a [u8], u32, &'a [u8]);

fn check(rows: &[HostcallCase<'_>]) {
    for (name, arguments, input, status, value) in rows {
        let answer = run_hostcall(&mut filled(), name, arguments, input);
        assert_eq!(answer.status, *status, "{name} {arguments:?} {input:?}");
        let value_text = String::from_utf8_lossy(&answer.value);
        assert_eq!(answer.value, *value, "{name} {arguments:?} {input:?} {value_text}");
        if value.is_empty() {
            assert_eq!(answer.numbers[..2], [0, 0], "{name}: an empty result is not allocated");
        } else {
            assert!(answer.numbers[0] >= 65536, "{name}: a result is allocated");
        }
    }
}

#[test]
fn reads_return_bytes_to_the_guest() {
    let [p, n, _] = OUT;
    let pairs = encode([(&b":path"[..], &b"/a"[..]), (b"x-one", b"1"), (b"x-one", b"2"), (b"empty", b"")]);
    check(&[
        ("proxy_get_header_map_value", &[0, AT, 5, p, n], b"X-One", OK, b"1"),
        ("proxy_get_header_map_value", &[0, AT, 5, p, n], b"empty", OK, b""),
        ("proxy_get_header_map_value", &[0, AT, 4, p, n], b"none", NOT_FOUND, b""),
        ("proxy_get_header_map_value", &[2, AT, 4, p, n], b"none", NOT_FOUND, b""),
        ("proxy_get_header_map_value", &[8, AT, 4, p, n], b"none", BAD_ARGUMENT, b""),
        ("proxy_get_header_map_value", &[0, AT, -1, p, n], b"none", MEMORY, b""),
        ("proxy_get_header_map_value", &[0, AT, 5, p, LAST + 1], b"x-one", MEMORY, b""),
        ("proxy_get_header_map_pairs", &[0, p, n], b"", OK, &pairs),
        ("proxy_get_header_map_pairs", &[3, p, n], b"", OK, b""),
        ("proxy_get_header_map_pairs", &[2, p, n], b"", OK, b""),
        ("proxy_get_header_map_pairs", &[-1, p, n], b"", BAD_ARGUMENT, b""),
        ("proxy_get_buffer_bytes", &[0, 0, 0x7fff_ffff, p, n], b"", OK, b"0123456789"),
        ("proxy_get_buffer_bytes", &[0, 8, -1, p, n], b"", OK, b"89"),
        ("proxy_get_buffer_bytes", &[0, 2, 3, p, n], b"", OK, b"234"),
        ("proxy_get_buffer_bytes", &[0, 10, 5, p, n], b"", OK, b""),
        ("proxy_get_buffer_bytes", &[0, -1, -1, p, n], b"", OK, b""),
        ("proxy_get_buffer_bytes", &[1, 0, 5, p, n], b"", OK, b""),
        ("proxy_get_buffer_bytes", &[2, 0, 5, p, n], b"", NOT_FOUND, b""),
        ("proxy_get_buffer_bytes", &[6, 0, 99, p, n], b"", OK, b"vm-bytes"),
        ("proxy_get_buffer_bytes", &[7, 7, 99, p, n], b"", OK, b"bytes"),
        ("proxy_get_buffer_bytes", &[9, 0, 5, p, n], b"", BAD_ARGUMENT, b""),
        ("proxy_get_configuration", &[p, n], b"", OK, b"plugin-bytes"),
        ("proxy_get_property", &[AT, 12, p, n], b"request\0path", OK, b"/a"),
        ("proxy_get_property", &[AT, 13, p, n], b"request\0path\0", OK, b"/a"),
        ("proxy_get_property", &[AT, 5, p, n], b"empty", OK, b""),
        ("proxy_get_property", &[AT, 0, p, n], b"", SERIALIZATION, b""),
        ("proxy_get_property", &[AT, 5, LAST + 1, n], b"empty", MEMORY, b""),
        ("proxy_call_foreign_function", &[AT, 4, 0, 0, p, n], b"none", NOT_FOUND, b""),
        ("proxy_call_foreign_function", &[AT, 4, 0, 0, 0, 0], b"none", NOT_FOUND, b""),
        ("proxy_get_shared_data", &[AT, 4, p, n, n + 4], b"none", NOT_FOUND, b""),
        ("proxy_dequeue_shared_queue", &[1, p, n], b"", NOT_FOUND, b""),
    ]);
}

#[test]
fn numbers_are_written_to_the_guest() {
    let [p, n, _] = OUT;
    type Row<'a> = (&'a str, &'a [i64], &'a [u8], u32, [u32; 3]);
    let rows: [Row<'_>; 14] = [
        ("proxy_get_header_map_size", &[0, p], b"", OK, [68, 0, 0]),
        ("proxy_get_header_map_size", &[3, p], b"", OK, [0, 0, 0]),
        ("proxy_get_buffer_status", &[0, p, n], b"", OK, [10, 0, 0]),
        ("proxy_get_buffer_status", &[7, p, n], b"", OK, [12, 0, 0]),
        ("proxy_get_buffer_status", &[3, p, n], b"", NOT_FOUND, [0, 0, 0]),
        ("proxy_get_log_level", &[p], b"", OK, [3, 0, 0]),
        ("proxy_get_current_time_nanoseconds", &[p], b"", OK, [2_000_000_005, 1, 0]),
        ("proxy_register_shared_queue", &[AT, 1, p], b"q", OK, [1, 0, 0]),
        ("proxy_resolve_shared_queue", &[AT, 2, AT, 1, p], b"vm", NOT_FOUND, [0, 0, 0]),
        ("proxy_define_metric", &[2, AT, 1, p], b"m", OK, [6, 0, 0]),
        ("proxy_define_metric", &[3, AT, 1, p], b"m", BAD_ARGUMENT, [0, 0, 0]),
        ("proxy_get_metric", &[4, p], b"", NOT_FOUND, [0, 0, 0]),
        ("proxy_http_call", &[AT, 1, AT, 0, AT, 0, AT, 0, 0, p], b"c", BAD_ARGUMENT, [0, 0, 0]),
        ("proxy_get_status", &[p + 8, p, n], b"", OK, [65536, 5, 11]),
    ];
    for (name, arguments, input, status, numbers) in rows {
        let mut host = filled();
        host.log_level = weir_host_abi::abi::log::LogLevel::Warn;
        host.time = Duration::from_nanos((1 << 32) + 2_000_000_005);
        host.call_status = (11, b"reset".to_vec());
        let answer = run_hostcall(&mut host, name, arguments, input);
        assert_eq!((answer.status, answer.numbers), (status, numbers), "{name} {arguments:?}");
    }
}

#[test]
fn header_writes_reach_the_host() {
    let pairs = encode([(&b"A"[..], &b"1"[..]), (b"b", b"")]);
    let size = pairs.len() as i64;
    let start: &[(&str, &str)] = &[(":path", "/a"), ("x-one", "1"), ("x-one", "2"), ("empty", "")];
    type Row<'a> = (&'a str, &'a [i64], &'a [u8], u32, &'a [(&'a str, &'a str)]);
    let rows: [Row<'_>; 9] = [
        ("proxy_add_header_map_value", &[0, AT, 5, AT + 5, 1], b"X-One3", OK, &[start, &[("x-one", "3")]].concat()),
        (
            "proxy_replace_header_map_value",
            &[0, AT, 5, AT + 5, 1],
            b"X-One3",
            OK,
            &[(":path", "/a"), ("empty", ""), ("x-one", "3")],
        ),
        ("proxy_remove_header_map_value", &[0, AT, 5], b"x-one", OK, &[(":path", "/a"), ("empty", "")]),
        ("proxy_remove_header_map_value", &[0, AT, 4], b"none", OK, start),
        ("proxy_set_header_map_pairs", &[0, AT, size], &pairs, OK, &[("a", "1"), ("b", "")]),
        ("proxy_set_header_map_pairs", &[0, AT, 0], &pairs, OK, &[]),
        ("proxy_set_header_map_pairs", &[0, AT, size - 1], &pairs, BAD_ARGUMENT, start),
        ("proxy_set_header_map_pairs", &[2, AT, size], &pairs, BAD_ARGUMENT, start),
        ("proxy_add_header_map_value", &[0, AT, 5, -4, 8], b"x-one", MEMORY, start),
    ];
    for (name, arguments, input, status, expected) in rows {
        let mut host = filled();
        assert_eq!(run_hostcall(&mut host, name, arguments, input).status, status, "{name} {arguments:?}");
        let headers = &host.maps[&(STREAM, MapKind::RequestHeaders)];
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (text(name), text(value))).collect();
        let expected: Vec<_> = expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(headers, expected, "{name} {arguments:?}");
        let logged =
            messages(&host).any(|message| message.contains("proxy_set_header_map_pairs: header list is malformed"));
        assert_eq!(logged, arguments.last() == Some(&(size - 1)), "{name} {arguments:?}");
    }
}

#[test]
fn buffer_writes_reach_the_host() {
    let rows: [(&[i64], u32, &[u8]); 8] = [
        (&[0, 0, 0, AT, 3], OK, b"new0123456789"),
        (&[0, 0, 0x7fff_ffff, AT, 3], OK, b"new"),
        (&[0, 0x7fff_ffff, 0, AT, 3], OK, b"0123456789new"),
        (&[0, 2, 5, AT, 3], OK, b"01new789"),
        (&[0, 0, 10, AT, 0], OK, b""),
        (&[2, 0, 0, AT, 3], NOT_FOUND, b"0123456789"),
        (&[7, 0, 0, AT, 3], BAD_ARGUMENT, b"0123456789"),
        (&[0, 0, 0, AT, -1], MEMORY, b"0123456789"),
    ];
    for (arguments, status, expected) in rows {
        let mut host = filled();
        assert_eq!(
            run_hostcall(&mut host, "proxy_set_buffer_bytes", arguments, b"new").status,
            status,
            "{arguments:?}"
        );
        assert_eq!(host.buffers[&(STREAM, BufferKind::RequestBody)], expected, "{arguments:?}");
    }
}

#[test]
fn requests_reach_the_host() {
    let pairs = encode([(&b":method"[..], &b"GET"[..]), (b":path", b"/"), (b":authority", b"a")]);
    let input = [b"cluster", pairs.as_slice()].concat();
    let (head, size) = (AT + 7, pairs.len() as i64);
    let headers: Vec<_> =
        [(":method", "GET"), (":path", "/"), (":authority", "a")].map(|(n, v)| (n.into(), v.into())).into();
    let reply = |status, grpc_status| HostRequest::Reply {
        context: STREAM,
        status,
        details: b"clus".to_vec(),
        body: b"ter".to_vec(),
        headers: headers.clone(),
        grpc_status,
    };
    let callout = |body: &[u8], timeout: Option<u64>| HostRequest::HttpCall {
        call: 1,
        upstream: b"cluster".to_vec(),
        headers: headers.clone(),
        body: body.to_vec(),
        trailers: Vec::new(),
        timeout: timeout.map(Duration::from_millis),
    };
    let out = OUT[0];
    let rows: Vec<(&str, Vec<i64>, u32, Option<HostRequest>)> = vec![
        ("proxy_continue_request", vec![], OK, Some(HostRequest::Continue(STREAM, StreamKind::Request))),
        ("proxy_continue_response", vec![], OK, Some(HostRequest::Continue(STREAM, StreamKind::Response))),
        ("proxy_continue_stream", vec![3], OK, Some(HostRequest::Continue(STREAM, StreamKind::Upstream))),
        ("proxy_continue_stream", vec![4], BAD_ARGUMENT, None),
        ("proxy_close_stream", vec![1], OK, Some(HostRequest::Close(STREAM, StreamKind::Response))),
        ("proxy_close_stream", vec![-1], BAD_ARGUMENT, None),
        ("proxy_clear_route_cache", vec![], OK, Some(HostRequest::ClearRouteCache(STREAM))),
        ("proxy_send_local_response", vec![403, AT, 4, AT + 4, 3, head, size, -1], OK, Some(reply(403, None))),
        ("proxy_send_local_response", vec![200, AT, 4, AT + 4, 3, head, size, 16], OK, Some(reply(200, Some(16)))),
        ("proxy_send_local_response", vec![200, AT, 4, AT + 4, 3, head, size, 17], OK, Some(reply(200, None))),
        ("proxy_send_local_response", vec![403, AT, 4, AT + 4, 3, head, size - 1, -1], BAD_ARGUMENT, None),
        ("proxy_send_local_response", vec![403, AT, 4, LAST, 5, head, size, -1], MEMORY, None),
        ("proxy_http_call", vec![AT, 7, head, size, AT, 2, 0, 0, 70, out], OK, Some(callout(b"cl", Some(70)))),
        ("proxy_http_call", vec![AT, 7, head, size, 0, 0, 0, 0, 0, out], OK, Some(callout(b"", None))),
        ("proxy_http_call", vec![AT, 7, head, size, 0, 0, 0, 0, -1, out], BAD_ARGUMENT, None),
        ("proxy_http_call", vec![AT, 6, head, size, 0, 0, 0, 0, 0, out], BAD_ARGUMENT, None),
        ("proxy_http_call", vec![AT, 7, 0, 0, 0, 0, 0, 0, 0, out], BAD_ARGUMENT, None),
        ("proxy_http_call", vec![AT, 7, head, size, 0, 0, 0, 0, 0, LAST + 1], MEMORY, None),
        ("proxy_grpc_call", vec![AT, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, out], INTERNAL, None),
        ("proxy_grpc_stream", vec![AT, 7, 0, 0, 0, 0, 0, 0, out], INTERNAL, None),
        ("proxy_grpc_send", vec![1, 0, 0, 1], NOT_FOUND, None),
        ("proxy_grpc_close", vec![1], NOT_FOUND, None),
        ("proxy_grpc_cancel", vec![1], NOT_FOUND, None),
        ("proxy_done", vec![], NOT_FOUND, None),
        ("proxy_set_effective_context", vec![1], OK, None),
        ("proxy_set_effective_context", vec![0], OK, None),
        ("proxy_set_effective_context", vec![3], BAD_ARGUMENT, None),
        ("proxy_set_tick_period_milliseconds", vec![0], OK, None),
        ("proxy_log", vec![6, 0, 0], BAD_ARGUMENT, None),
        ("proxy_log", vec![2, LAST, 5], MEMORY, None),
        ("proxy_increment_metric", vec![4, 1], NOT_FOUND, None),
        ("proxy_record_metric", vec![4, 1], NOT_FOUND, None),
        ("proxy_enqueue_shared_queue", vec![7, 0, 0], NOT_FOUND, None),
    ];
    for (name, arguments, status, expected) in rows {
        let mut host = filled();
        host.upstreams.push(b"cluster".to_vec());
        let answer = run_hostcall(&mut host, name, &arguments, &input);
        assert_eq!(answer.status, status, "{name} {arguments:?}");
        let call = matches!(expected, Some(HostRequest::HttpCall { .. }));
        assert_eq!(answer.numbers[0] == 1, call, "{name} {arguments:?}");
        assert_eq!(host.take_requests(), Vec::from_iter(expected), "{name} {arguments:?}");
    }
}

#[test]
fn shared_state_outlives_the_vm() {
    let [p, n, v] = OUT;
    let mut host = filled();
    let rows: [HostcallCase<'_>; 13] = [
        ("proxy_set_shared_data", &[AT, 1, AT + 1, 2, 0], b"kv1", OK, b""),
        ("proxy_get_shared_data", &[AT, 1, p, n, v], b"k", OK, b"v1"),
        ("proxy_set_shared_data", &[AT, 1, AT + 1, 2, 9], b"kv2", CAS, b""),
        ("proxy_set_shared_data", &[AT, 1, AT + 1, 0, 1], b"kv3", OK, b""),
        ("proxy_get_shared_data", &[AT, 1, p, n, v], b"k", OK, b""),
        ("proxy_set_shared_data", &[AT, 65536, AT + 1, 0, 1], b"kv3", BAD_ARGUMENT, b""),
        ("proxy_register_shared_queue", &[AT, 1, v], b"q", OK, b""),
        ("proxy_enqueue_shared_queue", &[1, AT, 3], b"one", OK, b""),
        ("proxy_resolve_shared_queue", &[AT, 2, AT + 2, 1, v], b"vmq", OK, b""),
        ("proxy_resolve_shared_queue", &[AT, 0, AT + 2, 1, v], b"vmq", OK, b""),
        ("proxy_resolve_shared_queue", &[AT, 1, AT + 2, 1, v], b"vmq", NOT_FOUND, b""),
        ("proxy_dequeue_shared_queue", &[1, p, n], b"", OK, b"one"),
        ("proxy_dequeue_shared_queue", &[1, p, n], b"", EMPTY, b""),
    ];
    for (name, arguments, input, status, value) in rows {
        let answer = run_hostcall(&mut host, name, arguments, input);
        assert_eq!((answer.status, answer.value.as_slice()), (status, value), "{name} {arguments:?} {input:?}");
    }
    assert_eq!(*host.ready_queues.lock(), [1]);
}

#[test]
fn metrics_are_counted() {
    let mut host = filled();
    let out = OUT[0];
    for kind in 0..3 {
        assert_eq!(run_hostcall(&mut host, "proxy_define_metric", &[kind, AT, 1, out], b"m").status, OK);
    }
    let rows: [(&str, [i64; 2], u32, u32); 10] = [
        ("proxy_increment_metric", [4, 5], OK, 0),
        ("proxy_increment_metric", [4, 0], BAD_ARGUMENT, 0),
        ("proxy_increment_metric", [9, 7], OK, 0),
        ("proxy_increment_metric", [9, -3], OK, 0),
        ("proxy_increment_metric", [14, 1], BAD_ARGUMENT, 0),
        ("proxy_record_metric", [14, 1], OK, 0),
        ("proxy_record_metric", [4, 2], OK, 0),
        ("proxy_get_metric", [4, out], OK, 7),
        ("proxy_get_metric", [9, out], OK, 4),
        ("proxy_get_metric", [14, out], BAD_ARGUMENT, 0),
    ];
    for (name, arguments, status, number) in rows {
        let answer = run_hostcall(&mut host, name, &arguments, b"");
        assert_eq!((answer.status, answer.numbers[0]), (status, number), "{name} {arguments:?}");
    }
}

#[test]
fn result_may_be_at_end_of_memory_or_over_input() {
    let mut host = filled();
    let answer = run_hostcall(&mut host, "proxy_get_header_map_value", &[0, AT, 5, AT, AT + 1], b"x-one");
    assert_eq!(answer.status, OK);
    let answer = run_hostcall(&mut host, "proxy_get_header_map_value", &[0, AT, 5, LAST, LAST - 7], b"x-one");
    assert_eq!(answer.status, OK);
}

#[test]
fn missing_header_is_empty_in_abi_0_1_0() {
    let [p, n, _] = OUT;
    let text = hostcall_guest("proxy_get_header_map_value", &[0, AT, 4, p, n], b"none", "proxy_abi_version_0_1_0");
    let answer = run_guest(&mut filled(), &text);
    assert_eq!((answer.status, answer.numbers), (OK, [0, 0, 0]));
}

#[test]
fn large_result_is_complete() {
    let [p, n, _] = OUT;
    let mut host = filled();
    let body: Vec<u8> = (0..60_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    host.buffers.insert((STREAM, BufferKind::RequestBody), body.clone());
    let answer = run_hostcall(&mut host, "proxy_get_buffer_bytes", &[0, 0, -1, p, n], b"");
    assert_eq!(answer.value, body);
}
