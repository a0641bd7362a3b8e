//! Conversion of stored objects from former kinds, fields and values to the current ones. The control plane calls it
//! for the objects of an older release.

use serde_json::{Value, json};

use crate::schema::renamed::{self, RENAMED_KINDS};
use crate::spec::{Kind, WEIR_GROUP};

/// Returns the current name of a kind of the group `weir.dev`, which may be the kind's former name.
pub fn upgrade_kind(kind: &str) -> &str {
    RENAMED_KINDS.iter().find(|renamed| renamed.old == kind).map_or(kind, |renamed| renamed.kind.name())
}

/// Returns the object with current names. An object without former names is returned unchanged, and so is a value that
/// is no object. Converting twice has no further effect.
pub fn upgrade_object(mut object: Value) -> Value {
    let is_weir = is_weir_group(object["apiVersion"].as_str().unwrap_or_default());
    let name = object["kind"].as_str().unwrap_or_default();
    if is_weir && let Some(renamed) = RENAMED_KINDS.iter().find(|renamed| renamed.old == name) {
        object["kind"] = json!(renamed.kind.name());
    }
    let name = object["kind"].as_str().unwrap_or_default();
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) else { return object };
    for renamed in renamed::of(kind).iter().filter(|_| is_weir) {
        rename(&mut object, renamed.path, renamed.new);
    }
    if kind == Kind::BackendTrafficPolicy
        && let Some(balancing) = object.pointer_mut("/spec/balancing").filter(|balancing| balancing.is_string())
    {
        *balancing = json!({ "algorithm": balancing.take() });
    }
    if let Some(spec) = object.get_mut("spec") {
        upgrade_references(spec);
    }
    object
}

fn is_weir_group(version: &str) -> bool {
    version.split('/').next() == Some(WEIR_GROUP)
}

/// Renames the field or value at a path of the table in [`renamed`].
fn rename(value: &mut Value, path: &str, new: &str) {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let (name, old_value) = first.split_once('=').map_or((first, None), |(name, old)| (name, Some(old)));
    let (name, is_list) = name.strip_suffix("[]").map_or((name, false), |name| (name, true));
    let Some(fields) = value.as_object_mut() else { return };
    match (rest, old_value) {
        (Some(rest), _) => match fields.get_mut(name) {
            Some(Value::Array(entries)) if is_list => entries.iter_mut().for_each(|entry| rename(entry, rest, new)),
            Some(field) if !is_list => rename(field, rest, new),
            _ => {}
        },
        (None, Some(old)) => {
            if fields.get(name).is_some_and(|field| field == old) {
                fields.insert(name.to_owned(), json!(new));
            }
        }
        (None, None) => {
            // An object with both names is invalid either way; the current one stays.
            if !fields.contains_key(new)
                && let Some(field) = fields.remove(name)
            {
                fields.insert(new.to_owned(), field);
            }
        }
    }
}

