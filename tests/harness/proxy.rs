//! One running `weir-proxy` with its own folder: resources and logs. Also a client of its admin pages.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::Request;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::artifact::{binary, module_cache, shipped_modules};
use crate::body::empty;
use crate::client::{Client, ClientResponse};
use crate::resources::Resources;
use crate::wait::{wait_until, with_deadline};

/// The listener of [`Resources::new`].
const LISTENER: &str = "default/edge/http";

/// Options of a proxy.
#[derive(Debug, Clone, Default)]
pub struct ProxyOptions {
    /// More arguments.
    pub arguments: Vec<String>,
    /// The number of workers. `None` is one, so that tests can count state per worker.
    pub workers: Option<usize>,
    /// True for an empty module cache of its own.
    pub fresh_cache: bool,
    /// The cache folder; `None` for the one that all proxies share.
    pub cache: Option<PathBuf>,
    /// The folder of shipped modules; `None` for that of `cargo xtask plugins`.
    pub plugins: Option<PathBuf>,
    /// The file to which its log goes; `None` for the file that [`Proxy::log`] reads.
    pub log: Option<Arc<OwnedFd>>,
}

/// An admin page.
pub type Page = ClientResponse;

/// A proxy process. Dropping it kills the process.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    admin: SocketAddr,
    folder: TempDir,
}

impl Proxy {
    /// Starts a proxy with resources, and waits until it is ready.
    pub async fn start(resources: &Resources) -> Self {
        Self::start_with(resources, ProxyOptions::default()).await
    }

    /// Starts a proxy with resources that it may reject. Returns `None` if it exits.
    pub async fn try_start(resources: &Resources) -> Option<Self> {
        let folder = Self::new_folder(resources);
        let child =
            command(&folder, resources.listeners(), &ProxyOptions::default()).spawn().expect("weir-proxy starts");
        let mut proxy = Self { child, admin: SocketAddr::from(([127, 0, 0, 1], 0)), folder };
        let is_ready = wait_until("weir-proxy to be ready, or to end", async || {
            if proxy.child.try_wait().expect("a child has a status").is_some() {
                return Some(false);
            }
            proxy.admin = fs::read_to_string(proxy.folder.path().join("admin-address")).ok()?.trim().parse().ok()?;
            // The process may exit during the request.
            let stream = tokio::net::TcpStream::connect(proxy.admin).await.ok()?;
            let request = Request::get("/ready").body(empty()).expect("a valid path");
            let response = Client::http1_over(stream, proxy.admin).await.try_send(request).await.ok()?;
            (response.status() == 200).then_some(true)
        });
        is_ready.await.then_some(proxy)
    }

    /// Starts a proxy with resources and options, and waits until it is ready.
    pub async fn start_with(resources: &Resources, options: ProxyOptions) -> Self {
        let folder = Self::new_folder(resources);
        let mut proxy = Self::launch(folder, resources.listeners(), &options).await;
        proxy.wait_until_ready().await;
        proxy
    }

    /// Starts a proxy that follows the control plane at `port`, and waits for its admin address only: it is ready after
    /// the first snapshot.
    pub async fn follow(port: u16, options: &ProxyOptions) -> Self {
        let folder = Self::new_folder(&Resources::empty());
        let mut options = options.clone();
        if !options.arguments.iter().any(|argument| argument == "--xds") {
            options.arguments.extend(["--xds".to_owned(), format!("http://127.0.0.1:{port}")]);
        }
        if !options.arguments.iter().any(|argument| argument == "--node") {
            // Proxies share a cache folder, and a control plane may have the port of an earlier one: the name of the node
            // prevents a start with the last configuration of another test.
            let folder = folder.path().file_name().expect("a temporary folder has a name").to_string_lossy();
            let node = if options.cache.is_some() { "test" } else { &folder };
            options.arguments.extend(["--node".to_owned(), node.to_owned()]);
        }
        Self::launch(folder, &[], &options).await
    }

    /// Runs a proxy that must fail to start. Returns its exit status and its log.
    pub async fn fail_to_start(resources: &Resources, options: ProxyOptions) -> (ExitStatus, String) {
        let folder = Self::new_folder(resources);
        let mut command = command(&folder, resources.listeners(), &options);
        let mut child = command.spawn().expect("weir-proxy starts");
        let status = with_deadline("the end of weir-proxy", child.wait()).await.expect("a child can be waited for");
        (status, read(&folder.path().join("proxy.log")))
    }

