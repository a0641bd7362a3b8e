//! `weir-control`, its API and the `weir` tool. Applied and watched resources reach proxies, bad changes are rejected
//! as a whole, acknowledged revisions survive a restart, and roles limit requests.

use harness::{ControlOptions, ControlPlane, Origin, Proxy, Resources, wait_until};
use serde_json::{Value, json};

/// Waits until a proxy responds with a text.
async fn wait_for_text(proxy: &Proxy, path: &str, expected: &str) {
    wait_until(&format!("{expected} at {path}"), async || {
        proxy.find_listener("default/edge/http").await?;
        (proxy.get(path).await.text() == expected).then_some(())
    })
    .await;
}

/// Waits until the message of an object's status starts with `expected`, and returns the object.
async fn wait_until_programmed(control: &ControlPlane, object: &str, expected: &str) -> Value {
    wait_until(&format!("`{expected}` of {object}"), async || {
        let found = control.get(&format!("resources/{object}")).await;
        let message = found["status"]["programmed"]["message"].as_str()?.to_owned();
        message.starts_with(expected).then_some(found)
    })
    .await
}

fn effects(response: &Value) -> Vec<String> {
    let changes = response["changes"].as_array().unwrap();
    let line = |change: &Value| format!("{} {} {}", change["kind"], change["name"], change["effect"]).replace('"', "");
    changes.iter().map(line).collect()
}

#[tokio::test]
async fn applied_resources_are_served_and_status_counts_proxies() {
    let (old, new) = (Origin::text("old").await, Origin::text("new").await);
    let control = ControlPlane::start().await;
    let response = control.apply(&Resources::forward_to(old.address())).await;
    assert_eq!(response["revision"], 1);
    assert!(effects(&response).iter().all(|effect| effect.ends_with("created")), "{response}");
    let proxy = control.proxy("p1", &[]).await;
    wait_for_text(&proxy, "/", "old").await;
    wait_until_programmed(&control, "ServiceEntry/default/origin", "1/1 proxies").await;

    let again = control.apply(&Resources::forward_to(old.address())).await;
    assert_eq!(again["revision"], 1, "an unchanged apply creates no revision");
    let response = control.apply(&Resources::forward_to(new.address())).await;
    assert_eq!(response["revision"], 2);
    wait_for_text(&proxy, "/", "new").await;
    let object = wait_until_programmed(&control, "ServiceEntry/default/origin", "1/1 proxies").await;
    assert_eq!(object["status"]["revision"], 2);
    let proxies = control.get("proxies").await;
    assert_eq!((&proxies[0]["node"], &proxies[0]["program"]), (&json!("p1"), &json!("weir-proxy")));
    wait_until("the proxy to be up to date", async || (control.get("status").await["upToDate"] == 1).then_some(()))
        .await;

    let gone = control.request("POST", "revisions/1/rollback?message=back", "").await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    wait_for_text(&proxy, "/", "old").await;
    let revisions = control.get("revisions").await;
    assert_eq!(revisions[0]["action"], json!({"rollback": {"to": 1}}));
    assert_eq!(revisions[0]["message"], "back");
    let diff = control.get("revisions/3").await["changes"][0]["diff"].as_str().unwrap().to_owned();
    assert!(diff.contains(&format!("+  - address: {}", old.address())), "{diff}");
}

