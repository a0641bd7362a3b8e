//! Secrets in objects: the configuration of a filter may hold keys. Whoever may not change objects does not see them, and
//! no diff shows them.

use serde_json::Value;

/// How names of fields end that hold secrets in a filter's configuration, in lower case and without `_` and `-`; those of
/// the filters that come with weir are among them. Rather too much is hidden than too little.
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

/// What is shown in place of a secret.
pub(crate) const HIDDEN: &str = "<hidden>";

/// The object without its secrets.
pub(crate) fn without_secrets(object: &Value) -> Value {
    let mut object = object.clone();
    if object["kind"] == "Secret"
        && let Some(annotations) = object.pointer_mut("/metadata/annotations")
    {
        hide(annotations, true); // kubectl keeps the whole object in one of them.
    }
    for place in ["/data", "/stringData"] {
        if let Some(held) = object.pointer_mut(place) {
            hide(held, true);
        }
    }
    for place in ["/spec/config", "/spec/credentials"] {
        if let Some(configuration) = object.pointer_mut(place) {
            hide(configuration, false);
        }
    }
    object
}

fn is_secret_name(name: &str) -> bool {
    let name: String = name.chars().filter(|it| !"_-".contains(*it)).map(|it| it.to_ascii_lowercase()).collect();
    SECRET_ENDS.iter().any(|end| name.ends_with(end))
}

fn hide(value: &mut Value, is_secret: bool) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                hide(value, is_secret || is_secret_name(name));
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
            "client_secret": "1", "apiKey": 2, "oauth": {"Access-Token": "3"},
            "basic": {"users": [{"name": "a", "password": {"sha256": "00"}}]},
        }}});
        let shown = without_secrets(&object);
        assert_eq!(shown["spec"]["config"]["apiKeys"]["keys"][0], json!({"id": "me", "key": HIDDEN}));
        assert_eq!(shown["spec"]["config"]["basic"]["users"][0]["password"]["sha256"], HIDDEN);
        for (name, pointer) in [("client_secret", ""), ("apiKey", ""), ("oauth", "/Access-Token")] {
            assert_eq!(shown["spec"]["config"][name].pointer(pointer).unwrap(), HIDDEN, "{name}");
        }
        assert!(!shown.to_string().contains("let-me-in"));
    }
}
