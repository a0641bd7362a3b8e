//! The loss of the control plane's store, in every way that an operator meets. Under a running control plane and at its
//! start, no proxy loses a request or a listener, the message has the remedy, and the documented recovery works.
//!
//! Needs etcd and root (a small file system is mounted); see `cargo xtask test`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use harness::{
    Client, ControlOptions, ControlPlane, Etcd, Origin, Proxy, Resources, empty, read, spawn_background, wait_until,
};
use http::Request;
use serde_json::{Value, json};

/// Proxies that follow the control plane during each fault.
const PROXIES: usize = 3;
/// A user without rights to the files of root.
const USER: u32 = 65_534;

/// A control plane with proxies that serve requests all the time.
struct Mesh {
    control: ControlPlane,
    proxies: Vec<Proxy>,
    traffic: Traffic,
    /// The number of changes so far.
    changes: usize,
    _origin: Origin,
}

impl Mesh {
    async fn start(options: ControlOptions) -> Self {
        let origin = Origin::text("here").await;
        let control = ControlPlane::start_with(options).await;
        control.apply(&Resources::forward_to(origin.address())).await;
        let mut proxies = Vec::new();
        for number in 0..PROXIES {
            let proxy = control.proxy(&format!("p{number}"), &[]).await;
            wait_until("a response", async || {
                proxy.find_listener("default/edge/http").await?;
                (proxy.get("/").await.status == 200).then_some(())
            })
            .await;
            proxies.push(proxy);
        }
        let traffic = Traffic::default();
        for proxy in &proxies {
            traffic.follow(proxy.address().await);
        }
        Self { control, proxies, traffic, changes: 0, _origin: origin }
    }

    /// Applies a change, and waits until every proxy has it.
    async fn change(&mut self) {
        self.changes += 1;
        let name = format!("change-{}", self.changes);
        let route = format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: changed}}\nspec:\n  parentRefs: \
             [{{name: edge}}]\n  rules:\n  - matches: [{{path: {{type: Exact, value: /{name}}}}}]\n    filters: [{{type: \
             RequestRedirect, requestRedirect: {{hostname: {name}.example}}}}]\n"
        );
        let applied = self.control.request("POST", "apply", &route).await;
        assert_eq!(applied.status, 200, "{}", applied.text());
        for proxy in &self.proxies {
            wait_until(&name, async || (proxy.get(&format!("/{name}")).await.status == 302).then_some(())).await;
        }
    }

    /// Waits until the control plane reports a fault. Changes are rejected, and proxies serve what they have served.
    async fn expect_fault(&self, expected: &str) {
        wait_until(&format!("not ready: {expected}"), async || {
            self.control.wait_until_unready().await.contains(expected).then_some(())
        })
        .await;
        let rejected = self.control.request("POST", "apply", &service("late")).await;
        assert_eq!(rejected.status, 503, "{}", rejected.text());
        self.expect_unchanged().await;
    }

    /// Checks that every proxy has the last acknowledged change and no other.
    async fn expect_unchanged(&self) {
        self.traffic.expect_progress().await;
        for proxy in &self.proxies {
            if self.changes > 0 {
                assert_eq!(proxy.get(&format!("/change-{}", self.changes)).await.status, 302);
            }
            assert_eq!(proxy.get(&format!("/change-{}", self.changes + 1)).await.status, 200, "it is forwarded");
            assert!(proxy.find_listener("default/edge/http").await.is_some());
        }
    }

    async fn expect_no_failures(&self) {
        self.traffic.expect_progress().await;
        self.traffic.ended.store(true, Ordering::Relaxed);
    }

    fn file(&self) -> PathBuf {
        self.control.store().join("weir.redb")
    }
}

