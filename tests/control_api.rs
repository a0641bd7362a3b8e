//! The control plane's program: what is applied through its API or written into its folder reaches proxies; what is bad is
//! refused whole; what was acknowledged survives; who may do what.

use harness::{ControlOptions, ControlPlane, Origin, Proxy, Resources, until};
use serde_json::{Value, json};

/// Waits until a proxy answers with this text.
async fn says(proxy: &Proxy, path: &str, expected: &str) {
    until(&format!("{expected} at {path}"), async || {
        proxy.find_listener("default/edge/http").await?;
        (proxy.get(path).await.text() == expected).then_some(())
    })
    .await;
}

/// Waits until the status of an object has this message.
async fn is_programmed(control: &ControlPlane, object: &str, expected: &str) -> Value {
    until(&format!("`{expected}` of {object}"), async || {
        let found = control.get(&format!("resources/{object}")).await;
        let message = found["status"]["programmed"]["message"].as_str()?.to_owned();
        message.starts_with(expected).then_some(found)
    })
    .await
}

fn effects(answer: &Value) -> Vec<String> {
    let changes = answer["changes"].as_array().unwrap();
    let line = |it: &Value| format!("{} {} {}", it["kind"], it["name"], it["effect"]).replace('"', "");
    changes.iter().map(line).collect()
}

#[tokio::test]
async fn what_is_applied_serves_and_its_status_says_where() {
    let (old, new) = (Origin::says("old").await, Origin::says("new").await);
    let control = ControlPlane::start().await;
    let answer = control.apply(&Resources::forward_to(old.address())).await;
    assert_eq!(answer["revision"], 1);
    assert!(effects(&answer).iter().all(|effect| effect.ends_with("created")), "{answer}");
    let proxy = control.proxy("p1", &[]).await;
    says(&proxy, "/", "old").await;
    is_programmed(&control, "Service/default/origin", "1/1 proxies").await;

    let again = control.apply(&Resources::forward_to(old.address())).await;
    assert_eq!(again["revision"], 1, "nothing has changed");
    let answer = control.apply(&Resources::forward_to(new.address())).await;
    assert_eq!(answer["revision"], 2);
    says(&proxy, "/", "new").await;
    let object = is_programmed(&control, "Service/default/origin", "1/1 proxies").await;
    assert_eq!(object["status"]["revision"], 2);
    let proxies = control.get("proxies").await;
    assert_eq!((&proxies[0]["node"], &proxies[0]["program"]), (&json!("p1"), &json!("weir-proxy")));
    until("the proxy to be up to date", async || (control.get("status").await["upToDate"] == 1).then_some(())).await;

    let gone = control.ask("POST", "revisions/1/rollback?message=back", "").await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    says(&proxy, "/", "old").await;
    let revisions = control.get("revisions").await;
    assert_eq!(revisions[0]["action"], json!({"rollback": {"to": 1}}));
    assert_eq!(revisions[0]["message"], "back");
    let diff = control.get("revisions/3").await["changes"][0]["diff"].as_str().unwrap().to_owned();
    assert!(diff.contains(&format!("+  - address: {}", old.address())), "{diff}");
}

#[tokio::test]
async fn a_bad_change_is_refused_whole_and_says_where() {
    let origin = Origin::says("good").await;
    let control = ControlPlane::start().await;
    let good = Resources::forward_to(origin.address());
    control.apply(&good).await;
    let proxy = control.proxy("p1", &[]).await;
    says(&proxy, "/", "good").await;

    let bad = Resources::nothing()
        .service("fine", &[origin.address()])
        .route("bad", "rules: [{backendRefs: [{name: originn, port: 80}]}]");
    let refused = control.ask("POST", "apply?path=mine.yaml", bad.text()).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    let refusal: Value = serde_json::from_str(&refused.text()).unwrap();
    assert_eq!(refusal["refusals"][0]["file"], "mine.yaml");
    assert_eq!(refusal["refusals"][0]["object"], "HTTPRoute default/bad");
    let line = bad.text().lines().position(|line| line.contains("originn")).unwrap() + 1;
    assert_eq!(refusal["refusals"][0]["line"], line);
    assert!(refusal["refusals"][0]["hint"].as_str().unwrap().contains("origin"), "{refusal}");
    assert_eq!(control.ask("GET", "resources/Service/default/fine", "").await.status, 404, "nothing of it is there");

    for (text, expected) in [
        ("kind: [", 422),
        ("kind: Sevice\napiVersion: weir.dev/v1alpha1\n", 422),
        ("kind: Service\napiVersion: weir.dev/v1alpha1\nmetadata: {name: x}\nspec: {prts: []}\n", 422),
    ] {
        let answer = control.ask("POST", "apply", text).await;
        let refusals = serde_json::from_str::<Value>(&answer.text()).unwrap()["refusals"].as_array().unwrap().len();
        assert_eq!((answer.status, refusals > 0), (expected, true), "{text}: {}", answer.text());
    }
    // What others need cannot go.
    let needed = control.ask("DELETE", "resources/Service/default/origin", "").await;
    assert_eq!(needed.status, 422, "{}", needed.text());
    assert!(needed.text().contains("HTTPRoute default/everything"), "{}", needed.text());
    let file =
        "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {name: f}\nspec: {module: {file: /etc/passwd}}\n";
    let answer = control.ask("POST", "apply", file).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert_eq!(control.get("revisions").await.as_array().unwrap().len(), 1);
    says(&proxy, "/", "good").await;
}

