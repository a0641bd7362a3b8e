//! Bundles and modules of an OCI registry are pushed to the control plane if they match their digest. Needs
//! docker-registry; see `cargo xtask test`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use harness::{ControlPlane, Registry, test_filter};
use serde_json::json;
use weir_bundle::Bundle;

const WASM: &str = "application/vnd.module.wasm.content.layer.v1+wasm";

fn bundle(version: &str) -> Vec<u8> {
    let manifest = json!({"name": "stamp", "version": version, "example": {}}).to_string();
    Bundle::read(&std::fs::read(test_filter()).unwrap()).unwrap().with_manifest(&manifest).unwrap()
}

async fn push(control: &ControlPlane, reference: &str, more: &[&str]) -> (bool, String) {
    let arguments = [&["bundle", "push", reference], more].concat();
    let registry = reference.trim_start_matches("oci://").split('/').next().unwrap();
    let credentials = format!("{registry}={}", Registry::CREDENTIALS);
    let variables = [("WEIR_REGISTRY_CREDENTIALS", credentials.as_str())];
    let (good, output, error) = control.weir_with(&arguments, &variables).await;
    (good, output + &error)
}

#[tokio::test]
async fn registry_module_is_pushed_by_tag_and_digest() {
    let (registry, control) = (Registry::start().await, ControlPlane::start().await);
    let at = format!("oci://{}/filters/stamp", registry.address());
    registry.put("filters/stamp", "1.0.0", WASM, bundle("1.0.0")).await;
    let (good, output) = push(&control, &format!("{at}:1.0.0"), &[]).await;
    assert!(good && output.contains("stamp 1.0.0 is stored"), "{output}");

    // A module without a manifest gets one from a file.
    let digest = registry.put("filters/stamp", "bare", "application/wasm", std::fs::read(test_filter()).unwrap()).await;
    control.write("plugin.yaml", "name: stamp\nversion: 2.0.0\nexample: {}\n");
    let (good, output) = push(&control, &format!("{at}@{digest}"), &["--manifest", "plugin.yaml"]).await;
    assert!(good && output.contains("stamp 2.0.0 is stored"), "{output}");
    assert_eq!(control.get("bundles").await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn unusable_registry_artifacts_are_rejected() {
    let (registry, control) = (Registry::start().await, ControlPlane::start().await);
    let at = format!("oci://{}/filters/stamp", registry.address());
    let assert_rejected = async |reference: &str, expected: &str| {
        let (good, output) = push(&control, reference, &[]).await;
        assert!(!good && output.contains(expected), "{reference}: {output}");
    };
    assert_rejected(&format!("{at}:none"), "404").await;
    registry.put("filters/stamp", "image", "application/vnd.oci.image.layer.v1.tar+gzip", vec![1; 100]).await;
    assert_rejected(&format!("{at}:image"), "container images are not taken apart").await;
    // The blob does not match its digest.
    let bytes = bundle("3.0.0");
    registry.put("filters/stamp", "3.0.0", WASM, bytes.clone()).await;
    let mut other = bytes.clone();
    *other.last_mut().unwrap() ^= 1;
    std::fs::write(registry.blob(&bytes), other).unwrap();
    assert_rejected(&format!("{at}:3.0.0"), "the registry gives something else").await;
    // No credentials for this registry.
    let reference = format!("{at}:3.0.0");
    let others = format!("ghcr.io={}", Registry::CREDENTIALS);
    for variables in [&[][..], &[("WEIR_REGISTRY_CREDENTIALS", others.as_str())]] {
        let (good, _, error) = control.weir_with(&["bundle", "push", &reference], variables).await;
        assert!(!good && error.contains("set WEIR_REGISTRY_CREDENTIALS"), "{error}");
    }
    assert_eq!(control.get("bundles").await, json!([]));
}
