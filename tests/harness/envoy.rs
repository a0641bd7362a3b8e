//! A real Envoy with filters in front of an origin: the peer that answers are compared with. `cargo xtask test` installs
//! it.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use http::Request;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::addresses::own_address;
use crate::agent::Agent;
use crate::artefact::{shipped_modules, target_folder};
use crate::body::empty;
use crate::client::{Client, read};
use crate::envoy_plan::{EnvoyFilter, EnvoyPlan};
use crate::origin::Codec;
use crate::wait::until;

/// The file that it writes its admin address to.
const ADMIN_ADDRESS: &str = "admin-address";

/// One running Envoy. It is killed when this is dropped.
#[derive(Debug)]
pub struct Envoy {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    folder: TempDir,
}

impl Envoy {
    /// Starts it with shipped modules in this order, each with its configuration. All requests go to `origin`, with the
    /// mark of the routing filter if they have one.
    pub async fn start(filters: &[(&'static str, Value)], origin: SocketAddr) -> Self {
        let shipped = |(name, config): &(&'static str, Value)| EnvoyFilter {
            module: shipped_modules().join(format!("{name}.wasm")),
            configuration: config.to_string(),
            ..EnvoyFilter::of(name)
        };
        let filters = filters.iter().map(shipped).collect();
        Self::run(&EnvoyPlan { filters, ..EnvoyPlan::to(Codec::Http1, origin) }).await
    }

    /// Starts it with a configuration of its own.
    pub async fn run(plan: &EnvoyPlan) -> Self {
        Self::launch(&plan.configuration()).await
    }

    /// The same with a configuration that it may refuse, and end: `None` then.
    pub async fn try_run(plan: &EnvoyPlan) -> Option<Self> {
        let mut envoy = Self::spawn(&plan.configuration());
        let is_there = until("Envoy to listen, or to end", async || {
            if envoy.child.try_wait().expect("a child can be asked").is_some() {
                return Some(false);
            }
            envoy.find_addresses().await.map(|()| true)
        });
        is_there.await.then_some(envoy)
    }

    /// Starts it with nothing but a control plane: where that listens, by which protocol it is asked (`DELTA_GRPC`,
    /// `GRPC`), and where modules are fetched, by a cluster called `modules`. Waits until it listens.
    pub async fn follow(control_plane: SocketAddr, protocol: &str, modules: SocketAddr) -> Self {
        Self::launch(&bootstrap(control_plane, protocol, modules)).await
    }

    /// The same for one Gateway, with an identity that an agent gives on a socket.
    pub async fn follow_as(control_plane: SocketAddr, gateway: &str, agent: &Agent) -> Self {
        let mut bootstrap = bootstrap(control_plane, "DELTA_GRPC", own_address());
        bootstrap["node"]["cluster"] = json!(gateway);
        let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().expect("a list");
        let mut identity = clusters[0].clone();
        let endpoint = json!({"endpoint": {"address": {"pipe": {"path": agent.socket()}}}});
        let endpoints = json!([{"lb_endpoints": [endpoint]}]);
        identity["name"] = json!("weir_identity");
        identity["load_assignment"] = json!({"cluster_name": "weir_identity", "endpoints": endpoints});
        clusters.push(identity);
        Self::launch(&bootstrap).await
    }

    async fn launch(configuration: &Value) -> Self {
        let mut envoy = Self::spawn(configuration);
        until("Envoy to listen", async || {
            envoy.assert_running();
            envoy.find_addresses().await
        })
        .await;
        envoy
    }

    fn spawn(configuration: &Value) -> Self {
        let folder = tempfile::Builder::new().prefix("envoy-test-").tempdir().expect("a temporary folder");
        let config = folder.path().join("envoy.json");
        fs::write(&config, configuration.to_string()).expect("a temporary folder can be written");
        let open = |name| File::create(folder.path().join(name)).expect("a temporary folder can be written");
        let mut command = Command::new(binary());
        command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "info", "--config-path"]);
        command.arg(&config).arg("--admin-address-path").arg(folder.path().join(ADMIN_ADDRESS));
        command.kill_on_drop(true).stdin(Stdio::null());
        let child = command.stdout(open("out.log")).stderr(open("envoy.log")).spawn().expect("Envoy starts");
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { child, address: nowhere, admin: nowhere, folder }
    }

    /// Learns where it listens; `None` as long as it does not.
    async fn find_addresses(&mut self) -> Option<()> {
        self.admin = fs::read_to_string(self.folder.path().join(ADMIN_ADDRESS)).ok()?.trim().parse().ok()?;
        let stream = TcpStream::connect(self.admin).await.ok()?;
        let mut client = Client::http1_over(stream, self.admin).await;
        let request = Request::get("/listeners?format=json").body(empty()).expect("a valid path");
        let page = read(client.attempt(request).await.ok()?).await.ok()?;
        let page: Value = serde_json::from_slice(&page.body).ok()?;
        let socket = &page["listener_statuses"][0]["local_address"]["socket_address"];
        let port = u16::try_from(socket["port_value"].as_u64()?).ok()?;
        self.address = SocketAddr::from(([127, 0, 0, 1], port));
        // The page shows a listener before its workers have it.
        TcpStream::connect(self.address).await.ok().map(|_| ())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A page of its admin interface.
    pub async fn page(&self, path: &str) -> String {
        Client::http1(self.admin).await.get(path).await.text()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.folder.path().join("envoy.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn assert_running(&mut self) {
        let ended = self.child.try_wait().expect("a child can be asked");
        assert!(ended.is_none(), "Envoy has ended with {ended:?}:\n{}", self.log());
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        self.child.start_kill().ok();
    }
}

fn binary() -> PathBuf {
    let lib = target_folder().join("bench/venv/lib");
    let pythons = fs::read_dir(&lib).into_iter().flatten().filter_map(Result::ok);
    let found = pythons.map(|python| python.path().join("site-packages/envoy/_bin/envoy")).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("there is no Envoy below {}: `cargo xtask test` installs it", lib.display()))
}

fn bootstrap(control_plane: SocketAddr, protocol: &str, modules: SocketAddr) -> Value {
    let address = |of: SocketAddr| json!({"socket_address": {"address": of.ip().to_string(), "port_value": of.port()}});
    let cluster = |name: &str, of: SocketAddr| {
        let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": address(of)}}]}]);
        json!({"name": name, "load_assignment": {"cluster_name": name, "endpoints": endpoints}})
    };
    let mut xds = cluster("xds", control_plane);
    xds["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }});
    let ads = json!({"ads": {}, "resource_api_version": "V3"});
    json!({
        "admin": {"address": address(SocketAddr::from(([127, 0, 0, 1], 0)))},
        "node": {"id": "envoy", "cluster": "test"},
        "dynamic_resources": {
            "ads_config": {
                "api_type": protocol, "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
            },
            "cds_config": ads, "lds_config": ads,
        },
        "static_resources": {"clusters": [xds, cluster("modules", modules)]},
    })
}
