//! Removes secrets from objects. They are visible only to tokens that may change the object, and in no diff. An object
//! that was printed without its secrets does not replace them when it is applied again.

use std::sync::Arc;

use serde_json::Value;

/// The endings of field names whose values are secrets, in lower case and without `_` and `-`. They include those of
/// the shipped filters. A false positive is preferred to a leak.
const SECRET_ENDS: [&str; 12] = [
    "key",
    "secret",
    "secrets",
    "password",
    "passwords",
    "token",
    "tokens",
    "credentials",
    "hmac",
    "authorization",
    "cookie",
    "sha256",
];

/// The values that are secrets as a whole. A text without field names may contain a secret anywhere: configurations
/// that are not JSON (`configText` is the former name), and environment variables, such as a URL with a password.
const SECRET_VALUES: [&str; 6] =
    ["/data", "/stringData", "/spec/configString", "/spec/configText", "/spec/vm/config", "/spec/vm/environment"];

/// The JSON values whose fields with secret names are secrets.
const SECRET_FIELDS: [&str; 2] = ["/spec/config", "/spec/credentials"];

/// The annotation in which kubectl stores the applied object, with all its secrets.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The text in place of a secret.
const REDACTED: &str = "<hidden>";

/// Returns the object with its secrets replaced by `<hidden>`.
pub fn redact(object: &Value) -> Value {
    let mut object = object.clone();
    let is_secret = object["kind"] == "Secret";
    if let Some(annotations) = object.pointer_mut("/metadata/annotations") {
        if is_secret {
            redact_all(annotations);
        } else if let Some(last_applied) = annotations.get_mut(LAST_APPLIED) {
            redact_all(last_applied);
        }
    }
    for pointer in secret_values(&object) {
        if let Some(value) = object.pointer_mut(pointer) {
            redact_all(value);
        }
    }
    for pointer in SECRET_FIELDS {
        if let Some(configuration) = object.pointer_mut(pointer) {
            redact_fields(configuration);
        }
    }
    object
}

/// Returns the object to store for an object that is applied: `before` if `after` equals it but for secrets that were
/// printed as `<hidden>`.
///
/// # Errors
/// The field of a secret that was printed as `<hidden>`, if the object differs from `before` in other fields. The
/// secret of a changed object is unknown: the entry of a list may have moved.
pub fn restore(before: Option<&Arc<Value>>, after: Arc<Value>) -> Result<Arc<Value>, String> {
    let Some(field) = redacted_field(&after) else { return Ok(after) };
    match before {
        Some(before) if agrees(before, &after) => Ok(Arc::clone(before)),
        _ => Err(field),
    }
}

/// Returns true if `after` is `before`, or has `<hidden>` in place of some of its values.
fn agrees(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (_, Value::String(text)) if text == REDACTED => true,
        (Value::Object(before), Value::Object(after)) => {
            let is_equal = |(name, value)| after.get(name).is_some_and(|after| agrees(value, after));
            before.len() == after.len() && before.iter().all(is_equal)
        }
        (Value::Array(before), Value::Array(after)) => {
            before.len() == after.len() && before.iter().zip(after).all(|(before, after)| agrees(before, after))
        }
        (before, after) => before == after,
    }
}

/// Returns the path of the first secret that is printed as `<hidden>`. The text is no secret in other places, such
/// as a header value.
fn redacted_field(object: &Value) -> Option<String> {
    let annotations = if object["kind"] == "Secret" { &["/metadata/annotations"][..] } else { &[] };
    let pointers = secret_values(object).iter().chain(&SECRET_FIELDS).chain(annotations);
    let mut found = pointers.filter_map(|pointer| {
        let below = redacted_below(object.pointer(pointer)?)?;
        Some(pointer.trim_start_matches('/').replace('/', ".") + &below)
    });
    let last_applied = || {
        let annotation = object.pointer("/metadata/annotations")?.get(LAST_APPLIED)?;
        (annotation == REDACTED).then(|| format!("metadata.annotations[\"{LAST_APPLIED}\"]"))
    };
    found.next().or_else(last_applied)
}

fn redacted_below(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => (text == REDACTED).then(String::new),
        Value::Object(fields) => {
            fields.iter().find_map(|(name, value)| Some(format!(".{name}{}", redacted_below(value)?)))
        }
        Value::Array(entries) => {
            let mut entries = entries.iter().enumerate();
            entries.find_map(|(index, value)| Some(format!("[{index}]{}", redacted_below(value)?)))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// Returns the values that are secrets as a whole; none in a ConfigMap, which has certificates of CAs.
fn secret_values(object: &Value) -> &'static [&'static str] {
    if object["kind"] == "ConfigMap" { &[] } else { &SECRET_VALUES }
}

fn is_secret_name(name: &str) -> bool {
    let name: String = name.to_ascii_lowercase().chars().filter(|character| !"_-".contains(*character)).collect();
    SECRET_ENDS.iter().any(|end| name.ends_with(end))
}

/// Returns true for `{secretRef: {name: NAME, key: KEY}}`, which contains no secret.
fn is_reference(value: &Value) -> bool {
    let reference = value.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.get("secretRef"));
    let parts = reference.and_then(Value::as_object).filter(|parts| parts.len() == 2);
    parts.is_some_and(|parts| ["name", "key"].iter().all(|part| parts.get(*part).is_some_and(Value::is_string)))
}

