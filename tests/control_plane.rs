//! Our control plane tells a proxy of ours and a real Envoy the same; both serve it alike. Needs Envoy; see
//! `cargo xtask test`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use harness::{
    Answer, Certificate, Client, Codec, Envoy, Front, Origin, Proxy, ProxyOptions, Resources, Scenario, Wire,
    WireOrigin, beside, probe, shipped_modules, until,
};
use http::Request;
use tokio::net::TcpListener;
use weir_control::serve::{serve_ads, serve_modules};
use weir_control::{Board, ModuleStore, ProxyBook};
use weir_model::{ClusterName, Listener, Snapshot, SnapshotBuilder};
use weir_resources::{Compiler, SourceFile};

/// A control plane in this process.
struct ControlPlane {
    board: Arc<Board>,
    compiler: Compiler,
    ads: SocketAddr,
    modules: SocketAddr,
}

impl ControlPlane {
    async fn start() -> Self {
        let (ads, modules) = (listener().await, listener().await);
        let store = Arc::new(ModuleStore::new(shipped_modules()));
        let module_cluster = ClusterName::new("modules").unwrap();
        let board = Board::new(Arc::clone(&store), modules.local_addr().unwrap(), module_cluster);
        let this = Self {
            board: Arc::clone(&board),
            compiler: Compiler::new(),
            ads: ads.local_addr().unwrap(),
            modules: modules.local_addr().unwrap(),
        };
        beside(async move { serve_ads(ads, board, ProxyBook::new()).await.unwrap() });
        beside(async move { serve_modules(modules, store).await.unwrap() });
        this
    }

