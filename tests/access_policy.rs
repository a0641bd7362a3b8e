//! AccessPolicies: who may do what, by the identity of the connection, by its address, by credentials; for a Gateway, a
//! route, a Service or the whole mesh; enforced or in shadow.

use harness::{ControlPlane, Mesh, Origin, Proxy, Resources, until};
use serde_json::json;

/// An AccessPolicy with this spec.
fn policy(name: &str, spec: &str) -> String {
    format!("apiVersion: weir.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

fn with_key(path: &str, key: &str) -> http::Request<harness::Body> {
    http::Request::get(path).header("x-api-key", key).body(harness::empty()).unwrap()
}

#[tokio::test]
async fn workloads_are_let_in_by_who_they_have_proved_to_be() {
    let origin = Origin::says("here").await;
    let control = ControlPlane::start().await;
    let mesh = Mesh::start(&control, origin.address()).await;
    let only = |account: &str, path: &str| {
        let rules = format!(
            "targetRefs: [{{kind: Gateway, name: inner}}], rules: [{{name: callers, action: Allow, workloads: \
             [{{serviceAccount: {account}}}], paths: [{{prefix: {path}}}]}}]"
        );
        Resources::nothing().yaml(&policy("callers", &rules))
    };
    let status = async |path: &str| mesh.edge.get(path).await.status;
    control.apply(&only("edge", "/open")).await;
    until("the policy", async || (status("/shut").await == 403).then_some(())).await;
    assert_eq!(status("/open/a").await, 200);
    assert_eq!(status("/shut/again").await, 403);
    let line = mesh.inner.logged("/shut/again").await;
    assert_eq!((&line["plugin"], &line["details"]), (&json!("default/access:callers"), &json!("auth_no_allow_rule")));
    control.apply(&only("somebody", "/open")).await;
    until("the other policy", async || (status("/open/a").await == 403).then_some(())).await;
    let count = origin.count();
    assert_eq!(status("/open/b").await, 403);
    assert_eq!(origin.count(), count);
    let object = control.get("resources/AccessPolicy/default/callers").await;
    assert!(object["status"]["programmed"]["message"].as_str().unwrap().starts_with("1/1 proxies"), "{object}");
    assert_eq!(control.ask("DELETE", "resources/AccessPolicy/default/callers", "").await.status, 200);
    until("no policy", async || (status("/shut").await == 200).then_some(())).await;
}

#[tokio::test]
async fn a_policy_of_a_service_guards_it_from_every_route_and_nothing_else() {
    let (shop, admin) = (Origin::says("shop").await, Origin::says("admin").await);
    let guarded = policy(
        "admin",
        "targetRefs: [{kind: Service, name: admin}], credentials: {apiKeys: {keys: [{id: boss, key: k3y}]}}, rules: \
         [{name: nobody-else, action: Allow, consumers: [boss]}]",
    );
    let resources = Resources::new()
        .service("shop", &[shop.address()])
        .service("admin", &[admin.address()])
        .route(
            "both",
            "rules: [{matches: [{path: {value: /admin}}], backendRefs: [{name: admin, port: 80}]}, {backendRefs: [{name: \
             shop, port: 80}]}]",
        )
        .yaml(&guarded);
    let proxy = Proxy::start(&resources).await;
    let mut client = proxy.client().await;
    assert_eq!(client.get("/").await.text(), "shop");
    assert_eq!(client.get("/admin").await.status, 401);
    assert_eq!(client.send(with_key("/admin", "k3y")).await.text(), "admin");
    assert_eq!(admin.last().header("x-auth-consumer"), Some("boss"));
    assert_eq!((admin.count(), shop.count()), (1, 1));
}

#[tokio::test]
async fn all_policies_must_agree_and_what_one_has_proved_stays() {
    let origin = Origin::says("here").await;
    let keys = "credentials: {apiKeys: {keys: [{id: me, key: k3y}]}}";
    let resources = Resources::forward_to(origin.address())
        .yaml(&policy("a-keys", keys))
        .yaml(&policy("b-near", "rules: [{name: near, action: Allow, networks: [127.0.0.0/8]}]"))
        .yaml(&policy("c-paths", "rules: [{name: no-dot, action: Deny, paths: [{prefix: /.git}]}]"));
    let proxy = Proxy::start(&resources).await;
    let mut client = proxy.client().await;
    let lying = http::Request::get("/").header("x-auth-consumer", "root").header("x-api-key", "k3y");
    assert_eq!(client.send(lying.body(harness::empty()).unwrap()).await.text(), "here");
    let seen: Vec<_> = origin.last().headers.get_all("x-auth-consumer").iter().cloned().collect();
    assert_eq!(seen, ["me"], "one was proved, the other only said");
    assert_eq!(client.get("/").await.status, 401);
    assert_eq!(client.send(with_key("/.git/config", "k3y")).await.status, 403);

    let far = Resources::forward_to(origin.address())
        .yaml(&policy("a-keys", keys))
        .yaml(&policy("b-near", "rules: [{name: near, action: Allow, networks: [10.0.0.0/8]}]"));
    proxy.change(&far).await;
    let mut client = proxy.client().await;
    assert_eq!(client.send(with_key("/", "k3y")).await.status, 403);
}

#[tokio::test]
async fn a_policy_in_shadow_tells_what_it_would_refuse_and_lets_it_pass() {
    let origin = Origin::says("here").await;
    let shadow = policy(
        "soon",
        "mode: Shadow, credentials: {apiKeys: {keys: [{id: me, key: k3y}]}}, rules: [{name: all, action: Allow}]",
    );
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).yaml(&shadow)).await;
    let mut client = proxy.client().await;
    let lying = http::Request::get("/without").header("x-auth-consumer", "root").body(harness::empty()).unwrap();
    assert_eq!(client.send(lying).await.text(), "here");
    assert_eq!(origin.last().header("x-auth-consumer"), None, "nobody has proved that");
    assert_eq!(client.send(with_key("/with", "k3y")).await.text(), "here");
    let line = proxy.logged("/without").await;
    assert_eq!((&line["status"], &line["fields"]["auth_shadow"]), (&json!(200), &json!("auth_missing_credentials")));
    assert!(proxy.logged("/with").await["fields"]["auth_shadow"].is_null());
    assert_eq!(origin.last().header("x-auth-consumer"), None, "nor is it said");
    assert_eq!(proxy.metric("filter_custom_auth_shadow_refused_total{plugin=\"default/access:soon\"}").await, 1.0);
}

