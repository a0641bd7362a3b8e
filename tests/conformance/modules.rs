//! Modules as text: what the probe cannot be, because Envoy would not load it with everything in it. An older version of
//! the ABI, imports that toolchains add, a start section, allocators.

use harness::{
    Client, Codec, Envoy, EnvoyFilter, EnvoyPlan, Filter, Module, Origin, Proxy, Resources, empty, module_of_wat,
};
use http::Request;

/// A module, and what it is for.
struct Guest {
    name: &'static str,
    text: String,
    /// What it answers each request with, in both; `None` when Envoy does not load it, or crashes.
    envoy: Option<u16>,
    weir: u16,
}

/// What every guest has: memory, an allocator, a marker, and a way to answer with a status that says what was seen.
fn guest(marker: &str, imports: &str, rest: &str) -> String {
    format!(
        r#"(module
            (import "env" "proxy_send_local_response"
                (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
            {imports}
            (memory (export "memory") 2)
            (global $next (mut i32) (i32.const 65536))
            (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
                (local $pointer i32)
                (local.set $pointer (global.get $next))
                (global.set $next (i32.add (global.get $next) (local.get $size)))
                (local.get $pointer))
            (func (export "{marker}"))
            ;; Answers with 400 and a number below 100.
            (func $answer (param $number i32)
                (drop (call $reply (i32.add (i32.const 400) (local.get $number)) (i32.const 0) (i32.const 0)
                    (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1))))
            {rest})"#
    )
}

const V0_1_0: &str = "proxy_abi_version_0_1_0";
const V0_2_0: &str = "proxy_abi_version_0_2_0";
const V0_2_1: &str = "proxy_abi_version_0_2_1";

/// A guest that answers with what `body` leaves on the stack.
fn answering(marker: &str, imports: &str, body: &str) -> String {
    let head = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)"#;
    guest(marker, imports, &format!("{head} (call $answer {body}) (i32.const 1))"))
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn guests() -> Vec<Guest> {
    let old = |what: &'static str, imports: &str, body: &str, expected: u16| {
        let head = r#"(func (export "proxy_on_request_headers") (param i32 i32) (result i32)"#;
        let text = guest(V0_1_0, imports, &format!("{head} {body})"));
        Guest { name: what, text, envoy: Some(expected), weir: expected }
    };
    let get_value =
        r#"(import "env" "proxy_get_header_map_value" (func $value (param i32 i32 i32 i32 i32) (result i32)))"#;
    let configuration =
        r#"(import "env" "proxy_get_configuration" (func $configuration (param i32 i32) (result i32)))"#;
    let size = "(global $size (mut i32) (i32.const 0))";
    let configure = r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $configuration (i32.const 16) (i32.const 20)))
        (global.set $size (i32.load (i32.const 20))) (i32.const 1))"#;
    let mut guests = vec![
        old("0.1.0: a header that is not there is empty", get_value,
            "(call $answer (call $value (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 16) (i32.const 20))) (i32.const 1)", 400),
        old("0.1.0: goes on with the request", r#"(import "env" "proxy_continue_request" (func $go (result i32)))"#,
            "(drop (call $go)) (i32.const 0)", 200),
        old("0.1.0: clears the route", r#"(import "env" "proxy_clear_route_cache" (func $clear (result i32)))"#,
            "(call $answer (call $clear)) (i32.const 1)", 400),
        Guest {
            name: "0.1.0: reads its configuration",
            text: guest(V0_1_0, configuration, &format!(
                r#"{size} {configure} (func (export "proxy_on_request_headers") (param i32 i32) (result i32)
                    (call $answer (global.get $size)) (i32.const 1))"#)),
            envoy: Some(404),
            weir: 404,
        },
        Guest {
            name: "0.1.0: goes on with the response",
            text: guest(V0_1_0, r#"(import "env" "proxy_continue_response" (func $go (result i32)))"#,
                r#"(func (export "proxy_on_request_headers") (param i32 i32) (result i32) (drop (call $go)) (i32.const 0))"#),
            envoy: None,
            weir: 200,
        },
        Guest {
            name: "0.2.0: a header that is not there is not found",
            text: answering(V0_2_0, get_value, "(call $value (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 16) (i32.const 20))"),
            envoy: Some(401),
            weir: 401,
        },
        Guest {
            name: "a start section that logs",
            text: answering(V0_2_1, r#"(import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))"#, "(i32.const 7)")
                .replace("(func $answer", "(func $begin (drop (call $log (i32.const 2) (i32.const 0) (i32.const 4)))) (start $begin) (func $answer"),
            envoy: None,
            weir: 407,
        },
        Guest {
            name: "both allocators",
            text: answering(V0_2_1, get_value, "(i32.const 8)")
                .replace("(func $answer", r#"(func (export "malloc") (param i32) (result i32) (i32.const 0)) (func $answer"#),
            envoy: Some(408),
            weir: 408,
        },
        Guest { name: "no marker of the ABI", text: answering("no_marker", "", "(i32.const 0)"), envoy: None, weir: 0 },
        Guest {
            name: "ends itself",
            text: answering(V0_2_1, r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#,
                "(block (result i32) (call $exit (i32.const 1)) (i32.const 9))"),
            envoy: Some(409),
            weir: 503,
        },
        Guest {
            name: "traps",
            text: answering(V0_2_1, "", "(unreachable)"),
            envoy: Some(503),
            weir: 503,
        },
    ];
    guests.extend(toolchains());
    guests
}

/// What toolchains import beside the ABI.
fn toolchains() -> Vec<Guest> {
    let of = |name: &'static str, imports: &str, body: &str, (envoy, weir): (Option<u16>, u16)| Guest {
        name,
        text: answering(V0_2_1, imports, body),
        envoy,
        weir,
    };
    vec![
        of(
            "emscripten_notify_memory_growth",
            r#"(import "env" "emscripten_notify_memory_growth" (func $grew (param i32)))"#,
            "(block (result i32) (call $grew (i32.const 0)) (i32.const 1))",
            (Some(401), 401),
        ),
        of(
            "pthread_equal",
            r#"(import "env" "pthread_equal" (func $equal (param i32 i32) (result i32)))"#,
            "(call $equal (i32.const 5) (i32.const 5))",
            (Some(401), 401),
        ),
        of(
            "seed",
            r#"(import "env" "seed" (func $seed (result f64)))"#,
            "(block (result i32) (drop (call $seed)) (i32.const 2))",
            (None, 402),
        ),
        of(
            "abort",
            r#"(import "env" "abort" (func $abort (param i32 i32 i32 i32)))"#,
            "(block (result i32) (call $abort (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)) (i32.const 2))",
            (None, 503),
        ),
        of(
            "path_link",
            r#"(import "wasi_snapshot_preview1" "path_link" (func $link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))"#,
            "(call $link (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 0))",
            (None, 458),
        ),
        of(
            "path_symlink",
            r#"(import "wasi_snapshot_preview1" "path_symlink" (func $link (param i32 i32 i32 i32 i32) (result i32)))"#,
            "(call $link (i32.const 0) (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 0))",
            (None, 458),
        ),
        of(
            "proc_raise",
            r#"(import "wasi_snapshot_preview1" "proc_raise" (func $raise (param i32) (result i32)))"#,
            "(call $raise (i32.const 9))",
            (None, 458),
        ),
        of(
            "the older name of WASI",
            r#"(import "wasi_unstable" "sched_yield" (func $yield (result i32)))"#,
            "(call $yield)",
            (Some(400), 400),
        ),
        of(
            "a call that nobody has",
            r#"(import "env" "proxy_made_up" (func $made_up (param i32) (result i32)))"#,
            "(call $made_up (i32.const 0))",
            (None, 412),
        ),
    ]
}

/// The hostcalls that are tried here and nowhere else.
pub(crate) fn hostcalls() -> Vec<String> {
    let texts: Vec<String> = guests().into_iter().map(|guest| guest.text).collect();
    let imports = texts.iter().flat_map(|text| text.split("(import \"").skip(1));
    imports.filter_map(|import| import.split('"').nth(2).map(str::to_owned)).collect()
}

async fn in_envoy(module: &[u8], origin: std::net::SocketAddr) -> Option<u16> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("guest.wasm");
    std::fs::write(&file, module).unwrap();
    let filter = EnvoyFilter { module: file, configuration: "four".to_owned(), ..EnvoyFilter::of("guest") };
    let plan = EnvoyPlan { filters: vec![filter], ..EnvoyPlan::to(Codec::Http1, origin) };
    let envoy = Envoy::try_run(&plan).await?;
    let request = Request::get("/").body(empty()).unwrap();
    let answer = Client::http1(envoy.address()).await.attempt(request).await;
    answer.ok().map(|answer| answer.status().as_u16())
}

async fn in_weir(module: Vec<u8>, origin: std::net::SocketAddr) -> Option<u16> {
    let filter =
        Filter { config: serde_json::json!("four"), ..Filter::of("guest", Module::Bytes("guest.wasm", module)) };
    let resources = Resources::forward_to(origin).filter(filter);
    let proxy = Proxy::try_start(&resources).await?;
    Some(proxy.get("/").await.status)
}

#[tokio::test]
async fn modules_of_other_makers() {
    let origin = Origin::says("inside").await;
    let mut wrong = Vec::new();
    for Guest { name, text, envoy, weir } in guests() {
        let module = module_of_wat(&text);
        let theirs = in_envoy(&module, origin.address()).await;
        let ours = in_weir(module, origin.address()).await.unwrap_or_default();
        println!("{name}: Envoy {theirs:?}, Weir {ours}");
        if (theirs, ours) != (envoy, weir) {
            wrong.push(format!("{name}: Envoy {theirs:?}, Weir {ours}; expected {envoy:?}, {weir}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
