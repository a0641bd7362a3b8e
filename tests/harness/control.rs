//! One running `weir-control` with a folder of its own: its store, its files, its log, its API.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use http::Request;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::artefact::{module_cache, program, shipped_modules};
use crate::body::full;
use crate::client::{Answer, Client};
use crate::proxy::{Proxy, ProxyOptions};
use crate::resources::Resources;
use crate::wait::{until, within};

/// How a control plane is started.
#[derive(Debug, Clone, Default)]
pub struct ControlOptions {
    /// Resource files, in a folder that is watched.
    pub files: Option<Resources>,
    /// The store, when it is not a folder of its own.
    pub store: Option<String>,
    /// The first token, when another one that shares the store has made it.
    pub admin_token: Option<String>,
    /// More arguments.
    pub arguments: Vec<String>,
}

/// A control plane process. It is killed when this is dropped.
#[derive(Debug)]
pub struct ControlPlane {
    child: Child,
    folder: TempDir,
    options: ControlOptions,
    addresses: Addresses,
}

#[derive(Debug, Clone, Copy)]
struct Addresses {
    api: SocketAddr,
    xds: SocketAddr,
    mutual: SocketAddr,
}

impl ControlPlane {
    /// Starts one with an empty store.
    pub async fn start() -> Self {
        Self::start_with(ControlOptions::default()).await
    }

    /// As [`ControlPlane::start`], with options.
    pub async fn start_with(options: ControlOptions) -> Self {
        let folder = tempfile::Builder::new().prefix("weir-test-").tempdir().expect("a temporary folder");
        if let Some(files) = &options.files {
            fs::create_dir(folder.path().join("config")).expect("a temporary folder can be written");
            files.write_to(&folder.path().join("config"));
        }
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let addresses = Addresses { api: nowhere, xds: nowhere, mutual: nowhere };
        let child = command(folder.path(), &options, &addresses).spawn().expect("weir-control starts");
        let mut this = Self { child, folder, options, addresses };
        this.wait_for_addresses().await;
        this
    }