    fn apply(&mut self, resources: &Resources) {
        let file = SourceFile { path: PathBuf::from("resources.yaml"), text: Arc::from(resources.text()) };
        let compiled = self.compiler.compile(&[file]).unwrap_or_else(|refusals| panic!("{refusals:#?}"));
        self.board.put(&on_free_ports(&compiled.snapshot)).unwrap();
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// Several proxies on one machine cannot listen on the port that is written.
fn on_free_ports(snapshot: &Snapshot) -> Snapshot {
    let mut builder = SnapshotBuilder::default();
    snapshot.clusters.values().for_each(|it| builder.put_cluster(Arc::clone(it)));
    snapshot.plugins.values().for_each(|it| builder.put_plugin(Arc::clone(it)));
    snapshot.secrets.values().for_each(|it| builder.put_secret(Arc::clone(it)));
    snapshot.route_tables.values().for_each(|it| builder.put_route_table(Arc::clone(it)));
    for listener in snapshot.listeners.values() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        builder.put_listener(Arc::new(Listener { address, ..(**listener).clone() }));
    }
    builder.complete().unwrap()
}

/// A proxy of ours and an Envoy that follow a control plane, by this protocol.
async fn proxies(control: &ControlPlane, protocol: &str) -> (Proxy, Envoy) {
    let mut proxy = Proxy::follow(control.ads.port(), &ProxyOptions::default()).await;
    proxy.wait_until_ready().await;
    let envoy = Envoy::follow(control.ads, protocol, control.modules).await;
    (proxy, envoy)
}

async fn ask(address: SocketAddr, path: &str, header: Option<(&str, &str)>) -> Answer {
    let mut request = Request::get(path);
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    Client::http1(address).await.send(request.body(harness::empty()).unwrap()).await
}

/// Waits until both answer a path with this status and text.
async fn both_say(proxies: &(Proxy, Envoy), path: &str, header: Option<(&str, &str)>, expected: (u16, &str)) {
    for (name, address) in [("weir", proxies.0.address().await), ("envoy", proxies.1.address())] {
        let what = format!("{expected:?} from {name} at {path}; the log of Envoy:\n{}", proxies.1.log());
        until(&what, async || {
            let answer = ask(address, path, header).await;
            (answer.status == expected.0 && answer.text().contains(expected.1)).then_some(())
        })
        .await;
    }
}

async fn assert_no_refusal(proxies: &(Proxy, Envoy)) {
    let stats = proxies.1.page("/stats?filter=update_rejected|config_fail|config_reload").await;
    let refused = stats.lines().find(|line| line.contains("rejected: ") && !line.ends_with(": 0"));
    assert_eq!(refused, None, "Envoy refuses what it is told:\n{}", proxies.1.log());
    assert!(!proxies.0.log().contains("refused what the control plane sent"), "{}", proxies.0.log());
}

async fn changes_reach_both(protocol: &str) {
    let (old, new) = (Origin::says("old").await, Origin::says("new").await);
    let mut control = ControlPlane::start().await;
    control.apply(&Resources::forward_to(old.address()));
    let both = proxies(&control, protocol).await;
    both_say(&both, "/", None, (200, "old")).await;

    control.apply(&Resources::forward_to(new.address()));
    both_say(&both, "/", None, (200, "new")).await;

    let special = "rules: [{matches: [{path: {type: Exact, value: /special}}], \
                   backendRefs: [{name: special, port: 80}]}]";
    let more = Resources::forward_to(new.address()).service("special", &[old.address()]).route("special", special);
    control.apply(&more);
    both_say(&both, "/special", None, (200, "old")).await;
    both_say(&both, "/specials", None, (200, "new")).await;

    control.apply(&Resources::forward_to(new.address()));
    both_say(&both, "/special", None, (200, "new")).await;
    assert_no_refusal(&both).await;
}

#[tokio::test]
async fn changes_reach_both_by_delta() {
    changes_reach_both("DELTA_GRPC").await;
}

#[tokio::test]
async fn changes_reach_both_by_state_of_the_world() {
    changes_reach_both("GRPC").await;
}

/// Every file in `scenarios/`, by one control plane, one after the other: both take what they are told each time, and what
/// they answer is what the file says.
#[tokio::test]
async fn every_scenario_is_the_same_in_both() {
    let mut files: Vec<_> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let begin = Origin::says("begin").await;
    let mut control = ControlPlane::start().await;
    control.apply(&Resources::forward_to(begin.address()));
    let both = proxies(&control, "DELTA_GRPC").await;
    both_say(&both, "/", None, (200, "begin")).await;
    for file in &files {
        let scenario = Scenario::read(file);
        let (origins, resources) = scenario.start().await;
        // A path of its own says when it has arrived.
        let arrived = format!("/arrived/{}", file.file_stem().unwrap().to_string_lossy());
        let rule = format!(
            "rules: [{{matches: [{{path: {{type: Exact, value: {arrived}}}}}], filters: [{{type: RequestRedirect, \
             requestRedirect: {{statusCode: 302, path: {{type: ReplaceFullPath, replaceFullPath: /x}}}}}}]}}]"
        );
        control.apply(&resources.route("arrived", &rule));
        both_say(&both, &arrived, None, (302, "")).await;
        scenario.check(Front::Weir(&both.0), &origins).await;
        scenario.check(Front::Other(both.1.address()), &origins).await;
    }
    assert!(files.len() >= 9, "{files:?}");
    assert_no_refusal(&both).await;
}

#[tokio::test]
async fn a_filter_reaches_both_by_its_hash_and_runs_where_its_route_says() {
    let origin = Origin::says("origin").await;
    let mut control = ControlPlane::start().await;
    control.apply(&Resources::forward_to(origin.address()));
    let both = proxies(&control, "DELTA_GRPC").await;
    both_say(&both, "/", None, (200, "origin")).await;

    let guarded = "rules: [{matches: [{path: {type: PathPrefix, value: /guarded}}], \
                   backendRefs: [{name: origin, port: 80}]}]";
    let filter = "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {name: guard, namespace: default}\n\
                  spec:\n  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: guarded}]\n  \
                  module: {builtin: auth}\n  phase: Authn\n  \
                  config: {apiKeys: {keys: [{id: me, key: let-me-in}]}, rules: [{name: all, action: allow}]}\n";
    let resources = Resources::forward_to(origin.address()).route("guarded", guarded).yaml(filter);
    control.apply(&resources);
    both_say(&both, "/guarded", None, (401, "")).await;
    both_say(&both, "/guarded", Some(("x-api-key", "let-me-in")), (200, "origin")).await;
    both_say(&both, "/", None, (200, "origin")).await;
    assert_no_refusal(&both).await;
}

#[tokio::test]
async fn a_tcp_listener_reaches_both_with_its_filter() {
    let talker = |text: &'static str| WireOrigin::start(move |mut wire| async move { wire.send(text).await });
    let (old, new) = (talker("old").await, talker("new").await);
    let mut control = ControlPlane::start().await;
    let script = "*tcp/0 new_connection proxy_log 2 \"first\"";
    let filter = |script: &str| {
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {{name: probe}}\nspec:\n  targetRefs: [{{kind: \
             TCPRoute, name: everything}}]\n  module: {{file: {}}}\n  configText: {script:?}\n",
            probe().display()
        )
    };
    control.apply(&Resources::forward_tcp_to(old.address()).yaml(&filter(script)));
    let both = proxies(&control, "DELTA_GRPC").await;
    let weir = both.0.listener("default/edge/tcp").await;
    for (origin, expected) in [(&old, "old"), (&new, "new")] {
        control.apply(&Resources::forward_tcp_to(origin.address()).yaml(&filter(script)));
        for (name, address) in [("weir", weir), ("envoy", both.1.address())] {
            until(&format!("{expected} from {name}"), async || {
                (Wire::connect(address).await.rest().await == expected).then_some(())
            })
            .await;
        }
    }
    for expected in ["probe|*tcp/0|new_connection|proxy_log|0", "probe|*tcp/0|delete|over"] {
        both.0.wait_for_log(expected).await;
        until(&format!("{expected} in Envoy's log"), async || both.1.log().contains(expected).then_some(())).await;
    }
    assert_no_refusal(&both).await;
}