    /// Creates a folder for a proxy, with the resources in its subfolder `config`.
    fn new_folder(resources: &Resources) -> TempDir {
        let folder = tempfile::Builder::new().prefix("weir-test-").tempdir().expect("a temporary folder");
        let config = folder.path().join("config");
        fs::create_dir(&config).expect("a temporary folder can be written");
        resources.write_to(&config);
        folder
    }

    async fn launch(folder: TempDir, listeners: &[String], options: &ProxyOptions) -> Self {
        let child = command(&folder, listeners, options).spawn().expect("weir-proxy starts");
        let mut proxy = Self { child, admin: SocketAddr::from(([127, 0, 0, 1], 0)), folder };
        let file = proxy.folder.path().join("admin-address");
        proxy.admin = wait_until("the admin address", async || {
            proxy.assert_running();
            fs::read_to_string(&file).ok()?.trim().parse().ok()
        })
        .await;
        proxy
    }

    /// Waits until the proxy is ready.
    pub async fn wait_until_ready(&mut self) {
        wait_until("weir-proxy to be ready", async || {
            self.assert_running();
            (self.page("/ready").await.status == 200).then_some(())
        })
        .await;
    }

    fn assert_running(&mut self) {
        let ended = self.child.try_wait().expect("a child has a status");
        assert!(ended.is_none(), "weir-proxy has ended with {ended:?}:\n{}", self.log());
    }

    /// Returns the folder of its resources.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// Returns the address of the listener `default/edge/http`.
    pub async fn address(&self) -> SocketAddr {
        self.listener(LISTENER).await
    }

    /// Returns the address of a listener, such as `default/edge/http`. Panics if it does not exist.
    pub async fn listener(&self, name: &str) -> SocketAddr {
        self.find_listener(name).await.unwrap_or_else(|| panic!("there is no listener {name}"))
    }

    /// Returns the address of a listener; `None` if it does not exist.
    pub async fn find_listener(&self, name: &str) -> Option<SocketAddr> {
        let listeners = self.json("/listeners").await;
        let has_name = |listener: &&Value| listener["name"] == name;
        listeners.as_array()?.iter().find(has_name)?["address"].as_str()?.parse().ok()
    }

    /// Opens an HTTP/1.1 connection to the listener `default/edge/http`.
    pub async fn client(&self) -> Client {
        Client::http1(self.address().await).await
    }

    /// Sends a `GET` on a new HTTP/1.1 connection.
    pub async fn get(&self, path: &str) -> ClientResponse {
        self.client().await.get(path).await
    }

    /// Returns an admin page.
    pub async fn page(&self, path: &str) -> Page {
        Client::http1(self.admin).await.get(path).await
    }

    /// Sends a `POST` to the admin address.
    pub async fn command(&self, path: &str) -> Page {
        let request = Request::post(path).body(empty()).expect("a valid path");
        Client::http1(self.admin).await.send(request).await
    }

    /// Returns its admin address.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Returns an admin page of JSON.
    pub async fn json(&self, path: &str) -> Value {
        let page = self.page(path).await;
        serde_json::from_slice(&page.body).unwrap_or_else(|error| panic!("{path}: {error}: {}", page.text()))
    }

    /// Returns the version of the active configuration.
    pub async fn version(&self) -> String {
        let page = self.json("/config_dump").await;
        let version = page["version"].as_str().or_else(|| page["status"]["version"].as_str());
        version.unwrap_or_else(|| panic!("no version in {page}")).to_owned()
    }

