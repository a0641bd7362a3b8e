//! References of Filters and AuthorizationPolicies to values of Secrets.

use harness::{Client, ControlPlane, Origin, Proxy, Resources, full, wait_until};
use http::Request;
use serde_json::{Value, json};

fn secret(key: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: keys}}\ntype: Opaque\nstringData: {{api-key: {key}, other: x}}\n"
    )
}

const FILTER: &str = "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {name: guard}\n\
    spec:\n  targetRefs: [{kind: Gateway, name: edge}]\n  module: {builtin: auth}\n  phase: Authn\n  \
    config:\n    apiKeys: {keys: [{id: me, key: {secretRef: {name: keys, key: api-key}}}]}\n    \
    rules: [{name: all, action: allow}]\n  \
    vm: {config: {secretRef: {name: keys, key: api-key}}, \
    environment: {MODE: strict, KEY: {secretRef: {name: keys, key: api-key}}}}\n";

/// Returns the status of a request with an API key.
async fn status(proxy: &Proxy, key: &str) -> Option<u16> {
    let address = proxy.find_listener("default/edge/http").await?;
    let request = Request::get("/").header("x-api-key", key).body(full("")).unwrap();
    Some(Client::http1(address).await.send(request).await.status)
}

async fn wait_for_key(proxy: &Proxy, good: &str, bad: &str) {
    wait_until(&format!("the key {good}"), async || {
        (status(proxy, good).await? == 200 && status(proxy, bad).await? == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn value_of_a_secret_configures_a_filter_and_is_shown_to_no_one() {
    let origin = Origin::text("origin").await;
    let control = ControlPlane::start().await;
    control.apply(&Resources::forward_to(origin.address()).yaml(&secret("first-key")).yaml(FILTER)).await;
    let proxy = control.proxy("p1", &[]).await;
    wait_for_key(&proxy, "first-key", "second-key").await;
    // A new value reaches the proxies without a change of the Filter.
    control.apply(&Resources::empty().yaml(&secret("second-key"))).await;
    wait_for_key(&proxy, "second-key", "first-key").await;

    let reference = json!({"secretRef": {"name": "keys", "key": "api-key"}});
    let filter = control.get("resources/Filter/default/guard").await;
    assert_eq!(filter["spec"]["config"]["apiKeys"]["keys"][0]["key"], reference);
    assert_eq!(filter["spec"]["vm"]["environment"], json!({"MODE": "strict", "KEY": reference}));
    let mut shown = vec![control.log(), proxy.page("/config_dump").await.text()];
    for path in ["resources", "revisions/1", "revisions/2", "proxies", "status"] {
        shown.push(control.get(path).await.to_string());
    }
    let changed = Resources::empty().yaml(&secret("third-key"));
    shown.push(control.request("POST", "apply?dry_run=true", changed.text()).await.text());
    shown.push(std::fs::read_to_string(control.store().join("audit.log")).unwrap());
    for text in shown {
        for key in ["first-key", "second-key", "third-key"] {
            assert!(!text.contains(key), "{key} in {text}");
        }
    }
}

#[tokio::test]
async fn credentials_of_a_policy_may_be_values_of_a_secret() {
    let origin = Origin::text("origin").await;
    let control = ControlPlane::start().await;
    let policy = "apiVersion: weir.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: keys}\n\
        spec:\n  targetRefs: [{kind: Gateway, name: edge}]\n  \
        credentials: {apiKeys: {keys: [{id: me, key: {secretRef: {name: keys, key: api-key}}}]}}\n";
    control.apply(&Resources::forward_to(origin.address()).yaml(&secret("first-key")).yaml(policy)).await;
    let proxy = control.proxy("p1", &[]).await;
    wait_for_key(&proxy, "first-key", "other-key").await;
    let shown = control.get("resources").await.to_string();
    assert!(!shown.contains("first-key") && shown.contains("secretRef"), "{shown}");
}

#[tokio::test]
async fn reference_without_a_value_is_rejected() {
    let control = ControlPlane::start().await;
    control.apply(&Resources::new()).await;
    let elsewhere = secret("first-key").replace("{name: keys}", "{name: keys, namespace: other}");
    control.apply(&Resources::empty().yaml(&elsewhere)).await;
    let field = "spec.config.apiKeys.keys[0].key.secretRef";
    let reject = async |resources: Resources| -> Value {
        let response = control.request("POST", "apply", resources.text()).await;
        assert_eq!(response.status, 422, "{}", response.text());
        serde_json::from_str::<Value>(&response.text()).unwrap()["refusals"].take()
    };
    let refusals = reject(Resources::empty().yaml(FILTER)).await;
    assert_eq!(refusals[0]["field"], format!("{field}.name"), "{refusals}");
    assert!(refusals[0]["hint"].as_str().unwrap().contains("namespace `other`"), "{refusals}");
    let misspelt = FILTER.replace("key: api-key", "key: api-keys");
    let refusals = reject(Resources::empty().yaml(&secret("first-key")).yaml(&misspelt)).await;
    assert_eq!(refusals[0]["field"], format!("{field}.key"), "{refusals}");
    assert_eq!(refusals[0]["hint"], "did you mean `api-key`?");
    // A Secret that is in use cannot be deleted.
    control.apply(&Resources::empty().yaml(&secret("first-key")).yaml(FILTER)).await;
    let needed = control.request("DELETE", "resources/Secret/default/keys", "").await;
    assert_eq!(needed.status, 422, "{}", needed.text());
    assert!(needed.text().contains("Filter default/guard"), "{}", needed.text());
}

#[tokio::test]
async fn module_that_repeats_its_configuration_shows_no_secret() {
    let control = ControlPlane::start().await;
    control.apply(&Resources::new().yaml(&secret("first-key"))).await;
    // A text where the module expects a list.
    let wrong = FILTER.replace("rules: [{name: all, action: allow}]", "rules: {secretRef: {name: keys, key: api-key}}");
    let response = control.request("POST", "apply", &wrong).await;
    assert_eq!(response.status, 422, "{}", response.text());
    assert!(response.text().contains("spec.config") && !response.text().contains("first-key"), "{}", response.text());
    assert!(!control.log().contains("first-key"), "{}", control.log());
}
