//! Filters pushed to the control plane: tried before they are kept, signed by whom it trusts, named by Filters, and deleted
//! when none names them. What a Filter says to its module is tried before any proxy hears of it.

use harness::{ControlOptions, ControlPlane, Origin, Proxy, Resources, module_of_wat, test_filter, until};
use serde_json::{Value, json};
use weir_bundle::{Bundle, SigningKey};

/// The test filter as a bundle; it takes no configuration but one in JSON.
fn bundle(manifest: &Value) -> Vec<u8> {
    let mut manifest = manifest.clone();
    manifest.as_object_mut().unwrap().entry("example").or_insert_with(|| json!({}));
    let module = std::fs::read(test_filter()).unwrap();
    Bundle::read(&module).unwrap().with_manifest(&manifest.to_string()).unwrap()
}

fn signed(bundle: &[u8], key: &SigningKey) -> Vec<u8> {
    Bundle::read(bundle).unwrap().signed_with(key).unwrap()
}

fn manifest(version: &str) -> Value {
    json!({"name": "stamp", "version": version})
}

/// A Filter that stamps each response.
fn filter(version: &str, stamp: &str) -> Resources {
    Resources::nothing().yaml(&format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {{name: stamp}}\nspec:\n  module: {{bundle: stamp, \
         version: \"{version}\"}}\n  config: {{response_headers: [{{do: set, name: x-stamp, value: {stamp}}}]}}\n"
    ))
}

async fn is_stamped(proxy: &Proxy, stamp: &str) {
    until(&format!("the stamp {stamp}"), async || {
        proxy.find_listener("default/edge/http").await?;
        (proxy.get("/").await.header("x-stamp") == Some(stamp)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_pushed_serves_and_a_version_in_use_stays() {
    let origin = Origin::says("origin").await;
    let mut control = ControlPlane::start().await;
    let manifest_text =
        "name: stamp\nversion: 1.0.0\ndescription: Stamps.\nphase: Authz\nlimits: {memory: 4Mi}\nexample: {}\n";
    control.write("plugin.yaml", manifest_text);
    control.write("stamp.wasm", std::fs::read(test_filter()).unwrap());
    let (good, said, error) = control.weir(&["plugin", "push", "stamp.wasm", "--manifest", "plugin.yaml"]).await;
    assert!(good && said.contains("stamp 1.0.0 is kept"), "{said}{error}");
    let again = control.weir(&["plugin", "push", "stamp.wasm", "--manifest", "plugin.yaml"]).await;
    assert!(again.1.contains("was there already"), "{}{}", again.1, again.2);

    control.apply(&Resources::forward_to(origin.address())).await;
    control.apply(&filter("1.0.0", "one")).await;
    let proxy = control.proxy("p1", &[]).await;
    is_stamped(&proxy, "one").await;
    let dump = harness::Client::http1(proxy.admin()).await.get("/config_dump").await.text();
    assert!(dump.contains("4Mi"), "its manifest's limits hold: {dump}");

    let token = control.admin_token();
    assert_eq!(control.push(&token, "stamp", "2.0.0", bundle(&manifest("2.0.0"))).await.status, 200);
    control.apply(&filter("2.0.0", "two")).await;
    is_stamped(&proxy, "two").await;
    let used = control.ask("DELETE", "bundles/stamp/2.0.0", "").await;
    assert_eq!(used.status, 409, "{}", used.text());
    assert!(used.text().contains("is used by Filter default/stamp"), "{}", used.text());
    assert_eq!(control.ask("DELETE", "bundles/stamp/1.0.0", "").await.status, 200);
    let back = control.ask("POST", "revisions/2/rollback", "").await;
    assert_eq!(back.status, 422, "{}", back.text());
    assert!(back.text().contains("the bundle `stamp` has no version `1.0.0`"), "{}", back.text());

    control.kill().await;
    control.restart().await;
    let kept = control.get("bundles").await;
    assert_eq!((kept.as_array().unwrap().len(), &kept[0]["version"]), (1, &json!("2.0.0")), "{kept}");
    assert_eq!(kept[0]["usedBy"], json!(["default/stamp"]));
    // A proxy that comes now has never seen the module, and gets it from the store.
    is_stamped(&control.proxy("p2", &[]).await, "two").await;
    assert_eq!(control.ask("DELETE", "resources/Filter/default/stamp", "").await.status, 200);
    let (good, said, error) = control.weir(&["plugin", "delete", "stamp", "2.0.0"]).await;
    assert!(good && said.contains("stamp 2.0.0 deleted"), "{said}{error}");
    assert_eq!(control.get("bundles").await, json!([]));
    let audit = std::fs::read_to_string(control.store().join("audit.log")).unwrap();
    assert_eq!(audit.matches("Bundle stamp 2.0.0").count(), 2, "{audit}");
}

#[tokio::test]
async fn what_no_proxy_would_take_is_not_kept() {
    let control = ControlPlane::start().await;
    let admin = control.admin_token();
    let traps = module_of_wat(
        r#"(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
           (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)
           (func (export "proxy_on_configure") (param i32 i32) (result i32) unreachable))"#,
    );
    let no_filter = module_of_wat(r#"(module (func (export "f")))"#);
    let with =
        |module: &[u8], manifest: Value| Bundle::read(module).unwrap().with_manifest(&manifest.to_string()).unwrap();
    let test = std::fs::read(test_filter()).unwrap();
    let stamp = manifest("1");
    let cut = bundle(&stamp)[..5000].to_vec();
    for (what, bytes, reason) in [
        ("nothing", Vec::new(), "is no Wasm module"),
        ("half a file", cut, "is no Wasm module"),
        ("a large file", vec![0; 17 << 20], "is no Wasm module"),
        ("no manifest", test.clone(), "has no manifest"),
        ("another name", bundle(&json!({"name": "other", "version": "1"})), "says that it is other 1"),
        ("a field of its own", bundle(&json!({"name": "stamp", "version": "1", "x": 1})), "unknown field"),
        ("no filter", with(&no_filter, stamp.clone()), "proxy_abi_version"),
        ("one that traps", with(&traps, stamp.clone()), "unreachable"),
        ("another ABI", bundle(&json!({"name": "stamp", "version": "1", "abi": "0.1.0"})), "was built for 0.2.1"),
        ("no example, and it needs one", with(&test, stamp.clone()), "EOF while parsing"),
        (
            "a bad example",
            bundle(&json!({"name": "stamp", "version": "1", "example": {"no": 1}})),
            "unknown field `no`",
        ),
        (
            "an example that its schema refuses",
            bundle(&json!({"name": "stamp", "version": "1", "example": {"no": 1}, "configSchema": {
                "type": "object", "properties": {"tick_ms": {"type": "integer"}}, "additionalProperties": false}})),
            "example.no",
        ),
    ] {
        let answer = control.push(&admin, "stamp", "1", bytes).await;
        let text = answer.text();
        assert!(answer.status == 422 && (text.contains(reason)), "{what}: {} {text}", answer.status);
    }
    let largest = 64 << 20;
    assert_eq!(
        control.push(&admin, "stamp", "1", vec![0; largest + 1]).await.status,
        400,
        "more than a module may have"
    );
    assert_eq!(control.get("bundles").await, json!([]));

    // The same name and version are the same module for ever; who may push what.
    assert_eq!(control.push(&admin, "stamp", "1", bundle(&stamp)).await.status, 200);
    let mut other = stamp.clone();
    other["description"] = json!("another");
    let taken = control.push(&admin, "stamp", "1", bundle(&other)).await;
    assert_eq!(taken.status, 409, "{}", taken.text());
    for (role, namespaces, status) in [("viewer", None, 403), ("editor", Some(["shop"]), 403), ("editor", None, 200)] {
        let made = json!({"name": "t", "role": role, "namespaces": namespaces}).to_string();
        let made: Value = serde_json::from_str(&control.ask("POST", "tokens", &made).await.text()).unwrap();
        let token = made["secret"].as_str().unwrap();
        let answer = control.push(token, "stamp", "2", bundle(&manifest("2"))).await;
        assert_eq!(answer.status, status, "{role}: {}", answer.text());
        if namespaces.is_some() {
            let own = bundle(&json!({"name": "shop.stamp", "version": "1"}));
            assert_eq!(control.push(token, "shop.stamp", "1", own).await.status, 200);
            assert_eq!(control.ask_as(Some(token), "DELETE", "bundles/stamp/1", "").await.status, 403);
        }
    }
    let nobody = control.push("weir_x_y", "stamp", "3", bundle(&manifest("3"))).await;
    assert_eq!(nobody.status, 401);
}

#[tokio::test]
async fn what_a_filter_would_not_take_is_refused_when_it_is_applied() {
    let origin = Origin::says("origin").await;
    let control = ControlPlane::start().await;
    let schema = json!({"type": "object", "properties": {"response_headers": {"type": "array"}},
        "additionalProperties": false});
    let stamp = json!({"name": "stamp", "version": "1.0.0", "configSchema": schema});
    assert_eq!(control.push(&control.admin_token(), "stamp", "1.0.0", bundle(&stamp)).await.status, 200);
    control.apply(&Resources::forward_to(origin.address())).await;
    control.apply(&filter("1.0.0", "one")).await;
    let proxy = control.proxy("p1", &[]).await;
    is_stamped(&proxy, "one").await;
    let good = filter("1.0.0", "two");
    for (bad, line, field, reason) in [
        (good.text().replace("response_headers", "response_hdrs"), 6, "spec.config.response_hdrs", "did you mean"),
        (good.text().replace("do: set", "do: sett"), 6, "spec.config", "unknown variant `sett`"),
        (good.text().replace("1.0.0", "1.0.1"), 5, "spec.module.bundle", "there is 1.0.0"),
        (good.text().replace("bundle: stamp", "bundle: stmp"), 5, "spec.module.bundle", "did you mean `stamp`"),
        (good.text().replace(", version: \"1.0.0\"", ""), 5, "spec.module.version", "version: 1.2.0"),
    ] {
        let answer = control.ask("POST", "apply?path=mine.yaml", &bad).await;
        let text = answer.text();
        let refusal = &serde_json::from_str::<Value>(&text).unwrap()["refusals"][0];
        let place = (refusal["file"].as_str(), refusal["line"].as_u64(), refusal["field"].as_str());
        assert_eq!(place, (Some("mine.yaml"), Some(line), Some(field)), "{bad}\n{text}");
        assert!(answer.status == 422 && text.contains(reason), "{bad}\n{text}");
    }
    is_stamped(&proxy, "one").await;
    assert_eq!(control.get("revisions").await.as_array().unwrap().len(), 2, "nothing of it was kept");
    assert!(!proxy.log().contains("refused"), "no proxy has heard of it: {}", proxy.log());
}

#[tokio::test]
async fn only_bundles_of_trusted_signers_are_taken() {
    let (ours, theirs) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("signers.pem");
    std::fs::write(&keys, ours.public().to_pem()).unwrap();
    let arguments = vec!["--trusted-signers".to_owned(), keys.to_string_lossy().into_owned()];
    let mut control = ControlPlane::start_with(ControlOptions { arguments, ..ControlOptions::default() }).await;
    let admin = control.admin_token();
    let plain = bundle(&manifest("1"));
    let good = signed(&plain, &ours);
    let mut changed = good.clone();
    changed[2000] ^= 1;
    for (bytes, reason) in [
        (plain.clone(), "is not signed"),
        (signed(&plain, &theirs), "whom nobody trusts here"),
        (changed, "a signature is not of this bundle"),
    ] {
        let answer = control.push(&admin, "stamp", "1", bytes).await;
        assert!(answer.status == 422 && answer.text().contains(reason), "{reason}: {}", answer.text());
    }
    assert!(!control.log().contains("a bundle was pushed"));
    assert_eq!(control.push(&admin, "stamp", "1", good.clone()).await.status, 200);
    let fewer = control.push(&admin, "stamp", "1", plain).await;
    assert!(fewer.status != 200, "a signature that is there cannot be taken away: {}", fewer.text());
    let origin = Origin::says("origin").await;
    control.apply(&Resources::forward_to(origin.address())).await;
    control.apply(&filter("1", "one")).await;
    let proxy = control.proxy("p1", &[]).await;
    is_stamped(&proxy, "one").await;
    // A second signature: the same module, another file, told at once.
    let twice = control.push(&admin, "stamp", "1", signed(&good, &theirs)).await;
    assert_eq!(twice.status, 200, "{}", twice.text());
    assert_eq!(control.get("bundles").await[0]["signers"].as_array().unwrap().len(), 2);
    until("the other file in use", async || (control.get("status").await["upToDate"] == 1).then_some(())).await;
    is_stamped(&proxy, "one").await;

    // Nobody whom it trusts now has signed what is in use: it says so, and tells nothing.
    control.kill().await;
    std::fs::write(&keys, SigningKey::generate().unwrap().public().to_pem()).unwrap();
    control.try_restart();
    assert!(!control.ended().await.success());
    let log = control.log();
    assert!(log.contains("the bundle `stamp` 1 is signed by") && log.contains("whom nobody trusts here"), "{log}");
    is_stamped(&proxy, "one").await;
}

#[tokio::test]
async fn bundles_are_made_and_signed_by_hand() {
    let control = ControlPlane::start().await;
    control.write("plugin.yaml", "name: stamp\nversion: \"1\"\nexample: {}\n");
    control.write("stamp.wasm", std::fs::read(test_filter()).unwrap());
    let run = async |arguments: &[&str], expected: &str| {
        let (_, said, error) = control.weir(&[&["plugin"], arguments].concat()).await;
        let said = said + &error;
        assert!(said.contains(expected), "{arguments:?}: {said}");
        said
    };
    let folder = control.store().parent().unwrap().to_owned();
    let public = run(&["key", "my.key"], "ed25519:").await;
    run(&["key", "my.key"], "cannot be made").await;
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(folder.join("my.key")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    run(&["pack", "stamp.wasm", "--manifest", "plugin.yaml"], "stamp-1.wasm is the bundle stamp 1").await;
    run(&["sign", "stamp-1.wasm", "--key", "my.key.pub"], "not a PRIVATE KEY").await;
    run(&["sign", "stamp-1.wasm", "--key", "my.key"], "is signed by ed25519:").await;
    run(&["sign", "stamp-1.wasm", "--key", "my.key"], "there is a signature of").await;
    run(&["inspect", "stamp-1.wasm"], public.trim()).await;
    run(&["push", "stamp-1.wasm", "--dry-run"], "would be kept").await;
    assert_eq!(control.get("bundles").await, json!([]));
    run(&["push", "stamp-1.wasm"], "is kept").await;
    run(&["push", "stamp.wasm", "--manifest", "plugin.yaml"], "is signed by others too").await;
    run(&["list"], "stamp").await;
    run(&["delete", "stamp", "1"], "deleted").await;
    run(&["delete", "stamp", "1"], "there is no bundle stamp 1").await;
    run(&["push", "stamp.wasm"], "has no manifest").await;
}