/// Redacts the fields with secret names.
fn redact_fields(value: &mut Value) {
    match value {
        _ if is_reference(value) => {}
        Value::Object(fields) => {
            for (name, value) in fields {
                if is_secret_name(name) {
                    redact_all(value);
                } else {
                    redact_fields(value);
                }
            }
        }
        Value::Array(entries) => entries.iter_mut().for_each(redact_fields),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Redacts every text and number, but those of references.
fn redact_all(value: &mut Value) {
    match value {
        _ if is_reference(value) => {}
        Value::Object(fields) => fields.values_mut().for_each(redact_all),
        Value::Array(entries) => entries.iter_mut().for_each(redact_all),
        Value::String(_) | Value::Number(_) => *value = Value::String(REDACTED.to_owned()),
        Value::Null | Value::Bool(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_and_passwords_are_redacted_at_any_depth() {
        let object = json!({"spec": {"phase": "Authn", "config": {
            "apiKeys": {"keys": [{"id": "me", "key": "let-me-in"}]},
            "client_secret": "1", "apiKey": 2, "oauth": {"Access-Token": "3"},
            "basic": {"users": [{"name": "a", "password": {"sha256": "00"}}]},
        }}});
        let shown = redact(&object);
        assert_eq!(shown["spec"]["config"]["apiKeys"]["keys"][0], json!({"id": "me", "key": REDACTED}));
        assert_eq!(shown["spec"]["config"]["basic"]["users"][0]["password"]["sha256"], REDACTED);
        for (name, pointer) in [("client_secret", ""), ("apiKey", ""), ("oauth", "/Access-Token")] {
            assert_eq!(shown["spec"]["config"][name].pointer(pointer).unwrap(), REDACTED, "{name}");
        }
        assert!(!shown.to_string().contains("let-me-in"));
    }

    /// Returns a Filter with a secret in each place that has no field names, and a value that is no secret.
    fn filter(secret: &str) -> Value {
        json!({
            "kind": "Filter",
            "metadata": {"name": "f", "annotations": {LAST_APPLIED: secret, "team": "shop"}},
            "spec": {"rootId": "r", "configString": secret, "configText": secret,
                "vm": {"id": "v", "config": secret, "environment": {"DATABASE_URL": secret}}},
        })
    }

    #[test]
    fn texts_and_environment_of_a_filter_are_redacted() {
        assert_eq!(redact(&filter("postgres://u:p@h")), filter(REDACTED));
    }

    #[test]
    fn config_map_is_shown() {
        let map = json!({"kind": "ConfigMap", "data": {"ca.crt": "a certificate"}});
        assert_eq!(redact(&map), map);
        let secret = json!({"kind": "Secret", "data": {"ca.crt": "a certificate"}});
        assert_eq!(redact(&secret)["data"]["ca.crt"], REDACTED);
    }

    #[test]
    fn references_to_secrets_are_shown() {
        let reference = json!({"secretRef": {"name": "s", "key": "k"}});
        let object = json!({"spec": {
            "config": {"apiKey": reference, "keys": [reference], "token": {"secretRef": {"name": "s", "key": 1}}},
            "vm": {"environment": {"A": reference}},
        }});
        let mut expected = object.clone();
        expected["spec"]["config"]["token"]["secretRef"] = json!({"name": REDACTED, "key": REDACTED});
        assert_eq!(redact(&object), expected);
    }

    #[test]
    fn printed_object_restores_its_secrets_only_if_nothing_else_differs() {
        let before = Arc::new(filter("secret"));
        let printed = Arc::new(filter(REDACTED));
        assert_eq!(restore(Some(&before), Arc::clone(&printed)), Ok(Arc::clone(&before)));
        assert_eq!(restore(None, Arc::clone(&printed)), Err("spec.configString".to_owned()));
        let mut changed = filter(REDACTED);
        changed["spec"]["rootId"] = json!("other");
        assert_eq!(restore(Some(&before), Arc::new(changed)), Err("spec.configString".to_owned()));
        let new = Arc::new(filter("new"));
        assert_eq!(restore(Some(&before), Arc::clone(&new)), Ok(new));
        let nested = json!({"spec": {"config": {"keys": [{"id": "a"}, {"key": REDACTED}]}}});
        assert_eq!(restore(None, Arc::new(nested)), Err("spec.config.keys[1].key".to_owned()));
    }
}
