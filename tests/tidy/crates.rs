//! Imports between crates: which crates of this workspace one may depend on, and which libraries may not be in its
//! dependency tree at all.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::baseline::Fault;

/// The dependencies that one crate may have.
struct CrateRule {
    name: &'static str,
    /// Crates of this workspace that its manifest may name.
    ours: &'static [&'static str],
    /// Libraries that are nowhere in the tree of its normal dependencies.
    never: &'static [&'static str],
}

const RULES: [CrateRule; 13] = [
    CrateRule { name: "weir-host-abi", ours: &[], never: &["hyper", "tonic", "rustls", "tokio"] },
    CrateRule { name: "weir-model", ours: &[], never: &["tokio", "hyper", "tonic", "prost", "rustls", "wasmtime"] },
    CrateRule { name: "weir-resources", ours: &["weir-model"], never: &["tokio", "hyper", "tonic", "wasmtime"] },
    CrateRule { name: "weir-xds", ours: &["weir-model"], never: &["wasmtime"] },
    CrateRule { name: "weir-loader", ours: &["weir-host-abi", "weir-model"], never: &["hyper", "tonic"] },
    CrateRule { name: "weir-bundle", ours: &[], never: &["tokio", "hyper", "wasmtime"] },
    CrateRule { name: "weir-file-source", ours: &["weir-resources"], never: &["hyper", "tonic", "wasmtime"] },
    CrateRule { name: "weir-identity", ours: &["weir-model"], never: &["wasmtime"] },
    CrateRule {
        name: "weir-proxy",
        ours: &[
            "weir-file-source",
            "weir-host-abi",
            "weir-http1",
            "weir-identity",
            "weir-loader",
            "weir-resources",
            "weir-model",
            "weir-xds",
        ],
        never: &["redb", "proxy-wasm"],
    },
    CrateRule { name: "weir-http1", ours: &[], never: &["hyper", "tonic", "wasmtime"] },
    CrateRule {
        name: "weir-control",
        ours: &[
            "weir-bundle",
            "weir-file-source",
            "weir-host-abi",
            "weir-identity",
            "weir-loader",
            "weir-resources",
            "weir-model",
            "weir-xds",
        ],
        never: &["proxy-wasm"],
    },
    CrateRule {
        name: "weir-cli",
        ours: &["weir-bundle", "weir-file-source", "weir-model", "weir-resources"],
        never: &["tokio", "tonic", "hyper", "wasmtime"],
    },
    CrateRule { name: "weir-sdk", ours: &[], never: &["tokio", "hyper", "wasmtime"] },
];

/// Rule of the filters in `plugins/` and `examples/`, which use the public SDK and nothing else.
const FILTER_RULE: CrateRule =
    CrateRule { name: "", ours: &["weir-sdk"], never: &["tokio", "hyper", "wasmtime", "weir-host-abi"] };

/// Reports crates of this workspace that a manifest must not name, and libraries that a crate must not pull in.
pub(crate) fn check_arrows(root: &Path, faults: &mut Vec<Fault>) {
    let metadata = cargo(root, &["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).expect("cargo metadata is JSON");
    for package in metadata["packages"].as_array().expect("a list of packages") {
        let name = package["name"].as_str().unwrap_or_default();
        let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap_or_default());
        let manifest = manifest.strip_prefix(root).unwrap_or(&manifest).display().to_string();
        let is_filter = manifest.starts_with("plugins/") || manifest.starts_with("examples/");
        let rule = RULES.iter().find(|rule| rule.name == name).or(is_filter.then_some(&FILTER_RULE));
        let Some(rule) = rule else { continue };
        let dependencies = package["dependencies"].as_array().expect("a list of dependencies");
        let direct = dependencies.iter().filter(|dependency| dependency["kind"].is_null());
        let direct: Vec<&str> = direct.filter_map(|dependency| dependency["name"].as_str()).collect();
        let tree =
            cargo(root, &["tree", "--package", name, "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
        for import in wrong_imports(rule, &direct, &tree) {
            let message = format!("{name} must not depend on {import}, itself or through another crate");
            faults.push(Fault::new(&manifest, 1, &format!("crate {name} {import}"), message));
        }
    }
}

/// Returns what `rule` forbids: `direct` are the names in the manifest, `tree` has a line for each package of the tree.
fn wrong_imports<'a>(rule: &CrateRule, direct: &[&'a str], tree: &'a str) -> Vec<&'a str> {
    let wrong_ours = direct.iter().copied().filter(|name| name.starts_with("weir-") && !rule.ours.contains(name));
    let all = tree.lines().filter_map(|line| line.split_whitespace().next());
    let mut wrong: Vec<&str> = wrong_ours.chain(all.filter(|name| rule.never.contains(name))).collect();
    wrong.sort_unstable();
    wrong.dedup();
    wrong
}

fn cargo(root: &Path, arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(arguments).current_dir(root).output().expect("cargo runs");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints text")
}

#[test]
fn forbidden_crate_is_a_fault_directly_and_through_others() {
    let rule = CrateRule { name: "a", ours: &["weir-model"], never: &["tokio"] };
    let tree = "a v0.1.0 (/a)\nweir-model v0.1.0\nh2 v0.4.0\ntokio v1.0.0\ntokio v1.0.0 (*)\n";
    assert_eq!(wrong_imports(&rule, &["weir-model", "weir-xds", "h2"], tree), ["tokio", "weir-xds"]);
    assert_eq!(wrong_imports(&rule, &["weir-model"], "a v0.1.0\nweir-model v0.1.0\n"), [""; 0]);
}
