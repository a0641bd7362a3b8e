//! One running `weir-proxy` with a folder of its own: its resources, its logs, its pages.

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

use crate::artefact::{binary, module_cache, shipped_modules};
use crate::body::empty;
use crate::client::{Answer, Client};
use crate::resources::Resources;
use crate::wait::{until, within};

/// The listener that [`Resources`] has unless it says otherwise.
const LISTENER: &str = "default/edge/http";

/// How a proxy is started.
#[derive(Debug, Clone, Default)]
pub struct ProxyOptions {
    /// More arguments.
    pub arguments: Vec<String>,
    /// Threads; one when left out, so that what is per worker can be counted.
    pub workers: Option<usize>,
    /// A module cache of its own, empty.
    pub fresh_cache: bool,
    /// This cache folder, in place of the one that all proxies share.
    pub cache: Option<PathBuf>,
    /// The folder of shipped modules; that of `cargo xtask plugins` when left out.
    pub plugins: Option<PathBuf>,
    /// Where its log goes, in place of the file that [`Proxy::log`] reads.
    pub log: Option<Arc<OwnedFd>>,
}

/// A page of `/admin`.
pub type Page = Answer;

/// A proxy process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    admin: SocketAddr,
    folder: TempDir,
}

impl Proxy {
    /// Starts a proxy on these resources and waits until it serves.
    pub async fn start(resources: &Resources) -> Self {
        Self::start_with(resources, ProxyOptions::default()).await
    }

    /// As [`Proxy::start`], with resources that it may refuse, and end: `None` then.
    pub async fn try_start(resources: &Resources) -> Option<Self> {
        let folder = Self::folder_of(resources);
        let child =
            command(&folder, resources.listeners(), &ProxyOptions::default()).spawn().expect("weir-proxy starts");
        let mut proxy = Self { child, admin: SocketAddr::from(([127, 0, 0, 1], 0)), folder };
        let is_there = until("weir-proxy to be ready, or to end", async || {
            if proxy.child.try_wait().expect("a child can be asked").is_some() {
                return Some(false);
            }
            proxy.admin = fs::read_to_string(proxy.folder.path().join("admin-address")).ok()?.trim().parse().ok()?;
            // It may end while it is asked.
            let stream = tokio::net::TcpStream::connect(proxy.admin).await.ok()?;
            let request = Request::get("/ready").body(empty()).expect("a valid path");
            let answer = Client::http1_over(stream, proxy.admin).await.attempt(request).await.ok()?;
            (answer.status() == 200).then_some(true)
        });
        is_there.await.then_some(proxy)
    }

    /// As [`Proxy::start`], with options.
    pub async fn start_with(resources: &Resources, options: ProxyOptions) -> Self {
        let folder = Self::folder_of(resources);
        let mut proxy = Self::launch(folder, resources.listeners(), &options).await;
        proxy.wait_until_ready().await;
        proxy
    }

    /// Starts a proxy that gets its configuration from the control plane at `port`; it serves when that has told it.
    pub async fn follow(port: u16, options: &ProxyOptions) -> Self {
        let folder = Self::folder_of(&Resources::nothing());
        let mut options = options.clone();
        if !options.arguments.iter().any(|argument| argument == "--xds") {
            options.arguments.extend(["--xds".to_owned(), format!("http://127.0.0.1:{port}")]);
        }
        if !options.arguments.iter().any(|argument| argument == "--node") {
            options.arguments.extend(["--node".to_owned(), "test".to_owned()]);
        }
        Self::launch(folder, &[], &options).await
    }

    /// Runs a proxy that is expected not to start: how it ended, and what it logged.
    pub async fn fail_to_start(resources: &Resources, options: ProxyOptions) -> (ExitStatus, String) {
        let folder = Self::folder_of(resources);
        let mut command = command(&folder, resources.listeners(), &options);
        let mut child = command.spawn().expect("weir-proxy starts");
        let status = within("the end of weir-proxy", child.wait()).await.expect("a child can be waited for");
        (status, read(&folder.path().join("proxy.log")))
    }

    /// A folder with the resources in its `config`, for a proxy to start in.
    fn folder_of(resources: &Resources) -> TempDir {
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
        proxy.admin = until("the admin address", async || {
            proxy.assert_running();
            fs::read_to_string(&file).ok()?.trim().parse().ok()
        })
        .await;
        proxy
    }

    /// Waits until the first configuration serves.
    pub async fn wait_until_ready(&mut self) {
        until("weir-proxy to be ready", async || {
            self.assert_running();
            (self.page("/ready").await.status == 200).then_some(())
        })
        .await;
    }

    fn assert_running(&mut self) {
        let ended = self.child.try_wait().expect("a child can be asked");
        assert!(ended.is_none(), "weir-proxy has ended with {ended:?}:\n{}", self.log());
    }

    /// The folder of its resources.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// Where the default listener listens.
    pub async fn address(&self) -> SocketAddr {
        self.listener(LISTENER).await
    }

    /// Where a listener, like `default/edge/http`, listens.
    pub async fn listener(&self, name: &str) -> SocketAddr {
        self.find_listener(name).await.unwrap_or_else(|| panic!("there is no listener {name}"))
    }

