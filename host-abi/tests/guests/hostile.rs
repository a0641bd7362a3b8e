//! Tests with hostile guests. Each causes the expected failure, and the process survives: the next VM of the same
//! engine works.

use std::time::Duration;

use crate::test_host::TestHost;
use rustix::time::{ClockId, clock_gettime};
use weir_host_abi::limits::TICK;
use weir_host_abi::{
    BodyAction, EndOfStream, Failure, FailureKind, Host, Limits, PluginSettings, StartError, StartStep, Vm,
};

use crate::fixture::{call, data, guest, host, import, messages, plugin, settings, start, start_error};

const SPIN: &str = "(func $spin_forever (loop $again (br $again)))";
const HEADERS: &str = r#"(func $headers (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)"#;

fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}

/// Starts a guest and calls the callback, which must fail. Returns the failure.
fn fail_in_callback(text: &str, callback: &str, host: &mut TestHost) -> Failure {
    let mut vm = start(text, host);
    let stream = vm.create_stream(host).unwrap();
    let outcome = match callback {
        "proxy_on_request_headers" => vm.on_request_headers(host, stream, 0, EndOfStream::No).map(|_| ()),
        "proxy_on_request_body" => vm.on_request_body(host, stream, 10, EndOfStream::Yes).map(|_| ()),
        "proxy_on_log" => vm.on_log(host, stream),
        "proxy_on_delete" => vm.on_delete(host, stream),
        "proxy_on_tick" => vm.on_tick(host),
        other => unreachable!("{other}"),
    };
    let failure = outcome.unwrap_err();
    assert_eq!(failure.callback, callback);
    assert!(vm.is_dead());
    let dead = vm.on_log(host, vm.plugin_context()).unwrap_err();
    assert_eq!((dead.kind, dead.callback), (FailureKind::Dead, "proxy_on_log"));
    failure
}

fn assert_new_vm_works(host: &mut TestHost) {
    let mut vm = start(&guest("", ""), host);
    let stream = vm.create_stream(host).unwrap();
    assert_eq!(vm.on_request_body(host, stream, 1, EndOfStream::No), Ok(BodyAction::Continue));
}

