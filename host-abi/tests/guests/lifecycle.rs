//! Tests of the life of a VM and its contexts: start, callbacks in order, effective contexts, timers, deletion,
//! isolation per stream.

use std::sync::Arc;
use std::time::Duration;

use crate::test_host::{HostRequest, TestHost};
use weir_host_abi::abi::buffer::BufferKind;
use weir_host_abi::abi::log::LogLevel;
use weir_host_abi::abi::map::MapKind;
use weir_host_abi::abi::stream::{PeerKind, StreamKind};
use weir_host_abi::{
    BodyAction, CalloutResponseSizes, ConnectionAction, ContextId, EndOfStream, Engine, FailureKind, HeaderPause,
    HeadersAction, Module, Plugin, PluginSettings, StartError, StartStep, TrailersAction, Vm,
};

use crate::fixture::{
    call, compile, data, engine, guest, host, import, messages, plugin, settings, start, start_error,
};

const NO: EndOfStream = EndOfStream::No;

/// Returns callbacks that each log one letter and return a number.
fn logging_callbacks(rows: &[(&str, &str, &str)]) -> String {
    let mut text = data(0, b"abcdefghijklmnopqrstuvwxyz");
    for (at, (name, types, result)) in rows.iter().enumerate() {
        let log = call("proxy_log", &[2, at as i64, 1]);
        text += &format!(r#"(func (export "{name}") {types} (drop {log}) {result})"#);
    }
    text
}

fn letters(host: &mut TestHost) -> String {
    std::mem::take(&mut host.logs).into_iter().map(|entry| entry.message).collect()
}

#[test]
fn vm_moves_between_threads() {
    fn sendable<T: Send>() {}
    fn shareable<T: Send + Sync>() {}
    sendable::<Vm>();
    shareable::<Plugin>();
    shareable::<Module>();
    shareable::<Engine>();
    let mut vm = start(&guest("", ""), &mut host());
    let moved = std::thread::spawn(move || vm.create_stream(&mut host()).map(|_| vm.is_dead()));
    assert_eq!(moved.join().unwrap(), Ok(false));
}

#[test]
fn start_runs_its_steps_in_order() {
    let rows = [
        ("proxy_on_configure", "(param i32 i32) (result i32)", "(local.get 1)"),
        ("proxy_on_vm_start", "(param i32 i32) (result i32)", "(local.get 1)"),
        ("proxy_on_context_create", "(param i32 i32)", ""),
        ("main", "(param i32 i32) (result i32)", "(i32.const 0)"),
        ("_initialize", "", ""),
        ("_start", "", ""),
        ("__main_void", "(result i32)", "(i32.const 0)"),
        ("proxy_validate_configuration", "(param i32 i32) (result i32)", "unreachable"),
    ];
    let without = |names: &[&str]| {
        let left: Vec<_> =
            rows.iter().map(|(name, ..)| if names.contains(name) { "unused" } else { name }).collect::<Vec<_>>();
        let mut unused = 0;
        let renamed: Vec<String> = left
            .iter()
            .map(|name| {
                unused += usize::from(*name == "unused");
                if *name == "unused" { format!("unused{unused}") } else { (*name).to_owned() }
            })
            .collect();
        let rows: Vec<_> =
            rows.iter().zip(&renamed).map(|((_, types, result), name)| (name.as_str(), *types, *result)).collect();
        let mut host = host();
        start(&guest(&import("proxy_log"), &logging_callbacks(&rows)), &mut host);
        letters(&mut host)
    };
    let cases: [(&[&str], &str); 5] = [
        (&[], "edcba"),
        (&["main"], "egcba"),
        (&["main", "__main_void"], "ecba"),
        (&["_initialize"], "fcba"),
        (&["_initialize", "_start"], "cba"),
    ];
    for (missing, expected) in cases {
        assert_eq!(without(missing), expected, "{missing:?}");
    }
}

#[test]
fn start_fails_when_guest_rejects_configuration() {
    let reject = |name: &str| format!(r#"(func (export "{name}") (param i32 i32) (result i32) (i32.const 0))"#);
    let rows = [("proxy_on_vm_start", StartStep::VmStart), ("proxy_on_configure", StartStep::Configure)];
    for (name, step) in rows {
        assert_eq!(start_error(&guest("", &reject(name)), &mut host()), StartError::Rejected { plugin: 0, step });
    }
}

#[test]
fn start_of_command_may_exit_with_code_zero() {
    let exits = |export: &str, code: i64| {
        let exit = call("proc_exit", &[code]);
        guest(&import("proc_exit"), &format!(r#"(func (export "{export}") {exit})"#))
    };
    let mut vm = start(&exits("_start", 0), &mut host());
    assert!(vm.create_stream(&mut host()).is_ok());
    for (export, code) in [("_start", 3), ("_initialize", 0)] {
        let StartError::Failed { step: StartStep::Initialize, failure, .. } =
            start_error(&exits(export, code), &mut host())
        else {
            unreachable!("{export}")
        };
        assert_eq!((failure.kind, failure.callback), (FailureKind::Exit, export));
        assert!(failure.message.contains(&format!("exit code {code}")), "{failure}");
    }
}

#[test]
fn hostcalls_except_log_fail_before_first_callback() {
    let imports = [import("proxy_log"), import("proxy_define_metric"), import("fd_write")].concat();
    let log = call("proxy_log", &[2, 0, 1]);
    let define = call("proxy_define_metric", &[0, 0, 1, 16]);
    let check = format!("(drop {log}) (if (i32.ne {define} (i32.const 10)) (then unreachable))");
    for rest in ["(start $early)", r#"(export "_initialize" (func $early))"#] {
        let mut host = host();
        start(&guest(&imports, &format!("{} (func $early {check}) {rest}", data(0, b"x"))), &mut host);
        let levels: Vec<_> = host.logs.iter().map(|entry| (entry.level, entry.context)).collect();
        assert_eq!(levels, [(LogLevel::Info, ContextId::ROOT), (LogLevel::Warn, ContextId::ROOT)]);
        assert!(host.logs[1].message.starts_with("proxy_define_metric: called before"), "{:?}", host.logs);
    }
}

#[test]
fn callbacks_get_arguments_and_return_actions() {
    let rows = [
        ("proxy_on_request_headers", "(param i32 i32 i32) (result i32)", "(local.get 1)"),
        ("proxy_on_request_body", "(param i32 i32 i32) (result i32)", "(local.get 1)"),
        ("proxy_on_request_trailers", "(param i32 i32) (result i32)", "(local.get 1)"),
        ("proxy_on_response_headers", "(param i32 i32 i32) (result i32)", "(local.get 2)"),
        ("proxy_on_response_body", "(param i32 i32 i32) (result i32)", "(local.get 2)"),
        ("proxy_on_response_trailers", "(param i32 i32) (result i32)", "(local.get 1)"),
        ("proxy_on_new_connection", "(param i32) (result i32)", "(local.get 0)"),
        ("proxy_on_downstream_data", "(param i32 i32 i32) (result i32)", "(local.get 2)"),
        ("proxy_on_upstream_data", "(param i32 i32 i32) (result i32)", "(local.get 1)"),
        ("proxy_on_downstream_connection_close", "(param i32 i32)", ""),
        ("proxy_on_upstream_connection_close", "(param i32 i32)", ""),
        ("proxy_on_http_call_response", "(param i32 i32 i32 i32 i32)", ""),
        ("proxy_on_grpc_receive_initial_metadata", "(param i32 i32 i32)", ""),
        ("proxy_on_grpc_receive", "(param i32 i32 i32)", ""),
        ("proxy_on_grpc_trailing_metadata", "(param i32 i32 i32)", ""),
        ("proxy_on_grpc_close", "(param i32 i32 i32)", ""),
        ("proxy_on_queue_ready", "(param i32 i32)", ""),
        ("proxy_on_tick", "(param i32)", ""),
        ("proxy_on_log", "(param i32)", ""),
        ("proxy_on_delete", "(param i32)", ""),
    ];
    let mut host = host();
    let text = guest(&import("proxy_log"), &logging_callbacks(&rows));
    let module = compile(&text).unwrap();
    let mut vm = start(&text, &mut host);
    let host = &mut host;
    let stream = vm.create_stream(host).unwrap();
    assert_eq!(vm.on_request_headers(host, stream, 0, NO), Ok(HeadersAction::Continue));
    assert_eq!(vm.on_request_headers(host, stream, 1, NO), Ok(HeadersAction::PauseAll));
    let bodies = [BodyAction::Continue, BodyAction::Buffer, BodyAction::Watermark, BodyAction::Discard];
    for (size, expected) in bodies.into_iter().enumerate() {
        assert_eq!(vm.on_request_body(host, stream, size, NO), Ok(expected));
    }
    assert_eq!(vm.on_request_trailers(host, stream, 0), Ok(TrailersAction::Continue));
    assert_eq!(vm.on_response_headers(host, stream, 9, EndOfStream::Yes), Ok(HeadersAction::PauseAll));
    assert_eq!(vm.on_response_body(host, stream, 9, EndOfStream::Yes), Ok(BodyAction::Buffer));
    assert_eq!(vm.on_response_trailers(host, stream, 2), Ok(TrailersAction::Pause));
    assert_eq!(vm.on_new_connection(host, stream), Ok(ConnectionAction::Pause));
    assert_eq!(vm.on_downstream_data(host, stream, 5, NO), Ok(ConnectionAction::Continue));
    assert_eq!(vm.on_upstream_data(host, stream, 5, NO), Ok(ConnectionAction::Pause));
    vm.on_downstream_close(host, stream, PeerKind::Local).unwrap();
    vm.on_upstream_close(host, stream, PeerKind::Remote).unwrap();
    vm.on_http_call_response(host, 1, CalloutResponseSizes::default()).unwrap();
    vm.on_grpc_initial_metadata(host, 1, 0).unwrap();
    vm.on_grpc_receive(host, 1, 0).unwrap();
    vm.on_grpc_trailing_metadata(host, 1, 0).unwrap();
    vm.on_grpc_close(host, 1, 0).unwrap();
    vm.on_queue_ready(host, 1).unwrap();
    vm.on_tick(host).unwrap();
    vm.on_log(host, stream).unwrap();
    assert_eq!(vm.on_done(host, stream), Ok(true));
    vm.on_delete(host, stream).unwrap();
    assert_eq!(letters(host), "aabbbbcdefghijklmnopqrst");
    let exports = module.exports();
    assert!(exports.request_body() && exports.grpc_trailing_metadata() && exports.tick());
    assert!(!exports.done() && !exports.configure());
}

#[test]
fn missing_callbacks_continue() {
    let mut host = host();
    let mut vm = start(&guest("", ""), &mut host);
    let host = &mut host;
    let stream = vm.create_stream(host).unwrap();
    assert_eq!(vm.on_request_headers(host, stream, 1, NO), Ok(HeadersAction::Continue));
    assert_eq!(vm.on_response_body(host, stream, 1, NO), Ok(BodyAction::Continue));
    assert_eq!(vm.on_response_trailers(host, stream, 1), Ok(TrailersAction::Continue));
    assert_eq!(vm.on_upstream_data(host, stream, 1, NO), Ok(ConnectionAction::Continue));
    assert_eq!(vm.on_done(host, stream), Ok(true));
    assert!(vm.on_tick(host).is_ok() && vm.on_log(host, stream).is_ok() && vm.on_delete(host, stream).is_ok());
    assert_eq!(compile(&guest("", "")).unwrap().exports(), weir_host_abi::Exports::default());
}

#[test]
fn pause_follows_settings_in_both_callback_forms() {
    let forms = ["(param i32 i32)", "(param i32 i32 i32)"];
    let rows = [(HeaderPause::All, HeadersAction::PauseAll), (HeaderPause::HeadersOnly, HeadersAction::PauseHeaders)];
    for types in forms {
        for (header_pause, expected) in rows {
            let text = guest(
                "",
                &format!(r#"(func (export "proxy_on_response_headers") {types} (result i32) (i32.const 1))"#),
            );
            let mut host = host();
            let plugin = plugin(&text, PluginSettings { header_pause, ..settings() });
            let mut vm = Vm::start(&[plugin], &mut host).unwrap();
            let stream = vm.create_stream(&mut host).unwrap();
            assert_eq!(vm.on_response_headers(&mut host, stream, 1, NO), Ok(expected), "{types}");
        }
    }
}

#[test]
fn configuration_in_abi_0_1_0_depends_on_callback() {
    let imports = [import("proxy_get_configuration"), import("proxy_log")].concat();
    let log = format!(
        "(drop {}) (drop (call $proxy_log (i32.const 2) (i32.load (i32.const 16)) (i32.load (i32.const 20))))",
        call("proxy_get_configuration", &[16, 20])
    );
    let mut rest = String::new();
    for (name, result) in [("context_create", ""), ("vm_start", "(result i32)"), ("configure", "(result i32)")] {
        let value = if result.is_empty() { "" } else { "(i32.const 1)" };
        rest += &format!(r#"(func (export "proxy_on_{name}") (param i32 i32) {result} {log} {value})"#);
    }
    let mut host = host();
    start(&guest(&imports, &rest), &mut host);
    assert_eq!(messages(&host).collect::<Vec<_>>(), ["plugin-bytes", "vm-bytes", "plugin-bytes"]);
}

#[test]
fn contexts_live_from_create_to_delete() {
    let mut host = host();
    let failing =
        r#"(func (export "proxy_on_delete") (param i32) (if (i32.eq (local.get 0) (i32.const 4)) (then unreachable)))"#;
    let mut vm = start(&guest("", failing), &mut host);
    let [first, second, third] = [(); 3].map(|()| vm.create_stream(&mut host).unwrap());
    assert_eq!([first, second, third].map(ContextId::number), [2, 3, 4]);
    vm.on_delete(&mut host, first).unwrap();
    let failure = vm.on_delete(&mut host, first).unwrap_err();
    assert!(failure.message.contains("context 2 is not live"), "{failure}");
    assert!(!vm.is_dead(), "a deleted context does not reach the guest");
    assert_eq!(vm.create_stream(&mut host).unwrap().number(), 5);
    vm.on_delete(&mut host, second).unwrap();
    assert!(vm.on_delete(&mut host, third).is_err());
    assert!(vm.is_dead());
    assert!(vm.create_stream(&mut host).is_err());
}

#[test]
fn effective_context_is_reset_after_the_call() {
    let imports =
        [import("proxy_set_effective_context"), import("proxy_continue_stream"), import("proxy_log")].concat();
    let resume = call("proxy_continue_stream", &[0]);
    let rest = format!(
        r#"(func (export "proxy_on_tick") (param i32)
            (drop {}) (drop {resume}) (drop {}) (drop {resume}) (drop {}))
        (func (export "proxy_on_log") (param i32) (drop {resume}))"#,
        call("proxy_set_effective_context", &[3]),
        call("proxy_set_effective_context", &[9]),
        call("proxy_log", &[2, 0, 0]),
    );
    let mut host = host();
    let mut vm = start(&guest(&imports, &rest), &mut host);
    let [first, second] = [(); 2].map(|()| vm.create_stream(&mut host).unwrap());
    vm.on_tick(&mut host).unwrap();
    vm.on_log(&mut host, first).unwrap();
    let expected = [second, second, first].map(|context| HostRequest::Continue(context, StreamKind::Request));
    assert_eq!(host.take_requests(), expected);
    assert_eq!(host.logs[0].context, second);
}

#[test]
fn callout_response_is_readable_in_its_callback() {
    let imports =
        [import("proxy_get_header_map_pairs"), import("proxy_get_buffer_bytes"), import("proxy_log")].concat();
    let rest = format!(
        r#"(func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
            (drop {}) (drop (call $proxy_log (i32.const 2) (i32.load (i32.const 16)) (i32.load (i32.const 20)))))"#,
        call("proxy_get_buffer_bytes", &[4, 0, -1, 16, 20]),
    );
    let mut host = host();
    let mut vm = start(&guest(&imports, &rest), &mut host);
    host.buffers.insert((ContextId::ROOT, BufferKind::CalloutBody), b"answer".to_vec());
    host.set_map(ContextId::ROOT, MapKind::CalloutHeaders, &[(":status", "200")]);
    let response = CalloutResponseSizes { headers: 1, body: 6, trailers: 0 };
    vm.on_http_call_response(&mut host, 1, response).unwrap();
    assert_eq!(messages(&host).collect::<Vec<_>>(), ["answer"]);
}

#[test]
fn timer_restarts_when_period_is_set() {
    let set = |period| call("proxy_set_tick_period_milliseconds", &[period]);
    let rest = format!(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (drop {}) (i32.const 1))
        (func (export "proxy_on_tick") (param i32) (drop {}))
        (func (export "proxy_on_log") (param i32) (drop {}))"#,
        set(500),
        set(500),
        set(0),
    );
    let mut host = host();
    let mut vm = start(&guest(&import("proxy_set_tick_period_milliseconds"), &rest), &mut host);
    let period = Duration::from_millis(500);
    let first = (vm.tick_period(), vm.tick_generation());
    assert_eq!(first.0, Some(period));
    vm.on_tick(&mut host).unwrap();
    assert_eq!(vm.tick_period(), Some(period));
    assert_ne!(vm.tick_generation(), first.1);
    let stream = vm.create_stream(&mut host).unwrap();
    vm.on_log(&mut host, stream).unwrap();
    assert_eq!(vm.tick_period(), None);
}

#[test]
fn pending_context_is_done_after_proxy_done() {
    let done = call("proxy_done", &[]);
    let rest = format!(
        r#"(func (export "proxy_on_done") (param i32) (result i32) (i32.const 0))
        (func (export "proxy_on_tick") (param i32) (drop {}) (drop {done}) (drop (call $proxy_set_effective_context (i32.const 1)))
            (if (i32.ne {done} (i32.const 0)) (then unreachable)) (if (i32.ne {done} (i32.const 1)) (then unreachable)))"#,
        call("proxy_set_effective_context", &[2]),
    );
    let imports = [import("proxy_done"), import("proxy_set_effective_context")].concat();
    let mut host = host();
    let mut vm = start(&guest(&imports, &rest), &mut host);
    let stream = vm.create_stream(&mut host).unwrap();
    assert_eq!(vm.on_done(&mut host, stream), Ok(false));
    assert_eq!(vm.on_done(&mut host, vm.plugin_context()), Ok(false));
    assert!(!vm.take_plugin_done());
    vm.on_tick(&mut host).unwrap();
    assert!(vm.take_plugin_done() && !vm.take_plugin_done());
}

#[test]
fn vms_start_with_fresh_memory() {
    let text = guest(
        "",
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 1)))
        (i32.sub (i32.load (i32.const 8)) (i32.const 1)))"#,
    );
    let module = Module::compile(engine(), &wat::parse_str(text).unwrap()).unwrap();
    let plugin = [Arc::new(Plugin::new(settings(), module))];
    let mut host = host();
    for _ in 0..10 {
        let mut vm = Vm::start(&plugin, &mut host).unwrap();
        let stream = vm.create_stream(&mut host).unwrap();
        let action = vm.on_request_headers(&mut host, stream, 0, NO);
        assert_eq!(action, Ok(HeadersAction::Continue), "each VM starts with fresh memory");
    }
}

