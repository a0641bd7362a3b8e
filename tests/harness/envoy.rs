//! One running Envoy, whose responses tests compare with the proxy's. `cargo xtask test` installs it.

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
use crate::artifact::{shipped_modules, target_folder};
use crate::body::empty;
use crate::client::{Client, read};
use crate::envoy_config::{EnvoyConfig, EnvoyFilter};
use crate::origin::Codec;
use crate::wait::wait_until;

/// The file to which Envoy writes its admin address.
const ADMIN_ADDRESS: &str = "admin-address";

/// One running Envoy. Dropping it kills the process.
#[derive(Debug)]
pub struct Envoy {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    folder: TempDir,
}

impl Envoy {
    /// Starts Envoy with shipped modules in this order, each with its configuration. It forwards all requests to
    /// `origin`, including the header that the routing filter sets.
    pub async fn start(filters: &[(&'static str, Value)], origin: SocketAddr) -> Self {
        let shipped = |(name, config): &(&'static str, Value)| EnvoyFilter {
            module: shipped_modules().join(format!("{name}.wasm")),
            configuration: config.to_string(),
            ..EnvoyFilter::new(name)
        };
        let filters = filters.iter().map(shipped).collect();
        Self::run(&EnvoyConfig { filters, ..EnvoyConfig::forward_to(Codec::Http1, origin) }).await
    }

    /// Starts Envoy with a configuration, and waits until it listens.
    pub async fn run(config: &EnvoyConfig) -> Self {
        Self::launch(&config.bootstrap()).await
    }

    /// Starts Envoy with a whole bootstrap configuration, and waits until its first listener accepts connections.
    pub async fn with_bootstrap(bootstrap: &Value) -> Self {
        Self::launch(bootstrap).await
    }

    /// Starts Envoy with a configuration that it may reject. Returns `None` if it exits.
    pub async fn try_run(config: &EnvoyConfig) -> Option<Self> {
        let mut envoy = Self::spawn(&config.bootstrap());
        let listens = wait_until("Envoy to listen, or to end", async || {
            if envoy.child.try_wait().expect("a child has a status").is_some() {
                return Some(false);
            }
            envoy.find_addresses().await.map(|()| true)
        });
        listens.await.then_some(envoy)
    }

    /// Starts an Envoy that is configured by a control plane, and waits until it listens.
    ///
    /// `protocol` is the `api_type` of its xDS: `DELTA_GRPC` or `GRPC`. Its cluster `modules` has the address
    /// `modules`.
    pub async fn follow(control_plane: SocketAddr, protocol: &str, modules: SocketAddr) -> Self {
        Self::launch(&bootstrap(control_plane, protocol, modules)).await
    }

    /// Starts an Envoy that follows one Gateway, with the certificates that an agent serves by SDS.
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
        wait_until("Envoy to listen", async || {
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
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { child, address: unknown, admin: unknown, folder }
    }

    /// Finds the addresses of the admin interface and of the listener. Returns `None` until both accept connections.
    async fn find_addresses(&mut self) -> Option<()> {
        self.admin = fs::read_to_string(self.folder.path().join(ADMIN_ADDRESS)).ok()?.trim().parse().ok()?;
        let stream = TcpStream::connect(self.admin).await.ok()?;
        let mut client = Client::http1_over(stream, self.admin).await;
        let request = Request::get("/listeners?format=json").body(empty()).expect("a valid path");
        let page = read(client.try_send(request).await.ok()?).await.ok()?;
        let page: Value = serde_json::from_slice(&page.body).ok()?;
        let socket = &page["listener_statuses"][0]["local_address"]["socket_address"];
        let port = u16::try_from(socket["port_value"].as_u64()?).ok()?;
        self.address = SocketAddr::from(([127, 0, 0, 1], port));
        // The admin page shows a listener before its workers accept connections.
        TcpStream::connect(self.address).await.ok().map(|_| ())
    }

    /// Returns the address of its listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns a page of its admin interface.
    pub async fn page(&self, path: &str) -> String {
        Client::http1(self.admin).await.get(path).await.text()
    }

    /// Returns everything that it has logged so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.folder.path().join("envoy.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn assert_running(&mut self) {
        let ended = self.child.try_wait().expect("a child has a status");
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
    let address = |address: SocketAddr| json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    let cluster = |name: &str, endpoint: SocketAddr| {
        let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": address(endpoint)}}]}]);
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
