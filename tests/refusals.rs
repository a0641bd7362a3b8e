//! What only a proxy can see of a bad change: modules that do not load, filters that do not start, addresses that cannot
//! be had. Each is refused with file, line, column and hint, `weir-proxy validate` says the same, and nothing changes.
//! (What the text alone shows is tested beside the compiler: `mesh/resources/tests/refusals`.)

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use harness::{Origin, Proxy, ProxyOptions, Resources, module_of_wat, test_filter, until};

const FILTER: &str = "\
apiVersion: weir.dev/v1alpha1
kind: Filter
metadata: {name: f}
spec:
  module: {file: ./broken.wasm}
";

/// Fills a module up to what every filter needs.
fn module(rest: &str) -> Vec<u8> {
    module_of_wat(&format!(
        "(module (memory (export \"memory\") 1) (func (export \"proxy_abi_version_0_2_1\")) (func (export \
         \"proxy_on_memory_allocate\") (param i32) (result i32) i32.const 1024) (func (export \
         \"proxy_on_context_create\") (param i32 i32)) {rest})"
    ))
}

/// One bad change: what it is, the module beside it, the file `more.yaml`, and what is said about it. `{config}` is the
/// folder of the resources.
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
            "more.yaml:5:12: Filter default/f: spec.module.file: the module {config}/broken.wasm is not there
  hint: relative paths start at the folder of the file that names the module
",
        ),
        case(
            "not Wasm",
            Some(b"#!/bin/sh\n\xff".to_vec()),
            "more.yaml:5:12: Filter default/f: spec.module.file: this is not a WebAssembly module (it begins with \
             \"#!/bin/sh\\n\\xff\"): give the .wasm file itself, not an archive or text form
  hint: the module must be a Proxy-Wasm filter built for wasm32
",
        ),
        case(
            "a component",
            Some(module_of_wat("(component)")),
            "more.yaml:5:12: Filter default/f: spec.module.file: this is a WebAssembly component; Proxy-Wasm filters \
             are core modules: build for wasm32-unknown-unknown or wasm32-wasip1
  hint: the module must be a Proxy-Wasm filter built for wasm32
",
        ),
        case(
            "no marker of an ABI",
            Some(module_of_wat("(module (memory (export \"memory\") 1))")),
            "more.yaml:5:12: Filter default/f: spec.module.file: the module exports no proxy_abi_version_0_1_0, _0_2_0 \
             or _0_2_1: is this a Proxy-Wasm filter, built with one of its SDKs?
  hint: the module must be a Proxy-Wasm filter built for wasm32
",
        ),
        case(
            "no memory",
            Some(module_of_wat("(module (func (export \"proxy_abi_version_0_2_1\")))")),
            "more.yaml:5:12: Filter default/f: spec.module.file: the module exports no memory, so the host cannot hand \
             it anything: let the linker export it as `memory`
  hint: the module must be a Proxy-Wasm filter built for wasm32
",
        ),
        case(
            "a memory of the host",
            Some(module_with_import("(memory 1)")),
            "more.yaml:5:12: Filter default/f: spec.module.file: import env.thing is a memory, but the host offers \
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
    module_of_wat(&format!(
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
            "refuses its configuration without a word",
            Some(module(&format!(
                "{started} (func (export \"proxy_on_configure\") (param i32 i32) (result i32) i32.const 0)"
            ))),
            "more.yaml:4:1: Filter default/f: spec.config: the plugin refused its configuration: proxy_on_configure \
             returned false
  hint: the filter's README says what it takes
",
        ),
        Case {
            about: "refuses its configuration in its own words",
            module: Some(own),
            text: with("{configure: [{do: refuse}]}"),
            expected: "more.yaml:6:3: Filter default/f: spec.config: the plugin refused its configuration: \
             proxy_on_configure returned false; the filter says: these are the filter's own words: no gold, no service
  hint: the filter's README says what it takes
",
        },
        Case {
            about: "auth refuses its configuration",
            module: None,
            text: builtin("{rulse: []}"),
            expected: "more.yaml:6:3: Filter default/f: spec.config: the plugin refused its configuration: \
             proxy_on_configure returned false; the filter says: ",
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
            text: format!("{FILTER}  limits: {{startTime: 50ms}}\n"),
            expected: "more.yaml:5:12: Filter default/f: spec.module.file: the plugin failed in its \
             proxy_on_vm_start: proxy_on_vm_start: stopped after ",
        },
    ]
}