#[tokio::test]
async fn bad_change_is_rejected_whole_with_positions() {
    let origin = Origin::text("good").await;
    let control = ControlPlane::start().await;
    let good = Resources::forward_to(origin.address());
    control.apply(&good).await;
    let proxy = control.proxy("p1", &[]).await;
    wait_for_text(&proxy, "/", "good").await;

    let bad = Resources::empty()
        .service("fine", &[origin.address()])
        .route("bad", "rules: [{backendRefs: [{name: originn, port: 80}]}]");
    let rejected = control.request("POST", "apply?path=mine.yaml", bad.text()).await;
    assert_eq!(rejected.status, 422, "{}", rejected.text());
    let rejection: Value = serde_json::from_str(&rejected.text()).unwrap();
    assert_eq!(rejection["refusals"][0]["file"], "mine.yaml");
    assert_eq!(rejection["refusals"][0]["object"], "HTTPRoute default/bad");
    let line = bad.text().lines().position(|line| line.contains("originn")).unwrap() + 1;
    assert_eq!(rejection["refusals"][0]["line"], line);
    assert!(rejection["refusals"][0]["hint"].as_str().unwrap().contains("origin"), "{rejection}");
    assert_eq!(
        control.request("GET", "resources/ServiceEntry/default/fine", "").await.status,
        404,
        "no part of the change is committed"
    );

    for (text, expected) in [
        ("kind: [", 422),
        ("kind: Sevice\napiVersion: weir.dev/v1alpha1\n", 422),
        ("kind: ServiceEntry\napiVersion: weir.dev/v1alpha1\nmetadata: {name: x}\nspec: {prts: []}\n", 422),
    ] {
        let response = control.request("POST", "apply", text).await;
        let rejections = serde_json::from_str::<Value>(&response.text()).unwrap()["refusals"].as_array().unwrap().len();
        assert_eq!((response.status, rejections > 0), (expected, true), "{text}: {}", response.text());
    }
    // An object that others refer to cannot be deleted.
    let needed = control.request("DELETE", "resources/ServiceEntry/default/origin", "").await;
    assert_eq!(needed.status, 422, "{}", needed.text());
    assert!(needed.text().contains("HTTPRoute default/everything"), "{}", needed.text());
    let file =
        "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {name: f}\nspec: {module: {file: /etc/passwd}}\n";
    let response = control.request("POST", "apply", file).await;
    assert_eq!(response.status, 422, "{}", response.text());
    assert_eq!(control.get("revisions").await.as_array().unwrap().len(), 1);
    wait_for_text(&proxy, "/", "good").await;
}