    /// Ends it at once, as a crash would.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("a child can be killed");
    }

    /// Starts it again where it was, on what its store holds.
    pub async fn restart(&mut self) {
        drop(self.child.kill().await);
        fs::remove_file(self.address_path()).ok();
        let mut command = command(self.folder.path(), &self.options, &self.addresses);
        self.child = command.spawn().expect("weir-control starts");
        self.wait_for_addresses().await;
    }

    /// Starts it where it was, and does not wait: it may not want to.
    pub fn try_restart(&mut self) {
        let mut command = command(self.folder.path(), &self.options, &self.addresses);
        self.child = command.spawn().expect("weir-control starts");
    }

    /// How it ended, when it was expected to.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        within("the end of weir-control", self.child.wait()).await.expect("a child can be waited for")
    }

    async fn wait_for_addresses(&mut self) {
        let path = self.address_path();
        let said: Value = until("the addresses of weir-control", async || {
            let ended = self.child.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "weir-control has ended with {ended:?}:\n{}", self.log());
            serde_json::from_str(&fs::read_to_string(&path).ok()?).ok()
        })
        .await;
        let address = |name: &str| said[name].as_str().and_then(|text| text.parse().ok()).expect("an address");
        self.addresses = Addresses { api: address("api"), xds: address("xds"), mutual: address("xdsMtls") };
    }

    fn address_path(&self) -> PathBuf {
        self.folder.path().join("addresses.json")
    }

    /// The folder of its files.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// The folder of its store.
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Where its API is.
    pub fn api(&self) -> SocketAddr {
        self.addresses.api
    }

    /// Where proxies connect.
    pub fn xds(&self) -> SocketAddr {
        self.addresses.xds
    }

    /// Bytes of memory that it uses.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok()).expect("its memory is known") * 1024
    }

    /// CPU time that it has used.
    pub fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id())).expect("it runs");
        let nanoseconds = tasks.filter_map(Result::ok).filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// The token that it made at its first start, or that it was given.
    pub fn admin_token(&self) -> String {
        if let Some(token) = &self.options.admin_token {
            return token.clone();
        }
        let text = fs::read_to_string(self.store().join("admin.token")).expect("the first token");
        text.trim().to_owned()
    }

    /// Everything that it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("control.log")).unwrap_or_default()
    }

    /// A proxy that follows it, with its listener `default/edge/http` on a free port.
    pub async fn proxy(&self, node: &str, arguments: &[&str]) -> Proxy {
        let own = ["--node", node, "--bind", "default/edge/http=127.0.0.1:0"];
        let arguments = own.iter().chain(arguments).map(|argument| (*argument).to_owned()).collect();
        let cache = Some(self.folder.path().join(format!("cache-{node}")));
        let options = ProxyOptions { arguments, cache, ..ProxyOptions::default() };
        Proxy::follow(self.addresses.xds.port(), &options).await
    }

    /// Where proxies connect by mutual TLS.
    pub fn mutual(&self) -> SocketAddr {
        self.addresses.mutual
    }

    /// What a proxy becomes a workload with: `namespace/account`.
    pub async fn join_token(&self, workload: &str) -> String {
        let body = serde_json::json!({"name": workload, "role": "proxy", "workload": workload}).to_string();
        let made = self.ask("POST", "tokens", &body).await;
        assert_eq!(made.status, 200, "{}", made.text());
        json(&made)["secret"].as_str().expect("a token").to_owned()
    }

    /// A proxy that follows one Gateway by mutual TLS, and is the workload of the same name.
    pub async fn mesh_proxy(&self, name: &str, arguments: &[&str]) -> Proxy {
        let token = self.join_token(&format!("default/{name}")).await;
        self.mesh_proxy_with(&token, name, arguments).await
    }

    /// As [`ControlPlane::mesh_proxy`], with this join token; what an earlier proxy of the name has left is there.
    pub async fn mesh_proxy_with(&self, token: &str, name: &str, arguments: &[&str]) -> Proxy {
        let path = self.folder.path().join(format!("{name}.token"));
        fs::write(&path, token).expect("a temporary folder can be written");
        let (url, gateway) = (format!("https://{}", self.addresses.mutual), format!("default/{name}"));
        let path = path.to_string_lossy();
        let own = ["--node", name, "--xds", &url, "--join-token-path", &path, "--gateway", &gateway];
        let arguments = own.iter().chain(arguments).map(|argument| (*argument).to_owned()).collect();
        let cache = Some(self.folder.path().join(format!("cache-{name}")));
        Proxy::follow(0, &ProxyOptions { arguments, cache, ..ProxyOptions::default() }).await
    }

    /// Asks the API, with the first token.
    pub async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.ask_as(Some(&self.admin_token()), method, path, body).await
    }

    /// Asks the API with this token, or none.
    pub async fn ask_as(&self, token: Option<&str>, method: &str, path: &str, body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/api/v1/{path}"));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(full(body.as_bytes().to_vec())).expect("a valid request");
        Client::http1(self.addresses.api).await.send(request).await
    }

    /// Applies resources, which must be good; the answer.
    pub async fn apply(&self, resources: &Resources) -> Value {
        let answer = self.ask("POST", "apply", resources.text()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        json(&answer)
    }

    /// Pushes a bundle through the API, as the owner of a token.
    pub async fn push(&self, token: &str, name: &str, version: &str, bytes: Vec<u8>) -> Answer {
        let request = Request::put(format!("/api/v1/bundles/{name}/{version}"));
        let request = request.header("authorization", format!("Bearer {token}")).body(full(bytes));
        Client::http1(self.addresses.api).await.send(request.expect("a valid request")).await
    }

    /// A page of the API.
    pub async fn get(&self, path: &str) -> Value {
        json(&self.ask("GET", path, "").await)
    }

    /// The `weir` tool, run against it: how it ended, and what it said on standard output and error.
    pub async fn weir(&self, arguments: &[&str]) -> (bool, String, String) {
        self.weir_with(arguments, &[]).await
    }

    /// As [`ControlPlane::weir`], with more variables in its environment.
    pub async fn weir_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> (bool, String, String) {
        let mut command = Command::new(program("weir"));
        if !arguments.contains(&"--api") {
            command.args(["--api", &format!("http://{}", self.addresses.api)]);
        }
        command.args(arguments);
        command.envs(variables.iter().copied());
        command.env("WEIR_TOKEN", self.admin_token()).current_dir(self.folder.path()).stdin(Stdio::null());
        let output = within("weir", command.output()).await.expect("weir runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }

    /// A file in its folder, for `weir` to read.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join(name), bytes).expect("a temporary folder can be written");
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            crate::wait::complain(&format!("the log of weir-control:\n{}", self.log()));
        }
        self.child.start_kill().ok();
    }
}

fn json(answer: &Answer) -> Value {
    serde_json::from_str(&answer.text()).unwrap_or_else(|error| panic!("{error}: {}", answer.text()))
}

fn command(folder: &Path, options: &ControlOptions, addresses: &Addresses) -> Command {
    let Addresses { api, xds, mutual } = addresses;
    let mut command = Command::new(program("weir-control"));
    match &options.store {
        None => command.arg("--store").arg(folder.join("store")),
        Some(store) => command.args(["--store", store, "--state"]).arg(folder.join("store")),
    };
    command.arg("--plugins").arg(shipped_modules());
    command.args(["--api", &api.to_string(), "--xds", &xds.to_string(), "--modules", "127.0.0.1:0"]);
    command.args(["--xds-mtls", &mutual.to_string()]).args(&options.arguments).arg("--cache").arg(module_cache());
    command.arg("--address-path").arg(folder.join("addresses.json"));
    if options.files.is_some() {
        command.arg("--config").arg(folder.join("config"));
    }
    let log = File::options().create(true).append(true).open(folder.join("control.log"));
    command.stderr(log.expect("a temporary folder can be written")).stdin(Stdio::null()).stdout(Stdio::null());
    command.kill_on_drop(true);
    command
}