/// Requests on one connection for each proxy, one after another. A listener that drains closes its connections.
#[derive(Default, Clone)]
struct Traffic {
    done: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Traffic {
    fn follow(&self, address: SocketAddr) {
        let traffic = self.clone();
        spawn_background(async move {
            let mut client = Client::http1(address).await;
            while !traffic.ended.load(Ordering::Relaxed) {
                let request = Request::get("/").body(empty()).unwrap();
                let response = match client.try_send(request).await {
                    Ok(head) => read(head).await,
                    Err(error) => Err(error),
                };
                if !response.is_ok_and(|response| response.text() == "here") {
                    // After a failure the connection is closed.
                    traffic.failed.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                traffic.done.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(std::time::Duration::from_millis(2)).await; // Leaves the CPU to the others.
            }
        });
    }

    /// Waits for further requests on every connection, of which none has failed.
    async fn expect_progress(&self) {
        let before = self.done.load(Ordering::Relaxed);
        wait_until("requests", async || (self.done.load(Ordering::Relaxed) > before + 30).then_some(())).await;
        assert_eq!(self.failed.load(Ordering::Relaxed), 0, "connections on which a request has failed");
    }
}

fn service(name: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec: {{ports: [{{name: http, port: 80, \
         protocol: HTTP}}], endpoints: [{{address: \"127.0.0.1:1\"}}]}}\n"
    )
}

/// A fault of the file of a store, made while the control plane runs and before it starts.
struct FileFault {
    name: &'static str,
    damage: fn(&Path),
    /// A part of the message while the control plane runs, and at a start.
    messages: [&'static str; 2],
}

/// The faults after which the content of the file is lost.
const FILE_FAULTS: [FileFault; 8] = [
    FileFault {
        name: "removed file",
        damage: |path| fs::remove_file(path).unwrap(),
        messages: ["it was removed while it was in use", "is missing or empty"],
    },
    FileFault {
        name: "empty file",
        damage: |path| fs::write(path, "").unwrap(),
        messages: ["another program has changed it", "is missing or empty"],
    },
    FileFault {
        name: "zeroed pages",
        damage: |path| overwrite(path, |bytes| bytes.fill(0)),
        messages: ["another program has changed it", "the store is damaged"],
    },
    FileFault {
        name: "older copy",
        damage: |path| copy("older", path),
        messages: ["another program has changed it", "was set back to an earlier state"],
    },
    FileFault {
        name: "store of another mesh",
        damage: |path| copy("foreign", path),
        messages: ["another program has changed it", "is the store of another mesh"],
    },
    FileFault {
        name: "half-written file",
        damage: |path| {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        },
        messages: ["another program has changed it", "the store is damaged"],
    },
    FileFault {
        name: "shifted pages",
        damage: |path| overwrite(path, |bytes| bytes.rotate_left(4_096)),
        messages: ["another program has changed it", "the store is damaged"],
    },
    FileFault {
        name: "replaced file",
        damage: |path| {
            fs::copy(path.with_extension("older"), path.with_extension("new")).unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        },
        messages: ["it was replaced while it was in use", "was set back to an earlier state"],
    },
];

/// Overwrites a file in place by a copy with another extension.
fn copy(extension: &str, path: &Path) {
    fs::copy(path.with_extension(extension), path).unwrap();
}

/// Changes the bytes of a file in place.
fn overwrite(path: &Path, change: fn(&mut [u8])) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_file_is_never_served_and_is_restored() {
    for FileFault { name, damage, messages: [running, starting] } in FILE_FAULTS {
        println!("{name}");
        let mut mesh = Mesh::start(ControlOptions::default()).await;
        let path = mesh.file();
        // Copies are made while the control plane does not run, as an operator would.
        mesh.control.stop().await;
        fs::copy(&path, path.with_extension("older")).unwrap();
        mesh.control.restart().await;
        {
            let mut other = ControlPlane::start().await;
            other.stop().await;
            fs::copy(other.store().join("weir.redb"), path.with_extension("foreign")).unwrap();
        }
        mesh.change().await;
        mesh.control.stop().await;
        let backup = mesh.control.maintain(&["backup", "all.backup"]).await;
        assert!(backup.0 && backup.1.contains("a complete backup"), "{}", backup.1);
        mesh.control.restart().await;

        damage(&path);
        mesh.expect_fault(running).await;
        mesh.control.kill().await;
        restore(&mut mesh, name).await;

        mesh.control.kill().await;
        damage(&path);
        let reason = mesh.control.fail_to_restart().await;
        let is_advice = reason.contains("weir-control restore") && reason.contains("proxies keep their configuration");
        assert!(reason.contains(starting) && is_advice, "{name}: {reason}");
        mesh.expect_unchanged().await;
        restore(&mut mesh, name).await;
        mesh.expect_no_failures().await;
    }
}

/// Restores the backup as in `docs/operations.md`, and changes the mesh again.
async fn restore(mesh: &mut Mesh, name: &str) {
    if name == "store of another mesh" {
        let refused = mesh.control.maintain(&["restore", "--replace", "all.backup"]).await;
        assert!(!refused.0 && refused.1.contains("nothing was changed"), "{}", refused.1);
        fs::remove_file(mesh.file()).unwrap();
    }
    let restored = mesh.control.maintain(&["restore", "--replace", "all.backup"]).await;
    assert!(restored.0 && restored.1.contains("restored the store"), "{name}: {}", restored.1);
    let checked = mesh.control.maintain(&["check"]).await;
    assert!(checked.0 && checked.1.contains("is intact"), "{name}: {}", checked.1);
    mesh.control.restart().await;
    mesh.expect_unchanged().await;
    mesh.change().await;
    // The next restore has this change, too.
    mesh.control.stop().await;
    let backup = mesh.control.maintain(&["backup", "all.backup"]).await;
    assert!(backup.0, "{}", backup.1);
    mesh.control.restart().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_loss_is_an_empty_mesh() {
    let mut mesh = Mesh::start(ControlOptions::default()).await;
    mesh.control.kill().await;
    fs::remove_file(mesh.file()).unwrap();
    mesh.control.fail_to_restart().await;
    let accepted = mesh.control.maintain(&["recover", "store"]).await;
    assert!(accepted.0 && accepted.1.contains("at revision 0"), "{}", accepted.1);
    mesh.traffic.ended.store(true, Ordering::Relaxed); // From here on the listeners are gone.
    mesh.control.restart().await;
    assert_eq!(mesh.control.get("resources").await, json!([]), "the new admin token is valid");
    for proxy in &mesh.proxies {
        wait_until("no listener", async || proxy.find_listener("default/edge/http").await.is_none().then_some(()))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_mesh_at_the_same_address_is_refused_by_proxies() {
    let mut mesh = Mesh::start(ControlOptions::default()).await;
    mesh.control.kill().await;
    // The whole folder is gone: the control plane begins a new mesh, which it cannot know.
    fs::remove_dir_all(mesh.control.store()).unwrap();
    mesh.control.restart().await;
    mesh.control.wait_until_ready().await;
    let proxy = &mesh.proxies[0];
    proxy.wait_for_log("--accept-mesh ").await;
    mesh.expect_no_failures().await;
    let log = proxy.log();
    let id = log.split("--accept-mesh ").nth(1).unwrap().split_whitespace().next().unwrap();
    let id: String = id.chars().take_while(char::is_ascii_hexdigit).collect();
    // A proxy that restarts remembers its mesh.
    let cached = mesh.control.proxy("p1", &[]).await;
    cached.wait_for_log("--accept-mesh ").await;
    wait_until("the cached configuration", async || cached.find_listener("default/edge/http").await).await;
    let accepting = mesh.control.proxy("p2", &["--accept-mesh", &id]).await;
    wait_until("the empty mesh", async || {
        let listeners = accepting.json("/listeners").await;
        (accepting.page("/ready").await.status == 200 && listeners == json!([])).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removed_roots_are_reported_and_never_replaced() {
    let mut mesh = Mesh::start(ControlOptions::default()).await;
    mesh.change().await;
    let path = mesh.control.store().join("authority.json");
    let roots = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let reason = mesh.control.wait_until_unready().await;
    assert!(reason.contains("the roots of the mesh are gone") && reason.contains("recover authority"), "{reason}");
    let rotated = mesh.control.request("POST", "authority/rotation", "").await;
    assert_eq!(rotated.status, 503, "{}", rotated.text());
    mesh.expect_unchanged().await;
    fs::write(&path, &roots).unwrap();
    mesh.control.wait_until_ready().await;
    mesh.control.kill().await;
    fs::remove_file(&path).unwrap();
    let reason = mesh.control.fail_to_restart().await;
    assert!(reason.contains("the roots of the mesh are gone") && reason.contains("recover authority"), "{reason}");
    assert!(!path.exists());
    let created = mesh.control.maintain(&["recover", "authority"]).await;
    assert!(created.0 && created.1.contains("created the root"), "{}", created.1);
    let refused = mesh.control.maintain(&["recover", "authority"]).await;
    assert!(!refused.0 && refused.1.contains("weir ca rotate"), "{}", refused.1);
    mesh.control.restart().await;
    mesh.change().await;
    mesh.expect_no_failures().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_admin_token_is_created_again_by_command_only() {
    let mut control = ControlPlane::start().await;
    let path = control.store().join("admin.token");
    let lost = control.admin_token();
    control.stop().await;
    fs::remove_file(&path).unwrap();
    control.restart().await;
    assert!(!path.exists(), "a start creates no token for a store that was used");
    control.stop().await;
    let created = control.maintain(&["recover", "admin-token"]).await;
    assert!(created.0, "{}", created.1);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    control.restart().await;
    assert_eq!(control.request("GET", "tokens", "").await.status, 200);
    assert_ne!(control.admin_token(), lost);
}

/// A file system of its own, with few bytes.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: &Path) -> Self {
        fs::create_dir_all(path).unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=24m", "tmpfs", path.to_str().unwrap()]);
        Self(path.to_owned())
    }

    fn remount(&self, options: &str) {
        run("mount", &["-o", &format!("remount,{options}"), self.0.to_str().unwrap()]);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").args(["-l", self.0.to_str().unwrap()]).status().ok();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_or_read_only_disk_heals_without_restart() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(&folder.path().join("disk"));
    let store = Some(disk.0.join("store"));
    let mut mesh = Mesh::start(ControlOptions { store_folder: store, ..ControlOptions::default() }).await;
    mesh.change().await;

    // Full: changes are rejected until there is room again.
    let filler = disk.0.join("filler");
    Command::new("dd").args(["if=/dev/zero", &format!("of={}", filler.display()), "bs=64k"]).output().unwrap();
    let large = format!("x-{}", "y".repeat(200_000));
    let too_large = json!({"name": "a", "role": "viewer", "namespaces": [large]}).to_string();
    let rejected = wait_until("a rejection", async || {
        let response = mesh.control.request("POST", "tokens", &too_large).await;
        (response.status == 503).then(|| response.text())
    })
    .await;
    assert!(rejected.contains("No space left") || rejected.contains("cannot be read or written"), "{rejected}");
    mesh.expect_unchanged().await;
    fs::remove_file(filler).unwrap();
    mesh.control.wait_until_ready().await;
    mesh.change().await;

    // Read-only: as above, and no start.
    mesh.control.kill().await;
    disk.remount("ro");
    let reason = mesh.control.fail_to_restart().await;
    assert!(reason.contains("Read-only file system"), "{reason}");
    mesh.expect_unchanged().await;
    disk.remount("rw");
    mesh.control.restart().await;
    mesh.change().await;
    mesh.expect_no_failures().await;
    drop(mesh);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn withdrawn_permission_and_foreign_lock_are_named_and_heal() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let store = folder.path().join("store");
    let options = ControlOptions { store_folder: Some(store.clone()), user: Some(USER), ..ControlOptions::default() };
    let mut mesh = Mesh::start(options).await;
    mesh.change().await;
    let own = |user: u32| {
        for path in fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().path()).chain([store.clone()]) {
            chown(path, Some(user), Some(user)).unwrap();
        }
    };
    own(0);
    mesh.expect_fault("Permission denied").await;
    own(USER);
    mesh.control.wait_until_ready().await;
    mesh.change().await;
    mesh.control.kill().await;
    own(0);
    let reason = mesh.control.fail_to_restart().await;
    assert!(reason.contains("Permission denied"), "{reason}");
    own(USER);
    mesh.control.restart().await;
    mesh.change().await;
    // Another process has the file.
    let locked = mesh.control.maintain(&["check"]).await;
    assert!(!locked.0 && locked.1.contains("in use by another weir-control"), "{}", locked.1);
    mesh.change().await;
    mesh.expect_no_failures().await;
}

/// The range of all keys of the store in etcd, as its JSON gateway takes it.
fn whole_prefix() -> Value {
    json!({"key": "dGVzdC8=", "range_end": "dGVzdDA="}) // test/ to test0
}

async fn etcd_mesh(etcd: &Etcd) -> (Mesh, ControlPlane) {
    let options = ControlOptions { store: Some(etcd.url()), ..ControlOptions::default() };
    let mesh = Mesh::start(options.clone()).await;
    let token = Some(mesh.control.admin_token());
    let other = ControlPlane::start_with(ControlOptions { admin_token: token, ..options }).await;
    (mesh, other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wiped_etcd_is_never_served_and_is_restored() {
    let etcd = Etcd::start(1).await;
    let (mut mesh, mut other) = etcd_mesh(&etcd).await;
    mesh.change().await;
    let backup = mesh.control.maintain(&["backup", "all.backup"]).await;
    assert!(backup.0, "{}", backup.1);
    etcd.call("/v3/kv/deleterange", &whole_prefix()).await;
    mesh.expect_fault("has lost its data").await;
    let reason = other.wait_until_unready().await;
    assert!(reason.contains("weir-control restore"), "{reason}");
    assert_eq!(other.request("GET", "resources", "").await.status, 200, "tokens stay valid");
    // Starts refuse, also with --init, and write nothing.
    other.kill().await;
    let reason = other.fail_to_restart().await;
    assert!(reason.contains("has lost its data"), "{reason}");
    let all = etcd.call("/v3/kv/range", &whole_prefix()).await;
    assert!(all["kvs"].is_null(), "{all}");
    // Running control planes take the restored store over.
    let restored = mesh.control.maintain(&["restore", "all.backup"]).await;
    assert!(restored.0, "{}", restored.1);
    mesh.control.wait_until_ready().await;
    other.restart().await;
    mesh.change().await;
    mesh.expect_no_failures().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_etcd_needs_init() {
    let etcd = Etcd::start(1).await;
    let options = ControlOptions { store: Some(etcd.url()), ..ControlOptions::default() };
    let first = ControlPlane::start_with(options.clone()).await;
    etcd.call("/v3/kv/deleterange", &whole_prefix()).await;
    // Another replica with a new state folder cannot know that the store had data; without --init it refuses.
    let mut other =
        ControlPlane::not_started(ControlOptions { admin_token: Some(first.admin_token()), ..options }).await;
    let reason = other.fail_to_restart().await;
    assert!(reason.contains("start its first control plane once with --init"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_that_was_set_back_is_not_served_until_an_operator_accepts_it() {
    let etcd = Etcd::start(1).await;
    let (mut mesh, other) = etcd_mesh(&etcd).await;
    mesh.change().await;
    let before = etcd.call("/v3/kv/range", &whole_prefix()).await;
    mesh.change().await;
    wait_until("the last revision at the other one", async || {
        (other.get("status").await["revision"] == 3).then_some(())
    })
    .await;
    // The keys as of the earlier time, as a restored snapshot of etcd has them.
    etcd.call("/v3/kv/deleterange", &whole_prefix()).await;
    for entry in before["kvs"].as_array().unwrap() {
        etcd.call("/v3/kv/put", &json!({"key": entry["key"], "value": entry["value"]})).await;
    }
    mesh.expect_fault("was set back to an earlier state").await;
    wait_until("the same fault at the other one", async || {
        other.wait_until_unready().await.contains("was set back to an earlier state").then_some(())
    })
    .await;
    let accepted = mesh.control.maintain(&["recover", "store"]).await;
    assert!(accepted.0, "{}", accepted.1);
    mesh.control.wait_until_ready().await;
    other.wait_until_ready().await;
    // The accepted state has the first change only.
    for proxy in &mesh.proxies {
        wait_until("the earlier state", async || (proxy.get("/change-1").await.status == 302).then_some(())).await;
    }
    mesh.changes = 1;
    mesh.change().await;
    mesh.expect_no_failures().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removed_roots_in_etcd_stay_in_use() {
    let etcd = Etcd::start(1).await;
    let (mut mesh, _other) = etcd_mesh(&etcd).await;
    let roots = mesh.control.get("authority").await["roots"].clone();
    let backup = mesh.control.maintain(&["backup", "all.backup"]).await;
    assert!(backup.0, "{}", backup.1);
    etcd.call("/v3/kv/deleterange", &json!({"key": "dGVzdC9hdXRob3JpdHk="})).await; // test/authority
    let reason = mesh.control.wait_until_unready().await;
    assert!(reason.contains("the roots of the mesh are gone"), "{reason}");
    assert_eq!(mesh.control.get("authority").await["roots"], roots);
    mesh.change().await;
    mesh.control.kill().await;
    let reason = mesh.control.fail_to_restart().await;
    assert!(reason.contains("the roots of the mesh are gone"), "{reason}");
    let restored = mesh.control.maintain(&["restore", "--replace", "all.backup"]).await;
    assert!(restored.0, "{}", restored.1);
    mesh.control.restart().await;
    assert_eq!(mesh.control.get("authority").await["roots"], roots);
    mesh.changes = 0;
    mesh.change().await;
    mesh.expect_no_failures().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_etcd_rejects_changes_until_it_has_room() {
    let etcd = Etcd::start_with(1, &["--quota-backend-bytes=4194304"]).await;
    let (mut mesh, _other) = etcd_mesh(&etcd).await;
    mesh.change().await;
    let large = format!("x-{}", "y".repeat(300_000));
    let body = json!({"name": "a", "role": "viewer", "namespaces": [large]}).to_string();
    let rejected = wait_until("a full etcd", async || {
        let response = mesh.control.request("POST", "tokens", &body).await;
        (response.status != 200).then_some(response)
    })
    .await;
    assert_eq!(rejected.status, 503, "{}", rejected.text());
    assert!(rejected.text().contains("--quota-backend-bytes"), "{}", rejected.text());
    mesh.expect_unchanged().await;
    // An operator makes room: large tokens are deleted, the etcd is compacted, defragmented and disarmed.
    etcd.call("/v3/kv/deleterange", &json!({"key": "dGVzdC90b2tlbnMv", "range_end": "dGVzdC90b2tlbnMw"})).await;
    let revision = etcd.call("/v3/kv/range", &json!({"key": "eA=="})).await["header"]["revision"].clone();
    etcd.call("/v3/kv/compaction", &json!({"revision": revision, "physical": true})).await;
    etcd.call("/v3/maintenance/defragment", &json!({})).await;
    let alarms = etcd.call("/v3/maintenance/alarm", &json!({"action": "GET"})).await;
    let member = &alarms["alarms"][0]["memberID"];
    etcd.call("/v3/maintenance/alarm", &json!({"action": "DEACTIVATE", "alarm": "NOSPACE", "memberID": member})).await;
    let created = mesh.control.maintain(&["recover", "admin-token"]).await;
    assert!(created.0, "{}", created.1);
    wait_until("the new token", async || (mesh.control.request("GET", "tokens", "").await.status == 200).then_some(()))
        .await;
    mesh.change().await;
    mesh.expect_no_failures().await;
}
