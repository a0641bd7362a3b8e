//! Rejections that depend on modules, filters and sockets: modules that do not load, filters that do not start,
//! addresses that are not available. Each has file, line, column and hint, `weir-proxy validate` prints the same text,
//! and the active configuration stays. Rejections of the compiler are tested in `mesh/resources/tests/diagnostics`.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use harness::{Origin, Proxy, ProxyOptions, Resources, test_filter, wait_until, wasm_from_wat};

const FILTER: &str = "\
apiVersion: weir.dev/v1alpha1
kind: Filter
metadata: {name: f}
spec:
  module: {file: ./broken.wasm}
";

/// Returns a module with the exports that every filter needs, and `rest`.
fn module(rest: &str) -> Vec<u8> {
    wasm_from_wat(&format!(
        "(module (memory (export \"memory\") 1) (func (export \"proxy_abi_version_0_2_1\")) (func (export \
         \"proxy_on_memory_allocate\") (param i32) (result i32) i32.const 1024) (func (export \
         \"proxy_on_context_create\") (param i32 i32)) {rest})"
    ))
}

/// One bad change: its name, the file `broken.wasm`, the file `more.yaml`, and the expected rejection. `{config}` in
/// the rejection stands for the folder of the resources.
struct Case {
    about: &'static str,
    module: Option<Vec<u8>>,
    text: String,
    expected: &'static str,
}

fn case(about: &'static str, module: Option<Vec<u8>>, expected: &'static str) -> Case {
    Case { about, module, text: FILTER.to_owned(), expected }
}

fn modules_that_do_not_load() -> Vec<Case> {
    vec![
        case(
            "missing",
            None,
            "more.yaml:5:12: Filter default/f: spec.module.file: the module {config}/broken.wasm does not exist
  hint: relative paths start at the folder of the file that names the module
",
        ),
        case(
            "not Wasm",
            Some(b"#!/bin/sh\n\xff".to_vec()),
            "more.yaml:5:12: Filter default/f: spec.module.file: this is not a WebAssembly module (it begins with \
             \"#!/bin/sh\\n\\xff\"): use the .wasm file itself, not an archive or text form
  hint: the module must be a Proxy-Wasm filter built for wasm32
",
        ),
        case(
            "a component",
            Some(wasm_from_wat("(component)")),
            "more.yaml:5:12: Filter default/f: spec.module.file: this is a WebAssembly component; Proxy-Wasm filters \
             are core modules: build for wasm32-unknown-unknown or wasm32-wasip1
  hint: the module must be a Proxy-Wasm filter built for wasm32
",
        ),
        case(
            "no marker of an ABI",
            Some(wasm_from_wat("(module (memory (export \"memory\") 1))")),
            "more.yaml:5:12: Filter default/f: spec.module.file: the module exports no proxy_abi_version_0_1_0, _0_2_0 \
             or _0_2_1: is this a Proxy-Wasm filter, built with one of its SDKs?
  hint: the module must be a Proxy-Wasm filter built for wasm32
",
        ),
        case(
            "no memory",
            Some(wasm_from_wat("(module (func (export \"proxy_abi_version_0_2_1\")))")),
            "more.yaml:5:12: Filter default/f: spec.module.file: the module exports no memory, so the host cannot pass \
             data to it: let the linker export it as `memory`
  hint: the module must be a Proxy-Wasm filter built for wasm32
",
        ),
        case(
            "a memory of the host",
            Some(module_with_import("(memory 1)")),
            "more.yaml:5:12: Filter default/f: spec.module.file: import env.thing is a memory, but the host provides \
             functions only: link the module with a memory of its own
  hint: the module must be a Proxy-Wasm filter built for wasm32
",
        ),
        case(
            "a callback of another type",
            Some(module("(func (export \"proxy_on_request_headers\") (param i64))")),
            "more.yaml:5:12: Filter default/f: spec.module.file: export proxy_on_request_headers has type (i64) -> \
             nothing, but must have (i32, i32, i32) -> i32 or (i32, i32) -> i32: was it built for another version of the ABI?
  hint: the module must be a Proxy-Wasm filter built for wasm32
",
        ),
    ]
}

fn module_with_import(what: &str) -> Vec<u8> {
    wasm_from_wat(&format!(
        "(module (import \"env\" \"thing\" {what}) (export \"memory\" (memory 0)) (func (export \"proxy_abi_version_0_2_1\")) (func (export \
         \"proxy_on_memory_allocate\") (param i32) (result i32) i32.const 1024))"
    ))
}