#[test]
fn plugins_in_shared_vm_have_their_own_settings() {
    // The guest logs its configuration for each stream, and sets a tick period of its plugin context's number.
    let text = guest(
        r#"(import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
           (import "env" "proxy_get_buffer_bytes" (func $bytes (param i32 i32 i32 i32 i32) (result i32)))
           (import "env" "proxy_set_tick_period_milliseconds" (func $period (param i32) (result i32)))"#,
        r#"(func (export "proxy_on_context_create") (param i32 i32))
           (func (export "proxy_on_configure") (param i32 i32) (result i32)
               (drop (call $period (local.get 0))) (i32.const 1))
           (func $log_configuration
               (drop (call $bytes (i32.const 7) (i32.const 0) (i32.const 99) (i32.const 16) (i32.const 20)))
               (drop (call $log (i32.const 2) (i32.load (i32.const 16)) (i32.load (i32.const 20)))))
           (func (export "proxy_on_tick") (param i32) (call $log_configuration))
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $log_configuration) (i32.const 0))"#,
    );
    let module = compile(&text).unwrap();
    let plugin = |configuration: &str| {
        let configuration = configuration.as_bytes().to_vec();
        Arc::new(Plugin::new(PluginSettings { configuration, ..settings() }, module.clone()))
    };
    let mut host = host();
    let mut vm = Vm::start(&[plugin("first"), plugin("second")], &mut host).unwrap();
    let mut streams = Vec::new();
    for (number, expected) in ["first", "second"].into_iter().enumerate() {
        vm.select_plugin(number);
        assert_eq!(vm.plugin_context(), ContextId::of_plugin(number));
        assert_eq!(vm.tick_period(), Some(Duration::from_millis(number as u64 + 1)));
        vm.on_tick(&mut host).unwrap();
        assert_eq!(host.logs.pop().unwrap().message, expected);
        streams.push(vm.create_stream(&mut host).unwrap());
    }
    assert_eq!(streams, [ContextId::new(3), ContextId::new(4)]);
    // A stream belongs to its plugin, whichever plugin is selected.
    for (stream, expected) in streams.into_iter().zip(["first", "second"]) {
        vm.on_request_headers(&mut host, stream, 0, EndOfStream::Yes).unwrap();
        assert_eq!(host.logs.pop().unwrap().message, expected);
    }
}
