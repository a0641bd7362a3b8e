//! Removes secrets from objects: the configuration of a filter may contain keys. They are visible only to tokens that
//! may change the object, and in no diff.

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

/// The text in place of a secret.
pub(crate) const REDACTED: &str = "<hidden>";

/// Returns the object with its secrets replaced by [`REDACTED`].
pub(crate) fn redact(object: &Value) -> Value {
    let mut object = object.clone();
    if object["kind"] == "Secret"
        && let Some(annotations) = object.pointer_mut("/metadata/annotations")
    {
        redact_all(annotations); // kubectl stores the applied object in an annotation.
    }
    for pointer in ["/data", "/stringData"] {
        if let Some(data) = object.pointer_mut(pointer) {
            redact_all(data);
        }
    }
    for pointer in ["/spec/config", "/spec/credentials"] {
        if let Some(configuration) = object.pointer_mut(pointer) {
            redact_fields(configuration);
        }
    }
    object
}

fn is_secret_name(name: &str) -> bool {
    let name: String = name.to_ascii_lowercase().chars().filter(|character| !"_-".contains(*character)).collect();
    SECRET_ENDS.iter().any(|end| name.ends_with(end))
}

/// Redacts the fields with secret names.
fn redact_fields(value: &mut Value) {
    match value {
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

/// Redacts every text and number.
fn redact_all(value: &mut Value) {
    match value {
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
}
