//! The control plane drives a `weir-proxy` and a real Envoy, and both serve the same. Needs Envoy; see `cargo xtask
//! test`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod envoy_bounds; // Bounds of connections.
mod envoy_grpc; // gRPC calls.
mod envoy_retries; // Retries and ejections.
mod envoy_upgrades; // Requests that switch protocols.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use harness::{
    Certificate, Client, Codec, Envoy, Origin, Proxy, ProxyOptions, ProxyUnderTest, RawConnection, RawOrigin,
    Resources, Scenario, probe, shipped_modules, spawn_background, wait_until,
};
use http::{Request, request};
use tokio::net::TcpListener;
use weir_control::serve::{serve_ads, serve_modules};
use weir_control::{ConnectedProxies, ModuleStore, SnapshotCache};
use weir_model::{ClusterName, Listener, Snapshot, SnapshotBuilder};
use weir_resources::{Compiler, SourceFile};

/// A control plane in this process.
struct ControlPlane {
    snapshot_cache: Arc<SnapshotCache>,
    compiler: Compiler,
    ads: SocketAddr,
    modules: SocketAddr,
}

impl ControlPlane {
    async fn start() -> Self {
        let (ads, modules) = (listener().await, listener().await);
        let store = Arc::new(ModuleStore::new(shipped_modules()));
        let module_cluster = ClusterName::new("modules").unwrap();
        let snapshot_cache = SnapshotCache::new(Arc::clone(&store), modules.local_addr().unwrap(), module_cluster);
        let this = Self {
            snapshot_cache: Arc::clone(&snapshot_cache),
            compiler: Compiler::new(),
            ads: ads.local_addr().unwrap(),
            modules: modules.local_addr().unwrap(),
        };
        spawn_background(async move {
            serve_ads(ads, 100, snapshot_cache, ConnectedProxies::new(), "test".into()).await.unwrap();
        });
        spawn_background(serve_modules(modules, 100, store));
        this
    }

    fn apply(&mut self, resources: &Resources) {
        let file = SourceFile { path: PathBuf::from("resources.yaml"), text: Arc::from(resources.text()) };
        let compiled = self.compiler.compile(&[file]).unwrap_or_else(|rejections| panic!("{rejections:#?}"));
        let snapshot = self.snapshot_cache.encode(&on_free_ports(&compiled.snapshot)).unwrap();
        self.snapshot_cache.publish(snapshot);
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// Returns the snapshot with free ports for its listeners, since both proxies run on one machine.
fn on_free_ports(snapshot: &Snapshot) -> Snapshot {
    let mut builder = SnapshotBuilder::default();
    snapshot.clusters.values().for_each(|cluster| builder.put_cluster(Arc::clone(cluster)));
    snapshot.plugins.values().for_each(|plugin| builder.put_plugin(Arc::clone(plugin)));
    snapshot.secrets.values().for_each(|secret| builder.put_secret(Arc::clone(secret)));
    snapshot.route_tables.values().for_each(|table| builder.put_route_table(Arc::clone(table)));
    for listener in snapshot.listeners.values() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        builder.put_listener(Arc::new(Listener { address, ..(**listener).clone() }));
    }
    builder.complete().unwrap()
}

/// A `weir-proxy` and an Envoy that follow one control plane.
struct Proxies {
    weir: Proxy,
    envoy: Envoy,
}

impl Proxies {
    /// Starts both, with `protocol` as Envoy's `api_type`: `DELTA_GRPC` or `GRPC`.
    async fn start(control: &ControlPlane, protocol: &str) -> Self {
        let mut weir = Proxy::follow(control.ads.port(), &ProxyOptions::default()).await;
        weir.wait_until_ready().await;
        let envoy = Envoy::follow(control.ads, protocol, control.modules).await;
        Self { weir, envoy }
    }

    /// Waits until both respond to `GET path` with a status and a text.
    async fn wait_for(&self, path: &str, status: u16, text: &str) {
        self.wait_for_response(&|| Request::get(path), status, text).await;
    }