#[tokio::test]
async fn a_certificate_reaches_both_and_its_successor_too() {
    let origin = Origin::says("here").await;
    let (old, new) = (Certificate::of("a.example"), Certificate::of("a.example"));
    let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {gatewayClassName: \
                   weir, listeners: [{name: http, port: 8443, protocol: HTTPS, hostname: a.example, tls: {certificateRefs: \
                   [{name: a}]}}, {name: rest, port: 8443, protocol: HTTPS, hostname: \"*.b.example\", tls: \
                   {certificateRefs: [{name: b}]}}]}\n";
    let b = Certificate::of("*.b.example");
    let all = |a: &Certificate| {
        let resources = Resources::nothing().yaml(gateway).service("origin", &[origin.address()]).route_everything();
        resources.yaml(&a.secret("a")).yaml(&b.secret("b"))
    };
    let mut control = ControlPlane::start().await;
    control.apply(&all(&old));
    let both = proxies(&control, "DELTA_GRPC").await;
    for (now, before) in [(&old, &new), (&new, &old)] {
        control.apply(&all(now));
        for (name, address) in [("weir", both.0.address().await), ("envoy", both.1.address())] {
            shows(address, now, "a.example", &both).await;
            shows(address, &b, "x.b.example", &both).await;
            let gone = before.connect(address, ("a.example", true), Codec::Http1).await;
            let unknown = now.connect(address, ("c.example", true), Codec::Http1).await;
            assert!(gone.is_err() && unknown.is_err(), "{name}");
        }
    }
    assert_no_refusal(&both).await;
}

/// Waits until a certificate is shown for a host, and gets an answer there.
async fn shows(address: SocketAddr, certificate: &Certificate, host: &str, both: &(Proxy, Envoy)) {
    let what = format!("{host} at {address}; the log of Envoy:\n{}", both.1.log());
    let connected = async || certificate.connect(address, (host, true), Codec::Http2).await.ok();
    let mut client = Box::pin(until(&what, connected)).await;
    let request = Request::get(format!("https://{host}/")).body(harness::empty()).unwrap();
    assert_eq!(client.send(request).await.text(), "here", "{host} at {address}");
}
