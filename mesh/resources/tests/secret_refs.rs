//! References to values of Secrets, resolved in the snapshot.
#![expect(clippy::unwrap_used, reason = "a test may panic, in its own functions too")]

use std::path::PathBuf;

use serde_json::{Value, json};
use weir_model::{PluginName, Rejection, ResourceId, ResourceKind};
use weir_resources::{Compiled, Compiler, SourceFile};

const RESOURCES: &str = "
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {api-key: plain-key}
data: {encoded: ZW5jb2RlZA==, api-key: b3ZlcnJpZGRlbg==}
---
apiVersion: weir.dev/v1alpha1
kind: Filter
metadata: {name: f}
spec:
  module: {builtin: auth}
  config: {a: {secretRef: {name: keys, key: api-key}}, b: [{c: {secretRef: {name: keys, key: encoded}}}], d: 1}
  vm:
    config: {secretRef: {name: keys, key: encoded}}
    environment: {Z: text, A: {secretRef: {name: keys, key: api-key}}}
---
apiVersion: weir.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: p}
spec:
  credentials: {apiKeys: {keys: [{id: a, key: {secretRef: {name: keys, key: api-key}}}]}}
";

fn compile(text: &str) -> Compiled {
    let file = SourceFile { path: PathBuf::from("mesh.yaml"), text: text.into() };
    Compiler::new().compile(&[file]).unwrap()
}

/// Returns the configuration of a plugin.
fn configuration(compiled: &Compiled, name: &str) -> Value {
    let plugin = &compiled.snapshot.plugins[&PluginName::new(name).unwrap()];
    serde_json::from_slice(&plugin.configuration).unwrap()
}

#[test]
fn references_are_replaced_by_values() {
    let compiled = compile(RESOURCES);
    assert_eq!(configuration(&compiled, "default/f"), json!({"a": "plain-key", "b": [{"c": "encoded"}], "d": 1}));
    let keys = json!([{"id": "a", "key": "plain-key"}]);
    assert_eq!(configuration(&compiled, "default/access:p")["apiKeys"]["keys"], keys);
    let vm = &compiled.snapshot.plugins[&PluginName::new("default/f").unwrap()].vm;
    assert_eq!(&*vm.configuration, b"encoded");
    let environment: Vec<(&str, &str)> = vm.environment.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(environment, [("A", "plain-key"), ("Z", "text")]);
    assert!(compiled.snapshot.secrets.is_empty(), "an Opaque Secret is sent to no proxy");
}

#[test]
fn new_value_changes_the_plugins_that_refer_to_it() {
    let file = |text: &str| [SourceFile { path: PathBuf::from("mesh.yaml"), text: text.into() }];
    let mut compiler = Compiler::new();
    compiler.compile(&file(RESOURCES)).unwrap();
    let changed = compiler.compile(&file(&RESOURCES.replace("plain-key", "new-key"))).unwrap();
    assert_eq!(configuration(&changed, "default/f")["a"], "new-key");
}

#[test]
fn rejection_of_a_module_shows_no_value() {
    let rejection = Rejection {
        resource: ResourceId { kind: ResourceKind::Plugin, name: "default/f".to_owned() },
        field: "configuration".to_owned(),
        reason: "`plain-key` and `encoded` are no numbers".to_owned(),
        hint: "not plain-key".to_owned(),
    };
    let diagnostic = compile(RESOURCES).diagnostic(&rejection);
    assert_eq!(diagnostic.reason, "`<hidden>` and `<hidden>` are no numbers");
    assert_eq!((diagnostic.hint.as_str(), diagnostic.field.as_str()), ("not <hidden>", "spec.config"));
}