/// Writes the case, checks what is said about it, and takes it away again.
async fn check(proxy: &Proxy, case: &Case) {
    let (folder, version) = (proxy.config(), proxy.version().await);
    let refused = proxy.metric("config_updates_total{result=\"refused\"}").await;
    if let Some(module) = &case.module {
        proxy.write("broken.wasm", module);
    }
    proxy.write("more.yaml", &case.text);
    proxy.wait_for_metric("config_updates_total{result=\"refused\"}", |count| count > refused).await;
    let dump = proxy.json("/config_dump").await;
    let said = dump["lastRefusal"]["text"].as_str().unwrap().to_owned();
    let shown = folder.display().to_string();
    let expected = case.expected.replace("{config}", &shown);
    let relative = said.replace(&format!("{shown}/more.yaml"), "more.yaml");
    // A text that ends in the middle of a line is the beginning of what is said.
    let as_expected = if expected.ends_with('\n') { relative == expected } else { relative.starts_with(&expected) };
    assert!(as_expected, "{}:\n{relative}instead of\n{expected}", case.about);
    assert!(relative.contains("\n  hint: "), "{}: without a hint:\n{relative}", case.about);
    assert_eq!(dump["version"], version, "{}: nothing changes", case.about);
    assert_eq!(proxy.get("/").await.text(), "as before", "{}", case.about);
    let first = said.lines().next().unwrap();
    proxy.wait_for_log(&format!("configuration refused: {first}")).await;
    let (code, printed) = validate(proxy);
    assert_eq!(code, Some(1), "{}", case.about);
    if case.about != "loops while it starts" {
        assert_eq!(printed, said, "{}: `validate` says what the proxy says", case.about);
    }
    fs::remove_file(folder.join("more.yaml")).unwrap();
    fs::remove_file(folder.join("broken.wasm")).ok();
    until("what is written to be what serves", async || {
        (proxy.json("/config_dump").await["inSync"] == true).then_some(())
    })
    .await;
}

