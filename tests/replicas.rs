//! Control planes that share an etcd: what one of them accepts, all tell; none of them loses what another one has written.
//! Needs etcd; see `cargo xtask test`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, Ordering};

use harness::{Answer, ControlOptions, ControlPlane, Etcd, Origin, Proxy, Resources, test_filter, until};
use serde_json::{Value, json};
use weir_bundle::Bundle;

/// Two control planes that share this etcd.
async fn replicas(etcd: &Etcd) -> (ControlPlane, ControlPlane) {
    let options = ControlOptions { store: Some(etcd.url()), ..ControlOptions::default() };
    let one = ControlPlane::start_with(options.clone()).await;
    let other = ControlPlane::start_with(ControlOptions { admin_token: Some(one.admin_token()), ..options }).await;
    (one, other)
}

fn service(name: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{name: http, port: 80, \
         protocol: HTTP}}], endpoints: [{{address: \"127.0.0.1:1\"}}]}}\n"
    )
}

fn filter(version: &str) -> Resources {
    Resources::nothing().yaml(&format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {{name: stamp}}\nspec:\n  module: {{bundle: stamp, \
         version: \"{version}\"}}\n  config: {{response_headers: [{{do: set, name: x-stamp, value: yes}}]}}\n"
    ))
}

fn bundle() -> Vec<u8> {
    let manifest = json!({"name": "stamp", "version": "1.0.0", "example": {}}).to_string();
    Bundle::read(&std::fs::read(test_filter()).unwrap()).unwrap().with_manifest(&manifest).unwrap()
}

fn parsed(answer: &Answer) -> Value {
    serde_json::from_str(&answer.text()).unwrap_or_default()
}

async fn serves(proxy: &Proxy, text: &str, stamp: Option<&str>) {
    until(&format!("{text} with the stamp {stamp:?}"), async || {
        proxy.find_listener("default/edge/http").await?;
        let answer = proxy.get("/").await;
        (answer.text() == text && answer.header("x-stamp") == stamp).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_one_accepts_all_tell() {
    let (etcd, origin, successor) = (Etcd::start(1).await, Origin::says("one").await, Origin::says("two").await);
    let (one, other) = replicas(&etcd).await;
    one.apply(&Resources::forward_to(origin.address())).await;
    let (left, right) = (one.proxy("left", &[]).await, other.proxy("right", &[]).await);
    for proxy in [&left, &right] {
        serves(proxy, "one", None).await;
    }
    other.apply(&Resources::forward_to(successor.address())).await;
    for proxy in [&left, &right] {
        serves(proxy, "two", None).await;
    }
    // Both know who has changed what.
    let revisions = async |control: &ControlPlane| control.get("revisions").await;
    assert_eq!(revisions(&one).await, revisions(&other).await);
    // A bundle is the other one's too, and is not deleted while a Filter names it, wherever that was applied.
    let pushed = one.push(&one.admin_token(), "stamp", "1.0.0", bundle()).await;
    assert_eq!(pushed.status, 200, "{}", pushed.text());
    other.apply(&filter("1.0.0")).await;
    let refused = one.ask("DELETE", "bundles/stamp/1.0.0", "").await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    for proxy in [&left, &right] {
        serves(proxy, "two", Some("yes")).await;
    }
    let gone = other.ask("DELETE", "resources/Filter/default/stamp", "").await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    assert_eq!(one.ask("DELETE", "bundles/stamp/1.0.0", "").await.status, 200);
    let refused = other.ask("POST", "apply", filter("1.0.0").text()).await;
    assert!(refused.status == 422 && refused.text().contains("stamp"), "{} {}", refused.status, refused.text());
}

#[tokio::test]
async fn a_workload_that_registers_at_one_is_told_by_the_other() {
    let (etcd, origin) = (Etcd::start(1).await, Origin::says("here").await);
    let (one, other) = replicas(&etcd).await;
    one.apply(&Resources::new().service("origin", &[]).route_everything()).await;
    let proxy = other.proxy("p1", &[]).await;
    let said = json!({"address": origin.address().to_string(), "leaseSeconds": 3}).to_string();
    let registers = async || one.ask("PUT", "workloads/default/origin/one", &said).await.status;
    assert_eq!(registers().await, 200);
    // For longer than its lease: the other one hears of it each time.
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(4);
    serves(&proxy, "here", None).await;
    while tokio::time::Instant::now() < end {
        assert_eq!(registers().await, 200);
        assert_eq!(proxy.get("/").await.status, 200);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    until("its end", async || (proxy.get("/").await.status == 503).then_some(())).await;
}

#[tokio::test]
async fn workloads_outlast_an_etcd_that_is_away() {
    let (mut etcd, origin) = (Etcd::start(1).await, Origin::says("here").await);
    let (one, _other) = replicas(&etcd).await;
    one.apply(&Resources::new().service("origin", &[]).route_everything()).await;
    let proxy = one.proxy("p1", &[]).await;
    let said = json!({"address": origin.address().to_string(), "leaseSeconds": 2}).to_string();
    assert_eq!(one.ask("PUT", "workloads/default/origin/one", &said).await.status, 200);
    serves(&proxy, "here", None).await;
    etcd.kill(0).await;
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(6);
    while tokio::time::Instant::now() < end {
        assert_eq!(one.ask("PUT", "workloads/default/origin/one", &said).await.status, 200);
        assert_eq!(proxy.get("/").await.status, 200);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    etcd.restart(0).await;
    until("its end", async || (proxy.get("/").await.status == 503).then_some(())).await;
}

#[tokio::test]
async fn none_overwrites_another() {
    let etcd = Etcd::start(1).await;
    let (one, other) = replicas(&etcd).await;
    let applied = async |control: &ControlPlane, whose: &str| {
        for number in 0..20 {
            let answer = control.ask("POST", "apply", &service(&format!("{whose}{number}"))).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    };
    tokio::join!(applied(&one, "a"), applied(&other, "b"));
    for control in [&one, &other] {
        until("all of them", async || {
            let found = control.get("resources?kind=Service").await;
            (found.as_array()?.len() == 40).then_some(())
        })
        .await;
    }
    let last = parsed(&one.ask("POST", "apply", &service("c")).await)["revision"].as_u64().unwrap();
    assert_eq!(last, 41, "each change is a revision of its own");
    // Whoever says which revision he has looked at is told when it is not the last one, wherever he looked.
    let path = |revision: u64| format!("apply?expected_revision={revision}");
    assert_eq!(other.ask("POST", &path(last), &service("d")).await.status, 200);
    assert_eq!(one.ask("POST", &path(last), &service("e")).await.status, 409);
}

/// More than an etcd gives in one page, and more than it takes in one transaction.
#[tokio::test]
async fn what_is_long_is_read_and_forgotten_in_parts() {
    let etcd = Etcd::start(1).await;
    let (one, mut other) = replicas(&etcd).await;
    let mut last = Value::Null;
    for number in 0..250 {
        let new = json!({"name": format!("t{number}"), "role": "viewer"}).to_string();
        last = parsed(&one.ask("POST", "tokens", &new).await);
    }
    until("all tokens at the other one", async || {
        let tokens = other.get("tokens").await;
        let last = other.ask_as(last["secret"].as_str(), "GET", "status", "").await.status;
        (tokens.as_array()?.len() == 251 && last == 200).then_some(())
    })
    .await;
    // Seventeen checkpoints: with the last one more revisions are forgotten than one transaction deletes.
    for revision in 1..=1_088 {
        let text = service("a").replace("127.0.0.1:1", &format!("127.0.0.1:{revision}"));
        let answer = one.ask("POST", "apply", &text).await;
        assert_eq!(parsed(&answer)["revision"], revision, "{}", answer.text());
    }
    for (revision, status) in [(87, 404), (88, 200), (1_088, 200)] {
        assert_eq!(other.ask("GET", &format!("revisions/{revision}"), "").await.status, status, "{revision}");
    }
    other.kill().await;
    other.restart().await;
    assert_eq!(other.get("revisions").await[0]["id"], 1_088);
}

#[tokio::test]
async fn tokens_and_roots_are_the_same_everywhere() {
    let etcd = Etcd::start(1).await;
    let (one, other) = replicas(&etcd).await;
    let made = parsed(&one.ask("POST", "tokens", r#"{"name": "me", "role": "viewer"}"#).await);
    let (secret, id) = (made["secret"].as_str().unwrap().to_owned(), made["id"].as_str().unwrap());
    let may = async |expected: u16| {
        until(&format!("{expected} at the other one"), async || {
            (other.ask_as(Some(&secret), "GET", "resources", "").await.status == expected).then_some(())
        })
        .await;
    };
    may(200).await;
    assert_eq!(one.ask("DELETE", &format!("tokens/{id}"), "").await.status, 200);
    may(401).await;
    // One authority: a rotation of the one is a rotation of the other.
    let roots = async |control: &ControlPlane| control.get("authority").await["roots"].clone();
    assert_eq!(roots(&one).await, roots(&other).await);
    assert_eq!(one.ask("POST", "authority/rotation", "").await.status, 200);
    until("the new root at the other one", async || (roots(&other).await.as_array()?.len() == 2).then_some(())).await;
    assert_eq!(roots(&one).await, roots(&other).await);
    assert_eq!(other.ask("POST", "authority/rotation", "").await.status, 409, "one is under way");
}

#[tokio::test]
async fn an_etcd_that_is_away_stops_changes_and_nothing_else() {
    let (mut etcd, origin) = (Etcd::start(1).await, Origin::says("here").await);
    let (one, _other) = replicas(&etcd).await;
    one.apply(&Resources::forward_to(origin.address())).await;
    let proxy = one.proxy("p1", &[]).await;
    serves(&proxy, "here", None).await;
    etcd.kill(0).await;
    let refused = one.ask("POST", "apply", &service("late")).await;
    assert!(refused.status == 503 && refused.text().contains("etcd"), "{} {}", refused.status, refused.text());
    assert_eq!(one.ask("GET", "resources", "").await.status, 200, "what is known is still said");
    serves(&one.proxy("p2", &[]).await, "here", None).await;
    etcd.restart(0).await;
    until("changes again", async || (one.ask("POST", "apply", &service("late")).await.status == 200).then_some(()))
        .await;
}

#[tokio::test]
async fn who_reads_does_not_wait_for_an_etcd_that_hangs() {
    let (etcd, origin) = (Etcd::start(1).await, Origin::says("here").await);
    let (one, _other) = replicas(&etcd).await;
    one.apply(&Resources::forward_to(origin.address())).await;
    etcd.hang(0, true).await;
    let is_changed = AtomicBool::new(false);
    let change = async {
        let refused = one.ask("POST", "apply", &service("late")).await;
        is_changed.store(true, Ordering::Relaxed);
        assert_eq!(refused.status, 503, "{}", refused.text());
    };
    let reads = async {
        for path in ["resources", "status", "proxies", "bundles", "authority"].into_iter().cycle().take(20) {
            assert_eq!(one.ask("GET", path, "").await.status, 200, "{path}");
        }
        let proxy = one.proxy("p1", &[]).await;
        serves(&proxy, "here", None).await;
        assert!(!is_changed.load(Ordering::Relaxed), "the change waits still");
    };
    tokio::join!(change, reads);
    etcd.hang(0, false).await;
    until("changes again", async || (one.ask("POST", "apply", &service("late")).await.status == 200).then_some(()))
        .await;
}

#[tokio::test]
async fn a_proxy_that_is_told_of_another_control_plane_stays_who_it_is() {
    let (etcd, origin) = (Etcd::start(1).await, Origin::says("here").await);
    let (mut one, other) = replicas(&etcd).await;
    one.apply(&Resources::forward_to(origin.address())).await;
    let bind = ["--bind", "default/edge/http=127.0.0.1:0"];
    let proxy = one.mesh_proxy("edge", &bind).await;
    serves(&proxy, "here", None).await;
    drop(proxy);
    one.kill().await;
    // Its token is none any more: it has its identity, and what it was told, from its disk.
    let useless = format!("weir_0_0.{}", "0".repeat(64));
    let url = format!("https://{}", other.mutual());
    let proxy = one.mesh_proxy_with(&useless, "edge", &[&bind[..], &["--xds", &url]].concat()).await;
    serves(&proxy, "here", None).await;
    proxy.wait_for_log("begins with the identity of the last process").await;
    until("the other control plane to know it", async || {
        let proxies = other.get("proxies").await;
        (proxies[0]["identity"] == "spiffe://weir.local/ns/default/sa/edge").then_some(())
    })
    .await;
}
