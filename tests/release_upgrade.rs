//! An upgrade from an older release: a store, a last known good configuration and a module cache that it wrote.
//!
//! `tests/recorded/` has the folders, by the commit of the release that wrote them.

use std::path::{Path, PathBuf};

use harness::{ControlOptions, ControlPlane, Origin, Proxy, ProxyOptions, Resources, copy_private, wait_until};
use serde_json::{Value, json};

/// Returns a folder that the release before the renames wrote.
fn recorded(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded/170d699").join(folder)
}

async fn control_with_recorded_store() -> ControlPlane {
    let store = Some(recorded("store"));
    ControlPlane::start_with(ControlOptions { recorded_store: store, ..ControlOptions::default() }).await
}

fn names(resources: &Value) -> Vec<String> {
    let name = |object: &Value| format!("{}/{}", object["kind"], object["metadata"]["name"]).replace('"', "");
    let mut names: Vec<String> = resources.as_array().unwrap().iter().map(name).collect();
    names.sort();
    names
}

const CONVERTED: [&str; 9] = [
    "AuthorizationPolicy/guard",
    "BackendTrafficPolicy/origin",
    "Filter/teapot",
    "Gateway/cached",
    "Gateway/edge",
    "HTTPRoute/teapot",
    "HTTPRoute/web",
    "ServiceEntry/origin",
    "ServiceEntry/plain",
];

#[tokio::test]
async fn store_of_older_release_is_converted_once_and_served() {
    let mut control = control_with_recorded_store().await;
    assert_eq!(names(&control.get("resources").await), CONVERTED);
    let policy = control.get("resources/AuthorizationPolicy/default/guard").await;
    assert_eq!(policy["spec"]["mode"], "DryRun");
    assert_eq!(policy["spec"]["rules"][0]["ipBlocks"], json!(["127.0.0.0/8"]));
    assert_eq!(policy["spec"]["rules"][1]["principals"], json!([{"serviceAccount": "web"}]));
    let filter = control.get("resources/Filter/default/teapot").await;
    assert_eq!(
        (&filter["spec"]["failurePolicy"], &filter["spec"]["configString"]),
        (&json!("FailClosed"), &json!("hot"))
    );
    assert_eq!(filter["spec"]["limits"]["callTimeout"], "50ms");
    let policy = control.get("resources/BackendTrafficPolicy/default/origin").await;
    assert_eq!(policy["spec"]["balancing"], json!({"algorithm": "Random"}));
    let route = control.get("resources/HTTPRoute/default/web").await;
    assert_eq!(route["spec"]["rules"][0]["backendRefs"][0]["kind"], "ServiceEntry");

    // The old revisions stay, and the conversion is a revision of its own.
    let revisions = control.get("revisions").await;
    let ids: Vec<&Value> = revisions.as_array().unwrap().iter().map(|revision| &revision["id"]).collect();
    assert_eq!(ids, [3, 2, 1]);
    assert_eq!(revisions[0]["author"], "weir-control");
    let first = control.get("revisions/1").await;
    let kinds: Vec<&str> =
        first["changes"].as_array().unwrap().iter().map(|change| change["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"AccessPolicy") && kinds.contains(&"Service"), "{kinds:?}");
    control.restart().await;
    assert_eq!(control.get("revisions").await.as_array().unwrap().len(), 3, "the second start converts nothing");
    assert_eq!(names(&control.get("resources").await), CONVERTED);

    let origin = Origin::text("served").await;
    control.apply(&Resources::empty().service("origin", &[origin.address()])).await;
    let proxy = control.proxy("p1", &[]).await;
    wait_until("the route to serve", async || {
        proxy.find_listener("default/edge/http").await?;
        (proxy.get("/").await.text() == "served").then_some(())
    })
    .await;

    // A rollback to a revision with former names restores objects with current names.
    let rollback = control.request("POST", "revisions/1/rollback", "").await;
    assert_eq!(rollback.status, 200, "{}", rollback.text());
    let remaining: Vec<&str> = CONVERTED.into_iter().filter(|name| *name != "Filter/teapot").collect();
    assert_eq!(names(&control.get("resources").await), remaining);
}

#[tokio::test]
async fn last_known_good_configuration_and_modules_of_older_release_serve() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    copy_private(&recorded("cache"), &cache);
    // The recording proxy followed this address. No control plane listens there now.
    let arguments = ["--xds", "http://127.101.7.2:15010", "--node", "p1", "--gateway", "default/cached"];
    let arguments = [&arguments[..], &["--bind", "default/cached/http=127.0.0.1:0"]].concat();
    let arguments = arguments.into_iter().map(str::to_owned).collect();
    let mut proxy = Proxy::follow(0, &ProxyOptions { arguments, cache: Some(cache), ..ProxyOptions::default() }).await;
    proxy.wait_until_ready().await;
    let address = proxy.listener("default/cached/http").await;
    let response = harness::Client::http1(address).await.get("/teapot").await;
    assert_eq!(response.status, 418, "the cached module of the filter replies");
}
