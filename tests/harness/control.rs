//! One running `weir-control` with its own folder: store, files and log. Also a client of its API, and the `weir` tool.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use http::Request;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::artifact::{copy_private, module_cache, program, shipped_modules};
use crate::body::full;
use crate::client::{Client, ClientResponse};
use crate::proxy::{Proxy, ProxyOptions};
use crate::resources::Resources;
use crate::wait::{wait_until, with_deadline};

/// Options of a control plane.
#[derive(Debug, Clone, Default)]
pub struct ControlOptions {
    /// The resources in its watched folder; `None` starts it without one.
    pub files: Option<Resources>,
    /// A recorded folder that is copied to the folder of the store before the start.
    pub recorded_store: Option<PathBuf>,
    /// The store's URL; `None` for a folder.
    pub store: Option<String>,
    /// The admin token; `None` if this control plane creates it. A second replica of a store gets the first one's
    /// token.
    pub admin_token: Option<String>,
    /// The folder of the store, and of the process's own files; `None` for one in the control plane's own folder.
    pub store_folder: Option<PathBuf>,
    /// The user that runs the process; `None` for the user of the test.
    pub user: Option<u32>,
    /// More arguments.
    pub arguments: Vec<String>,
    /// The hard limit on its open files; `None` for that of the test.
    pub file_descriptors: Option<u64>,
}

/// A control plane process. Dropping it kills the process.
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
    xds_mtls: SocketAddr,
    modules: SocketAddr,
}

impl Addresses {
    fn free() -> Self {
        let free_port = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { api: free_port, xds: free_port, xds_mtls: free_port, modules: free_port }
    }
}

impl ControlPlane {
    /// Starts a control plane with an empty store.
    pub async fn start() -> Self {
        Self::start_with(ControlOptions::default()).await
    }

    /// Starts a control plane, and waits until it listens.
    pub async fn start_with(options: ControlOptions) -> Self {
        let folder = tempfile::Builder::new().prefix("weir-test-").tempdir().expect("a temporary folder");
        if let Some(files) = &options.files {
            fs::create_dir(folder.path().join("config")).expect("a temporary folder can be written");
            files.write_to(&folder.path().join("config"));
        }
        if let Some(recorded) = &options.recorded_store {
            copy_private(recorded, &folder.path().join("store"));
        }
        if options.user.is_some() {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("a temporary folder");
        }
        let addresses = Addresses::free();
        let child = command(folder.path(), &options, &addresses).spawn().expect("weir-control starts");
        let mut this = Self { child, folder, options, addresses };
        this.wait_for_addresses().await;
        this
    }

    /// Creates a control plane that has not started: its process has ended.
    pub async fn not_started(options: ControlOptions) -> Self {
        let folder = tempfile::Builder::new().prefix("weir-test-").tempdir().expect("a temporary folder");
        let mut child = Command::new("true").spawn().expect("true starts");
        child.wait().await.expect("a child can be waited for");
        Self { child, folder, options, addresses: Addresses::free() }
    }

