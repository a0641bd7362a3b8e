//! Acceptance test of the module cache. A proxy or compiler process that is killed during a compilation must leave a
//! usable cache. A damaged artifact must be recompiled and never loaded. A warm cache must make the start faster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use harness::{Client, Filter, Module, Resources, test_filter, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{lock_machine, number_from_env, path_origin, percentile};

/// Kills by default.
const KILLS: usize = 20;

/// A folder of resources and a cache, which several proxies use one after another.
struct CacheFixture {
    folder: TempDir,
}

/// A proxy process. It is killed on drop.
struct ProxyProcess {
    child: Child,
    folder: PathBuf,
}

impl CacheFixture {
    /// Creates the folders, with a listener and a route.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("config")).unwrap();
        let fixture = Self { folder };
        Resources::forward_to(path_origin::start()).write_to(&fixture.config());
        fixture
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// Writes a filter of the route, with a module that no cache has.
    fn put_filter(&self, number: usize) {
        let module = distinct_module(number);
        let filter = Filter::new("seen", Module::Bytes("seen.wasm", module));
        let config = json!({"response_headers": [{"do": "set", "name": "x-number", "value": number.to_string()}]});
        let folder = tempfile::tempdir().unwrap();
        Resources::empty().filter(Filter { config, ..filter }).write_to(folder.path());
        for (from, to) in [("seen.wasm", "seen.wasm"), ("resources.yaml", "filter.yaml")] {
            let draft = self.config().join(".draft");
            fs::copy(folder.path().join(from), &draft).unwrap();
            fs::rename(draft, self.config().join(to)).unwrap();
        }
    }

