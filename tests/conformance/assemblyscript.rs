//! A filter in AssemblyScript with the SDK that people use there, compiled here and run in both.

use std::process::Command;

use harness::{
    Client, Codec, Envoy, EnvoyFilter, EnvoyPlan, Filter, Module, Origin, Proxy, Resources, empty, full, node_modules,
};
use http::Request;
use serde_json::json;

/// Compiles the filter; `options` as its users give them.
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

/// As filters are built for Envoy, which has no `abort`.
const FOR_ENVOY: [&str; 2] = ["--use", "abort=abort_proc_exit"];

/// What a request is answered, and what of it the origin has seen.
async fn seen(mut client: Client, origin: &Origin, (what, body): (&'static str, &'static str)) -> Vec<String> {
    let before = origin.received().len();
    let request =
        Request::post("/").header("x-do", what).header("x-gone", "1").header("x-cluster", "default/callee:80");
    let request = request.body(if body.is_empty() { empty() } else { full(body) }).unwrap();
    let answer = client.send(request).await;
    let mut lines = vec![format!("answer {} {:?}", answer.status, answer.text())];
    lines.extend(own("answer", &answer.headers));
    if origin.received().len() > before {
        let last = origin.last();
        lines.extend(own("origin", &last.headers));
    }
    lines
}

/// The headers that the filter has to do with.
fn own(whose: &str, headers: &http::HeaderMap) -> Vec<String> {
    let ours = headers.iter().filter(|(name, _)| name.as_str().starts_with("x-as") || *name == "x-gone");
    let mut lines: Vec<_> = ours.map(|(name, value)| format!("{whose} {name}: {}", value.to_str().unwrap())).collect();
    lines.retain(|line| !line.contains("x-as-names"));
    lines
}

const CASES: [(&str, &str); 9] = [
    ("headers", ""),
    ("property", ""),
    ("reply", ""),
    ("call", ""),
    ("body", "a body"),
    ("log", ""),
    ("pairs", ""),
    ("nothing", "x"),
    ("abort", ""),
];

#[tokio::test]
async fn a_filter_in_assemblyscript() {
    let (origin, callee) = (Origin::echoes(Codec::Http1).await, Origin::says("called").await);
    let module = compile(&FOR_ENVOY);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("filter.wasm");
    std::fs::write(&file, &module).unwrap();
    let filter = EnvoyFilter {
        module: file,
        configuration: "configured".to_owned(),
        root_id: "as_root",
        ..EnvoyFilter::of("default/as")
    };
    let plan = EnvoyPlan {
        filters: vec![filter],
        clusters: vec![("default/callee:80".to_owned(), callee.address())],
        target: "default/origin:80",
        ..EnvoyPlan::to(Codec::Http1, origin.address())
    };
    let envoy = Envoy::run(&plan).await;
    let with = |module: Vec<u8>, config: &str| {
        let filter = Filter { config: json!(config), ..Filter::of("as", Module::Bytes("as.wasm", module)) };
        Resources::forward_to(origin.address())
            .service("callee", &[callee.address()])
            .filter(filter.with("rootId: as_root"))
    };
    let weir = Proxy::start(&with(module.clone(), "configured")).await;
    for case in CASES {
        let theirs = seen(Client::http1(envoy.address()).await, &origin, case).await;
        let ours = seen(weir.client().await, &origin, case).await;
        // The words of an answer to a failure are each proxy's own.
        let status = |lines: &[String]| lines[0].split(' ').nth(1).map(str::to_owned);
        match case.0 {
            "abort" => assert_eq!(status(&ours), status(&theirs)),
            _ => assert_eq!(ours, theirs, "{case:?}\n{}", weir.log()),
        }
        println!("{case:?}: {ours:?}");
    }
    let requests = weir.metric("filter_custom_as_requests{plugin=\"default/as\"}").await;
    assert!(requests >= 8.0, "{requests}");
    assert!(weir.log().contains("from AssemblyScript"));

    // With the `abort` of AssemblyScript itself it does not load in Envoy; here it does, and its words are in the log.
    let other = Proxy::start(&with(compile(&[]), "configured")).await;
    assert_eq!(seen(other.client().await, &origin, ("nothing", "")).await[0], "answer 200 \"\"");
    assert_eq!(seen(other.client().await, &origin, ("abort", "")).await[0].split(' ').nth(1), Some("503"));
    other.wait_for_log("told to abort").await;

    weir.apply(&with(module, "refuse me"));
    weir.wait_for_log("proxy_on_configure returned false").await;
}
