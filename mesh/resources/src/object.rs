//! The objects that a text holds, as values: what the control plane keeps, compares and gives back. Whether they mean
//! anything together is the compiler's to say.

use serde_json::Value;

use crate::document::{chunks, parse};
use crate::refusal::Refusal;
use crate::resource::{ObjectId, read};
use crate::source::{SourceFile, Sources};
use crate::written::Kind;

/// An object as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenObject {
    /// Which one.
    pub id: ObjectId,
    /// All of it.
    pub value: Value,
}

/// What a text holds.
#[derive(Debug, Default)]
pub struct WrittenObjects {
    /// The objects whose kind and name could be read, in the order written.
    pub objects: Vec<WrittenObject>,
    /// What is wrong with the text and with each document by itself.
    pub refusals: Vec<Refusal>,
}

/// Reads the objects of a text.
pub fn written_objects(file: &SourceFile) -> WrittenObjects {
    let mut written = WrittenObjects::default();
    for chunk in chunks(&file.text) {
        for parsed in parse(chunk.text).documents {
            let value = parsed.tree.value.to_json();
            if let Some(id) = read(parsed).id {
                written.objects.push(WrittenObject { id, value });
            }
        }
    }
    written.refusals = Sources::of(file).refusals_in_order();
    written
}

/// An object as YAML, for people.
pub fn to_yaml(value: &Value) -> String {
    // Maps of texts, numbers and lists can always be written.
    serde_saphyr::to_string(value).unwrap_or_else(|error| format!("# cannot be written as YAML: {error}\n"))
}

impl ObjectId {
    /// The object of a kind, namespace and name; `None` when there is no such kind. The namespace of a kind without is
    /// empty.
    pub fn new(kind: &str, namespace: &str, name: &str) -> Option<Self> {
        let kind = Kind::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(kind))?;
        let namespace = if kind.is_namespaced() { namespace } else { "" };
        Some(Self { kind, namespace: namespace.into(), name: name.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_come_with_their_values_and_their_refusals() {
        let text = "kind: Service\napiVersion: weir.dev/v1alpha1\nmetadata: {name: a}\nspec: {ports: [{name: x}]}\n---\n\
                    kind: Sevice\napiVersion: weir.dev/v1alpha1\n---\na: [\n";
        let written = written_objects(&SourceFile { path: "r".into(), text: text.into() });
        let ids: Vec<_> = written.objects.iter().map(|object| object.id.to_string()).collect();
        assert_eq!(ids, ["Service default/a"]);
        assert_eq!(written.objects[0].value["spec"]["ports"][0]["name"], "x");
        let lines: Vec<_> = written.refusals.iter().map(|refusal| refusal.line).collect();
        assert!(lines.starts_with(&[4]) && lines.contains(&6) && lines.last() >= Some(&9), "{lines:?}");
    }

    #[test]
    fn yaml_is_read_back_as_it_was() {
        let value = serde_json::json!({"a": "yes", "b": ["1", 1, 1.5, true, null], "c": {"x": "a\nb\n", "y": ""}});
        let text = to_yaml(&value);
        let read = parse(&text).documents.remove(0).tree.value.to_json();
        assert_eq!(read, value, "{text}");
    }
}
