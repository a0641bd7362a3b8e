//! Modules in the text format, for features that the probe cannot have because Envoy would not load it: older versions
//! of the ABI, imports that toolchains add, a start section, allocators.

use harness::{
    Client, Codec, Envoy, EnvoyConfig, EnvoyFilter, Filter, Module, Origin, Proxy, Resources, empty, wasm_from_wat,
};
use http::Request;

/// A module, and the status of its responses.
struct ModuleCase {
    name: &'static str,
    text: String,
    /// Status of each response in Envoy. `None` if Envoy does not load the module, or crashes.
    envoy: Option<u16>,
    /// Status of each response in Weir. 0 if Weir does not load the module.
    weir: u16,
}

/// Returns a module with the parts that every guest has: memory, an allocator, an ABI marker, and a function that
/// responds with a status.
fn module_text(marker: &str, imports: &str, rest: &str) -> String {
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
            ;; Responds with 400 plus a number below 100.
            (func $answer (param $number i32)
                (drop (call $reply (i32.add (i32.const 400) (local.get $number)) (i32.const 0) (i32.const 0)
                    (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1))))
            {rest})"#
    )
}

const V0_1_0: &str = "proxy_abi_version_0_1_0";
const V0_2_0: &str = "proxy_abi_version_0_2_0";
const V0_2_1: &str = "proxy_abi_version_0_2_1";