fn filters_that_do_not_start() -> Vec<Case> {
    let started = "(func (export \"proxy_on_vm_start\") (param i32 i32) (result i32) i32.const 1)";
    let with = |config: &str| format!("{FILTER}  config: {config}\n");
    let builtin = |config: &str| with(config).replace("file: ./broken.wasm", "builtin: auth");
    let own = fs::read(test_filter()).unwrap();
    vec![
        case(
            "rejects its configuration without a log line",
            Some(module(&format!(
                "{started} (func (export \"proxy_on_configure\") (param i32 i32) (result i32) i32.const 0)"
            ))),
            "more.yaml:4:1: Filter default/f: spec.config: the plugin rejected its configuration: proxy_on_configure \
             returned false
  hint: check it against the filter's README
",
        ),
        Case {
            about: "rejects its configuration with a log line",
            module: Some(own),
            text: with("{configure: [{do: reject_configuration}]}"),
            expected: "more.yaml:6:3: Filter default/f: spec.config: the plugin rejected its configuration: \
             proxy_on_configure returned false; filter log: these are the filter's own words: no gold, no service
  hint: check it against the filter's README
",
        },
        Case {
            about: "auth rejects its configuration",
            module: None,
            text: builtin("{rulse: []}"),
            expected: "more.yaml:6:3: Filter default/f: spec.config: the plugin rejected its configuration: \
             proxy_on_configure returned false; filter log: ",
        },
        case(
            "traps while it starts",
            Some(module("(func (export \"proxy_on_vm_start\") (param i32 i32) (result i32) unreachable)")),
            "more.yaml:5:12: Filter default/f: spec.module.file: the plugin failed in its proxy_on_vm_start: \
             proxy_on_vm_start: wasm `unreachable` instruction executed",
        ),
        Case {
            about: "loops while it starts",
            module: Some(module(
                "(func (export \"proxy_on_vm_start\") (param i32 i32) (result i32) (loop (br 0)) i32.const 1)",
            )),
            text: format!("{FILTER}  limits: {{startTimeout: 50ms}}\n"),
            expected: "more.yaml:5:12: Filter default/f: spec.module.file: the plugin failed in its \
             proxy_on_vm_start: proxy_on_vm_start: stopped after ",
        },
    ]
}

/// Writes the files of a case, checks the rejection, and removes the files.
async fn check(proxy: &Proxy, case: &Case) {
    let (folder, version) = (proxy.config(), proxy.version().await);
    let rejected = proxy.metric("weir_config_updates_total{result=\"rejected\"}").await;
    if let Some(module) = &case.module {
        proxy.write("broken.wasm", module);
    }
    proxy.write("more.yaml", &case.text);
    proxy.wait_for_metric("weir_config_updates_total{result=\"rejected\"}", |count| count > rejected).await;
    let dump = proxy.json("/config_dump").await;
    let text = dump["lastRefusal"]["text"].as_str().unwrap().to_owned();
    let shown = folder.display().to_string();
    let expected = case.expected.replace("{config}", &shown);
    let relative = text.replace(&format!("{shown}/more.yaml"), "more.yaml");
    // An expected text without a final newline is the start of the rejection.
    let as_expected = if expected.ends_with('\n') { relative == expected } else { relative.starts_with(&expected) };
    assert!(as_expected, "{}:\n{relative}instead of\n{expected}", case.about);
    assert!(relative.contains("\n  hint: "), "{}: without a hint:\n{relative}", case.about);
    assert_eq!(dump["version"], version, "{}: nothing changes", case.about);
    assert_eq!(proxy.get("/").await.text(), "as before", "{}", case.about);
    let first = text.lines().next().unwrap();
    proxy.wait_for_log(&format!("configuration rejected: {first}")).await;
    let (code, printed) = validate(proxy);
    assert_eq!(code, Some(1), "{}", case.about);
    if case.about != "loops while it starts" {
        assert_eq!(printed, text, "{}: `validate` prints the proxy's rejection", case.about);
    }
    fs::remove_file(folder.join("more.yaml")).unwrap();
    fs::remove_file(folder.join("broken.wasm")).ok();
    wait_until("the files to be active", async || (proxy.json("/config_dump").await["inSync"] == true).then_some(()))
        .await;
}