#[tokio::test]
async fn a_dry_run_shows_what_each_proxy_would_get_and_changes_nothing() {
    let origin = Origin::says("origin").await;
    let control = ControlPlane::start().await;
    control.apply(&Resources::forward_to(origin.address())).await;
    let proxy = control.proxy("p1", &[]).await;
    says(&proxy, "/", "origin").await;
    let other = Resources::forward_to(harness::own_address());
    let answer = control.ask("POST", "apply?dry_run=true", other.text()).await;
    let answer: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!((&answer["revision"], &answer["dryRun"]), (&json!(1), &json!(true)));
    let scope = &answer["scopes"][0];
    assert_eq!(scope["proxies"], json!(["p1"]));
    assert_eq!(scope["resources"].as_array().unwrap().len(), 1, "{scope}");
    assert_eq!(scope["resources"][0]["name"], "default/origin:80");
    says(&proxy, "/", "origin").await;
    assert_eq!(control.get("revisions").await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_change_that_follows_another_one_is_a_conflict() {
    let control = ControlPlane::start().await;
    let resources = Resources::new();
    control.apply(&resources).await;
    let late = control.ask("POST", "apply?expected_revision=0", resources.text()).await;
    assert_eq!(late.status, 409, "{}", late.text());
    let good = control.ask("POST", "apply?expected_revision=1", resources.text()).await;
    assert_eq!(good.status, 200, "{}", good.text());
}

#[tokio::test]
async fn who_may_do_what() {
    const GUARD: &str = "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {name: guard, namespace: default}\n\
        spec:\n  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]\n  \
        module: {builtin: auth}\n  phase: Authn\n  \
        config: {apiKeys: {keys: [{id: me, key: let-me-in}]}, rules: [{name: all, action: allow}]}\n";
    let control = ControlPlane::start().await;
    control.apply(&Resources::new()).await;
    let make = async |body: Value| -> Value {
        let answer = control.ask("POST", "tokens", &body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_str(&answer.text()).unwrap()
    };
    let viewer = make(json!({"name": "v", "role": "viewer"})).await["secret"].as_str().unwrap().to_owned();
    let made = make(json!({"name": "e", "role": "editor", "namespaces": ["default"]})).await;
    let editor = made["secret"].as_str().unwrap().to_owned();
    let as_ = async |token: Option<&str>, method: &str, path: &str, body: &str| {
        control.ask_as(token, method, path, body).await.status
    };

    let elsewhere = GUARD.replace("namespace: default", "namespace: other");
    assert_eq!(as_(Some(&editor), "POST", "apply", GUARD).await, 200);
    assert_eq!(as_(Some(&editor), "POST", "apply", &elsewhere).await, 403, "another namespace");
    let for_all = GUARD.replace("targetRefs", "# targetRefs");
    assert_eq!(as_(Some(&editor), "POST", "apply", &for_all).await, 403, "the whole mesh");
    let null = GUARD.replace("targetRefs:", "targetRefs: null #");
    assert_eq!(as_(Some(&editor), "POST", "apply", &null).await, 403, "the whole mesh, in other words");
    let older = GUARD.replace("{name: guard,", "{name: guard, creationTimestamp: \"1970-01-01T00:00:00Z\",");
    assert_eq!(as_(Some(&editor), "POST", "apply", &older).await, 422, "older than it is");
    assert_eq!(as_(Some(&editor), "GET", "tokens", "").await, 403);
    assert_eq!(as_(Some(&editor), "POST", "tokens", r#"{"name":"x","role":"admin"}"#).await, 403);
    assert_eq!(as_(Some(&viewer), "GET", "resources", "").await, 200);
    for (method, path) in [
        ("POST", "apply"),
        ("POST", "delete"),
        ("PUT", "resources/Filter/default/guard"),
        ("DELETE", "resources/Filter/default/guard"),
        ("POST", "revisions/0/rollback"),
        ("POST", "tokens"),
        ("DELETE", "tokens/x"),
    ] {
        assert_eq!(as_(Some(&viewer), method, path, GUARD).await, 403, "{method} {path} as a viewer");
        for wrong in [None, Some("weir_0_0"), Some(""), Some("x")] {
            assert_eq!(as_(wrong, method, path, GUARD).await, 401, "{method} {path} as {wrong:?}");
        }
    }
    for path in ["resources", "revisions", "proxies", "status", "watch", "openapi.json", "tokens", "revisions/1"] {
        assert_eq!(as_(None, "GET", path, "").await, 401, "{path}");
    }

    // What is secret is shown to nobody who may not change it, and stands in no diff, log or dump.
    let seen = |token: &str| {
        let token = token.to_owned();
        async { control.ask_as(Some(&{ token }), "GET", "resources/Filter/default/guard", "").await.text() }
    };
    assert!(seen(&editor).await.contains("let-me-in") && !seen(&viewer).await.contains("let-me-in"));
    let revision = control.ask("GET", "revisions/2", "").await.text();
    let changed = GUARD.replace("let-me-in", "another-key");
    let diff = control.ask("POST", "apply?dry_run=true", &changed).await.text();
    let audit = std::fs::read_to_string(control.store().join("audit.log")).unwrap();
    for text in [&revision, &diff, &audit, &control.log()] {
        assert!(!text.contains("let-me-in") && !text.contains("another-key"), "{text}");
    }
    assert!(!audit.contains(editor.rsplit('_').next().unwrap()), "a token's secret is in the audit log");
    let lines: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let applied = lines.iter().find(|line| line["author"] == "e" && line["status"] == 200).unwrap();
    assert_eq!((&applied["objects"], &applied["revision"]), (&json!(["Filter default/guard"]), &json!(2)));
    assert!(lines.iter().any(|line| line["author"] == "v" && line["status"] == 403));
    assert!(lines.iter().all(|line| line["status"] != 401), "whoever has no token could fill the log");
    let made_line =
        lines.iter().find(|line| line["request"] == "POST /api/v1/tokens" && line["status"] == 200).unwrap();
    assert!(made_line["objects"][0].as_str().unwrap().ends_with("`v` Viewer"), "{made_line}");

    let id = made["id"].as_str().unwrap();
    assert_eq!(control.ask("DELETE", &format!("tokens/{id}"), "").await.status, 200);
    assert_eq!(as_(Some(&editor), "GET", "resources", "").await, 401, "revoked");
}

#[tokio::test]
async fn what_a_proxy_finds_out_after_it_accepted_is_in_the_status() {
    let origin = Origin::says("origin").await;
    let control = ControlPlane::start().await;
    let good = Resources::forward_to(origin.address());
    control.apply(&good).await;
    let proxy = control.proxy("p1", &[]).await;
    says(&proxy, "/", "origin").await;
    // The control plane does not try a filter that may take so long to start.
    let filter = |config: &str| {
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {{name: guard, namespace: default}}\n\
             spec: {{module: {{builtin: auth}}, phase: Authn, limits: {{startTime: 6s}}, config: \
             {config}}}\n"
        )
    };
    control.apply(&good.clone().yaml(&filter("{rulez: []}"))).await;
    let object = is_programmed(&control, "Filter/default/guard", "0/1 proxies, 1 refused: p1: ").await;
    let message = object["status"]["programmed"]["message"].as_str().unwrap();
    assert!(message.contains("rulez"), "{message}");
    let proxies = control.get("proxies").await;
    assert_eq!(proxies[0]["failed"][0]["object"]["name"], "guard");
    assert_eq!(proxy.get("/").await.status, 503, "nothing goes by a filter that does not run");

    control.apply(&good.clone().yaml(&filter("{rules: [{name: all, action: allow}]}"))).await;
    is_programmed(&control, "Filter/default/guard", "1/1 proxies").await;
    until("an answer again", async || (proxy.get("/").await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn it_starts_again_with_what_was_acknowledged_and_proxies_go_on() {
    let (first, second) = (Origin::says("first").await, Origin::says("second").await);
    let mut control = ControlPlane::start().await;
    control.apply(&Resources::forward_to(first.address())).await;
    let proxy = control.proxy("p1", &[]).await;
    says(&proxy, "/", "first").await;
    control.kill().await;
    assert_eq!(proxy.get("/").await.text(), "first");
    control.restart().await;
    assert_eq!(control.get("revisions").await[0]["id"], 1);
    until("the proxy to be back", async || (control.get("status").await["upToDate"] == 1).then_some(())).await;
    control.apply(&Resources::forward_to(second.address())).await;
    says(&proxy, "/", "second").await;
}

#[tokio::test]
async fn a_proxy_sees_what_its_gateway_leads_to_and_no_more() {
    let (one, two) = (Origin::says("one").await, Origin::says("two").await);
    let control = ControlPlane::start().await;
    let resources =
        Resources::forward_to(one.address()).gateway("inner", &["http"]).service("hidden", &[two.address()]).yaml(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: inner, namespace: default}\n\
             spec: {parentRefs: [{name: inner}], rules: [{backendRefs: [{name: hidden, port: 80}]}]}\n",
        );
    control.apply(&resources).await;
    let proxy = control.proxy("p1", &["--gateway", "default/edge"]).await;
    says(&proxy, "/", "one").await;
    let dump = proxy.page("/config_dump").await.text();
    assert!(!dump.contains("hidden") && !dump.contains("default/inner"), "{dump}");
    is_programmed(&control, "Service/default/origin", "1/1 proxies").await;
    is_programmed(&control, "Service/default/hidden", "no proxy is connected that needs it").await;
}

#[tokio::test]
async fn files_and_what_is_applied_are_served_together() {
    let (one, two) = (Origin::says("one").await, Origin::says("two").await);
    let files = Some(Resources::forward_to(one.address()));
    let control = ControlPlane::start_with(ControlOptions { files, ..ControlOptions::default() }).await;
    let proxy = control.proxy("p1", &[]).await;
    says(&proxy, "/", "one").await;

    let special = "rules: [{matches: [{path: {type: Exact, value: /special}}], \
                   backendRefs: [{name: special, port: 80}]}]";
    control.apply(&Resources::nothing().service("special", &[two.address()]).route("special", special)).await;
    says(&proxy, "/special", "two").await;
    let taken = control.ask("DELETE", "resources/Service/default/origin", "").await;
    assert_eq!(taken.status, 409, "{}", taken.text());
    assert!(taken.text().contains("change it there"), "{}", taken.text());

    Resources::forward_to(two.address()).write_to(&control.config());
    says(&proxy, "/", "two").await;
    is_programmed(&control, "Service/default/origin", "1/1 proxies").await;
    // A bad file changes nothing, and what is applied goes on being told.
    std::fs::write(control.config().join("bad.yaml"), "kind: [").unwrap();
    until("the refusal", async || control.log().contains("the files are refused").then_some(())).await;
    assert_eq!(proxy.get("/special").await.text(), "two");
}

#[tokio::test]
async fn the_tool_does_it_all() {
    let (old, new) = (Origin::says("old").await, Origin::says("new").await);
    let control = ControlPlane::start().await;
    control.write("old.yaml", Resources::forward_to(old.address()).text());
    control.write("new.yaml", Resources::forward_to(new.address()).text());
    control.write("bad.yaml", Resources::forward_to(new.address()).text().replace("port: 80", "port: 800000"));
    let good = async |arguments: &[&str]| -> String {
        let (is_good, said, errors) = control.weir(arguments).await;
        assert!(is_good, "weir {arguments:?}: {said}{errors}");
        said
    };
    let said = good(&["apply", "-f", "old.yaml", "-m", "first"]).await;
    assert!(said.contains("Service default/origin created") && said.ends_with("revision 1\n"), "{said}");
    let proxy = control.proxy("p1", &[]).await;
    says(&proxy, "/", "old").await;
    let said = good(&["diff", "-f", "new.yaml"]).await;
    assert!(said.contains("Service default/origin would be changed") && said.contains("(p1) would be told"), "{said}");
    good(&["apply", "-f", "new.yaml"]).await;
    says(&proxy, "/", "new").await;

    let (is_good, said, errors) = control.weir(&["apply", "-f", "bad.yaml"]).await;
    assert!(!is_good && said.is_empty() && errors.contains("bad.yaml:") && errors.contains("hint: "), "{errors}");
    let (is_good, _, errors) = control.weir(&["validate", "-f", "bad.yaml"]).await;
    assert!(!is_good && errors.contains("bad.yaml:"), "{errors}");
    assert!(good(&["validate", "-f", "new.yaml"]).await.starts_with("valid: "));
    let (is_good, _, errors) = control.weir(&["apply", "-f", "old.yaml", "-f", "bad.yaml"]).await;
    assert!(!is_good && errors.contains("bad.yaml:"), "each file has its own lines: {errors}");

    // What `get` prints can be applied again.
    let yaml = good(&["get", "Service", "origin", "-o", "yaml"]).await;
    control.write("again.yaml", &yaml);
    assert!(good(&["apply", "-f", "again.yaml"]).await.contains("unchanged"), "{yaml}");
    assert!(good(&["revisions"]).await.lines().nth(2).is_some_and(|line| line.ends_with("first")));
    assert!(good(&["revisions", "2"]).await.contains("+  - address:"));
    good(&["rollback", "1"]).await;
    says(&proxy, "/", "old").await;
    until("the status", async || {
        let said = good(&["status"]).await;
        (said.contains("1 up to date") && said.contains("1/1 proxies") && said.contains("p1")).then_some(())
    })
    .await;
    good(&["delete", "-f", "old.yaml"]).await;
    assert_eq!(good(&["get", "-o", "json"]).await.trim(), "[]");
}
