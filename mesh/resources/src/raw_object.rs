//! The objects of a text as JSON values. The control plane stores, compares and returns them. References between
//! objects are checked by the compiler only.

use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::resource::{ObjectId, parse_resources, read_document};
use crate::source::{SourceFile, Sources};
use crate::yaml::chunks;

/// An object as written.
#[derive(Debug, Clone, PartialEq)]
pub struct RawObject {
    /// The object's identity.
    pub id: ObjectId,
    /// The whole object.
    pub value: Value,
}

/// The objects and diagnostics of a text.
#[derive(Debug, Default)]
pub struct RawObjects {
    /// The objects with a valid kind and name, in source order.
    pub objects: Vec<RawObject>,
    /// The errors of the text and of each document by itself.
    pub diagnostics: Vec<Diagnostic>,
}

/// Parses the objects of a text.
pub fn parse_objects(file: &SourceFile) -> RawObjects {
    let mut written = RawObjects::default();
    for chunk in chunks(&file.text) {
        for parsed in parse_resources(chunk.text).documents {
            let value = parsed.root.value.to_json();
            if let Some(id) = read_document(parsed).id {
                written.objects.push(RawObject { id, value });
            }
        }
    }
    written.diagnostics = Sources::from_file(file).diagnostics_in_order();
    written
}

/// Returns an object as YAML.
pub fn to_yaml(value: &Value) -> String {
    // Serialization of maps, lists, texts and numbers does not fail.
    serde_saphyr::to_string(value).unwrap_or_else(|error| format!("# cannot be written as YAML: {error}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_objects_returns_values_and_diagnostics() {
        let text = "kind: ServiceEntry\napiVersion: weir.dev/v1alpha1\nmetadata: {name: a}\nspec: {ports: [{name: x}]}\n\
                    ---\nkind: Sevice\napiVersion: weir.dev/v1alpha1\n---\na: [\n";
        let written = parse_objects(&SourceFile { path: "r".into(), text: text.into() });
        let ids: Vec<_> = written.objects.iter().map(|object| object.id.to_string()).collect();
        assert_eq!(ids, ["ServiceEntry default/a"]);
        assert_eq!(written.objects[0].value["spec"]["ports"][0]["name"], "x");
        let lines: Vec<_> = written.diagnostics.iter().map(|diagnostic| diagnostic.line).collect();
        assert!(lines.starts_with(&[4]) && lines.contains(&6) && lines.last() >= Some(&9), "{lines:?}");
    }

    #[test]
    fn to_yaml_round_trips() {
        let value = serde_json::json!({"a": "yes", "b": ["1", 1, 1.5, true, null], "c": {"x": "a\nb\n", "y": ""}});
        let text = to_yaml(&value);
        let read = crate::yaml::parse(&text).documents.remove(0).root.value.to_json();
        assert_eq!(read, value, "{text}");
    }
}
