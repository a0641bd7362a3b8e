//! Bundles in the control plane. They are started before they are stored, signatures are verified, Filters use them,
//! and unused ones can be deleted. A Filter's configuration is validated before it is pushed to a proxy.

use harness::{ControlOptions, ControlPlane, Origin, Proxy, Resources, test_filter, wait_until, wasm_from_wat};
use serde_json::{Value, json};
use weir_bundle::{Bundle, SigningKey};

/// Returns the test filter as a bundle. Its example is `{}` unless the manifest has one.
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

/// Returns a Filter that adds `x-stamp` to each response.
fn filter(version: &str, stamp: &str) -> Resources {
    Resources::empty().yaml(&format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {{name: stamp}}\nspec:\n  module: {{bundle: stamp, \
         version: \"{version}\"}}\n  config: {{response_headers: [{{do: set, name: x-stamp, value: {stamp}}}]}}\n"
    ))
}

async fn wait_for_stamp(proxy: &Proxy, stamp: &str) {
    wait_until(&format!("the stamp {stamp}"), async || {
        proxy.find_listener("default/edge/http").await?;
        (proxy.get("/").await.header("x-stamp") == Some(stamp)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn pushed_bundle_is_served_and_not_deleted_while_used() {
    let origin = Origin::text("origin").await;
    let mut control = ControlPlane::start().await;
    let manifest_text =
        "name: stamp\nversion: 1.0.0\ndescription: Stamps.\nphase: Authz\nlimits: {memory: 4Mi}\nexample: {}\n";
    control.write("plugin.yaml", manifest_text);
    control.write("stamp.wasm", std::fs::read(test_filter()).unwrap());
    let (good, output, error) = control.weir(&["bundle", "push", "stamp.wasm", "--manifest", "plugin.yaml"]).await;
    assert!(good && output.contains("stamp 1.0.0 is stored"), "{output}{error}");
    let again = control.weir(&["bundle", "push", "stamp.wasm", "--manifest", "plugin.yaml"]).await;
    assert!(again.1.contains("was there already"), "{}{}", again.1, again.2);

    control.apply(&Resources::forward_to(origin.address())).await;
    control.apply(&filter("1.0.0", "one")).await;
    let proxy = control.proxy("p1", &[]).await;
    wait_for_stamp(&proxy, "one").await;
    let dump = harness::Client::http1(proxy.admin()).await.get("/config_dump").await.text();
    assert!(dump.contains("4Mi"), "the limits of its manifest are used: {dump}");

    let token = control.admin_token();
    assert_eq!(control.push(&token, "stamp", "2.0.0", bundle(&manifest("2.0.0"))).await.status, 200);
    control.apply(&filter("2.0.0", "two")).await;
    wait_for_stamp(&proxy, "two").await;
    let used = control.request("DELETE", "bundles/stamp/2.0.0", "").await;
    assert_eq!(used.status, 409, "{}", used.text());
    assert!(used.text().contains("is used by Filter default/stamp"), "{}", used.text());
    assert_eq!(control.request("DELETE", "bundles/stamp/1.0.0", "").await.status, 200);
    let back = control.request("POST", "revisions/2/rollback", "").await;
    assert_eq!(back.status, 422, "{}", back.text());
    assert!(back.text().contains("the bundle `stamp` has no version `1.0.0`"), "{}", back.text());

    control.kill().await;
    control.restart().await;
    let stored = control.get("bundles").await;
    assert_eq!((stored.as_array().unwrap().len(), &stored[0]["version"]), (1, &json!("2.0.0")), "{stored}");
    assert_eq!(stored[0]["usedBy"], json!(["default/stamp"]));
    // A new proxy fetches the module from the store.
    wait_for_stamp(&control.proxy("p2", &[]).await, "two").await;
    assert_eq!(control.request("DELETE", "resources/Filter/default/stamp", "").await.status, 200);
    let (good, output, error) = control.weir(&["bundle", "delete", "stamp", "2.0.0"]).await;
    assert!(good && output.contains("stamp 2.0.0 deleted"), "{output}{error}");
    assert_eq!(control.get("bundles").await, json!([]));
    let audit = std::fs::read_to_string(control.store().join("audit.log")).unwrap();
    assert_eq!(audit.matches("Bundle stamp 2.0.0").count(), 2, "{audit}");
}

#[tokio::test]
async fn unusable_bundles_are_not_stored() {
    let control = ControlPlane::start().await;
    let admin = control.admin_token();
    let traps = wasm_from_wat(
        r#"(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
           (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)
           (func (export "proxy_on_configure") (param i32 i32) (result i32) unreachable))"#,
    );
    let no_filter = wasm_from_wat(r#"(module (func (export "f")))"#);
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
        ("another name", bundle(&json!({"name": "other", "version": "1"})), "names it other 1"),
        ("a field of its own", bundle(&json!({"name": "stamp", "version": "1", "x": 1})), "unknown field"),
        ("no filter", with(&no_filter, stamp.clone()), "proxy_abi_version"),
        ("one that traps", with(&traps, stamp.clone()), "unreachable"),
        ("another ABI", bundle(&json!({"name": "stamp", "version": "1", "abi": "0.1.0"})), "was built for 0.2.1"),
        ("no example for a filter that needs a configuration", with(&test, stamp.clone()), "EOF while parsing"),
        (
            "a bad example",
            bundle(&json!({"name": "stamp", "version": "1", "example": {"no": 1}})),
            "unknown field `no`",
        ),
        (
            "an example that does not match its schema",
            bundle(&json!({"name": "stamp", "version": "1", "example": {"no": 1}, "configSchema": {
                "type": "object", "properties": {"tick_ms": {"type": "integer"}}, "additionalProperties": false}})),
            "example.no",
        ),
    ] {
        let response = control.push(&admin, "stamp", "1", bytes).await;
        let text = response.text();
        assert!(response.status == 422 && (text.contains(reason)), "{what}: {} {text}", response.status);
    }
    let largest = 64 << 20;
    assert_eq!(
        control.push(&admin, "stamp", "1", vec![0; largest + 1]).await.status,
        400,
        "above the limit of a module"
    );
    assert_eq!(control.get("bundles").await, json!([]));

    // A name and version cannot be reused for another bundle; roles limit pushes.
    assert_eq!(control.push(&admin, "stamp", "1", bundle(&stamp)).await.status, 200);
    let mut other = stamp.clone();
    other["description"] = json!("another");
    let taken = control.push(&admin, "stamp", "1", bundle(&other)).await;
    assert_eq!(taken.status, 409, "{}", taken.text());
    for (role, namespaces, status) in [("viewer", None, 403), ("editor", Some(["shop"]), 403), ("editor", None, 200)] {
        let made = json!({"name": "t", "role": role, "namespaces": namespaces}).to_string();
        let made: Value = serde_json::from_str(&control.request("POST", "tokens", &made).await.text()).unwrap();
        let token = made["secret"].as_str().unwrap();
        let response = control.push(token, "stamp", "2", bundle(&manifest("2"))).await;
        assert_eq!(response.status, status, "{role}: {}", response.text());
        if namespaces.is_some() {
            let own = bundle(&json!({"name": "shop.stamp", "version": "1"}));
            assert_eq!(control.push(token, "shop.stamp", "1", own).await.status, 200);
            assert_eq!(control.request_as(Some(token), "DELETE", "bundles/stamp/1", "").await.status, 403);
        }
    }
    let unauthorized = control.push("weir_x_y", "stamp", "3", bundle(&manifest("3"))).await;
    assert_eq!(unauthorized.status, 401);
}

#[tokio::test]
async fn configuration_that_filter_rejects_is_not_applied() {
    let origin = Origin::text("origin").await;
    let control = ControlPlane::start().await;
    let schema = json!({"type": "object", "properties": {"response_headers": {"type": "array"}},
        "additionalProperties": false});
    let stamp = json!({"name": "stamp", "version": "1.0.0", "configSchema": schema});
    assert_eq!(control.push(&control.admin_token(), "stamp", "1.0.0", bundle(&stamp)).await.status, 200);
    control.apply(&Resources::forward_to(origin.address())).await;
    control.apply(&filter("1.0.0", "one")).await;
    let proxy = control.proxy("p1", &[]).await;
    wait_for_stamp(&proxy, "one").await;
    let good = filter("1.0.0", "two");
    for (bad, line, field, reason) in [
        (good.text().replace("response_headers", "response_hdrs"), 6, "spec.config.response_hdrs", "did you mean"),
        (good.text().replace("do: set", "do: sett"), 6, "spec.config", "unknown variant `sett`"),
        (good.text().replace("1.0.0", "1.0.1"), 5, "spec.module.bundle", "there is 1.0.0"),
        (good.text().replace("bundle: stamp", "bundle: stmp"), 5, "spec.module.bundle", "did you mean `stamp`"),
        (good.text().replace(", version: \"1.0.0\"", ""), 5, "spec.module.version", "version: 1.2.0"),
    ] {
        let response = control.request("POST", "apply?path=mine.yaml", &bad).await;
        let text = response.text();
        let rejection = &serde_json::from_str::<Value>(&text).unwrap()["refusals"][0];
        let position = (rejection["file"].as_str(), rejection["line"].as_u64(), rejection["field"].as_str());
        assert_eq!(position, (Some("mine.yaml"), Some(line), Some(field)), "{bad}\n{text}");
        assert!(response.status == 422 && text.contains(reason), "{bad}\n{text}");
    }
    wait_for_stamp(&proxy, "one").await;
    assert_eq!(control.get("revisions").await.as_array().unwrap().len(), 2, "rejected changes are not stored");
    assert!(!proxy.log().contains("rejected"), "rejected changes reach no proxy: {}", proxy.log());
}

#[tokio::test]
async fn unsigned_and_untrusted_bundles_are_rejected() {
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
        (signed(&plain, &theirs), "which are not in --trusted-signers"),
        (changed, "a signature is not of this bundle"),
    ] {
        let response = control.push(&admin, "stamp", "1", bytes).await;
        assert!(response.status == 422 && response.text().contains(reason), "{reason}: {}", response.text());
    }
    assert!(!control.log().contains("bundle stored"));
    assert_eq!(control.push(&admin, "stamp", "1", good.clone()).await.status, 200);
    let unsigned = control.push(&admin, "stamp", "1", plain).await;
    assert!(unsigned.status != 200, "a stored signature cannot be removed: {}", unsigned.text());
    let origin = Origin::text("origin").await;
    control.apply(&Resources::forward_to(origin.address())).await;
    control.apply(&filter("1", "one")).await;
    let proxy = control.proxy("p1", &[]).await;
    wait_for_stamp(&proxy, "one").await;
    // A second signature: the same module in another file, which is pushed at once.
    let cosigned = control.push(&admin, "stamp", "1", signed(&good, &theirs)).await;
    assert_eq!(cosigned.status, 200, "{}", cosigned.text());
    assert_eq!(control.get("bundles").await[0]["signers"].as_array().unwrap().len(), 2);
    wait_until("the other file in use", async || (control.get("status").await["upToDate"] == 1).then_some(())).await;
    wait_for_stamp(&proxy, "one").await;

    // No trusted key has signed the bundle in use: the control plane fails to start.
    control.kill().await;
    std::fs::write(&keys, SigningKey::generate().unwrap().public().to_pem()).unwrap();
    control.try_restart();
    assert!(!control.wait_for_exit().await.success());
    let log = control.log();
    assert!(
        log.contains("the bundle `stamp` 1 is signed by") && log.contains("which are not in --trusted-signers"),
        "{log}"
    );
    wait_for_stamp(&proxy, "one").await;
}

#[tokio::test]
async fn cli_builds_signs_and_pushes_bundles() {
    let control = ControlPlane::start().await;
    control.write("plugin.yaml", "name: stamp\nversion: \"1\"\nexample: {}\n");
    control.write("stamp.wasm", std::fs::read(test_filter()).unwrap());
    let run = async |arguments: &[&str], expected: &str| {
        let (_, output, error) = control.weir(&[&["bundle"], arguments].concat()).await;
        let output = output + &error;
        assert!(output.contains(expected), "{arguments:?}: {output}");
        output
    };
    let folder = control.store().parent().unwrap().to_owned();
    let public = run(&["keygen", "my.key"], "ed25519:").await;
    run(&["keygen", "my.key"], "cannot be made").await;
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(folder.join("my.key")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    run(&["build", "stamp.wasm", "--manifest", "plugin.yaml"], "stamp-1.wasm is the bundle stamp 1").await;
    run(&["sign", "stamp-1.wasm", "--key", "my.key.pub"], "not a PRIVATE KEY").await;
    run(&["sign", "stamp-1.wasm", "--key", "my.key"], "is signed by ed25519:").await;
    run(&["sign", "stamp-1.wasm", "--key", "my.key"], "there is a signature of").await;
    run(&["inspect", "stamp-1.wasm"], public.trim()).await;
    run(&["push", "stamp-1.wasm", "--dry-run"], "would be stored").await;
    assert_eq!(control.get("bundles").await, json!([]));
    run(&["push", "stamp-1.wasm"], "is stored").await;
    run(&["push", "stamp.wasm", "--manifest", "plugin.yaml"], "has more signatures").await;
    run(&["list"], "stamp").await;
    run(&["delete", "stamp", "1"], "deleted").await;
    run(&["delete", "stamp", "1"], "there is no bundle stamp 1").await;
    run(&["push", "stamp.wasm"], "has no manifest").await;
}
