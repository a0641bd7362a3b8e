//! Secrets in objects: the configuration of a filter may hold keys. Whoever may not change objects does not see them, and
//! no diff shows them.

use serde_json::Value;

/// Fields of a filter's configuration that hold secrets, in lower case; those of the filters that come with weir are among
/// them.
const SECRET_FIELDS: [&str; 9] =
    ["key", "secret", "password", "passwords", "token", "privatekey", "clientsecret", "hmac", "credentials"];

/// What is shown in place of a secret.
pub(crate) const HIDDEN: &str = "<hidden>";

/// The object without its secrets.
pub(crate) fn without_secrets(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(configuration) = object.pointer_mut("/spec/config") {
        hide(configuration, false);
    }
    object
}

fn hide(value: &mut Value, is_secret: bool) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                hide(value, is_secret || SECRET_FIELDS.contains(&name.to_ascii_lowercase().as_str()));
            }
        }
        Value::Array(entries) => entries.iter_mut().for_each(|entry| hide(entry, is_secret)),
        Value::String(_) | Value::Number(_) if is_secret => *value = Value::String(HIDDEN.to_owned()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_and_passwords_are_hidden_wherever_they_are() {
        let object = json!({"spec": {"phase": "Authn", "config": {
            "apiKeys": {"keys": [{"id": "me", "key": "let-me-in"}]},
            "basic": {"users": [{"name": "a", "password": {"sha256": "00"}}]},
        }}});
        let shown = without_secrets(&object);
        assert_eq!(shown["spec"]["config"]["apiKeys"]["keys"][0], json!({"id": "me", "key": HIDDEN}));
        assert_eq!(shown["spec"]["config"]["basic"]["users"][0]["password"]["sha256"], HIDDEN);
        assert!(!shown.to_string().contains("let-me-in"));
    }
}
