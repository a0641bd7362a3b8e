//! A filter in AssemblyScript with that language's Proxy-Wasm SDK, compiled here and run in both proxies.

use std::process::Command;

use harness::{
    Client, Codec, Envoy, EnvoyConfig, EnvoyFilter, Filter, Module, Origin, Proxy, Resources, empty, full, node_modules,
};
use http::Request;
use serde_json::json;

/// Compiles the filter with `options` of the AssemblyScript compiler and returns the module.
fn compile(options: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("filter.ts"), include_str!("../peers/filter.ts")).unwrap();
    std::os::unix::fs::symlink(node_modules(), folder.path().join("node_modules")).unwrap();
    let mut command = Command::new("node");
    command.arg(node_modules().join("assemblyscript/bin/asc"));
    let output =
        command.args(["filter.ts", "-b", "filter.wasm", "-O"]).args(options).current_dir(folder.path()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(folder.path().join("filter.wasm")).unwrap()
}

/// Compiler options of filters for Envoy, which has no `abort`.
const ENVOY_OPTIONS: [&str; 2] = ["--use", "abort=abort_proc_exit"];

/// One request to the filter.
#[derive(Debug, Clone, Copy)]
struct FilterCase {
    /// Value of `x-do`, which selects the filter's action.
    action: &'static str,
    body: &'static str,
}

const CASES: [FilterCase; 9] = [
    FilterCase { action: "headers", body: "" },
    FilterCase { action: "property", body: "" },
    FilterCase { action: "reply", body: "" },
    FilterCase { action: "call", body: "" },
    FilterCase { action: "body", body: "a body" },
    FilterCase { action: "log", body: "" },
    FilterCase { action: "pairs", body: "" },
    FilterCase { action: "nothing", body: "x" },
    FilterCase { action: "abort", body: "" },
];

/// Sends a case's request and returns lines about the response and about the request at the origin.
async fn send_and_describe(mut client: Client, origin: &Origin, case: FilterCase) -> Vec<String> {
    let before = origin.received().len();
    let request = Request::post("/")
        .header("x-do", case.action)
        .header("x-gone", "1")
        .header("x-cluster", "default/callee:80")
        .body(if case.body.is_empty() { empty() } else { full(case.body) })
        .unwrap();
    let response = client.send(request).await;
    let mut lines = vec![format!("answer {} {:?}", response.status, response.text())];
    lines.extend(filter_header_lines("answer", &response.headers));
    if origin.received().len() > before {
        lines.extend(filter_header_lines("origin", &origin.last().headers));
    }
    lines
}

/// Returns lines about the headers that the filter edits. `x-as-names` is left out.
fn filter_header_lines(prefix: &str, headers: &http::HeaderMap) -> Vec<String> {
    let edited = headers.iter().filter(|(name, _)| {
        (name.as_str().starts_with("x-as") && !name.as_str().contains("x-as-names")) || *name == "x-gone"
    });
    edited.map(|(name, value)| format!("{prefix} {name}: {}", value.to_str().unwrap())).collect()
}

/// Returns the status in the first line of [`send_and_describe`].
fn status(lines: &[String]) -> Option<&str> {
    lines[0].split(' ').nth(1)
}

#[tokio::test]
async fn assemblyscript_filter_behaves_as_in_envoy() {
    let (origin, callee) = (Origin::echo(Codec::Http1).await, Origin::text("called").await);
    let module = compile(&ENVOY_OPTIONS);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("filter.wasm");
    std::fs::write(&file, &module).unwrap();
    let filter = EnvoyFilter {
        module: file,
        configuration: "configured".to_owned(),
        root_id: "as_root",
        ..EnvoyFilter::new("default/as")
    };
    let config = EnvoyConfig {
        filters: vec![filter],
        clusters: vec![("default/callee:80".to_owned(), callee.address())],
        target: "default/origin:80",
        ..EnvoyConfig::forward_to(Codec::Http1, origin.address())
    };
    let envoy = Envoy::run(&config).await;
    let with = |module: Vec<u8>, config: &str| {
        let filter = Filter { config: json!(config), ..Filter::new("as", Module::Bytes("as.wasm", module)) };
        Resources::forward_to(origin.address())
            .service("callee", &[callee.address()])
            .filter(filter.with_fields("rootId: as_root"))
    };
    let weir = Proxy::start(&with(module.clone(), "configured")).await;
    for case in CASES {
        let envoy_lines = send_and_describe(Client::http1(envoy.address()).await, &origin, case).await;
        let weir_lines = send_and_describe(weir.client().await, &origin, case).await;
        // The body of a response to a failed filter differs between the proxies.
        match case.action {
            "abort" => assert_eq!(status(&weir_lines), status(&envoy_lines)),
            _ => assert_eq!(weir_lines, envoy_lines, "{case:?}\n{}", weir.log()),
        }
        println!("{case:?}: {weir_lines:?}");
    }
    let requests = weir.metric("weir_filter_custom_as_requests{filter=\"default/as\"}").await;
    assert!(requests >= 8.0, "{requests}");
    assert!(weir.log().contains("from AssemblyScript"));

    // Envoy does not load a module that imports AssemblyScript's own `abort`. Weir does, and logs the message of
    // `abort`.
    let other = Proxy::start(&with(compile(&[]), "configured")).await;
    let no_action = FilterCase { action: "nothing", body: "" };
    assert_eq!(send_and_describe(other.client().await, &origin, no_action).await[0], "answer 200 \"\"");
    let abort = FilterCase { action: "abort", body: "" };
    assert_eq!(status(&send_and_describe(other.client().await, &origin, abort).await), Some("503"));
    other.wait_for_log("told to abort").await;

    weir.apply(&with(module, "refuse me"));
    weir.wait_for_log("proxy_on_configure returned false").await;
}
