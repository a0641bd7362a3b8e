//! Acceptance of the module cache: a proxy or a compiler that is killed while it compiles leaves a cache that works, a
//! damaged artefact is compiled anew and never loaded, and with a warm cache a proxy is ready at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use harness::{Client, Filter, Module, Resources, test_filter, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{machine, path_origin, percentile, setting};

/// Times that something is killed.
const KILLS: usize = 20;

/// A folder of resources and a cache that outlive the proxies that use them.
struct Place {
    folder: TempDir,
}

/// A proxy that may be killed at any moment. It is, when this is dropped.
struct Process {
    child: Child,
    folder: PathBuf,
}

impl Place {
    /// Nothing but a listener and a route yet.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("config")).unwrap();
        let place = Self { folder };
        Resources::forward_to(path_origin::start()).write_to(&place.config());
        place
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// Puts a filter before the route, with a module that no cache has seen.
    fn put_filter(&self, number: usize) {
        let module = distinct_module(number);
        let filter = Filter::of("seen", Module::Bytes("seen.wasm", module));
        let stamp = json!({"response_headers": [{"do": "set", "name": "x-number", "value": number.to_string()}]});
        let folder = tempfile::tempdir().unwrap();
        Resources::nothing().filter(Filter { config: stamp, ..filter }).write_to(folder.path());
        for (from, to) in [("seen.wasm", "seen.wasm"), ("resources.yaml", "filter.yaml")] {
            let draft = self.config().join(".draft");
            fs::copy(folder.path().join(from), &draft).unwrap();
            fs::rename(draft, self.config().join(to)).unwrap();
        }
    }

    fn start(&self) -> Process {
        let folder = self.folder.path();
        fs::remove_file(folder.join("admin")).ok(); // Of the one before.
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
        Process { child, folder: folder.to_owned() }
    }
}

impl Process {
    async fn page(&self, path: &str) -> Option<String> {
        let address = fs::read_to_string(self.folder.join("admin")).ok()?.trim().parse().ok()?;
        let answer = Client::http1(address).await.get(path).await;
        (answer.status == 200).then(|| answer.text())
    }

    async fn ready(&self) {
        until("weir-proxy to be ready", async || self.page("/ready").await.map(drop)).await;
    }

    /// A connection to the listener.
    async fn client(&self) -> Client {
        let page = self.page("/listeners").await.expect("the page of listeners");
        let listeners: Value = serde_json::from_str(&page).unwrap();
        Client::http1(listeners[0]["address"].as_str().unwrap().parse().unwrap()).await
    }

    /// Waits until the filter of this number stamps answers.
    async fn serves(&self, number: usize) {
        let mut client = self.client().await;
        let what = format!("filter {number} to serve");
        until(&what, async || (stamp(&mut client).await == Some(number)).then_some(())).await;
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("proxy.log")).unwrap_or_default()
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child process that compiles, as soon as there is one.
    async fn compiler(&self) -> u32 {
        let id = self.id();
        until("a child process that compiles", async || child_of(id)).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the log of weir-proxy: {}", self.log());
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The number of the filter that an answer went through.
async fn stamp(client: &mut Client) -> Option<usize> {
    let answer = client.get("/").await;
    assert!(answer.status == 200 || answer.status == 503, "{}", answer.text()); // 503: its VM is not started yet.
    answer.header("x-number")?.parse().ok()
}

/// The test filter with a custom section of its own, so that its hash is new.
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
    kill_process(id, Signal::KILL).ok(); // It may have ended by itself.
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
async fn a_kill_while_compiling_leaves_a_cache_that_works() {
    let _machine = machine().await;
    let place = Place::new();
    let kills = setting("WEIR_KILLS", KILLS);
    for number in 0..kills {
        let process = place.start();
        process.ready().await;
        place.put_filter(number);
        let compiler = process.compiler().await;
        // At another moment of the compilation each time: after 0, 10, 20, … ms.
        tokio::time::sleep(Duration::from_millis(10 * number as u64)).await;
        kill(compiler);
        if number % 2 == 0 {
            // The proxy dies as well. The next one finds whatever was left.
            kill(process.id());
            drop(process);
            let next = place.start();
            next.ready().await;
            next.serves(number).await;
        } else {
            // The proxy lives, tells why or compiles again, and takes the next change.
            let mut client = process.client().await;
            until("a refusal, or the filter", async || {
                let serves = stamp(&mut client).await == Some(number);
                (serves || process.log().contains("refused")).then_some(())
            })
            .await;
            place.put_filter(kills + number);
            process.serves(kills + number).await;
        }
    }
    let strays = files_below(&place.cache()).len();
    println!("{kills} kills: {strays} files in the cache");
}

/// Something done to the bytes of an artefact.
type Damage = fn(&mut Vec<u8>);

#[tokio::test]
async fn damaged_artefacts_are_compiled_anew() {
    let _machine = machine().await;
    let place = Place::new();
    place.put_filter(7);
    let first = place.start();
    first.ready().await;
    first.serves(7).await;
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
        let artefacts = files_below(&place.cache());
        let longest = artefacts.iter().max_by_key(|path| fs::metadata(path).map_or(0, |meta| meta.len())).unwrap();
        let sound = fs::read(longest).unwrap();
        let mut bytes = sound.clone();
        damage(&mut bytes);
        fs::write(longest, &bytes).unwrap();
        let process = place.start();
        process.ready().await;
        process.serves(7).await;
        assert_ne!(fs::read(longest).unwrap_or_default(), bytes, "{what}: the damaged artefact is still there");
    }
}

/// The figure for the release binary is `cargo xtask bench`'s; here it is printed, and must be far below a compilation.
#[tokio::test]
async fn with_a_warm_cache_a_proxy_is_ready_at_once() {
    let _machine = machine().await;
    let place = Place::new();
    place.put_filter(1);
    let cold = Instant::now();
    let first = place.start();
    first.ready().await;
    let cold = cold.elapsed();
    drop(first);
    let mut warm = Vec::new();
    for _ in 0..10 {
        let since = Instant::now();
        let process = place.start();
        process.ready().await;
        warm.push(since.elapsed());
        process.serves(1).await;
    }
    let (p50, max) = (percentile(&warm, 50), percentile(&warm, 100));
    println!("start to ready: {cold:?} with an empty cache, {p50:?} (at most {max:?}) with a warm one");
    assert!(p50 < cold, "a warm cache is no faster than an empty one");
}