/// What `weir-proxy validate` prints about the proxy's resources.
fn validate(proxy: &Proxy) -> (Option<i32>, String) {
    let mut command = Command::new(harness::binary());
    command.arg("validate").arg(proxy.config()).args(harness::folders());
    let output = command.output().expect("weir-proxy starts");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

async fn serving() -> (Origin, Proxy) {
    let origin = Origin::says("as before").await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    (origin, proxy)
}

#[tokio::test]
async fn modules_that_do_not_load_are_refused() {
    let (_origin, proxy) = serving().await;
    for case in modules_that_do_not_load() {
        check(&proxy, &case).await;
    }
}

#[tokio::test]
async fn filters_that_do_not_start_are_refused() {
    let (_origin, proxy) = serving().await;
    for case in filters_that_do_not_start() {
        check(&proxy, &case).await;
    }
}

#[tokio::test]
async fn a_module_that_is_too_large_is_refused_unread() {
    let (_origin, proxy) = serving().await;
    // A file with a hole: 64 MiB and a byte that take no room.
    fs::File::create(proxy.config().join("broken.wasm")).unwrap().set_len((64 << 20) + 1).unwrap();
    let case = case(
        "too large",
        None,
        "more.yaml:5:12: Filter default/f: spec.module.file: the module {config}/broken.wasm has more than 67108864 \
         bytes
  hint: build it with optimisation for size and without debug information
",
    );
    check(&proxy, &case).await;
}

#[tokio::test]
async fn a_module_that_is_a_folder_is_refused() {
    let (_origin, proxy) = serving().await;
    fs::create_dir(proxy.config().join("folder.wasm")).unwrap();
    let mut case = case(
        "a folder",
        None,
        "more.yaml:5:12: Filter default/f: spec.module.file: the module {config}/folder.wasm is not a plain file",
    );
    case.text = FILTER.replace("broken", "folder");
    check(&proxy, &case).await;
}

#[tokio::test]
async fn a_shipped_module_that_was_not_built_is_refused() {
    let origin = Origin::says("as before").await;
    let empty = tempfile::tempdir().unwrap();
    let options = ProxyOptions { plugins: Some(empty.path().to_owned()), ..ProxyOptions::default() };
    let proxy = Proxy::start_with(&Resources::forward_to(origin.address()), options).await;
    proxy.write("more.yaml", FILTER.replace("file: ./broken.wasm", "builtin: auth"));
    let line = proxy.wait_for_log("configuration refused").await;
    let expected = format!(
        "more.yaml:5:12: Filter default/f: spec.module.builtin: there is no shipped module `auth` ({}/auth.wasm is not \
         there); hint: build the shipped modules with `cargo xtask plugins`, or say where they are with --plugins",
        empty.path().display()
    );
    assert!(line.ends_with(&expected), "{line}\ninstead of\n{expected}");
    assert_eq!(proxy.get("/").await.text(), "as before");
}

#[tokio::test]
async fn addresses_that_cannot_be_had_are_refused_all_at_once() {
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
    proxy.wait_for_metric("config_updates_total{result=\"refused\"}", |count| count > 0.5).await;
    let said = proxy.json("/config_dump").await["lastRefusal"]["text"].as_str().unwrap().to_owned();
    let said = said.replace(&format!("{}/", proxy.config().display()), "");
    let expected = format!(
        "\
more.yaml:7:44: Gateway default/one: spec.listeners[0].port: {taken} is in use by another process
  hint: `ss -ltnp 'sport = :{port}'` shows which; stop it or choose another port
more.yaml:15:44: Gateway default/two: spec.listeners[0].port: no interface of this machine has the address 192.0.2.1
  hint: `0.0.0.0` is every address of this machine
",
        port = taken.port()
    );
    assert_eq!(said, expected);
    assert_eq!((proxy.version().await, proxy.get("/").await.text()), (version, "as before".to_owned()));
    assert_eq!(proxy.json("/listeners").await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn files_that_cannot_be_read_are_refused_by_name() {
    let (_origin, proxy) = serving().await;
    std::os::unix::fs::symlink("nowhere", proxy.config().join("link.yaml")).unwrap();
    let line = proxy.wait_for_log("configuration refused").await;
    assert!(line.contains("link.yaml") && line.contains("cannot be read: No such file"), "{line}");
    assert_eq!(proxy.get("/").await.text(), "as before");
}

#[tokio::test]
async fn valid_resources_are_said_to_be_valid() {
    let (_origin, proxy) = serving().await;
    let mut command = Command::new(harness::binary());
    let output = command.arg("validate").arg(proxy.config()).args(harness::folders()).output().unwrap();
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
async fn five_errors_in_two_documents_are_told_in_order() {
    let (_origin, proxy) = serving().await;
    let text = "\
apiVersion: weir.dev/v1alpha1
kind: Service
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
    proxy.wait_for_metric("config_updates_total{result=\"refused\"}", |count| count > 0.5).await;
    let dump = proxy.json("/config_dump").await;
    let refusals = dump["lastRefusal"]["refusals"].as_array().unwrap();
    let lines: Vec<u64> = refusals.iter().map(|refusal| refusal["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [5, 6, 14, 14, 15], "{dump}");
    let (code, printed) = validate(&proxy);
    assert_eq!((code, printed.as_str()), (Some(1), dump["lastRefusal"]["text"].as_str().unwrap()));
}