    /// Returns a sample of `/stats/prometheus`; 0 if it is absent. `sample` is the name with its labels, as on the
    /// page.
    pub async fn metric(&self, sample: &str) -> f64 {
        let page = self.page("/stats/prometheus").await.text();
        let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok());
        line.unwrap_or(0.0)
    }

    /// Waits until a sample of `/stats/prometheus` fulfils a condition.
    pub async fn wait_for_metric(&self, sample: &str, condition: impl Fn(f64) -> bool) {
        wait_until(&format!("{sample}; the log:\n{}", self.log()), async || {
            condition(self.metric(sample).await).then_some(())
        })
        .await;
    }

    /// Writes a file to the folder of resources atomically: writes a hidden file, and renames it.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        static DRAFTS: AtomicU64 = AtomicU64::new(0);
        let draft = self.config().join(format!(".draft-{}", DRAFTS.fetch_add(1, Ordering::Relaxed)));
        fs::write(&draft, text).expect("the config folder can be written");
        fs::rename(draft, self.config().join(name)).expect("the config folder can be written");
    }

    /// Replaces all resources, and does not wait.
    pub fn apply(&self, resources: &Resources) {
        resources.write_modules_to(&self.config());
        self.write("resources.yaml", resources.text());
    }

    /// Replaces all resources, and waits until they are active. Panics if they are rejected.
    pub async fn apply_and_wait(&self, resources: &Resources) {
        let before = self.version().await;
        self.apply(resources);
        wait_until("the change to serve", async || {
            let rejections = self.log().lines().filter(|line| line.contains("configuration rejected")).count();
            assert_eq!(rejections, 0, "the change is rejected:\n{}", self.log());
            (self.version().await != before).then_some(())
        })
        .await;
    }

    /// Returns everything that it has logged so far.
    pub fn log(&self) -> String {
        read(&self.folder.path().join("proxy.log"))
    }

    /// Waits until a line of its log contains a text, and returns the line.
    pub async fn wait_for_log(&self, text: &str) -> String {
        let what = format!("{text:?} in the log");
        wait_until(&what, async || self.log().lines().find(|line| line.contains(text)).map(str::to_owned)).await
    }

    /// Waits until a line of the access log matches, and returns it.
    pub async fn access_log_line(&self, matches: impl Fn(&Value) -> bool) -> Value {
        wait_until("a line of the access log", async || self.access_log().into_iter().find(&matches)).await
    }

    /// Waits for the access log's line of the request with a path, and returns it.
    pub async fn access_log_for(&self, path: &str) -> Value {
        let what = format!("a line of {path} in the access log");
        wait_until(&what, async || self.access_log().into_iter().find(|line| line["path"] == path)).await
    }

    /// Returns every line of the access log so far.
    pub fn access_log(&self) -> Vec<Value> {
        let text = read(&self.folder.path().join("access.log"));
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
    }

    /// Returns its process id.
    pub fn id(&self) -> i32 {
        let id = self.child.id().expect("it runs");
        i32::try_from(id).expect("a process id")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.id()).expect("a process id");
        kill_process(id, signal).expect("a child can be sent a signal");
    }

    /// Waits until the process exits.
    pub async fn wait_for_exit(&mut self) -> ExitStatus {
        with_deadline("the end of weir-proxy", self.child.wait()).await.expect("a child can be waited for")
    }

    /// Returns a memory size of `/proc/PID/status` in bytes: `VmRSS` is the current resident size, `VmHWM` its peak.
    pub fn memory(&self, name: &str) -> u64 {
        let status = read(Path::new(&format!("/proc/{}/status", self.id())));
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kibibytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
        kibibytes.unwrap_or_else(|| panic!("no {name} in {status}")) * 1024
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines = log.lines().count().saturating_sub(60);
            let tail: Vec<&str> = log.lines().skip(lines).collect();
            let mut errors = std::io::stderr().lock();
            writeln!(errors, "the log of weir-proxy ends with:\n{}", tail.join("\n")).ok();
        }
        self.child.start_kill().ok();
    }
}

fn command(folder: &TempDir, listeners: &[String], options: &ProxyOptions) -> Command {
    let path = folder.path();
    let shared = || if options.fresh_cache { path.join("cache") } else { module_cache() };
    let cache = options.cache.clone().unwrap_or_else(shared);
    let mut command = Command::new(binary());
    command.arg("--cache").arg(cache);
    if !options.arguments.iter().any(|argument| argument == "--xds") {
        command.arg("--config").arg(path.join("config"));
    }
    command.args(["--admin", "127.0.0.1:0", "--admin-address-path"]).arg(path.join("admin-address"));
    command.arg("--plugins").arg(options.plugins.clone().unwrap_or_else(shipped_modules));
    command.arg("--workers").arg(options.workers.unwrap_or(1).to_string());
    for listener in listeners {
        command.arg("--bind").arg(format!("{listener}=127.0.0.1:0"));
    }
    command.args(&options.arguments).current_dir(path).kill_on_drop(true).stdin(Stdio::null());
    // By default the access log goes to standard output, and the log to standard error.
    let open = |name| File::create(path.join(name)).expect("a temporary folder can be written");
    let log = options.log.as_ref().map(|log| log.try_clone().expect("a descriptor can be duplicated"));
    command.stdout(open("access.log")).stderr(log.unwrap_or_else(|| open("proxy.log").into()));
    command
}

/// Returns the arguments with which `weir-proxy validate` uses the folders that all proxies share.
pub fn shared_folder_args() -> [OsString; 4] {
    ["--cache".into(), module_cache().into(), "--plugins".into(), shipped_modules().into()]
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