    /// Where a listener listens; `None` when there is none of that name.
    pub async fn find_listener(&self, name: &str) -> Option<SocketAddr> {
        let listeners = self.json("/listeners").await;
        let named = |listener: &&Value| listener["name"] == name;
        listeners.as_array()?.iter().find(named)?["address"].as_str()?.parse().ok()
    }

    /// An HTTP/1.1 connection to the default listener.
    pub async fn client(&self) -> Client {
        Client::http1(self.address().await).await
    }

    /// One `GET` on a connection of its own.
    pub async fn get(&self, path: &str) -> Answer {
        self.client().await.get(path).await
    }

    /// An admin page.
    pub async fn page(&self, path: &str) -> Page {
        Client::http1(self.admin).await.get(path).await
    }

    /// An admin action.
    pub async fn command(&self, path: &str) -> Page {
        let request = Request::post(path).body(empty()).expect("a valid path");
        Client::http1(self.admin).await.send(request).await
    }

    /// Where its admin pages are.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// An admin page of JSON.
    pub async fn json(&self, path: &str) -> Value {
        let page = self.page(path).await;
        serde_json::from_slice(&page.body).unwrap_or_else(|error| panic!("{path}: {error}: {}", page.text()))
    }

    /// The version of the configuration that serves.
    pub async fn version(&self) -> String {
        let page = self.json("/config_dump").await;
        let version = page["version"].as_str().or_else(|| page["status"]["version"].as_str());
        version.unwrap_or_else(|| panic!("no version in {page}")).to_owned()
    }

    /// A sample of `/stats/prometheus`, by its name with its labels as written there; 0 when it is not there.
    pub async fn metric(&self, sample: &str) -> f64 {
        let page = self.page("/stats/prometheus").await.text();
        let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok());
        line.unwrap_or(0.0)
    }

    /// Waits until a sample of `/stats/prometheus` is as wished.
    pub async fn wait_for_metric(&self, sample: &str, wished: impl Fn(f64) -> bool) {
        until(&format!("{sample}; the log:\n{}", self.log()), async || wished(self.metric(sample).await).then_some(()))
            .await;
    }

    /// Puts a resource file in place of what was there, in one step: written beside it, renamed.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        static DRAFTS: AtomicU64 = AtomicU64::new(0);
        let draft = self.config().join(format!(".draft-{}", DRAFTS.fetch_add(1, Ordering::Relaxed)));
        fs::write(&draft, text).expect("the config folder can be written");
        fs::rename(draft, self.config().join(name)).expect("the config folder can be written");
    }

    /// Replaces everything by these resources, and does not wait.
    pub fn apply(&self, resources: &Resources) {
        resources.write_modules_to(&self.config());
        self.write("resources.yaml", resources.text());
    }

    /// Replaces everything by these resources, and waits until they serve.
    pub async fn change(&self, resources: &Resources) {
        let before = self.version().await;
        self.apply(resources);
        until("the change to serve", async || {
            let refusals = self.log().lines().filter(|line| line.contains("configuration refused")).count();
            assert_eq!(refusals, 0, "the change is refused:\n{}", self.log());
            (self.version().await != before).then_some(())
        })
        .await;
    }

    /// Everything that it has logged so far.
    pub fn log(&self) -> String {
        read(&self.folder.path().join("proxy.log"))
    }

    /// Waits until its log holds a text; the line that does.
    pub async fn wait_for_log(&self, text: &str) -> String {
        let what = format!("{text:?} in the log");
        until(&what, async || self.log().lines().find(|line| line.contains(text)).map(str::to_owned)).await
    }

    /// Waits for a line of the access log.
    pub async fn access_log_line(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        until("a line of the access log", async || self.access_log().into_iter().find(&wanted)).await
    }

    /// Waits for the access log's line about a path.
    pub async fn logged(&self, path: &str) -> Value {
        let what = format!("a line about {path} in the access log");
        until(&what, async || self.access_log().into_iter().find(|line| line["path"] == path)).await
    }

    /// Every line of the access log so far.
    pub fn access_log(&self) -> Vec<Value> {
        let text = read(&self.folder.path().join("access.log"));
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
    }

    /// Its process id.
    pub fn id(&self) -> i32 {
        let id = self.child.id().expect("it runs");
        i32::try_from(id).expect("a process id")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.id()).expect("a process id");
        kill_process(id, signal).expect("a child can be sent a signal");
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        within("the end of weir-proxy", self.child.wait()).await.expect("a child can be waited for")
    }

    /// Bytes of memory in use, by the name in `/proc/PID/status`: `VmRSS`, `VmHWM`.
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
    // The access log goes to standard output unless told otherwise, everything else to standard error.
    let open = |name| File::create(path.join(name)).expect("a temporary folder can be written");
    let log = options.log.as_ref().map(|log| log.try_clone().expect("a descriptor can be doubled"));
    command.stdout(open("access.log")).stderr(log.unwrap_or_else(|| open("proxy.log").into()));
    command
}

/// The arguments that make `weir-proxy validate` use the same folders as every [`Proxy`].
pub fn folders() -> [OsString; 4] {
    ["--cache".into(), module_cache().into(), "--plugins".into(), shipped_modules().into()]
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