/// Returns a guest that responds with 400 and the number that `body` leaves on the stack.
fn module_answering(marker: &str, imports: &str, body: &str) -> String {
    let head = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)"#;
    module_text(marker, imports, &format!("{head} (call $answer {body}) (i32.const 1))"))
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn module_cases() -> Vec<ModuleCase> {
    let abi_0_1_0 = |name: &'static str, imports: &str, body: &str, expected: u16| {
        let head = r#"(func (export "proxy_on_request_headers") (param i32 i32) (result i32)"#;
        let text = module_text(V0_1_0, imports, &format!("{head} {body})"));
        ModuleCase { name, text, envoy: Some(expected), weir: expected }
    };
    let get_value =
        r#"(import "env" "proxy_get_header_map_value" (func $value (param i32 i32 i32 i32 i32) (result i32)))"#;
    let configuration =
        r#"(import "env" "proxy_get_configuration" (func $configuration (param i32 i32) (result i32)))"#;
    let size = "(global $size (mut i32) (i32.const 0))";
    let configure = r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $configuration (i32.const 16) (i32.const 20)))
        (global.set $size (i32.load (i32.const 20))) (i32.const 1))"#;
    let mut cases = vec![
        abi_0_1_0("0.1.0: a header that is not there is empty", get_value,
            "(call $answer (call $value (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 16) (i32.const 20))) (i32.const 1)", 400),
        abi_0_1_0("0.1.0: goes on with the request", r#"(import "env" "proxy_continue_request" (func $go (result i32)))"#,
            "(drop (call $go)) (i32.const 0)", 200),
        abi_0_1_0("0.1.0: clears the route", r#"(import "env" "proxy_clear_route_cache" (func $clear (result i32)))"#,
            "(call $answer (call $clear)) (i32.const 1)", 400),
        ModuleCase {
            name: "0.1.0: reads its configuration",
            text: module_text(V0_1_0, configuration, &format!(
                r#"{size} {configure} (func (export "proxy_on_request_headers") (param i32 i32) (result i32)
                    (call $answer (global.get $size)) (i32.const 1))"#)),
            envoy: Some(404),
            weir: 404,
        },
        ModuleCase {
            name: "0.1.0: goes on with the response",
            text: module_text(V0_1_0, r#"(import "env" "proxy_continue_response" (func $go (result i32)))"#,
                r#"(func (export "proxy_on_request_headers") (param i32 i32) (result i32) (drop (call $go)) (i32.const 0))"#),
            envoy: None,
            weir: 200,
        },
        ModuleCase {
            name: "0.2.0: a header that is not there is not found",
            text: module_answering(V0_2_0, get_value, "(call $value (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 16) (i32.const 20))"),
            envoy: Some(401),
            weir: 401,
        },
        ModuleCase {
            name: "a start section that logs",
            text: module_answering(V0_2_1, r#"(import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))"#, "(i32.const 7)")
                .replace("(func $answer", "(func $begin (drop (call $log (i32.const 2) (i32.const 0) (i32.const 4)))) (start $begin) (func $answer"),
            envoy: None,
            weir: 407,
        },
        ModuleCase {
            name: "both allocators",
            text: module_answering(V0_2_1, get_value, "(i32.const 8)")
                .replace("(func $answer", r#"(func (export "malloc") (param i32) (result i32) (i32.const 0)) (func $answer"#),
            envoy: Some(408),
            weir: 408,
        },
        ModuleCase { name: "no marker of the ABI", text: module_answering("no_marker", "", "(i32.const 0)"), envoy: None, weir: 0 },
        ModuleCase {
            name: "ends itself",
            text: module_answering(V0_2_1, r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#,
                "(block (result i32) (call $exit (i32.const 1)) (i32.const 9))"),
            envoy: Some(409),
            weir: 503,
        },
        ModuleCase {
            name: "traps",
            text: module_answering(V0_2_1, "", "(unreachable)"),
            envoy: Some(503),
            weir: 503,
        },
    ];
    cases.extend(toolchains());
    cases
}

/// Returns modules with imports that toolchains add to those of the ABI.
#[expect(clippy::too_many_lines, reason = "a table with one case per import")]
fn toolchains() -> Vec<ModuleCase> {
    let case = |name: &'static str, imports: &str, body: &str, envoy: Option<u16>, weir: u16| ModuleCase {
        name,
        text: module_answering(V0_2_1, imports, body),
        envoy,
        weir,
    };
    vec![
        case(
            "emscripten_notify_memory_growth",
            r#"(import "env" "emscripten_notify_memory_growth" (func $grew (param i32)))"#,
            "(block (result i32) (call $grew (i32.const 0)) (i32.const 1))",
            Some(401),
            401,
        ),
        case(
            "pthread_equal",
            r#"(import "env" "pthread_equal" (func $equal (param i32 i32) (result i32)))"#,
            "(call $equal (i32.const 5) (i32.const 5))",
            Some(401),
            401,
        ),
        case(
            "seed",
            r#"(import "env" "seed" (func $seed (result f64)))"#,
            "(block (result i32) (drop (call $seed)) (i32.const 2))",
            None,
            402,
        ),
        case(
            "abort",
            r#"(import "env" "abort" (func $abort (param i32 i32 i32 i32)))"#,
            "(block (result i32) (call $abort (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)) (i32.const 2))",
            None,
            503,
        ),
        case(
            "path_link",
            r#"(import "wasi_snapshot_preview1" "path_link" (func $link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))"#,
            "(call $link (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 0))",
            None,
            458,
        ),
        case(
            "path_symlink",
            r#"(import "wasi_snapshot_preview1" "path_symlink" (func $link (param i32 i32 i32 i32 i32) (result i32)))"#,
            "(call $link (i32.const 0) (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 0))",
            None,
            458,
        ),
        case(
            "proc_raise",
            r#"(import "wasi_snapshot_preview1" "proc_raise" (func $raise (param i32) (result i32)))"#,
            "(call $raise (i32.const 9))",
            None,
            458,
        ),
        case(
            "the older name of WASI",
            r#"(import "wasi_unstable" "sched_yield" (func $yield (result i32)))"#,
            "(call $yield)",
            Some(400),
            400,
        ),
        case(
            "a call that nobody has",
            r#"(import "env" "proxy_made_up" (func $made_up (param i32) (result i32)))"#,
            "(call $made_up (i32.const 0))",
            None,
            412,
        ),
    ]
}

/// Returns the hostcalls that these modules import.
pub(crate) fn hostcalls() -> Vec<String> {
    let texts: Vec<String> = module_cases().into_iter().map(|case| case.text).collect();
    let imports = texts.iter().flat_map(|text| text.split("(import \"").skip(1));
    imports.filter_map(|import| import.split('"').nth(2).map(str::to_owned)).collect()
}

/// Returns the status of a response in Envoy. `None` if Envoy does not start or does not respond.
async fn status_in_envoy(module: &[u8], origin: std::net::SocketAddr) -> Option<u16> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("guest.wasm");
    std::fs::write(&file, module).unwrap();
    let filter = EnvoyFilter { module: file, configuration: "four".to_owned(), ..EnvoyFilter::new("guest") };
    let config = EnvoyConfig { filters: vec![filter], ..EnvoyConfig::forward_to(Codec::Http1, origin) };
    let envoy = Envoy::try_run(&config).await?;
    let request = Request::get("/").body(empty()).unwrap();
    let response = Client::http1(envoy.address()).await.try_send(request).await;
    response.ok().map(|response| response.status().as_u16())
}

/// Returns the status of a response in Weir. `None` if the proxy does not start.
async fn status_in_weir(module: Vec<u8>, origin: std::net::SocketAddr) -> Option<u16> {
    let filter =
        Filter { config: serde_json::json!("four"), ..Filter::new("guest", Module::Bytes("guest.wasm", module)) };
    let resources = Resources::forward_to(origin).filter(filter);
    let proxy = Proxy::try_start(&resources).await?;
    Some(proxy.get("/").await.status)
}

#[tokio::test]
async fn modules_from_other_toolchains_get_expected_status() {
    let origin = Origin::text("inside").await;
    let mut wrong = Vec::new();
    for ModuleCase { name, text, envoy, weir } in module_cases() {
        let module = wasm_from_wat(&text);
        let in_envoy = status_in_envoy(&module, origin.address()).await;
        let in_weir = status_in_weir(module, origin.address()).await.unwrap_or_default();
        println!("{name}: Envoy {in_envoy:?}, Weir {in_weir}");
        if (in_envoy, in_weir) != (envoy, weir) {
            wrong.push(format!("{name}: Envoy {in_envoy:?}, Weir {in_weir}; expected {envoy:?}, {weir}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