    /// Kills the process, as a crash would.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("a child can be killed");
    }

    /// Kills the process, and starts it again at the same addresses with the same store.
    pub async fn restart(&mut self) {
        drop(self.child.kill().await);
        fs::remove_file(self.address_path()).ok();
        let mut command = command(self.folder.path(), &self.options, &self.addresses);
        self.child = command.spawn().expect("weir-control starts");
        self.wait_for_addresses().await;
    }

    /// Starts the process at the same addresses, and does not wait. The process may exit with an error.
    pub fn try_restart(&mut self) {
        let mut command = command(self.folder.path(), &self.options, &self.addresses);
        self.child = command.spawn().expect("weir-control starts");
    }

    /// Starts the process at the same addresses when it must refuse. Returns what it has logged since.
    pub async fn fail_to_restart(&mut self) -> String {
        let before = self.log().len();
        self.try_restart();
        let status = self.wait_for_exit().await;
        assert!(!status.success(), "weir-control has ended with {status}");
        self.log()[before..].to_owned()
    }

    /// Ends the process with SIGTERM, and waits for its exit.
    pub async fn stop(&mut self) {
        let id = i32::try_from(self.id()).expect("a process id");
        let process = rustix::process::Pid::from_raw(id).expect("a process id");
        rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("a child can be ended");
        self.wait_for_exit().await;
    }

    /// Returns the status and the text of its readiness probe.
    pub async fn readiness(&self) -> (u16, String) {
        let response = Client::http1(self.addresses.api).await.get("/ready").await;
        (response.status, response.text())
    }

    /// Waits until it is not ready, and returns the reason.
    pub async fn wait_until_unready(&self) -> String {
        wait_until("weir-control not to be ready", async || {
            let (status, text) = self.readiness().await;
            (status == 503).then_some(text)
        })
        .await
    }

    /// Waits until it is ready.
    pub async fn wait_until_ready(&self) {
        wait_until("weir-control to be ready", async || (self.readiness().await.0 == 200).then_some(())).await;
    }

    /// Runs `weir-control COMMAND` on its store. Returns true if it succeeded, and what it printed.
    pub async fn maintain(&self, command: &[&str]) -> (bool, String) {
        let mut process = Command::new(program("weir-control"));
        process.args(command).args(store_arguments(self.folder.path(), &self.options));
        process.current_dir(self.folder.path()).stdin(Stdio::null());
        let output = with_deadline("weir-control", process.output()).await.expect("weir-control runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Returns the folder in which [`ControlPlane::maintain`] and `weir` run.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits until the process exits.
    pub async fn wait_for_exit(&mut self) -> std::process::ExitStatus {
        with_deadline("the end of weir-control", self.child.wait()).await.expect("a child can be waited for")
    }

    async fn wait_for_addresses(&mut self) {
        let path = self.address_path();
        let listening: Value = wait_until("the addresses of weir-control", async || {
            let ended = self.child.try_wait().expect("a child has a status");
            assert!(ended.is_none(), "weir-control has ended with {ended:?}:\n{}", self.log());
            serde_json::from_str(&fs::read_to_string(&path).ok()?).ok()
        })
        .await;
        let address = |name: &str| listening[name].as_str().and_then(|text| text.parse().ok()).expect("an address");
        let (api, xds) = (address("api"), address("xds"));
        self.addresses = Addresses { api, xds, xds_mtls: address("xdsMtls"), modules: address("modules") };
    }

    fn address_path(&self) -> PathBuf {
        self.folder.path().join("addresses.json")
    }

    /// Returns its watched folder.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// Returns the folder of its store, and of its state if the store is etcd.
    pub fn store(&self) -> PathBuf {
        store_folder(self.folder.path(), &self.options)
    }

    /// Returns the address of its API.
    pub fn api(&self) -> SocketAddr {
        self.addresses.api
    }

    /// Returns the address of its plaintext xDS server.
    pub fn xds(&self) -> SocketAddr {
        self.addresses.xds
    }

    /// Returns the address of its plaintext module server.
    pub fn modules(&self) -> SocketAddr {
        self.addresses.modules
    }

    /// Returns its resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok()).expect("its memory is known") * 1024
    }

    /// Returns the CPU time of all its threads that are running.
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

    /// Returns the admin token: from the options, or created at the first start.
    pub fn admin_token(&self) -> String {
        if let Some(token) = &self.options.admin_token {
            return token.clone();
        }
        let text = fs::read_to_string(self.store().join("admin.token")).expect("the first token");
        text.trim().to_owned()
    }

    /// Returns everything that it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("control.log")).unwrap_or_default()
    }

    /// Waits until its log contains a text.
    pub async fn wait_for_log(&self, text: &str) {
        wait_until(&format!("`{text}` in the log of weir-control"), async || self.log().contains(text).then_some(()))
            .await;
    }

    /// Sends a GET request to its API with the admin token, to a path outside of `/api/v1`.
    pub async fn page(&self, path: &str) -> ClientResponse {
        let request = Request::get(path).header("authorization", format!("Bearer {}", self.admin_token()));
        let request = request.body(full(Vec::new())).expect("a valid request");
        Client::http1(self.addresses.api).await.send(request).await
    }

    /// Starts a proxy that follows the control plane, with its listener `default/edge/http` on a free port.
    pub async fn proxy(&self, node: &str, arguments: &[&str]) -> Proxy {
        let own = ["--node", node, "--bind", "default/edge/http=127.0.0.1:0"];
        let arguments = own.iter().chain(arguments).map(|argument| (*argument).to_owned()).collect();
        let cache = Some(self.folder.path().join(format!("cache-{node}")));
        let options = ProxyOptions { arguments, cache, ..ProxyOptions::default() };
        Proxy::follow(self.addresses.xds.port(), &options).await
    }

    /// Returns the address of its xDS server with mutual TLS.
    pub fn xds_mtls(&self) -> SocketAddr {
        self.addresses.xds_mtls
    }

    /// Creates a join token for the workload `namespace/account`.
    pub async fn join_token(&self, workload: &str) -> String {
        let body = serde_json::json!({"name": workload, "role": "proxy", "workload": workload}).to_string();
        let made = self.request("POST", "tokens", &body).await;
        assert_eq!(made.status, 200, "{}", made.text());
        json(&made)["secret"].as_str().expect("a token").to_owned()
    }

    /// Starts a proxy that follows the Gateway `default/NAME` by mutual TLS, as the workload of the same name.
    pub async fn mesh_proxy(&self, name: &str, arguments: &[&str]) -> Proxy {
        let token = self.join_token(&format!("default/{name}")).await;
        self.mesh_proxy_with(&token, name, arguments).await
    }

    /// Starts a proxy as [`ControlPlane::mesh_proxy`] does, with this join token. The cache of an earlier proxy of the
    /// same name is reused.
    pub async fn mesh_proxy_with(&self, token: &str, name: &str, arguments: &[&str]) -> Proxy {
        let path = self.folder.path().join(format!("{name}.token"));
        fs::write(&path, token).expect("a temporary folder can be written");
        let (url, gateway) = (format!("https://{}", self.addresses.xds_mtls), format!("default/{name}"));
        let path = path.to_string_lossy();
        let own = ["--node", name, "--xds", &url, "--join-token-path", &path, "--gateway", &gateway];
        let arguments = own.iter().chain(arguments).map(|argument| (*argument).to_owned()).collect();
        let cache = Some(self.folder.path().join(format!("cache-{name}")));
        Proxy::follow(0, &ProxyOptions { arguments, cache, ..ProxyOptions::default() }).await
    }

    /// Sends a request to the API with the admin token.
    pub async fn request(&self, method: &str, path: &str, body: &str) -> ClientResponse {
        self.request_as(Some(&self.admin_token()), method, path, body).await
    }

    /// Sends a request to the API with a token, or without one.
    pub async fn request_as(&self, token: Option<&str>, method: &str, path: &str, body: &str) -> ClientResponse {
        let mut request = Request::builder().method(method).uri(format!("/api/v1/{path}"));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(full(body.as_bytes().to_vec())).expect("a valid request");
        Client::http1(self.addresses.api).await.send(request).await
    }

    /// Applies resources, and returns the response's body. Panics if they are rejected.
    pub async fn apply(&self, resources: &Resources) -> Value {
        let response = self.request("POST", "apply", resources.text()).await;
        assert_eq!(response.status, 200, "{}", response.text());
        json(&response)
    }

    /// Pushes a bundle through the API with a token.
    pub async fn push(&self, token: &str, name: &str, version: &str, bytes: Vec<u8>) -> ClientResponse {
        let request = Request::put(format!("/api/v1/bundles/{name}/{version}"));
        let request = request.header("authorization", format!("Bearer {token}")).body(full(bytes));
        Client::http1(self.addresses.api).await.send(request.expect("a valid request")).await
    }

    /// Returns the JSON that the API has at a path.
    pub async fn get(&self, path: &str) -> Value {
        json(&self.request("GET", path, "").await)
    }

    /// Runs the `weir` tool against the API. Returns true if it succeeded, its standard output and its standard error.
    pub async fn weir(&self, arguments: &[&str]) -> (bool, String, String) {
        self.weir_with(arguments, &[]).await
    }

    /// Runs the `weir` tool as [`ControlPlane::weir`] does, with more environment variables.
    pub async fn weir_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> (bool, String, String) {
        let mut command = Command::new(program("weir"));
        if !arguments.contains(&"--api") {
            command.args(["--api", &format!("http://{}", self.addresses.api)]);
        }
        command.args(arguments);
        command.envs(variables.iter().copied());
        command.env("WEIR_TOKEN", self.admin_token()).current_dir(self.folder.path()).stdin(Stdio::null());
        let output = with_deadline("weir", command.output()).await.expect("weir runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }

    /// Writes a file to the folder in which `weir` runs.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join(name), bytes).expect("a temporary folder can be written");
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            crate::wait::print_error(&format!("the log of weir-control:\n{}", self.log()));
        }
        self.child.start_kill().ok();
    }
}

