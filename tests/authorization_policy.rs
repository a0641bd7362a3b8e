//! AuthorizationPolicies: rules by peer identity, by address and by credentials; for a Gateway, a route, a Service or
//! the whole mesh; enforced or as a dry run.

use harness::{ControlPlane, MeshPair, Origin, Proxy, Resources, wait_until};
use serde_json::json;

/// Returns an AuthorizationPolicy; `spec` is its `spec` as YAML in flow style.
fn policy(name: &str, spec: &str) -> String {
    format!("apiVersion: weir.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

fn with_key(path: &str, key: &str) -> http::Request<harness::Body> {
    http::Request::get(path).header("x-api-key", key).body(harness::empty()).unwrap()
}

#[tokio::test]
async fn policy_allows_workloads_by_spiffe_id() {
    let origin = Origin::text("here").await;
    let control = ControlPlane::start().await;
    let mesh = MeshPair::start(&control, origin.address()).await;
    let only = |account: &str, path: &str| {
        let rules = format!(
            "targetRefs: [{{kind: Gateway, name: inner}}], rules: [{{name: callers, action: Allow, principals: \
             [{{serviceAccount: {account}}}], paths: [{{prefix: {path}}}]}}]"
        );
        Resources::empty().yaml(&policy("callers", &rules))
    };
    // 0 for a response that breaks off: a changed policy ends requests in flight.
    let status = async |path: &str| {
        let request = http::Request::get(path).body(harness::empty()).unwrap();
        let response = mesh.edge.client().await.send_head(request).await;
        let status = response.status().as_u16();
        if harness::read(response).await.is_ok() { status } else { 0 }
    };
    control.apply(&only("edge", "/open")).await;
    wait_until("the policy", async || (status("/shut").await == 403).then_some(())).await;
    assert_eq!(status("/open/a").await, 200);
    assert_eq!(status("/shut/again").await, 403);
    let line = mesh.inner.access_log_for("/shut/again").await;
    assert_eq!(
        (&line["filter"], &line["response_code_details"]),
        (&json!("default/access:callers"), &json!("auth_no_allow_rule"))
    );
    control.apply(&only("other", "/open")).await;
    wait_until("the other policy", async || (status("/open/a").await == 403).then_some(())).await;
    let count = origin.count();
    assert_eq!(status("/open/b").await, 403);
    assert_eq!(origin.count(), count);
    let object = control.get("resources/AuthorizationPolicy/default/callers").await;
    assert!(object["status"]["programmed"]["message"].as_str().unwrap().starts_with("1/1 proxies"), "{object}");
    assert_eq!(control.request("DELETE", "resources/AuthorizationPolicy/default/callers", "").await.status, 200);
    wait_until("no policy", async || (status("/shut").await == 200).then_some(())).await;
}

#[tokio::test]
async fn service_policy_applies_to_every_route_to_service() {
    let (shop, admin) = (Origin::text("shop").await, Origin::text("admin").await);
    let guarded = policy(
        "admin",
        "targetRefs: [{kind: Service, name: admin}], credentials: {apiKeys: {keys: [{id: boss, key: k3y}]}}, rules: \
         [{name: boss-only, action: Allow, consumers: [boss]}]",
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
async fn request_must_pass_all_policies_and_consumer_is_preserved() {
    let origin = Origin::text("here").await;
    let keys = "credentials: {apiKeys: {keys: [{id: me, key: k3y}]}}";
    let resources = Resources::forward_to(origin.address())
        .yaml(&policy("a-keys", keys))
        .yaml(&policy("b-near", "rules: [{name: near, action: Allow, ipBlocks: [127.0.0.0/8]}]"))
        .yaml(&policy("c-paths", "rules: [{name: no-dot, action: Deny, paths: [{prefix: /.git}]}]"));
    let proxy = Proxy::start(&resources).await;
    let mut client = proxy.client().await;
    let forged = http::Request::get("/").header("x-auth-consumer", "root").header("x-api-key", "k3y");
    assert_eq!(client.send(forged.body(harness::empty()).unwrap()).await.text(), "here");
    let seen: Vec<_> = origin.last().headers.get_all("x-auth-consumer").iter().cloned().collect();
    assert_eq!(seen, ["me"], "the authenticated consumer replaces the header of the request");
    assert_eq!(client.get("/").await.status, 401);
    assert_eq!(client.send(with_key("/.git/config", "k3y")).await.status, 403);

    let far = Resources::forward_to(origin.address())
        .yaml(&policy("a-keys", keys))
        .yaml(&policy("b-near", "rules: [{name: near, action: Allow, ipBlocks: [10.0.0.0/8]}]"));
    proxy.apply_and_wait(&far).await;
    let mut client = proxy.client().await;
    assert_eq!(client.send(with_key("/", "k3y")).await.status, 403);
}

#[tokio::test]
async fn dry_run_policy_logs_denials_and_allows_requests() {
    let origin = Origin::text("here").await;
    let dry_run = policy(
        "soon",
        "mode: DryRun, credentials: {apiKeys: {keys: [{id: me, key: k3y}]}}, rules: [{name: all, action: Allow}]",
    );
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).yaml(&dry_run)).await;
    let mut client = proxy.client().await;
    let forged = http::Request::get("/without").header("x-auth-consumer", "root").body(harness::empty()).unwrap();
    assert_eq!(client.send(forged).await.text(), "here");
    assert_eq!(origin.last().header("x-auth-consumer"), None, "a dry run sets no consumer");
    assert_eq!(client.send(with_key("/with", "k3y")).await.text(), "here");
    let line = proxy.access_log_for("/without").await;
    assert_eq!((&line["status"], &line["fields"]["auth_dry_run"]), (&json!(200), &json!("auth_missing_credentials")));
    assert!(proxy.access_log_for("/with").await["fields"]["auth_dry_run"].is_null());
    assert_eq!(origin.last().header("x-auth-consumer"), None, "a dry run sets no consumer");
    assert_eq!(proxy.metric("weir_filter_custom_auth_dry_run_denied_total{filter=\"default/access:soon\"}").await, 1.0);
}

#[tokio::test]
async fn policies_are_validated_and_redacted_like_filters() {
    let origin = Origin::text("here").await;
    let control = ControlPlane::start().await;
    control.apply(&Resources::forward_to(origin.address())).await;
    // The filter finds the error; the rejection names the policy.
    let bad = policy(
        "p",
        "credentials: {jwt: {providers: []}}, rules: [{name: a, action: Allow, paths: [{exact: /a/../b}]}]",
    );
    let response = control.request("POST", "apply?path=mine.yaml", &bad).await;
    assert_eq!(response.status, 422, "{}", response.text());
    let text = response.text();
    assert!(text.contains("AuthorizationPolicy default/p") && text.contains("rules[0].paths[0]"), "{text}");
    // A token of one namespace may not apply a policy for the whole mesh. Only editors may read keys.
    let all = policy("p", "credentials: {apiKeys: {keys: [{id: me, key: k3y-k3y}]}}");
    let made = |role: &str, namespaces| json!({"name": "t", "role": role, "namespaces": namespaces}).to_string();
    let token = async |body: String| -> String {
        let made: serde_json::Value =
            serde_json::from_str(&control.request("POST", "tokens", &body).await.text()).unwrap();
        made["secret"].as_str().unwrap().to_owned()
    };
    let team = token(made("editor", json!(["default"]))).await;
    let denied = control.request_as(Some(&team), "POST", "apply", &all).await;
    assert!(denied.status == 403 && denied.text().contains("for the whole mesh"), "{}", denied.text());
    let null = policy("p", "targetRefs: null, credentials: {apiKeys: {keys: [{id: me, key: k3y-k3y}]}}");
    assert_eq!(
        control.request_as(Some(&team), "POST", "apply", &null).await.status,
        403,
        "`targetRefs: null` is the whole mesh, too"
    );
    control.apply(&Resources::empty().yaml(&all)).await;
    let viewer = token(made("viewer", json!(null))).await;
    let shown = control.request_as(Some(&viewer), "GET", "resources/AuthorizationPolicy/default/p", "").await.text();
    assert!(shown.contains("<hidden>") && !shown.contains("k3y-k3y"), "{shown}");
    let edge = control.proxy("p1", &[]).await;
    wait_until("the policy", async || {
        edge.find_listener("default/edge/http").await?;
        (edge.get("/").await.status == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn filter_cannot_forge_peer_identity() {
    let origin = Origin::text("here").await;
    let forged = json!({"request_headers": [
        {"do": "set_property", "property": ["connection", "uri_san_peer_certificate"], "value": "spiffe://a/ns/ops/sa/x"},
        {"do": "set_property", "property": ["connection"], "value": "spiffe://a/ns/ops/sa/x"},
    ]});
    let only = policy("ops", "rules: [{name: ops, action: Allow, principals: [{namespace: ops}]}]");
    let forger = harness::Filter::test("forger", forged).with_fields("phase: Authn");
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(forger).yaml(&only)).await;
    assert_eq!(proxy.get("/").await.status, 403);
    assert_eq!(origin.count(), 0);
}

/// Spellings of `/admin` that the route for `/admin` does not match.
const SPELLINGS: [&str; 4] = ["/admin;x", "/;/admin", "/%2561dmin", "/admin%20"];

/// Returns a Service with a route for `/admin`, a route for the rest, and a policy of `target` that denies `/admin`.
fn two_routes(origin: &Origin, target: &str) -> Resources {
    let rules = "rules: [{name: closed, action: Deny, paths: [{prefix: /admin}]}]";
    Resources::new()
        .service("shop", &[origin.address()])
        .route("admin", "rules: [{matches: [{path: {value: /admin}}], backendRefs: [{name: shop, port: 80}]}]")
        .route("rest", "rules: [{backendRefs: [{name: shop, port: 80}]}]")
        .yaml(&policy("closed", &format!("targetRefs: [{target}], {rules}")))
}

/// Runs `weir-proxy validate` on the proxy's resources, which are valid. Returns its standard error.
fn validate(proxy: &Proxy) -> String {
    let mut command = std::process::Command::new(harness::binary());
    command.arg("validate").arg(proxy.config()).args(harness::shared_folder_args());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn policy_of_a_route_is_warned_about_and_policy_of_the_service_holds_for_every_spelling() {
    let origin = Origin::text("here").await;
    let proxy = Proxy::start(&two_routes(&origin, "{kind: HTTPRoute, name: admin}")).await;
    let mut client = proxy.client().await;
    assert_eq!(client.get("/admin").await.status, 403);
    for spelling in SPELLINGS {
        assert_eq!(client.get(spelling).await.status, 200, "{spelling}");
    }
    let line = proxy.wait_for_log("configuration warning").await;
    for text in [&*line, &*validate(&proxy)] {
        assert!(
            text.contains("AuthorizationPolicy default/closed: spec.targetRefs[0]: HTTPRoute default/rest"),
            "{text}"
        );
        assert!(text.contains("`/admin;x`") && text.contains("Service `shop` or Gateway `edge`"), "{text}");
    }
    for target in ["{kind: Service, name: shop}", "{kind: Gateway, name: edge}"] {
        let proxy = Proxy::start(&two_routes(&origin, target)).await;
        let mut client = proxy.client().await;
        let count = origin.count();
        for spelling in SPELLINGS.iter().chain(&["/admin"]) {
            assert_eq!(client.get(spelling).await.status, 403, "{target} {spelling}");
        }
        assert_eq!(origin.count(), count);
        assert_eq!(client.get("/administrator").await.status, 200);
        assert_eq!(validate(&proxy), "");
        assert!(!proxy.log().contains("configuration warning"), "{}", proxy.log());
    }
    assert_eq!(proxy.log().matches("configuration warning").count(), 1);
}

#[tokio::test]
async fn control_plane_warns_of_a_route_that_bypasses_a_policy() {
    let origin = Origin::text("here").await;
    let control = ControlPlane::start().await;
    let guarded = two_routes(&origin, "{kind: HTTPRoute, name: admin}");
    // The warning comes with the policy, with its dry run, and again with each change of the policy.
    let preview = control.request("POST", "apply?dry_run=true", guarded.text()).await.text();
    assert!(
        preview.contains("HTTPRoute default/rest forwards to Service default/shop without this policy"),
        "{preview}"
    );
    let applied = control.apply(&guarded).await;
    let warning = &applied["warnings"][0];
    assert_eq!(warning["object"], "AuthorizationPolicy default/closed", "{applied}");
    assert_eq!((&warning["field"], &warning["file"]), (&json!("spec.targetRefs[0]"), &json!("")));
    assert_eq!(applied["warnings"].as_array().unwrap().len(), 1);
    assert_eq!(control.apply(&guarded).await["warnings"], applied["warnings"]);
    let object = control.get("resources/AuthorizationPolicy/default/closed").await;
    let notes = object["status"]["notes"].to_string();
    assert!(notes.contains("HTTPRoute default/rest") && notes.contains("hint: target Service `shop`"), "{object}");
    assert!(control.log().contains("HTTPRoute default/rest forwards"), "{}", control.log());
    // A change of another object does not repeat it.
    let other = Resources::empty().service("other", &[origin.address()]);
    assert_eq!(control.apply(&other).await["warnings"], json!(null));
    // A change of another object that causes it has it.
    assert_eq!(control.request("DELETE", "resources/HTTPRoute/default/rest", "").await.status, 200);
    let object = control.get("resources/AuthorizationPolicy/default/closed").await;
    assert_eq!(object["status"]["notes"], json!(null), "{object}");
    control.write(
        "rest.yaml",
        Resources::empty().route("rest", "rules: [{backendRefs: [{name: shop, port: 80}]}]").text(),
    );
    let (is_good, output, errors) = control.weir(&["apply", "-f", "rest.yaml"]).await;
    assert!(
        is_good && output.contains("warning: AuthorizationPolicy default/closed: spec.targetRefs[0]"),
        "{output}{errors}"
    );
    control.write("all.yaml", guarded.text());
    let (is_good, output, _) = control.weir(&["validate", "-f", "all.yaml"]).await;
    assert!(is_good && output.contains("warning: ") && output.contains("all.yaml:"), "{output}");
}