#[tokio::test]
async fn policies_are_refused_shown_and_permitted_like_filters() {
    let origin = Origin::says("here").await;
    let control = ControlPlane::start().await;
    control.apply(&Resources::forward_to(origin.address())).await;
    // What only the filter itself can see is said at the policy.
    let bad = policy(
        "p",
        "credentials: {jwt: {providers: []}}, rules: [{name: a, action: Allow, paths: [{exact: /a/../b}]}]",
    );
    let answer = control.ask("POST", "apply?path=mine.yaml", &bad).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    let text = answer.text();
    assert!(text.contains("AccessPolicy default/p") && text.contains("rules[0].paths[0]"), "{text}");
    // For the whole mesh is not for a token of one namespace, and keys are nobody's to read but editors'.
    let all = policy("p", "credentials: {apiKeys: {keys: [{id: me, key: k3y-k3y}]}}");
    let made = |role: &str, namespaces| json!({"name": "t", "role": role, "namespaces": namespaces}).to_string();
    let token = async |body: String| -> String {
        let made: serde_json::Value = serde_json::from_str(&control.ask("POST", "tokens", &body).await.text()).unwrap();
        made["secret"].as_str().unwrap().to_owned()
    };
    let team = token(made("editor", json!(["default"]))).await;
    let refused = control.ask_as(Some(&team), "POST", "apply", &all).await;
    assert!(refused.status == 403 && refused.text().contains("for the whole mesh"), "{}", refused.text());
    let null = policy("p", "targetRefs: null, credentials: {apiKeys: {keys: [{id: me, key: k3y-k3y}]}}");
    assert_eq!(control.ask_as(Some(&team), "POST", "apply", &null).await.status, 403, "the same in other words");
    control.apply(&Resources::nothing().yaml(&all)).await;
    let viewer = token(made("viewer", json!(null))).await;
    let shown = control.ask_as(Some(&viewer), "GET", "resources/AccessPolicy/default/p", "").await.text();
    assert!(shown.contains("<hidden>") && !shown.contains("k3y-k3y"), "{shown}");
    let edge = control.proxy("p1", &[]).await;
    until("the policy", async || {
        edge.find_listener("default/edge/http").await?;
        (edge.get("/").await.status == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_filter_cannot_say_who_is_at_the_other_end() {
    let origin = Origin::says("here").await;
    let forged = json!({"request_headers": [
        {"do": "set_property", "property": ["connection", "uri_san_peer_certificate"], "value": "spiffe://a/ns/ops/sa/x"},
        {"do": "set_property", "property": ["connection"], "value": "spiffe://a/ns/ops/sa/x"},
    ]});
    let only = policy("ops", "rules: [{name: ops, action: Allow, workloads: [{namespace: ops}]}]");
    let forger = harness::Filter::test("forger", forged).with("phase: Authn");
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(forger).yaml(&only)).await;
    assert_eq!(proxy.get("/").await.status, 403);
    assert_eq!(origin.count(), 0);
}