#[tokio::test]
async fn dry_run_shows_changes_per_scope_and_commits_nothing() {
    let origin = Origin::text("origin").await;
    let control = ControlPlane::start().await;
    control.apply(&Resources::forward_to(origin.address())).await;
    let proxy = control.proxy("p1", &[]).await;
    wait_for_text(&proxy, "/", "origin").await;
    let other = Resources::forward_to(harness::own_address());
    let response = control.request("POST", "apply?dry_run=true", other.text()).await;
    let response: Value = serde_json::from_str(&response.text()).unwrap();
    assert_eq!((&response["revision"], &response["dryRun"]), (&json!(1), &json!(true)));
    let scope = &response["scopes"][0];
    assert_eq!(scope["proxies"], json!(["p1"]));
    assert_eq!(scope["resources"].as_array().unwrap().len(), 1, "{scope}");
    assert_eq!(scope["resources"][0]["name"], "default/origin:80");
    wait_for_text(&proxy, "/", "origin").await;
    assert_eq!(control.get("revisions").await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn stale_expected_revision_is_conflict() {
    let control = ControlPlane::start().await;
    let resources = Resources::new();
    control.apply(&resources).await;
    let late = control.request("POST", "apply?expected_revision=0", resources.text()).await;
    assert_eq!(late.status, 409, "{}", late.text());
    let good = control.request("POST", "apply?expected_revision=1", resources.text()).await;
    assert_eq!(good.status, 200, "{}", good.text());
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "all roles are checked against one control plane")]
async fn roles_limit_api_requests_and_secrets_are_redacted() {
    const GUARD: &str = "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {name: guard, namespace: default}\n\
        spec:\n  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]\n  \
        module: {builtin: auth}\n  phase: Authn\n  \
        config: {apiKeys: {keys: [{id: me, key: let-me-in}]}, rules: [{name: all, action: allow}]}\n";
    let control = ControlPlane::start().await;
    control.apply(&Resources::new()).await;
    let make = async |body: Value| -> Value {
        let response = control.request("POST", "tokens", &body.to_string()).await;
        assert_eq!(response.status, 200, "{}", response.text());
        serde_json::from_str(&response.text()).unwrap()
    };
    let viewer = make(json!({"name": "v", "role": "viewer"})).await["secret"].as_str().unwrap().to_owned();
    let made = make(json!({"name": "e", "role": "editor", "namespaces": ["default"]})).await;
    let editor = made["secret"].as_str().unwrap().to_owned();
    let status_as = async |token: Option<&str>, method: &str, path: &str, body: &str| {
        control.request_as(token, method, path, body).await.status
    };

    let elsewhere = GUARD.replace("namespace: default", "namespace: other");
    assert_eq!(status_as(Some(&editor), "POST", "apply", GUARD).await, 200);
    assert_eq!(status_as(Some(&editor), "POST", "apply", &elsewhere).await, 403, "another namespace");
    let for_all = GUARD.replace("targetRefs", "# targetRefs");
    assert_eq!(status_as(Some(&editor), "POST", "apply", &for_all).await, 403, "the whole mesh");
    let null = GUARD.replace("targetRefs:", "targetRefs: null #");
    assert_eq!(status_as(Some(&editor), "POST", "apply", &null).await, 403, "`targetRefs: null` is the whole mesh");
    let older = GUARD.replace("{name: guard,", "{name: guard, creationTimestamp: \"1970-01-01T00:00:00Z\",");
    assert_eq!(status_as(Some(&editor), "POST", "apply", &older).await, 200, "the creation time is the server's");
    let stored = control.request("GET", "resources/Filter/default/guard", "").await.text();
    assert!(stored.contains("creationTimestamp") && !stored.contains("1970-01-01"), "{stored}");
    assert_eq!(status_as(Some(&editor), "GET", "tokens", "").await, 403);
    assert_eq!(status_as(Some(&editor), "POST", "tokens", r#"{"name":"x","role":"admin"}"#).await, 403);
    assert_eq!(status_as(Some(&viewer), "GET", "resources", "").await, 200);
    for (method, path) in [
        ("POST", "apply"),
        ("POST", "delete"),
        ("PUT", "resources/Filter/default/guard"),
        ("DELETE", "resources/Filter/default/guard"),
        ("POST", "revisions/0/rollback"),
        ("POST", "tokens"),
        ("DELETE", "tokens/x"),
    ] {
        assert_eq!(status_as(Some(&viewer), method, path, GUARD).await, 403, "{method} {path} as a viewer");
        for wrong in [None, Some("weir_0_0"), Some(""), Some("x")] {
            assert_eq!(status_as(wrong, method, path, GUARD).await, 401, "{method} {path} as {wrong:?}");
        }
    }
    for path in ["resources", "revisions", "proxies", "status", "watch", "openapi.json", "tokens", "revisions/1"] {
        assert_eq!(status_as(None, "GET", path, "").await, 401, "{path}");
    }

    // Only tokens that may change an object see its secrets. They are in no diff, log or revision.
    let seen = |token: &str| {
        let token = token.to_owned();
        async { control.request_as(Some(&{ token }), "GET", "resources/Filter/default/guard", "").await.text() }
    };
    assert!(seen(&editor).await.contains("let-me-in") && !seen(&viewer).await.contains("let-me-in"));
    let revision = control.request("GET", "revisions/2", "").await.text();
    let changed = GUARD.replace("let-me-in", "another-key");
    let diff = control.request("POST", "apply?dry_run=true", &changed).await.text();
    let audit = std::fs::read_to_string(control.store().join("audit.log")).unwrap();
    for text in [&revision, &diff, &audit, &control.log()] {
        assert!(!text.contains("let-me-in") && !text.contains("another-key"), "{text}");
    }
    assert!(!audit.contains(editor.rsplit('_').next().unwrap()), "a token's secret is in the audit log");
    let lines: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let applied = lines.iter().find(|line| line["author"] == "e" && line["status"] == 200).unwrap();
    assert_eq!((&applied["objects"], &applied["revision"]), (&json!(["Filter default/guard"]), &json!(2)));
    assert!(lines.iter().any(|line| line["author"] == "v" && line["status"] == 403));
    assert!(lines.iter().all(|line| line["status"] != 401), "unauthenticated requests must not fill the audit log");
    let made_line =
        lines.iter().find(|line| line["request"] == "POST /api/v1/tokens" && line["status"] == 200).unwrap();
    assert!(made_line["objects"][0].as_str().unwrap().ends_with("`v` Viewer"), "{made_line}");

    let id = made["id"].as_str().unwrap();
    assert_eq!(control.request("DELETE", &format!("tokens/{id}"), "").await.status, 200);
    assert_eq!(status_as(Some(&editor), "GET", "resources", "").await, 401, "revoked");
}

#[tokio::test]
async fn failure_after_ack_is_shown_in_status() {
    let origin = Origin::text("origin").await;
    let control = ControlPlane::start().await;
    let good = Resources::forward_to(origin.address());
    control.apply(&good).await;
    let proxy = control.proxy("p1", &[]).await;
    wait_for_text(&proxy, "/", "origin").await;
    // The control plane does not start a filter with such a long start timeout.
    let filter = |config: &str| {
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {{name: guard, namespace: default}}\n\
             spec: {{module: {{builtin: auth}}, phase: Authn, limits: {{startTimeout: 6s}}, config: \
             {config}}}\n"
        )
    };
    control.apply(&good.clone().yaml(&filter("{rulez: []}"))).await;
    let object = wait_until_programmed(&control, "Filter/default/guard", "0/1 proxies, 1 rejected: p1: ").await;
    let message = object["status"]["programmed"]["message"].as_str().unwrap();
    assert!(message.contains("rulez"), "{message}");
    let proxies = control.get("proxies").await;
    assert_eq!(proxies[0]["failed"][0]["object"]["name"], "guard");
    assert_eq!(proxy.get("/").await.status, 503, "no request bypasses a filter that does not run");

    control.apply(&good.clone().yaml(&filter("{rules: [{name: all, action: allow}]}"))).await;
    wait_until_programmed(&control, "Filter/default/guard", "1/1 proxies").await;
    wait_until("a response with 200", async || (proxy.get("/").await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn filter_with_fail_open_that_does_not_load_is_skipped_and_reported() {
    let origin = Origin::text("origin").await;
    let control = ControlPlane::start().await;
    let good = Resources::forward_to(origin.address());
    // The control plane does not start a filter with such a long start timeout.
    let filter = |name: &str, fields: &str| {
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {{name: {name}, namespace: default}}\n\
             spec: {{module: {{builtin: auth}}, phase: Authn, limits: {{startTimeout: 6s}}, {fields}}}\n"
        )
    };
    let broken = filter("lost", "failurePolicy: FailOpen, config: {rulez: []}");
    let guard = filter(
        "guard",
        "config: {rules: [{name: no, action: deny, paths: [{prefix: /guarded}]}, {name: all, action: allow}]}",
    );
    control.apply(&good.clone().yaml(&broken).yaml(&guard)).await;
    let proxy = control.proxy("p1", &[]).await;
    wait_for_text(&proxy, "/", "origin").await;
    assert_eq!(proxy.get("/guarded").await.status, 403, "the other filters of the chain run");
    let object = wait_until_programmed(&control, "Filter/default/lost", "0/1 proxies, 1 rejected: p1: ").await;
    assert!(object["status"]["programmed"]["message"].as_str().unwrap().contains("rulez"), "{object}");
    wait_until_programmed(&control, "HTTPRoute/default/everything", "1/1 proxies").await;
    assert!(proxy.metric("weir_filter_skipped_streams_total{filter=\"default/lost\"}").await >= 2.0);
    let plugins = proxy.json("/plugins").await;
    let entry = plugins.as_array().unwrap().iter().find(|plugin| plugin["name"] == "default/lost").unwrap().clone();
    assert_eq!((&entry["state"], &entry["failurePolicy"]), (&json!("notLoaded"), &json!("Open")), "{entry}");

    let fixed = filter("lost", "failurePolicy: FailOpen, config: {rules: [{name: all, action: deny}]}");
    control.apply(&good.yaml(&fixed).yaml(&guard)).await;
    wait_until_programmed(&control, "Filter/default/lost", "1/1 proxies").await;
    wait_until("the filter that loads by now", async || (proxy.get("/").await.status == 403).then_some(())).await;
}

#[tokio::test]
async fn last_good_filter_serves_after_restart_of_proxy() {
    let origin = Origin::text("origin").await;
    let mut control = ControlPlane::start().await;
    let with_guard = |config: &str| {
        // The control plane does not start a filter with such a long start timeout.
        Resources::forward_to(origin.address()).yaml(&format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {{name: guard, namespace: default}}\n\
             spec: {{module: {{builtin: auth}}, phase: Authn, limits: {{startTimeout: 6s}}, config: {config}}}\n"
        ))
    };
    let good = "{rules: [{name: no, action: deny, paths: [{prefix: /guarded}]}, {name: all, action: allow}]}";
    control.apply(&with_guard(good)).await;
    let proxy = control.proxy("p1", &[]).await;
    wait_for_text(&proxy, "/", "origin").await;
    assert_eq!(proxy.get("/guarded").await.status, 403);
    wait_until_programmed(&control, "HTTPRoute/default/everything", "1/1 proxies").await;

    control.apply(&with_guard("{rulez: []}")).await;
    wait_until_programmed(&control, "Filter/default/guard", "0/1 proxies, 1 rejected: p1: ").await;
    wait_until_programmed(&control, "HTTPRoute/default/everything", "1/1 proxies").await;
    assert_eq!((proxy.get("/").await.status, proxy.get("/guarded").await.status), (200, 403));
    let folder = control.store().parent().unwrap().join("cache-p1/xds");
    wait_until("both versions on disk", async || {
        let file = std::fs::read_dir(&folder).ok()?.next()?.ok()?;
        let text = String::from_utf8_lossy(&std::fs::read(file.path()).ok()?).into_owned();
        (text.contains("rulez") && text.contains("/guarded")).then_some(())
    })
    .await;

    // With and without the control plane, the version serves that served before the restart.
    drop(proxy);
    let proxy = control.proxy("p1", &[]).await;
    wait_for_text(&proxy, "/", "origin").await;
    assert_eq!(proxy.get("/guarded").await.status, 403);
    wait_until_programmed(&control, "Filter/default/guard", "0/1 proxies, 1 rejected: p1: ").await;
    wait_until_programmed(&control, "HTTPRoute/default/everything", "1/1 proxies").await;
    let plugins = proxy.json("/plugins").await;
    assert!(plugins[0]["loadFailure"].as_str().is_some_and(|reason| reason.contains("rulez")), "{plugins}");
    control.kill().await;
    drop(proxy);
    let proxy = control.proxy("p1", &[]).await;
    wait_for_text(&proxy, "/", "origin").await;
    assert_eq!(proxy.get("/guarded").await.status, 403);
    control.restart().await;

    // A proxy that has never loaded the filter does not serve the route, and does not count.
    let other = control.proxy("p2", &[]).await;
    wait_until("503 without the filter", async || {
        other.find_listener("default/edge/http").await?;
        (other.get("/").await.status == 503).then_some(())
    })
    .await;
    let expected = "1/2 proxies, 1 rejected: p2: the filter default/guard is not loaded: ";
    wait_until_programmed(&control, "HTTPRoute/default/everything", expected).await;

    // The next version that loads serves on both.
    control.apply(&with_guard("{rules: [{name: all, action: allow}]}")).await;
    wait_until_programmed(&control, "Filter/default/guard", "2/2 proxies").await;
    wait_until_programmed(&control, "HTTPRoute/default/everything", "2/2 proxies").await;
    for proxy in [&proxy, &other] {
        wait_until("the new version", async || (proxy.get("/guarded").await.status == 200).then_some(())).await;
    }
}

#[tokio::test]
async fn restart_preserves_acknowledged_revisions() {
    let (first, second) = (Origin::text("first").await, Origin::text("second").await);
    let mut control = ControlPlane::start().await;
    control.apply(&Resources::forward_to(first.address())).await;
    let proxy = control.proxy("p1", &[]).await;
    wait_for_text(&proxy, "/", "first").await;
    control.kill().await;
    assert_eq!(proxy.get("/").await.text(), "first");
    control.restart().await;
    assert_eq!(control.get("revisions").await[0]["id"], 1);
    wait_until("the proxy to be back", async || (control.get("status").await["upToDate"] == 1).then_some(())).await;
    control.apply(&Resources::forward_to(second.address())).await;
    wait_for_text(&proxy, "/", "second").await;
}

#[tokio::test]
async fn proxy_gets_only_resources_of_its_gateway() {
    let (one, two) = (Origin::text("one").await, Origin::text("two").await);
    let control = ControlPlane::start().await;
    let resources =
        Resources::forward_to(one.address()).gateway("inner", &["http"]).service("hidden", &[two.address()]).yaml(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: inner, namespace: default}\n\
             spec: {parentRefs: [{name: inner}], rules: [{backendRefs: [{name: hidden, port: 80}]}]}\n",
        );
    control.apply(&resources).await;
    let proxy = control.proxy("p1", &["--gateway", "default/edge"]).await;
    wait_for_text(&proxy, "/", "one").await;
    let dump = proxy.page("/config_dump").await.text();
    assert!(!dump.contains("hidden") && !dump.contains("default/inner"), "{dump}");
    wait_until_programmed(&control, "ServiceEntry/default/origin", "1/1 proxies").await;
    wait_until_programmed(&control, "ServiceEntry/default/hidden", "no proxy is connected that needs it").await;
}

#[tokio::test]
async fn files_and_applied_resources_are_merged() {
    let (one, two) = (Origin::text("one").await, Origin::text("two").await);
    let files = Some(Resources::forward_to(one.address()));
    let control = ControlPlane::start_with(ControlOptions { files, ..ControlOptions::default() }).await;
    let proxy = control.proxy("p1", &[]).await;
    wait_for_text(&proxy, "/", "one").await;

    let special = "rules: [{matches: [{path: {type: Exact, value: /special}}], \
                   backendRefs: [{name: special, port: 80}]}]";
    control.apply(&Resources::empty().service("special", &[two.address()]).route("special", special)).await;
    wait_for_text(&proxy, "/special", "two").await;
    let taken = control.request("DELETE", "resources/ServiceEntry/default/origin", "").await;
    assert_eq!(taken.status, 409, "{}", taken.text());
    assert!(taken.text().contains("change it there"), "{}", taken.text());

    Resources::forward_to(two.address()).write_to(&control.config());
    wait_for_text(&proxy, "/", "two").await;
    wait_until_programmed(&control, "ServiceEntry/default/origin", "1/1 proxies").await;
    // A bad file changes nothing, and applied resources stay.
    std::fs::write(control.config().join("bad.yaml"), "kind: [").unwrap();
    wait_until("the rejection", async || control.log().contains("files rejected").then_some(())).await;
    assert_eq!(proxy.get("/special").await.text(), "two");
}

#[tokio::test]
async fn cli_applies_diffs_validates_and_rolls_back() {
    let (old, new) = (Origin::text("old").await, Origin::text("new").await);
    let control = ControlPlane::start().await;
    control.write("old.yaml", Resources::forward_to(old.address()).text());
    control.write("new.yaml", Resources::forward_to(new.address()).text());
    control.write("bad.yaml", Resources::forward_to(new.address()).text().replace("port: 80", "port: 800000"));
    let good = async |arguments: &[&str]| -> String {
        let (is_good, output, errors) = control.weir(arguments).await;
        assert!(is_good, "weir {arguments:?}: {output}{errors}");
        output
    };
    let output = good(&["apply", "-f", "old.yaml", "-m", "first"]).await;
    assert!(output.contains("ServiceEntry default/origin created") && output.ends_with("revision 1\n"), "{output}");
    let proxy = control.proxy("p1", &[]).await;
    wait_for_text(&proxy, "/", "old").await;
    let output = good(&["diff", "-f", "new.yaml"]).await;
    assert!(
        output.contains("ServiceEntry default/origin would be changed") && output.contains("(p1) would receive"),
        "{output}"
    );
    good(&["apply", "-f", "new.yaml"]).await;
    wait_for_text(&proxy, "/", "new").await;

    let (is_good, output, errors) = control.weir(&["apply", "-f", "bad.yaml"]).await;
    assert!(!is_good && output.is_empty() && errors.contains("bad.yaml:") && errors.contains("hint: "), "{errors}");
    let (is_good, _, errors) = control.weir(&["validate", "-f", "bad.yaml"]).await;
    assert!(!is_good && errors.contains("bad.yaml:"), "{errors}");
    assert!(good(&["validate", "-f", "new.yaml"]).await.starts_with("valid: "));
    let (is_good, _, errors) = control.weir(&["apply", "-f", "old.yaml", "-f", "bad.yaml"]).await;
    assert!(!is_good && errors.contains("bad.yaml:"), "positions are per file: {errors}");

    // The output of `get` can be applied again.
    let yaml = good(&["get", "ServiceEntry", "origin", "-o", "yaml"]).await;
    control.write("again.yaml", &yaml);
    assert!(good(&["apply", "-f", "again.yaml"]).await.contains("unchanged"), "{yaml}");
    assert!(good(&["history"]).await.lines().nth(2).is_some_and(|line| line.ends_with("first")));
    assert!(good(&["history", "2"]).await.contains("+  - address:"));
    good(&["rollback", "--to", "1"]).await;
    wait_for_text(&proxy, "/", "old").await;
    wait_until("the status", async || {
        let output = good(&["status"]).await;
        (output.contains("1 up to date") && output.contains("1/1 proxies") && output.contains("p1")).then_some(())
    })
    .await;
    good(&["delete", "-f", "old.yaml"]).await;
    assert_eq!(good(&["get", "-o", "json"]).await.trim(), "[]");
}

#[tokio::test]
async fn cli_accepts_former_verbs_without_listing_them() {
    let control = ControlPlane::start().await;
    for arguments in [
        &["revisions"][..],
        &["authority"],
        &["plugin", "list"],
        &["token", "make", "ci", "--expires-in-seconds", "5400"],
        &["token", "create", "ci-2", "--ttl", "1h30m"],
        &["ca", "status"],
        &["bundle", "list"],
    ] {
        let (is_good, output, errors) = control.weir(arguments).await;
        assert!(is_good, "weir {arguments:?}: {output}{errors}");
    }
    let tokens = control.get("tokens").await;
    let lifetime = |name: &str| {
        let token = tokens.as_array().unwrap().iter().find(|token| token["name"] == name).unwrap();
        let time = |field: &str| token[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        time("expires").duration_since(time("created")).as_secs()
    };
    assert_eq!((lifetime("ci"), lifetime("ci-2")), (5_400, 5_400));
    let (_, help, _) = control.weir(&["help"]).await;
    for former in ["revisions", "authority", "plugin"] {
        assert!(!help.lines().any(|line| line.trim_start().starts_with(former)), "{former} in {help}");
    }
}

/// Equal matches within one second: the revision decides, and the position in a request, not the time or the name.
#[tokio::test]
async fn route_of_earlier_revision_wins_over_equal_match() {
    let (first, second) = (Origin::text("first").await, Origin::text("second").await);
    let mut control = ControlPlane::start().await;
    let services = Resources::new().service("first", &[first.address()]).service("second", &[second.address()]);
    control.apply(&services).await;
    let add = |resources: Resources, name: &str, service: &str| {
        resources.route(name, &format!("rules: [{{backendRefs: [{{name: {service}, port: 80}}]}}]"))
    };
    let one = |name: &str, service: &str| add(Resources::empty(), name, service);
    control.apply(&one("zz", "first")).await;
    control.apply(&one("aa", "second")).await;
    let proxy = control.proxy("p1", &[]).await;
    wait_for_text(&proxy, "/", "first").await;
    let notes = async |control: &ControlPlane, name: &str| {
        let object = control.get(&format!("resources/HTTPRoute/default/{name}")).await;
        object["status"]["notes"].as_array().cloned().unwrap_or_default()
    };
    assert!(notes(&control, "zz").await.is_empty());
    let of_loser = json!(notes(&control, "aa").await).to_string();
    assert!(of_loser.contains("HTTPRoute default/zz has an equal match and precedes it"), "{of_loser}");

    // An update, a rollback and a restart do not change the order.
    control.apply(&one("zz", "second")).await;
    control.apply(&one("zz", "first")).await;
    let delete = async |control: &ControlPlane, name: &str| {
        let path = format!("resources/HTTPRoute/default/{name}");
        assert_eq!(control.request("DELETE", &path, "").await.status, 200);
    };
    delete(&control, "zz").await;
    wait_for_text(&proxy, "/", "second").await;
    let last = control.get("revisions").await[0]["id"].as_u64().unwrap();
    let back = control.request("POST", &format!("revisions/{}/rollback", last - 1), "").await;
    assert_eq!(back.status, 200, "{}", back.text());
    wait_for_text(&proxy, "/", "first").await;
    control.kill().await;
    control.restart().await;
    wait_for_text(&control.proxy("p2", &[]).await, "/", "first").await;

    // An object that is created again is the younger one.
    delete(&control, "zz").await;
    control.apply(&one("zz", "first")).await;
    let proxy = control.proxy("p3", &[]).await;
    wait_for_text(&proxy, "/", "second").await;
    assert!(!notes(&control, "zz").await.is_empty());
    delete(&control, "zz").await;
    delete(&control, "aa").await;
    control.apply(&add(one("zz", "first"), "aa", "second")).await;
    wait_for_text(&proxy, "/", "first").await;
}

/// Fifteen ServiceEntries, each a cluster.
fn services(names: std::ops::Range<usize>) -> String {
    names
        .map(|number| {
            format!(
                "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {{name: s{number}}}\nspec: {{ports: [{{name: http, \
                 port: 80, protocol: HTTP}}], endpoints: [{{address: \"127.0.0.1:1\"}}]}}\n---\n"
            )
        })
        .collect()
}

#[tokio::test]
async fn change_that_removes_most_clusters_needs_to_allow_it() {
    let control = ControlPlane::start().await;
    assert_eq!(control.request("POST", "apply", &services(0..15)).await.status, 200);
    let names = |names: std::ops::Range<usize>| {
        let name = |number| json!({"kind": "ServiceEntry", "namespace": "default", "name": format!("s{number}")});
        Value::from(names.map(name).collect::<Vec<_>>()).to_string()
    };
    let rejected = control.request("POST", "delete", &names(0..15)).await;
    assert_eq!(rejected.status, 409, "{}", rejected.text());
    for expected in ["would remove 15 of 15 clusters", "allowShrink=true"] {
        assert!(rejected.text().contains(expected), "{}", rejected.text());
    }
    // A dry run shows what would change, and a small change is made.
    assert_eq!(control.request("POST", "delete?dry_run=true", &names(0..15)).await.status, 200);
    assert_eq!(control.request("POST", "delete", &names(0..7)).await.status, 200);
    let rolled_back = control.request("POST", "revisions/0/rollback", "").await;
    assert_eq!(rolled_back.status, 200, "eight of eight are less than ten: {}", rolled_back.text());
    assert_eq!(control.request("POST", "apply", &services(0..15)).await.status, 200);
    assert_eq!(control.request("POST", "revisions/0/rollback", "").await.status, 409);
    control.write("all.yaml", services(0..15));
    let (deleted, _, error) = control.weir(&["delete", "-f", "all.yaml"]).await;
    assert!(!deleted && error.contains("--allow-shrink"), "{error}");
    let (deleted, _, error) = control.weir(&["delete", "-f", "all.yaml", "--allow-shrink"]).await;
    assert!(deleted, "{error}");
    assert_eq!(control.get("resources").await, json!([]));
}

#[tokio::test]
async fn files_that_lose_most_of_the_mesh_are_published_after_a_while() {
    let files = Resources::empty().yaml(&services(0..15));
    let control = ControlPlane::start_with(ControlOptions { files: Some(files), ..ControlOptions::default() }).await;
    let entries = async || control.get("resources?kind=ServiceEntry").await.as_array().unwrap().len();
    assert_eq!(entries().await, 15);
    let emptied = tokio::time::Instant::now();
    for entry in std::fs::read_dir(control.config()).unwrap() {
        std::fs::write(entry.unwrap().path(), "").unwrap();
    }
    control.wait_for_log("would remove 15 of 15 clusters").await;
    assert_eq!(entries().await, 15, "the last configuration stays");
    wait_until("most of the delay", async || (emptied.elapsed().as_secs() > 20).then_some(())).await;
    control.wait_for_log("files published although most of the mesh is gone from them").await;
    assert_eq!(entries().await, 0);
    assert!(emptied.elapsed() >= std::time::Duration::from_secs(29), "{:?}", emptied.elapsed());
}

#[tokio::test]
async fn running_control_plane_is_backed_up_and_restored_elsewhere() {
    let control = ControlPlane::start().await;
    assert_eq!(control.request("POST", "apply", &services(0..3)).await.status, 200);
    let (written, shown, error) = control.weir(&["backup", "all.backup"]).await;
    assert!(written && shown.contains("weir-control check --backup all.backup"), "{error}");
    let file = control.folder().join("all.backup");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let viewer = control.request("POST", "tokens", r#"{"name": "v", "role": "viewer"}"#).await;
    let viewer: Value = serde_json::from_str(&viewer.text()).unwrap();
    assert_eq!(control.request_as(viewer["secret"].as_str(), "GET", "backup", "").await.status, 403);
    let checked = control.maintain(&["check", "--backup", "all.backup"]).await;
    assert!(checked.0 && checked.1.contains("at revision 1"), "{}", checked.1);

    let options = ControlOptions { admin_token: Some(control.admin_token()), ..ControlOptions::default() };
    let mut other = ControlPlane::not_started(options).await;
    let restored = other.maintain(&["restore", file.to_str().unwrap()]).await;
    assert!(restored.0, "{}", restored.1);
    other.restart().await;
    let roots = async |control: &ControlPlane| control.get("authority").await["roots"].clone();
    assert_eq!(roots(&other).await, roots(&control).await);
    let names = async |control: &ControlPlane| {
        let found = control.get("resources").await;
        found.as_array().unwrap().iter().map(|object| object["metadata"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&other).await, names(&control).await);
    // A cut file is never restored.
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let refused = other.maintain(&["restore", "--replace", file.to_str().unwrap()]).await;
    assert!(!refused.0 && refused.1.contains("of the backup is damaged"), "{}", refused.1);
}