fn json(response: &ClientResponse) -> Value {
    serde_json::from_str(&response.text()).unwrap_or_else(|error| panic!("{error}: {}", response.text()))
}

fn store_folder(folder: &Path, options: &ControlOptions) -> PathBuf {
    options.store_folder.clone().unwrap_or_else(|| folder.join("store"))
}

fn store_arguments(folder: &Path, options: &ControlOptions) -> Vec<OsString> {
    let store = store_folder(folder, options).into_os_string();
    match &options.store {
        None => vec!["--store".into(), store],
        Some(url) => vec!["--store".into(), url.into(), "--state".into(), store],
    }
}

fn command(folder: &Path, options: &ControlOptions, addresses: &Addresses) -> Command {
    let Addresses { api, xds, xds_mtls, modules: _ } = addresses; // A proxy learns the address of modules by xDS.
    let mut command = match (options.user, options.file_descriptors) {
        (Some(user), _) => {
            let user = user.to_string();
            let mut command = Command::new("setpriv");
            command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]).arg(program("weir-control"));
            command
        }
        (None, Some(limit)) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]).arg(program("weir-control"));
            shell
        }
        (None, None) => Command::new(program("weir-control")),
    };
    command.args(store_arguments(folder, options));
    if options.store.is_some() && options.admin_token.is_none() {
        command.arg("--init");
    }
    command.arg("--plugins").arg(shipped_modules());
    command.args(["--api", &api.to_string(), "--xds", &xds.to_string(), "--modules", "127.0.0.1:0"]);
    command.args(["--xds-mtls", &xds_mtls.to_string()]).args(&options.arguments).arg("--cache").arg(module_cache());
    command.arg("--address-path").arg(folder.join("addresses.json"));
    if options.files.is_some() {
        command.arg("--config").arg(folder.join("config"));
    }
    let log = File::options().create(true).append(true).open(folder.join("control.log"));
    command.stderr(log.expect("a temporary folder can be written")).stdin(Stdio::null()).stdout(Stdio::null());
    command.kill_on_drop(true);
    command
}
