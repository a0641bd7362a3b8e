//! Replicas of the control plane that share an etcd: each pushes the changes of all, and none overwrites another's
//! write. Needs etcd; see `cargo xtask test`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, Ordering};

use harness::{ClientResponse, ControlOptions, ControlPlane, Etcd, Origin, Proxy, Resources, test_filter, wait_until};
use serde_json::{Value, json};
use weir_bundle::Bundle;

/// Starts two control planes that share an etcd.
async fn replicas(etcd: &Etcd) -> (ControlPlane, ControlPlane) {
    let options = ControlOptions { store: Some(etcd.url()), ..ControlOptions::default() };
    let one = ControlPlane::start_with(options.clone()).await;
    let other = ControlPlane::start_with(ControlOptions { admin_token: Some(one.admin_token()), ..options }).await;
    (one, other)
}

fn service(name: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec: {{ports: [{{name: http, port: 80, \
         protocol: HTTP}}], endpoints: [{{address: \"127.0.0.1:1\"}}]}}\n"
    )
}

fn filter(version: &str) -> Resources {
    Resources::empty().yaml(&format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {{name: stamp}}\nspec:\n  module: {{bundle: stamp, \
         version: \"{version}\"}}\n  config: {{response_headers: [{{do: set, name: x-stamp, value: yes}}]}}\n"
    ))
}

fn bundle() -> Vec<u8> {
    let manifest = json!({"name": "stamp", "version": "1.0.0", "example": {}}).to_string();
    Bundle::read(&std::fs::read(test_filter()).unwrap()).unwrap().with_manifest(&manifest).unwrap()
}

fn parsed(response: &ClientResponse) -> Value {
    serde_json::from_str(&response.text()).unwrap_or_default()
}

async fn wait_for_response(proxy: &Proxy, text: &str, stamp: Option<&str>) {
    wait_until(&format!("{text} with the stamp {stamp:?}"), async || {
        proxy.find_listener("default/edge/http").await?;
        let response = proxy.get("/").await;
        (response.text() == text && response.header("x-stamp") == stamp).then_some(())
    })
    .await;
}

#[tokio::test]
async fn change_at_one_replica_is_pushed_by_all() {
    let (etcd, origin, successor) = (Etcd::start(1).await, Origin::text("one").await, Origin::text("two").await);
    let (one, other) = replicas(&etcd).await;
    one.apply(&Resources::forward_to(origin.address())).await;
    let (left, right) = (one.proxy("left", &[]).await, other.proxy("right", &[]).await);
    for proxy in [&left, &right] {
        wait_for_response(proxy, "one", None).await;
    }
    other.apply(&Resources::forward_to(successor.address())).await;
    for proxy in [&left, &right] {
        wait_for_response(proxy, "two", None).await;
    }
    // Both have the same revisions.
    let revisions = async |control: &ControlPlane| control.get("revisions").await;
    assert_eq!(revisions(&one).await, revisions(&other).await);
    // Both have the bundle. It is not deleted while a Filter uses it, whichever replica applied the Filter.
    let pushed = one.push(&one.admin_token(), "stamp", "1.0.0", bundle()).await;
    assert_eq!(pushed.status, 200, "{}", pushed.text());
    other.apply(&filter("1.0.0")).await;
    let rejected = one.request("DELETE", "bundles/stamp/1.0.0", "").await;
    assert_eq!(rejected.status, 409, "{}", rejected.text());
    for proxy in [&left, &right] {
        wait_for_response(proxy, "two", Some("yes")).await;
    }
    let gone = other.request("DELETE", "resources/Filter/default/stamp", "").await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    assert_eq!(one.request("DELETE", "bundles/stamp/1.0.0", "").await.status, 200);
    let rejected = other.request("POST", "apply", filter("1.0.0").text()).await;
    assert!(rejected.status == 422 && rejected.text().contains("stamp"), "{} {}", rejected.status, rejected.text());
}

#[tokio::test]
async fn workload_registered_at_one_replica_is_pushed_by_other() {
    let (etcd, origin) = (Etcd::start(1).await, Origin::text("here").await);
    let (one, other) = replicas(&etcd).await;
    one.apply(&Resources::new().service("origin", &[]).route_everything()).await;
    let proxy = other.proxy("p1", &[]).await;
    let registration = json!({"address": origin.address().to_string(), "leaseSeconds": 3}).to_string();
    let registers = async || one.request("PUT", "workloads/default/origin/one", &registration).await.status;
    assert_eq!(registers().await, 200);
    // For longer than the lease: each registration renews it at both replicas.
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(4);
    wait_for_response(&proxy, "here", None).await;
    while tokio::time::Instant::now() < end {
        assert_eq!(registers().await, 200);
        assert_eq!(proxy.get("/").await.status, 200);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    wait_until("the end of the lease", async || (proxy.get("/").await.status == 503).then_some(())).await;
}

#[tokio::test]
async fn workload_leases_survive_etcd_outage() {
    let (mut etcd, origin) = (Etcd::start(1).await, Origin::text("here").await);
    let (one, _other) = replicas(&etcd).await;
    one.apply(&Resources::new().service("origin", &[]).route_everything()).await;
    let proxy = one.proxy("p1", &[]).await;
    let registration = json!({"address": origin.address().to_string(), "leaseSeconds": 2}).to_string();
    assert_eq!(one.request("PUT", "workloads/default/origin/one", &registration).await.status, 200);
    wait_for_response(&proxy, "here", None).await;
    etcd.kill(0).await;
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(6);
    while tokio::time::Instant::now() < end {
        assert_eq!(one.request("PUT", "workloads/default/origin/one", &registration).await.status, 200);
        assert_eq!(proxy.get("/").await.status, 200);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    etcd.restart(0).await;
    wait_until("the end of the lease", async || (proxy.get("/").await.status == 503).then_some(())).await;
}

#[tokio::test]
async fn concurrent_writers_do_not_overwrite_each_other() {
    let etcd = Etcd::start(1).await;
    let (one, other) = replicas(&etcd).await;
    let applied = async |control: &ControlPlane, prefix: &str| {
        for number in 0..20 {
            let response = control.request("POST", "apply", &service(&format!("{prefix}{number}"))).await;
            assert_eq!(response.status, 200, "{}", response.text());
        }
    };
    tokio::join!(applied(&one, "a"), applied(&other, "b"));
    for control in [&one, &other] {
        wait_until("all of them", async || {
            let found = control.get("resources?kind=ServiceEntry").await;
            (found.as_array()?.len() == 40).then_some(())
        })
        .await;
    }
    let last = parsed(&one.request("POST", "apply", &service("c")).await)["revision"].as_u64().unwrap();
    assert_eq!(last, 41, "each change is a revision");
    // A stale `expected_revision` is a conflict at each replica.
    let path = |revision: u64| format!("apply?expected_revision={revision}");
    assert_eq!(other.request("POST", &path(last), &service("d")).await.status, 200);
    assert_eq!(one.request("POST", &path(last), &service("e")).await.status, 409);
}

/// More entries than etcd returns in one page, and more deletions than it accepts in one transaction.
#[tokio::test]
async fn long_collections_are_read_and_deleted_in_pages() {
    let etcd = Etcd::start(1).await;
    let (one, mut other) = replicas(&etcd).await;
    let mut last = Value::Null;
    for number in 0..250 {
        let new = json!({"name": format!("t{number}"), "role": "viewer"}).to_string();
        last = parsed(&one.request("POST", "tokens", &new).await);
    }
    wait_until("all tokens at the other one", async || {
        let tokens = other.get("tokens").await;
        let last = other.request_as(last["secret"].as_str(), "GET", "status", "").await.status;
        (tokens.as_array()?.len() == 251 && last == 200).then_some(())
    })
    .await;
    // Seventeen checkpoints: the last one drops more revisions than one transaction deletes.
    for revision in 1..=1_088 {
        let text = service("a").replace("127.0.0.1:1", &format!("127.0.0.1:{revision}"));
        let response = one.request("POST", "apply", &text).await;
        assert_eq!(parsed(&response)["revision"], revision, "{}", response.text());
    }
    for (revision, status) in [(87, 404), (88, 200), (1_088, 200)] {
        assert_eq!(other.request("GET", &format!("revisions/{revision}"), "").await.status, status, "{revision}");
    }
    other.kill().await;
    other.restart().await;
    assert_eq!(other.get("revisions").await[0]["id"], 1_088);
}

#[tokio::test]
async fn tokens_and_roots_are_shared_by_replicas() {
    let etcd = Etcd::start(1).await;
    let (one, other) = replicas(&etcd).await;
    let made = parsed(&one.request("POST", "tokens", r#"{"name": "me", "role": "viewer"}"#).await);
    let (secret, id) = (made["secret"].as_str().unwrap().to_owned(), made["id"].as_str().unwrap());
    let wait_for_status = async |expected: u16| {
        wait_until(&format!("{expected} at the other one"), async || {
            (other.request_as(Some(&secret), "GET", "resources", "").await.status == expected).then_some(())
        })
        .await;
    };
    wait_for_status(200).await;
    assert_eq!(one.request("DELETE", &format!("tokens/{id}"), "").await.status, 200);
    wait_for_status(401).await;
    // The replicas share the CA, so a rotation at one is a rotation at the other.
    let roots = async |control: &ControlPlane| control.get("authority").await["roots"].clone();
    assert_eq!(roots(&one).await, roots(&other).await);
    assert_eq!(one.request("POST", "authority/rotation", "").await.status, 200);
    wait_until("the new root at the other one", async || (roots(&other).await.as_array()?.len() == 2).then_some(()))
        .await;
    assert_eq!(roots(&one).await, roots(&other).await);
    assert_eq!(other.request("POST", "authority/rotation", "").await.status, 409, "one is under way");
}

#[tokio::test]
async fn etcd_outage_rejects_changes_only() {
    let (mut etcd, origin) = (Etcd::start(1).await, Origin::text("here").await);
    let (one, _other) = replicas(&etcd).await;
    one.apply(&Resources::forward_to(origin.address())).await;
    let proxy = one.proxy("p1", &[]).await;
    wait_for_response(&proxy, "here", None).await;
    etcd.kill(0).await;
    let rejected = one.request("POST", "apply", &service("late")).await;
    assert!(rejected.status == 503 && rejected.text().contains("etcd"), "{} {}", rejected.status, rejected.text());
    assert_eq!(one.request("GET", "resources", "").await.status, 200, "reads are served from memory");
    wait_for_response(&one.proxy("p2", &[]).await, "here", None).await;
    etcd.restart(0).await;
    wait_until("changes again", async || {
        (one.request("POST", "apply", &service("late")).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn reads_do_not_wait_for_hanging_etcd() {
    let (etcd, origin) = (Etcd::start(1).await, Origin::text("here").await);
    let (one, _other) = replicas(&etcd).await;
    one.apply(&Resources::forward_to(origin.address())).await;
    etcd.pause(0).await;
    let is_changed = AtomicBool::new(false);
    let change = async {
        let rejected = one.request("POST", "apply", &service("late")).await;
        is_changed.store(true, Ordering::Relaxed);
        assert_eq!(rejected.status, 503, "{}", rejected.text());
    };
    let reads = async {
        for path in ["resources", "status", "proxies", "bundles", "authority"].into_iter().cycle().take(20) {
            assert_eq!(one.request("GET", path, "").await.status, 200, "{path}");
        }
        let proxy = one.proxy("p1", &[]).await;
        wait_for_response(&proxy, "here", None).await;
        assert!(!is_changed.load(Ordering::Relaxed), "the change still waits");
    };
    tokio::join!(change, reads);
    etcd.resume(0).await;
    wait_until("changes again", async || {
        (one.request("POST", "apply", &service("late")).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn identity_survives_move_to_other_replica() {
    let (etcd, origin) = (Etcd::start(1).await, Origin::text("here").await);
    let (mut one, other) = replicas(&etcd).await;
    one.apply(&Resources::forward_to(origin.address())).await;
    let bind = ["--bind", "default/edge/http=127.0.0.1:0"];
    let proxy = one.mesh_proxy("edge", &bind).await;
    wait_for_response(&proxy, "here", None).await;
    drop(proxy);
    one.kill().await;
    // The token is invalid: the proxy reads its identity and its configuration from its cache.
    let useless = format!("weir_0_0.{}", "0".repeat(64));
    let url = format!("https://{}", other.xds_mtls());
    let proxy = one.mesh_proxy_with(&useless, "edge", &[&bind[..], &["--xds", &url]].concat()).await;
    wait_for_response(&proxy, "here", None).await;
    proxy.wait_for_log("starting with the stored identity").await;
    wait_until("the other control plane to know it", async || {
        let proxies = other.get("proxies").await;
        (proxies[0]["identity"] == "spiffe://weir.local/ns/default/sa/edge").then_some(())
    })
    .await;
}