/// Converts references to the former kind `Service` of the group `weir.dev`, at any depth. The kind of a reference with
/// a `name` and this group is `Service` by default.
fn upgrade_references(value: &mut Value) {
    match value {
        Value::Array(entries) => entries.iter_mut().for_each(upgrade_references),
        Value::Object(fields) => {
            let is_weir = fields.get("group").is_some_and(|group| group == WEIR_GROUP);
            let is_reference = match fields.get("kind") {
                Some(kind) => kind == "Service",
                None => fields.contains_key("name"),
            };
            if is_weir && is_reference {
                fields.insert("kind".to_owned(), json!(Kind::ServiceEntry.name()));
            }
            // The configuration of a module is opaque.
            let is_open = |name: &str| matches!(name, "config" | "credentials");
            fields.iter_mut().filter(|(name, _)| !is_open(name)).for_each(|(_, field)| upgrade_references(field));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: &str, spec: &Value) -> Value {
        let group =
            if kind.ends_with("Route") || kind == "ReferenceGrant" { "gateway.networking.k8s.io" } else { "weir.dev" };
        json!({"apiVersion": format!("{group}/v1alpha1"), "kind": kind, "metadata": {"name": "a"}, "spec": spec})
    }

    #[test]
    fn upgrade_object_renames_former_names() {
        for (old_kind, old, new_kind, new) in [
            ("Service", json!({"ports": [{"port": 80}]}), "ServiceEntry", json!({"ports": [{"port": 80}]})),
            (
                "BackendPolicy",
                json!({"targetRefs": [{"kind": "Service", "name": "a"}], "balancing": "Random"}),
                "BackendTrafficPolicy",
                json!({"targetRefs": [{"kind": "Service", "name": "a"}], "balancing": {"algorithm": "Random"}}),
            ),
            (
                "BackendPolicy",
                json!({"targetRefs": [{"group": "weir.dev", "kind": "Service", "name": "a"}]}),
                "BackendTrafficPolicy",
                json!({"targetRefs": [{"group": "weir.dev", "kind": "ServiceEntry", "name": "a"}]}),
            ),
            (
                "AccessPolicy",
                json!({"mode": "Shadow", "rules": [{"workloads": [{"serviceAccount": "b"}]}, {"networks": ["::1"]}]}),
                "AuthorizationPolicy",
                json!({"mode": "DryRun", "rules": [{"principals": [{"serviceAccount": "b"}]}, {"ipBlocks": ["::1"]}]}),
            ),
            (
                "Filter",
                json!({"failure": "Open", "configText": "x", "limits": {"callTime": "1ms", "startTime": "1s",
                    "sharedData": "1Mi", "logPerSecond": "1Ki", "memory": "1Mi"}}),
                "Filter",
                json!({"failurePolicy": "FailOpen", "configString": "x", "limits": {"callTimeout": "1ms",
                    "startTimeout": "1s", "sharedDataBytes": "1Mi", "logBytesPerSecond": "1Ki", "memory": "1Mi"}}),
            ),
            (
                "Filter",
                json!({"failure": "Closed", "config": {"group": "weir.dev", "kind": "Service", "failure": "Open"}}),
                "Filter",
                json!({"failurePolicy": "FailClosed", "config": {"group": "weir.dev", "kind": "Service",
                    "failure": "Open"}}),
            ),
            (
                "HTTPRoute",
                json!({"rules": [{"backendRefs": [{"group": "weir.dev", "kind": "Service", "name": "a"}, {"name": "b"},
                    {"group": "weir.dev", "name": "c"}, {"group": "", "kind": "Service", "name": "d"}]}]}),
                "HTTPRoute",
                json!({"rules": [{"backendRefs": [{"group": "weir.dev", "kind": "ServiceEntry", "name": "a"},
                    {"name": "b"}, {"group": "weir.dev", "kind": "ServiceEntry", "name": "c"},
                    {"group": "", "kind": "Service", "name": "d"}]}]}),
            ),
            (
                "ReferenceGrant",
                json!({"to": [{"group": "weir.dev", "kind": "Service"}]}),
                "ReferenceGrant",
                json!({"to": [{"group": "weir.dev", "kind": "ServiceEntry"}]}),
            ),
        ] {
            let (old, new) = (object(old_kind, &old), object(new_kind, &new));
            assert_eq!(upgrade_object(old.clone()), new, "{old}");
            assert_eq!(upgrade_object(new.clone()), new, "{new}");
        }
    }

    #[test]
    fn upgrade_object_leaves_other_values_unchanged() {
        for value in [
            json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": []}}),
            json!({"apiVersion": "weir.dev/v1alpha1", "kind": "Mesh", "metadata": {"name": "default"}, "spec": {}}),
            json!({"kind": "AccessPolicy", "spec": {"mode": "Shadow"}}),
            json!({"apiVersion": "example.com/v1", "kind": "Filter", "spec": {"failure": "Open"}}),
            json!({}),
            json!(null),
            json!([1, "a"]),
        ] {
            assert_eq!(upgrade_object(value.clone()), value);
        }
    }
}