    fn start(&self) -> ProxyProcess {
        let folder = self.folder.path();
        fs::remove_file(folder.join("admin")).ok(); // The previous proxy wrote it.
        let log = fs::File::create(folder.join("proxy.log")).unwrap();
        let child = Command::new(harness::binary())
            .arg("--config")
            .arg(self.config())
            .arg("--cache")
            .arg(self.cache())
            .args(["--workers", "2", "--admin", "127.0.0.1:0", "--bind", "default/edge/http=127.0.0.1:0"])
            .arg("--admin-address-path")
            .arg(folder.join("admin"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        ProxyProcess { child, folder: folder.to_owned() }
    }
}

impl ProxyProcess {
    async fn page(&self, path: &str) -> Option<String> {
        let address = fs::read_to_string(self.folder.join("admin")).ok()?.trim().parse().ok()?;
        let response = Client::http1(address).await.get(path).await;
        (response.status == 200).then(|| response.text())
    }

    async fn wait_until_ready(&self) {
        wait_until("weir-proxy to be ready", async || self.page("/ready").await.map(drop)).await;
    }

    /// Opens a connection to the listener.
    async fn client(&self) -> Client {
        let page = self.page("/listeners").await.expect("the page of listeners");
        let listeners: Value = serde_json::from_str(&page).unwrap();
        Client::http1(listeners[0]["address"].as_str().unwrap().parse().unwrap()).await
    }

    /// Blocks until responses have passed the filter of this number.
    async fn wait_until_serving(&self, number: usize) {
        let mut client = self.client().await;
        let what = format!("filter {number} to serve");
        wait_until(&what, async || (filter_number(&mut client).await == Some(number)).then_some(())).await;
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("proxy.log")).unwrap_or_default()
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    /// Blocks until the proxy has a compiler process and returns its id.
    async fn wait_for_compiler(&self) -> u32 {
        let id = self.id();
        wait_until("a child process that compiles", async || child_of(id)).await
    }
}

impl Drop for ProxyProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the log of weir-proxy: {}", self.log());
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Returns the number of the filter that a response has passed.
async fn filter_number(client: &mut Client) -> Option<usize> {
    let response = client.get("/").await;
    // 503: the filter's VM has not started.
    assert!(response.status == 200 || response.status == 503, "{}", response.text());
    response.header("x-number")?.parse().ok()
}

/// Returns the test filter with a custom section, so that its hash is new.
fn distinct_module(number: usize) -> Vec<u8> {
    let mut module = fs::read(test_filter()).unwrap();
    let content = format!("\u{6}number{number:08}-{}", std::process::id());
    module.push(0); // A custom section (WebAssembly core specification §5.5.3).
    module.push(u8::try_from(content.len()).unwrap());
    module.extend_from_slice(content.as_bytes());
    module
}

fn child_of(parent: u32) -> Option<u32> {
    let ids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    ids.into_iter().find(|id| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        fields.get(1).is_some_and(|field| *field == parent.to_string())
    })
}

fn kill(id: u32) {
    let id = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    kill_process(id, Signal::KILL).ok(); // The process may have exited.
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().map_while(Result::ok) {
        match entry.path() {
            path if path.is_dir() => files.extend(files_below(&path)),
            path => files.push(path),
        }
    }
    files
}

#[tokio::test]
async fn kill_during_compilation_leaves_usable_cache() {
    let _machine = lock_machine().await;
    let fixture = CacheFixture::new();
    let kills = number_from_env("WEIR_KILLS", KILLS);
    for number in 0..kills {
        let process = fixture.start();
        process.wait_until_ready().await;
        fixture.put_filter(number);
        let compiler = process.wait_for_compiler().await;
        // Each kill is at another moment of the compilation: after 0, 10, 20, … ms.
        tokio::time::sleep(Duration::from_millis(10 * number as u64)).await;
        kill(compiler);
        if number % 2 == 0 {
            // The proxy is killed, too. The next one starts with the same cache.
            kill(process.id());
            drop(process);
            let next = fixture.start();
            next.wait_until_ready().await;
            next.wait_until_serving(number).await;
        } else {
            // The proxy survives. It logs a rejection or compiles again, and applies the next change.
            let mut client = process.client().await;
            wait_until("a rejection, or the filter", async || {
                let is_serving = filter_number(&mut client).await == Some(number);
                (is_serving || process.log().contains("configuration rejected")).then_some(())
            })
            .await;
            fixture.put_filter(kills + number);
            process.wait_until_serving(kills + number).await;
        }
    }
    let files = files_below(&fixture.cache()).len();
    println!("{kills} kills: {files} files in the cache");
}

/// An edit of the bytes of an artifact.
type Damage = fn(&mut Vec<u8>);

#[tokio::test]
async fn damaged_artifact_is_recompiled() {
    let _machine = lock_machine().await;
    let fixture = CacheFixture::new();
    fixture.put_filter(7);
    let first = fixture.start();
    first.wait_until_ready().await;
    first.wait_until_serving(7).await;
    drop(first);
    let damages: [(&str, Damage); 4] = [
        ("cut short", |bytes| bytes.truncate(bytes.len() / 2)),
        ("one bit of the code", |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }),
        ("one bit of the head", |bytes| bytes[3] ^= 1),
        ("empty", Vec::clear),
    ];
    for (what, damage) in damages {
        let artifacts = files_below(&fixture.cache());
        let longest = artifacts.iter().max_by_key(|path| fs::metadata(path).map_or(0, |meta| meta.len())).unwrap();
        let sound = fs::read(longest).unwrap();
        let mut bytes = sound.clone();
        damage(&mut bytes);
        fs::write(longest, &bytes).unwrap();
        let process = fixture.start();
        process.wait_until_ready().await;
        process.wait_until_serving(7).await;
        assert_ne!(fs::read(longest).unwrap_or_default(), bytes, "{what}: the damaged artifact was not replaced");
    }
}

/// Prints the time to readiness and compares it with a start that compiles. `cargo xtask bench` measures the release
/// binary.
#[tokio::test]
async fn warm_cache_starts_faster_than_empty_cache() {
    let _machine = lock_machine().await;
    let fixture = CacheFixture::new();
    fixture.put_filter(1);
    let cold = Instant::now();
    let first = fixture.start();
    first.wait_until_ready().await;
    let cold = cold.elapsed();
    drop(first);
    let mut warm = Vec::new();
    for _ in 0..10 {
        let start_time = Instant::now();
        let process = fixture.start();
        process.wait_until_ready().await;
        warm.push(start_time.elapsed());
        process.wait_until_serving(1).await;
    }
    let (p50, max) = (percentile(&warm, 50), percentile(&warm, 100));
    println!("start to ready: {cold:?} with an empty cache, {p50:?} (at most {max:?}) with a warm one");
    assert!(p50 < cold, "a warm cache is no faster than an empty one");
}
