//! Modules that lie in an OCI registry are pushed from there: what its digest says, or nothing. Needs docker-registry; see
//! `cargo xtask test`.
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
    let arguments = [&["plugin", "push", reference], more].concat();
    let registry = reference.trim_start_matches("oci://").split('/').next().unwrap();
    let credentials = format!("{registry}={}", Registry::CREDENTIALS);
    let variables = [("WEIR_REGISTRY_CREDENTIALS", credentials.as_str())];
    let (good, said, error) = control.weir_with(&arguments, &variables).await;
    (good, said + &error)
}

#[tokio::test]
async fn a_module_of_a_registry_is_pushed_by_tag_and_by_digest() {
    let (registry, control) = (Registry::start().await, ControlPlane::start().await);
    let at = format!("oci://{}/filters/stamp", registry.address());
    registry.put("filters/stamp", "1.0.0", (WASM, bundle("1.0.0"))).await;
    let (good, said) = push(&control, &format!("{at}:1.0.0"), &[]).await;
    assert!(good && said.contains("stamp 1.0.0 is kept"), "{said}");

    // A module as it was built gets its manifest here.
    let digest =
        registry.put("filters/stamp", "bare", ("application/wasm", std::fs::read(test_filter()).unwrap())).await;
    control.write("plugin.yaml", "name: stamp\nversion: 2.0.0\nexample: {}\n");
    let (good, said) = push(&control, &format!("{at}@{digest}"), &["--manifest", "plugin.yaml"]).await;
    assert!(good && said.contains("stamp 2.0.0 is kept"), "{said}");
    assert_eq!(control.get("bundles").await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_not_what_it_should_be_is_refused() {
    let (registry, control) = (Registry::start().await, ControlPlane::start().await);
    let at = format!("oci://{}/filters/stamp", registry.address());
    let refused = async |reference: &str, expected: &str| {
        let (good, said) = push(&control, reference, &[]).await;
        assert!(!good && said.contains(expected), "{reference}: {said}");
    };
    refused(&format!("{at}:none"), "404").await;
    registry.put("filters/stamp", "image", ("application/vnd.oci.image.layer.v1.tar+gzip", vec![1; 100])).await;
    refused(&format!("{at}:image"), "container images are not taken apart").await;
    // What the registry gives is not what it has said.
    let bytes = bundle("3.0.0");
    registry.put("filters/stamp", "3.0.0", (WASM, bytes.clone())).await;
    let mut other = bytes.clone();
    *other.last_mut().unwrap() ^= 1;
    std::fs::write(registry.blob(&bytes), other).unwrap();
    refused(&format!("{at}:3.0.0"), "the registry gives something else").await;
    // A stranger.
    let reference = format!("{at}:3.0.0");
    let others = format!("ghcr.io={}", Registry::CREDENTIALS);
    for variables in [&[][..], &[("WEIR_REGISTRY_CREDENTIALS", others.as_str())]] {
        let (good, _, error) = control.weir_with(&["plugin", "push", &reference], variables).await;
        assert!(!good && error.contains("set WEIR_REGISTRY_CREDENTIALS"), "{error}");
    }
    assert_eq!(control.get("bundles").await, json!([]));
}