/// Runs `weir-proxy validate` on the proxy's resources. Returns its exit code and its standard error.
fn validate(proxy: &Proxy) -> (Option<i32>, String) {
    let mut command = Command::new(harness::binary());
    command.arg("validate").arg(proxy.config()).args(harness::shared_folder_args());
    let output = command.output().expect("weir-proxy starts");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

async fn serving() -> (Origin, Proxy) {
    let origin = Origin::text("as before").await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    (origin, proxy)
}

#[tokio::test]
async fn modules_that_do_not_load_are_rejected() {
    let (_origin, proxy) = serving().await;
    for case in modules_that_do_not_load() {
        check(&proxy, &case).await;
    }
}

#[tokio::test]
async fn filters_that_do_not_start_are_rejected() {
    let (_origin, proxy) = serving().await;
    for case in filters_that_do_not_start() {
        check(&proxy, &case).await;
    }
}

#[tokio::test]
async fn oversized_module_is_rejected_unread() {
    let (_origin, proxy) = serving().await;
    // A sparse file of 64 MiB and a byte.
    fs::File::create(proxy.config().join("broken.wasm")).unwrap().set_len((64 << 20) + 1).unwrap();
    let case = case(
        "too large",
        None,
        "more.yaml:5:12: Filter default/f: spec.module.file: the module {config}/broken.wasm has more than 67108864 \
         bytes
  hint: build it with optimization for size and without debug information
",
    );
    check(&proxy, &case).await;
}

#[tokio::test]
async fn module_that_is_folder_is_rejected() {
    let (_origin, proxy) = serving().await;
    fs::create_dir(proxy.config().join("folder.wasm")).unwrap();
    let mut case = case(
        "a folder",
        None,
        "more.yaml:5:12: Filter default/f: spec.module.file: the module {config}/folder.wasm is not a regular file",
    );
    case.text = FILTER.replace("broken", "folder");
    check(&proxy, &case).await;
}

#[tokio::test]
async fn missing_shipped_module_is_rejected() {
    let origin = Origin::text("as before").await;
    let empty = tempfile::tempdir().unwrap();
    let options = ProxyOptions { plugins: Some(empty.path().to_owned()), ..ProxyOptions::default() };
    let proxy = Proxy::start_with(&Resources::forward_to(origin.address()), options).await;
    proxy.write("more.yaml", FILTER.replace("file: ./broken.wasm", "builtin: auth"));
    let line = proxy.wait_for_log("configuration rejected").await;
    let expected = format!(
        "more.yaml:5:12: Filter default/f: spec.module.builtin: there is no shipped module `auth` ({}/auth.wasm \
         does not exist); hint: build the shipped modules with `cargo xtask plugins`, or set their folder with --plugins",
        empty.path().display()
    );
    assert!(line.ends_with(&expected), "{line}\ninstead of\n{expected}");
    assert_eq!(proxy.get("/").await.text(), "as before");
}

#[tokio::test]
async fn unavailable_addresses_are_rejected_together() {
    let (_origin, proxy) = serving().await;
    let version = proxy.version().await;
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let gateway = |name: &str, address: &str, port: u16| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec:\n  \
             gatewayClassName: weir\n  addresses: [{{value: {address}}}]\n  listeners: [{{name: http, protocol: HTTP, \
             port: {port}}}]\n"
        )
    };
    let text = format!("{}---\n{}", gateway("one", "127.0.0.1", taken.port()), gateway("two", "192.0.2.1", 8081));
    proxy.write("more.yaml", text);
    proxy.wait_for_metric("weir_config_updates_total{result=\"rejected\"}", |count| count > 0.5).await;
    let text = proxy.json("/config_dump").await["lastRefusal"]["text"].as_str().unwrap().to_owned();
    let text = text.replace(&format!("{}/", proxy.config().display()), "");
    let expected = format!(
        "\
more.yaml:7:44: Gateway default/one: spec.listeners[0].port: {taken} is in use by another process
  hint: `ss -ltnp 'sport = :{port}'` shows which; stop it or choose another port
more.yaml:15:44: Gateway default/two: spec.listeners[0].port: no interface of this machine has the address 192.0.2.1
  hint: `0.0.0.0` is every address of this machine
",
        port = taken.port()
    );
    assert_eq!(text, expected);
    assert_eq!((proxy.version().await, proxy.get("/").await.text()), (version, "as before".to_owned()));
    assert_eq!(proxy.json("/listeners").await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn unreadable_file_is_rejected_by_name() {
    let (_origin, proxy) = serving().await;
    std::os::unix::fs::symlink("nowhere", proxy.config().join("link.yaml")).unwrap();
    let line = proxy.wait_for_log("configuration rejected").await;
    assert!(line.contains("link.yaml") && line.contains("cannot be read: No such file"), "{line}");
    assert_eq!(proxy.get("/").await.text(), "as before");
}

#[tokio::test]
async fn validate_accepts_valid_resources() {
    let (_origin, proxy) = serving().await;
    let mut command = Command::new(harness::binary());
    let output = command.arg("validate").arg(proxy.config()).args(harness::shared_folder_args()).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let version = proxy.version().await;
    let expected = format!(
        "{} is valid: 1 listener, 1 route, 1 cluster, 0 plugins; version {version}\n",
        proxy.config().display()
    );
    assert_eq!((output.status.code(), printed), (Some(0), expected));
    let missing = Command::new(harness::binary()).args(["validate", "/nowhere/at/all"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8(missing.stderr).unwrap().contains("/nowhere/at/all"));
}

#[tokio::test]
async fn errors_are_reported_in_document_order() {
    let (_origin, proxy) = serving().await;
    let text = "\
apiVersion: weir.dev/v1alpha1
kind: ServiceEntry
metadata: {name: other}
spec:
  ports: [{port: many}]
  endpoint: []
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: edge}]
  rules:
    - matches: [{path: {type: RegularExpression, value: \"(\"}, headers: [{name: x y, value: a}]}]
      timeouts: {request: soon}
      backendRefs: [{name: origin, port: 80}]
";
    proxy.write("more.yaml", text);
    proxy.wait_for_metric("weir_config_updates_total{result=\"rejected\"}", |count| count > 0.5).await;
    let dump = proxy.json("/config_dump").await;
    let rejections = dump["lastRefusal"]["refusals"].as_array().unwrap();
    let lines: Vec<u64> = rejections.iter().map(|rejection| rejection["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [5, 6, 14, 14, 15], "{dump}");
    let (code, printed) = validate(&proxy);
    assert_eq!((code, printed.as_str()), (Some(1), dump["lastRefusal"]["text"].as_str().unwrap()));
}