    /// Waits until both respond to the request with a status and a text.
    async fn wait_for_response(&self, request: &dyn Fn() -> request::Builder, status: u16, text: &str) {
        for (name, address) in [("weir", self.weir.address().await), ("envoy", self.envoy.address())] {
            let what = format!("{status} {text:?} from {name}; the log of Envoy:\n{}", self.envoy.log());
            wait_until(&what, async || {
                let request = request().body(harness::empty()).unwrap();
                let response = Client::http1(address).await.send(request).await;
                (response.status == status && response.text().contains(text)).then_some(())
            })
            .await;
        }
    }

    /// Waits until a server presents a certificate for a host, and sends a request there.
    async fn wait_for_certificate(&self, address: SocketAddr, certificate: &Certificate, host: &str) {
        let what = format!("{host} at {address}; the log of Envoy:\n{}", self.envoy.log());
        let connected = async || certificate.connect(address, host, Codec::Http2).await.ok();
        let mut client = Box::pin(wait_until(&what, connected)).await;
        let request = Request::get(format!("https://{host}/")).body(harness::empty()).unwrap();
        assert_eq!(client.send(request).await.text(), "here", "{host} at {address}");
    }

    /// Asserts that both have accepted every resource.
    async fn assert_no_rejection(&self) {
        let stats = self.envoy.page("/stats?filter=update_rejected|config_fail|config_reload").await;
        let rejected = stats.lines().find(|line| line.contains("rejected: ") && !line.ends_with(": 0"));
        assert_eq!(rejected, None, "Envoy rejected a resource:\n{}", self.envoy.log());
        assert!(!self.weir.log().contains("rejected a resource from the control plane"), "{}", self.weir.log());
    }
}

async fn check_changes_in_both(protocol: &str) {
    let (old, new) = (Origin::text("old").await, Origin::text("new").await);
    let mut control = ControlPlane::start().await;
    control.apply(&Resources::forward_to(old.address()));
    let both = Proxies::start(&control, protocol).await;
    both.wait_for("/", 200, "old").await;

    control.apply(&Resources::forward_to(new.address()));
    both.wait_for("/", 200, "new").await;

    let special = "rules: [{matches: [{path: {type: Exact, value: /special}}], \
                   backendRefs: [{name: special, port: 80}]}]";
    let more = Resources::forward_to(new.address()).service("special", &[old.address()]).route("special", special);
    control.apply(&more);
    both.wait_for("/special", 200, "old").await;
    both.wait_for("/specials", 200, "new").await;

    control.apply(&Resources::forward_to(new.address()));
    both.wait_for("/special", 200, "new").await;
    both.assert_no_rejection().await;
}

#[tokio::test]
async fn both_proxies_apply_changes_by_delta_xds() {
    check_changes_in_both("DELTA_GRPC").await;
}

#[tokio::test]
async fn both_proxies_apply_changes_by_sotw_xds() {
    check_changes_in_both("GRPC").await;
}

/// Applies every file in `scenarios/` to one control plane, one after another.
#[tokio::test]
async fn both_proxies_pass_every_scenario() {
    let mut files: Vec<_> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let begin = Origin::text("begin").await;
    let mut control = ControlPlane::start().await;
    control.apply(&Resources::forward_to(begin.address()));
    let both = Proxies::start(&control, "DELTA_GRPC").await;
    both.wait_for("/", 200, "begin").await;
    for file in &files {
        let scenario = Scenario::read(file);
        let (origins, resources) = scenario.start().await;
        // A path of its own shows when the proxies have the scenario.
        let arrived = format!("/arrived/{}", file.file_stem().unwrap().to_string_lossy());
        let rule = format!(
            "rules: [{{matches: [{{path: {{type: Exact, value: {arrived}}}}}], filters: [{{type: RequestRedirect, \
             requestRedirect: {{statusCode: 302, path: {{type: ReplaceFullPath, replaceFullPath: /x}}}}}}]}}]"
        );
        control.apply(&resources.route("arrived", &rule));
        both.wait_for(&arrived, 302, "").await;
        scenario.check(ProxyUnderTest::Weir(&both.weir), &origins).await;
        scenario.check(ProxyUnderTest::Other(both.envoy.address()), &origins).await;
    }
    assert!(files.len() >= 9, "{files:?}");
    both.assert_no_rejection().await;
}

#[tokio::test]
async fn both_proxies_run_filter_on_its_route_only() {
    let origin = Origin::text("origin").await;
    let mut control = ControlPlane::start().await;
    control.apply(&Resources::forward_to(origin.address()));
    let both = Proxies::start(&control, "DELTA_GRPC").await;
    both.wait_for("/", 200, "origin").await;

    let guarded = "rules: [{matches: [{path: {type: PathPrefix, value: /guarded}}], \
                   backendRefs: [{name: origin, port: 80}]}]";
    let filter = "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {name: guard, namespace: default}\n\
                  spec:\n  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: guarded}]\n  \
                  module: {builtin: auth}\n  phase: Authn\n  \
                  config: {apiKeys: {keys: [{id: me, key: let-me-in}]}, rules: [{name: all, action: allow}]}\n";
    let resources = Resources::forward_to(origin.address()).route("guarded", guarded).yaml(filter);
    control.apply(&resources);
    both.wait_for("/guarded", 401, "").await;
    both.wait_for_response(&|| Request::get("/guarded").header("x-api-key", "let-me-in"), 200, "origin").await;
    both.wait_for("/", 200, "origin").await;
    both.assert_no_rejection().await;
}

#[tokio::test]
async fn both_proxies_run_filter_on_tcp_listener() {
    let origin_with_text = |text: &'static str| RawOrigin::start(move |mut wire| async move { wire.send(text).await });
    let (old, new) = (origin_with_text("old").await, origin_with_text("new").await);
    let mut control = ControlPlane::start().await;
    let script = "*tcp/0 new_connection proxy_log 2 \"first\"";
    let filter = |script: &str| {
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {{name: probe}}\nspec:\n  targetRefs: [{{kind: \
             TCPRoute, name: everything}}]\n  module: {{file: {}}}\n  configString: {script:?}\n",
            probe().display()
        )
    };
    control.apply(&Resources::forward_tcp_to(old.address()).yaml(&filter(script)));
    let both = Proxies::start(&control, "DELTA_GRPC").await;
    let weir = both.weir.listener("default/edge/tcp").await;
    for (origin, expected) in [(&old, "old"), (&new, "new")] {
        control.apply(&Resources::forward_tcp_to(origin.address()).yaml(&filter(script)));
        for (name, address) in [("weir", weir), ("envoy", both.envoy.address())] {
            wait_until(&format!("{expected} from {name}"), async || {
                (RawConnection::connect(address).await.rest().await == expected).then_some(())
            })
            .await;
        }
    }
    for expected in ["probe|*tcp/0|new_connection|proxy_log|0", "probe|*tcp/0|delete|over"] {
        both.weir.wait_for_log(expected).await;
        wait_until(&format!("{expected} in Envoy's log"), async || both.envoy.log().contains(expected).then_some(()))
            .await;
    }
    both.assert_no_rejection().await;
}