#[test]
fn endless_loop_in_callback_exceeds_deadline() {
    let rows = [
        ("proxy_on_request_headers", "(param i32 i32 i32) (result i32)", "(i32.const 0)"),
        ("proxy_on_request_body", "(param i32 i32 i32) (result i32)", "(i32.const 0)"),
        ("proxy_on_log", "(param i32)", ""),
        ("proxy_on_delete", "(param i32)", ""),
        ("proxy_on_tick", "(param i32)", ""),
    ];
    for (callback, types, result) in rows {
        let text = guest("", &format!(r#"{SPIN} (func (export "{callback}") {types} (call $spin_forever) {result})"#));
        let before = cpu_time();
        let mut host = host();
        let failure = fail_in_callback(&text, callback, &mut host);
        let used = cpu_time().saturating_sub(before);
        assert_eq!(failure.kind, FailureKind::Deadline, "{failure}");
        assert_eq!(failure.backtrace[0], "spin_forever");
        let limit = Limits::default().call_time;
        // The deadline counts less than half a tick left as exceeded.
        assert!(used + TICK / 2 >= limit, "stopped early, after {used:?}");
        assert!(used <= limit * 20, "stopped late, after {used:?}");
        assert_new_vm_works(&mut host);
    }
}

#[test]
fn endless_loop_in_start_exceeds_deadline() {
    let configure =
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (call $spin_forever) (i32.const 1))"#;
    let vm_start = configure.replace("configure", "vm_start");
    let context = r#"(func (export "proxy_on_context_create") (param i32 i32) (call $spin_forever))"#;
    let main = r#"(func (export "main") (param i32 i32) (result i32) (call $spin_forever) (i32.const 0))"#;
    let rows = [
        ("(start $spin_forever)", StartStep::Instantiate),
        (r#"(export "_initialize" (func $spin_forever))"#, StartStep::Initialize),
        (r#"(export "_start" (func $spin_forever))"#, StartStep::Initialize),
        (&format!(r#"(func (export "_initialize")) {main}"#), StartStep::Initialize),
        (context, StartStep::CreateContext),
        (&vm_start, StartStep::VmStart),
        (configure, StartStep::Configure),
    ];
    for (rest, expected) in rows {
        let mut host = host();
        let StartError::Failed { step, failure, .. } = start_error(&guest("", &format!("{SPIN} {rest}")), &mut host)
        else {
            unreachable!("{expected}")
        };
        assert_eq!((step, failure.kind), (expected, FailureKind::Deadline), "{failure}");
        assert_eq!(failure.backtrace[0], "spin_forever");
        assert_new_vm_works(&mut host);
    }
}

#[test]
fn trap_reports_message_and_function() {
    let deep = "(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))";
    let table = "(table $t 1 funcref) (type $n (func))";
    let rows = [
        ("(func $inner unreachable)", "(call $inner) (i32.const 0)", "unreachable", "inner"),
        (deep, "(call $deep (i32.const 0))", "call stack exhausted", "deep"),
        ("", "(i32.load (i32.const -4))", "out of bounds memory access", "headers"),
        ("", "(i32.div_u (i32.const 1) (i32.const 0))", "integer divide by zero", "headers"),
        (table, "(call_indirect $t (type $n) (i32.const 0)) (i32.const 0)", "uninitialized element", "headers"),
        (table, "(call_indirect $t (type $n) (i32.const 9)) (i32.const 0)", "out of bounds table access", "headers"),
    ];
    for (before, body, message, function) in rows {
        let mut host = host();
        let text = guest("", &format!("{before} {HEADERS} {body})"));
        let failure = fail_in_callback(&text, "proxy_on_request_headers", &mut host);
        assert_eq!(failure.kind, FailureKind::Trap, "{failure}");
        assert!(failure.message.contains(message), "{failure}");
        assert_eq!(failure.backtrace.first().map(String::as_str), Some(function), "{failure}");
        assert_eq!(failure.backtrace.last().map_or("", String::as_str) == "deep", function == "deep", "{failure}");
        assert_new_vm_works(&mut host);
    }
}

#[test]
fn memory_and_table_growth_is_limited() {
    let bomb = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    let tables = "(loop $more (br_if $more
        (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable";
    let silent = "(drop (memory.grow (i32.const 60000))) (i32.const 0)";
    let rows = [
        (bomb, Some(FailureKind::OutOfMemory)),
        (tables, Some(FailureKind::OutOfMemory)),
        // A guest that handles the failed growth continues. A later trap for another reason is not reported as out of
        // memory.
        (silent, None),
    ];
    for (body, expected) in rows {
        let mut host = host();
        let log = r#"(func (export "proxy_on_log") (param i32) unreachable)"#;
        let text = guest("", &format!("(table $t 1 funcref) {log} {HEADERS} {body})"));
        let mut vm = start(&text, &mut host);
        let stream = vm.create_stream(&mut host).unwrap();
        let outcome = vm.on_request_headers(&mut host, stream, 0, EndOfStream::No);
        assert_eq!(outcome.err().map(|failure| failure.kind), expected, "{body}");
        assert!(vm.memory_bytes() <= Limits::default().memory, "{}", vm.memory_bytes());
        if expected.is_none() {
            assert_eq!(vm.on_log(&mut host, stream).unwrap_err().kind, FailureKind::Trap);
        }
    }
    let settings = PluginSettings { limits: Limits { memory: 1 << 16, ..Limits::default() }, ..settings() };
    match Vm::start(&[plugin(&guest("", ""), settings)], &mut host()).unwrap_err() {
        StartError::Failed { step: StartStep::Instantiate, failure, .. } => {
            assert_eq!(failure.kind, FailureKind::OutOfMemory, "{failure}");
        }
        other => unreachable!("{other}"),
    }
}

#[test]
fn invalid_allocation_stops_the_guest() {
    let allocate = |body: &str| {
        let read = call("proxy_get_property", &[0, 4, 16, 20]);
        format!(
            r#"(module {imports} (memory (export "memory") 2) {path} (func (export "proxy_abi_version_0_2_0"))
                (func $allocate (export "malloc") (param i32) (result i32) {body})
                {HEADERS} (drop {read}) (i32.load8_u (i32.load (i32.const 16)))))"#,
            imports = [import("proxy_get_property"), import("proxy_done"), import("proxy_log")].concat(),
            path = data(0, b"path"),
        )
    };
    let rows = [
        ("(i32.const 0)", Some(FailureKind::AbiViolation)),
        ("(i32.const -1)", Some(FailureKind::AbiViolation)),
        ("(i32.const 131072)", Some(FailureKind::AbiViolation)),
        ("(i32.const 131070)", Some(FailureKind::AbiViolation)),
        ("unreachable", Some(FailureKind::Trap)),
        ("(loop $again (br $again)) (i32.const 0)", Some(FailureKind::Deadline)),
        ("(drop (memory.grow (i32.const 60000))) (i32.const 0)", Some(FailureKind::OutOfMemory)),
        // These are valid: memory that grows during the call, the last bytes, and a log message.
        ("(i32.mul (memory.grow (i32.const 3)) (i32.const 65536))", None),
        ("(i32.const 131067)", None),
        ("(drop (call $proxy_log (i32.const 2) (i32.const 0) (i32.const 4))) (i32.const 4096)", None),
        // Other hostcalls in the allocator return a failure and are logged.
        ("(i32.mul (call $proxy_done) (i32.const 100))", None),
    ];
    for (body, expected) in rows {
        let mut host = host();
        host.properties.insert(b"path".to_vec(), b"value".to_vec());
        let text = allocate(body);
        let mut vm = start(&text, &mut host);
        let stream = vm.create_stream(&mut host).unwrap();
        let outcome = vm.on_request_headers(&mut host, stream, 0, EndOfStream::No);
        assert_eq!(outcome.err().map(|failure| failure.kind), expected, "{body}");
        let logged = body.contains("call $proxy_");
        assert_eq!(host.logs.len(), usize::from(logged), "{body} {:?}", host.logs);
        assert_new_vm_works(&mut host);
    }
}

#[test]
fn hostcalls_with_arbitrary_arguments_do_not_panic() {
    let end = 2 * 65536;
    let fills: &[i64] = &[0, 1, -1, 5, end, end - 1, end - 3, end - 4, i64::from(i32::MIN), i64::from(i32::MAX)];
    for row in weir_host_abi::abi::calls::HOSTCALLS {
        let stops = matches!(row.name, "abort" | "proc_exit");
        let drop = if row.result.is_some() { "drop" } else { "" };
        let mut body = String::new();
        for fill in fills {
            let mut arguments = vec![*fill; row.params.len()];
            body += &format!("{} {drop} ", call(row.name, &arguments));
            // A valid first argument, so that the pointers after it are checked.
            for kind in [0, 6, 1] {
                if let Some(first) = arguments.first_mut() {
                    *first = kind;
                }
                body += &format!("{} {drop} ", call(row.name, &arguments));
            }
        }
        let mut host = host();
        let mut vm = start(&guest(&import(row.name), &format!("{HEADERS} {body} (i32.const 0))")), &mut host);
        let stream = vm.create_stream(&mut host).unwrap();
        let outcome = vm.on_request_headers(&mut host, stream, 0, EndOfStream::No);
        assert_eq!(outcome.is_err(), stops, "{}: {outcome:?}", row.name);
    }
}

#[test]
fn log_messages_over_budget_are_dropped() {
    let log = call("proxy_log", &[2, 0, 1000]);
    let text = guest(
        &import("proxy_log"),
        &format!(
            "{HEADERS} (local $n i32)
                (loop $more (drop {log})
                    (local.set $n (i32.add (local.get $n) (i32.const 1)))
                    (br_if $more (i32.lt_u (local.get $n) (i32.const 500))))
                (i32.const 0))"
        ),
    );
    let mut host = host();
    let mut vm = start(&text, &mut host);
    let stream = vm.create_stream(&mut host).unwrap();
    vm.on_request_headers(&mut host, stream, 0, EndOfStream::No).unwrap();
    let per_second = Limits::default().log_bytes_per_second;
    let written: usize = host.logs.iter().map(|entry| entry.message.len()).sum();
    assert!(written <= per_second + 200, "{written}");
    assert_eq!(messages(&host).filter(|message| message.contains("dropped")).count(), 1);
    assert_eq!(vm.dropped_log_bytes(), 500_000 - (per_second / 1000 * 1000) as u64);
    host.logs.clear();
    host.time += Duration::from_secs(1);
    vm.on_request_headers(&mut host, stream, 0, EndOfStream::No).unwrap();
    assert!(host.logs.len() > 10);
}

#[test]
fn vm_is_dead_after_host_panic() {
    let enqueue = call("proxy_enqueue_shared_queue", &[1, 0, 0]);
    let text = guest(&import("proxy_enqueue_shared_queue"), &format!("{HEADERS} (drop {enqueue}) (i32.const 0))"));
    let mut host = host();
    host.namespace().queues().register("vm", b"q", std::sync::Arc::new(|_| panic!("the host is broken")));
    let mut vm = start(&text, &mut host);
    let stream = vm.create_stream(&mut host).unwrap();
    let call = std::panic::AssertUnwindSafe(|| vm.on_request_headers(&mut host, stream, 0, EndOfStream::No));
    assert!(std::panic::catch_unwind(call).is_err());
    assert!(vm.is_dead());
    assert_eq!(vm.on_tick(&mut host).unwrap_err().kind, FailureKind::Dead);
    assert_new_vm_works(&mut host);
}
