//! References of an object to values of Secrets. They are resolved when the snapshot is compiled, so that a new value
//! reaches the proxies without a change of the object.

use serde_json::Value;

use crate::spec::{SecretKeyRef, SecretReference, SecretText};
use crate::yaml::{FieldErrors, FieldPath, FieldPathRef};

/// The name of a reference's only field.
const SECRET_REF: &str = "secretRef";

/// A reference to a value of a Secret.
#[derive(Debug, Clone)]
pub(crate) struct SecretUse {
    /// The path of the map with `secretRef`.
    pub(crate) path: FieldPath,
    /// The Secret's name.
    pub(crate) name: String,
    /// The key of the value.
    pub(crate) key: String,
}

/// A JSON value with references in it.
#[derive(Debug)]
pub(crate) struct SecretTemplate {
    json: Value,
    uses: Vec<SecretUse>,
}

impl SecretTemplate {
    /// Validates the references in a JSON value. Returns `None` if it has no references.
    pub(crate) fn new(json: &Value, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<Self> {
        let mut uses = Vec::new();
        find(json, path, &mut uses, errors);
        (!uses.is_empty()).then(|| Self { json: json.clone(), uses })
    }

    /// Returns the value with more fields, which have no references.
    pub(crate) fn with_fields(mut self, whole: Value) -> Self {
        self.json = whole;
        self
    }

    /// Returns the references.
    pub(crate) fn uses(&self) -> &[SecretUse] {
        &self.uses
    }

    /// Returns the value with texts in place of references. A reference without a text stays.
    pub(crate) fn resolve<'a>(&self, text: impl Fn(&str, &str) -> Option<&'a str>) -> Value {
        let mut json = self.json.clone();
        replace(&mut json, &text);
        json
    }
}

/// Returns true if a JSON value is a reference.
pub(crate) fn is_reference(value: &Value) -> bool {
    parts(value).is_some()
}

/// Splits a value of a Filter into its text, or its reference.
pub(crate) fn text_or_use(value: SecretText, path: &FieldPathRef<'_>) -> Result<String, SecretUse> {
    match value {
        SecretText::Text(text) => Ok(text),
        SecretText::Reference(SecretReference { secret_ref: SecretKeyRef { name, key } }) => {
            Err(SecretUse { path: path.to_field_path(), name, key })
        }
    }
}

fn parts(value: &Value) -> Option<(&str, &str)> {
    let fields = value.as_object().filter(|fields| fields.len() == 1)?;
    let parts = fields.get(SECRET_REF)?.as_object().filter(|parts| parts.len() == 2)?;
    Some((parts.get("name")?.as_str()?, parts.get("key")?.as_str()?))
}

fn find(value: &Value, path: &FieldPathRef<'_>, uses: &mut Vec<SecretUse>, errors: &mut FieldErrors) {
    match value {
        Value::Object(fields) => {
            if let Some((name, key)) = parts(value) {
                uses.push(SecretUse { path: path.to_field_path(), name: name.to_owned(), key: key.to_owned() });
                return;
            }
            // A field of the module with this name has no map as its value.
            if fields.get(SECRET_REF).is_some_and(Value::is_object) {
                let hint = "write `{secretRef: {name: NAME, key: KEY}}` in place of the value, without other fields";
                errors.add(&path.field(SECRET_REF), "is no reference to a value of a Secret", hint);
                return;
            }
            fields.iter().for_each(|(name, value)| find(value, &path.field(name), uses, errors));
        }
        Value::Array(entries) => {
            entries.iter().enumerate().for_each(|(index, value)| find(value, &path.entry(index), uses, errors));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn replace<'a>(value: &mut Value, text: &impl Fn(&str, &str) -> Option<&'a str>) {
    if let Some(found) = parts(value).and_then(|(name, key)| text(name, key)) {
        *value = Value::String(found.to_owned());
        return;
    }
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|value| replace(value, text)),
        Value::Array(entries) => entries.iter_mut().for_each(|value| replace(value, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_found_and_replaced_at_any_depth() {
        let reference = json!({"secretRef": {"name": "s", "key": "k"}});
        let json = json!({"a": reference, "b": [{"c": reference}], "secretRef": "own", "d": {"secretRef": null}});
        let mut errors = FieldErrors::default();
        let template = SecretTemplate::new(&json, &FieldPathRef::ROOT.field("config"), &mut errors).unwrap();
        assert!(errors.is_empty());
        let paths: Vec<String> = template.uses().iter().map(|reference| reference.path.to_string()).collect();
        assert_eq!(paths, ["config.a", "config.b[0].c"]);
        let resolved = template.resolve(|name, key| (name == "s" && key == "k").then_some("text"));
        assert_eq!(resolved, json!({"a": "text", "b": [{"c": "text"}], "secretRef": "own", "d": {"secretRef": null}}));
        assert!(SecretTemplate::new(&json!({"a": {"b": 1}}), &FieldPathRef::ROOT, &mut errors).is_none());
    }

    #[test]
    fn malformed_references_are_rejected() {
        for json in [
            json!({"secretRef": {"name": "s"}}),
            json!({"secretRef": {"name": "s", "key": 1}}),
            json!({"secretRef": {"name": "s", "key": "k", "namespace": "other"}}),
            json!({"secretRef": {"name": "s", "key": "k"}, "other": 1}),
        ] {
            let mut errors = FieldErrors::default();
            SecretTemplate::new(&json, &FieldPathRef::ROOT, &mut errors);
            assert_eq!(errors.count(), 1, "{json}");
        }
    }
}