#[tokio::test]
async fn both_proxies_present_renewed_certificate() {
    let origin = Origin::text("here").await;
    let (old, new) = (Certificate::for_host("a.example"), Certificate::for_host("a.example"));
    let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {gatewayClassName: \
                   weir, listeners: [{name: http, port: 8443, protocol: HTTPS, hostname: a.example, tls: {certificateRefs: \
                   [{name: a}]}}, {name: rest, port: 8443, protocol: HTTPS, hostname: \"*.b.example\", tls: \
                   {certificateRefs: [{name: b}]}}]}\n";
    let b = Certificate::for_host("*.b.example");
    let all = |a: &Certificate| {
        let resources = Resources::empty().yaml(gateway).service("origin", &[origin.address()]).route_everything();
        resources.yaml(&a.secret("a")).yaml(&b.secret("b"))
    };
    let mut control = ControlPlane::start().await;
    control.apply(&all(&old));
    let both = Proxies::start(&control, "DELTA_GRPC").await;
    for (now, before) in [(&old, &new), (&new, &old)] {
        control.apply(&all(now));
        for (name, address) in [("weir", both.weir.address().await), ("envoy", both.envoy.address())] {
            both.wait_for_certificate(address, now, "a.example").await;
            both.wait_for_certificate(address, &b, "x.b.example").await;
            let gone = before.connect(address, "a.example", Codec::Http1).await;
            let unknown = now.connect(address, "c.example", Codec::Http1).await;
            assert!(gone.is_err() && unknown.is_err(), "{name}");
        }
    }
    both.assert_no_rejection().await;
}
