//! Secrets of objects in the control plane: who sees them, and what an object that was printed without them restores.

use harness::{ControlPlane, Resources};
use serde_json::{Value, json};

/// The secret values of [`FILTER`].
const SECRETS: [&str; 4] = ["let-me-in", "start-secret", "u:pass@db", "last-applied-secret"];

const FILTER: &str = "apiVersion: weir.dev/v1alpha1\nkind: Filter\n\
    metadata: {name: guard, annotations: {kubectl.kubernetes.io/last-applied-configuration: last-applied-secret}}\n\
    spec:\n  targetRefs: [{kind: Gateway, name: edge}]\n  module: {builtin: auth}\n  phase: Authn\n  \
    config: {apiKeys: {keys: [{id: me, key: let-me-in}]}, rules: [{name: all, action: allow}]}\n  \
    vm: {config: start-secret, environment: {DATABASE_URL: \"u:pass@db\"}}\n";

/// Creates a token, and returns its text.
async fn token(control: &ControlPlane, body: Value) -> String {
    let response = control.request("POST", "tokens", &body.to_string()).await;
    assert_eq!(response.status, 200, "{}", response.text());
    let created: Value = serde_json::from_str(&response.text()).unwrap();
    created["secret"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn secrets_of_a_filter_are_shown_to_its_editors_only() {
    let control = ControlPlane::start().await;
    control.apply(&Resources::new()).await;
    control.apply(&Resources::empty().yaml(FILTER)).await;
    let viewer = token(&control, json!({"name": "v", "role": "viewer"})).await;
    let foreign = token(&control, json!({"name": "f", "role": "editor", "namespaces": ["other"]})).await;
    let own = token(&control, json!({"name": "o", "role": "editor", "namespaces": ["default"]})).await;
    let get = async |token: &str, path: &str| control.request_as(Some(token), "GET", path, "").await.text();
    for path in ["resources/Filter/default/guard", "resources", "revisions/2", "revisions", "status", "proxies"] {
        for reader in [&viewer, &foreign] {
            let text = get(reader, path).await;
            assert!(SECRETS.iter().all(|secret| !text.contains(secret)), "{path}: {text}");
        }
    }
    let seen = get(&own, "resources/Filter/default/guard").await;
    assert!(SECRETS.iter().all(|secret| seen.contains(secret)), "an editor of the namespace edits them: {seen}");
    let shown: Value = serde_json::from_str(&get(&viewer, "resources/Filter/default/guard").await).unwrap();
    assert_eq!(shown["spec"]["vm"], json!({"config": "<hidden>", "environment": {"DATABASE_URL": "<hidden>"}}));

    // A diff shows them to no one.
    let changed = FILTER.replace("start-secret", "other-secret").replace("u:pass@db", "u:other@db");
    let diff = control.request_as(Some(&own), "POST", "apply?dry_run=true", &changed).await;
    assert_eq!(diff.status, 200, "{}", diff.text());
    let audit = std::fs::read_to_string(control.store().join("audit.log")).unwrap();
    for text in [diff.text(), audit, control.log()] {
        let mut secrets = SECRETS.iter().chain(&["other-secret", "u:other@db"]);
        assert!(secrets.all(|secret| !text.contains(secret)), "{text}");
    }
    let text_filter = FILTER.replace("config: {apiKeys", "# {apiKeys").replace("vm:", "configString: let-me-in\n  vm:");
    let applied = control.request("POST", "apply?dry_run=true", &text_filter).await;
    assert!(!applied.text().contains("let-me-in"), "{}", applied.text());
}

#[tokio::test]
async fn object_printed_without_secrets_does_not_replace_them() {
    let control = ControlPlane::start().await;
    control.apply(&Resources::new()).await;
    control.apply(&Resources::empty().yaml(FILTER)).await;
    let viewer = token(&control, json!({"name": "v", "role": "viewer"})).await;
    let printed = control.request_as(Some(&viewer), "GET", "resources/Filter/default/guard", "").await;
    let mut printed: Value = serde_json::from_str(&printed.text()).unwrap();
    printed.as_object_mut().unwrap().remove("status");

    let again = control.request("POST", "apply", &printed.to_string()).await;
    assert_eq!(again.status, 200, "{}", again.text());
    let again: Value = serde_json::from_str(&again.text()).unwrap();
    assert_eq!(again["changes"][0]["effect"], "unchanged");
    let stored = control.request("GET", "resources/Filter/default/guard", "").await.text();
    assert!(SECRETS.iter().all(|secret| stored.contains(secret)), "{stored}");

    printed["spec"]["priority"] = json!(7);
    let rejected = control.request("POST", "apply", &printed.to_string()).await;
    assert_eq!(rejected.status, 422, "{}", rejected.text());
    let rejected: Value = serde_json::from_str(&rejected.text()).unwrap();
    assert_eq!(rejected["refusals"][0]["object"], "Filter default/guard");
    assert_eq!(rejected["refusals"][0]["field"], "spec.vm.config");
    assert!(rejected["refusals"][0]["hint"].as_str().unwrap().contains("write the secret"), "{rejected}");
}
