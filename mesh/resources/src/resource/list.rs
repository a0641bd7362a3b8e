//! The objects of a text: each document is one object, or a list of them. `weir get -o yaml` prints a list at the top,
//! and kubectl an object of the kind `List`. Fields that a control plane or a cluster writes are removed.

use crate::suggest::quoted;
use crate::yaml::{FieldError, FieldPath, FieldStep, Key, Node, Parsed, ParsedDocument, Position, Value, parse};

/// The kind of a list, as kubectl prints it.
const LIST: &str = "List";

/// The `apiVersion` of a list.
const LIST_VERSION: &str = "v1";

/// Fields of `metadata` that a control plane or a cluster writes, about one object in one mesh.
const SERVER_METADATA: [&str; 4] = ["uid", "resourceVersion", "generation", "managedFields"];

/// Parses a chunk. Each entry of a list is a document of its own, and its field paths begin at the entry.
pub(crate) fn parse_resources(text: &str) -> Parsed {
    let Parsed { documents, parse_error } = parse(text);
    let mut objects = Vec::with_capacity(documents.len());
    for document in documents {
        expand(document, &mut objects);
    }
    for object in &mut objects {
        remove_server_fields(&mut object.root);
    }
    Parsed { documents: objects, parse_error }
}

/// Adds a document, or the entries of a list. Errors outside of the entries are a document without a value.
fn expand(document: ParsedDocument, objects: &mut Vec<ParsedDocument>) {
    let ParsedDocument { root: Node { value, position }, errors } = document;
    let mut list_errors = Vec::new();
    let (items, depth) = match value {
        Value::List(items) => (items, 0),
        Value::Map(fields) if is_list(&fields) => (take_items(fields, position, &mut list_errors), 1),
        value => return objects.push(ParsedDocument { root: Node { value, position }, errors }),
    };
    let mut item_errors: Vec<Vec<FieldError>> = Vec::new();
    item_errors.resize_with(items.len(), Vec::new);
    for mut error in errors {
        match item_index(&error.path, depth).filter(|index| *index < items.len()) {
            Some(index) => {
                error.path.0.drain(..=depth);
                item_errors[index].push(error);
            }
            None => list_errors.push(error),
        }
    }
    if !list_errors.is_empty() {
        objects.push(ParsedDocument { root: Node { value: Value::Error, position }, errors: list_errors });
    }
    let items = items.into_iter().zip(item_errors);
    objects.extend(items.map(|(root, errors)| ParsedDocument { root, errors }));
}

fn is_list(fields: &[(Key, Node)]) -> bool {
    fields.iter().any(|(key, node)| key.text == "kind" && node.text() == Some(LIST))
}

/// Returns the index of the entry that a path of a list leads through. `depth` is the number of steps before it.
fn item_index(path: &FieldPath, depth: usize) -> Option<usize> {
    let is_items = |step: &FieldStep| matches!(step, FieldStep::Field(name) if name == "items");
    match path.0.get(depth) {
        Some(FieldStep::Entry(index)) if path.0[..depth].iter().all(is_items) => Some(*index),
        _ => None,
    }
}

/// Returns the entries of a `List`, and reports an error for each other field that is not valid.
fn take_items(fields: Vec<(Key, Node)>, start: Position, errors: &mut Vec<FieldError>) -> Vec<Node> {
    let mut report = |name: &str, position: Position, reason: String, hint: &str| {
        let path = FieldPath(vec![FieldStep::Field(name.to_owned())]);
        errors.push(FieldError { path, position: Some(position), reason, hint: hint.to_owned() });
    };
    let (mut items, mut version) = (None, None);
    for (key, node) in fields {
        match (key.text.as_str(), node.value) {
            ("kind" | "metadata", _) => {}
            ("apiVersion", value) => version = Some((key.position, value)),
            ("items", Value::List(entries)) => items = Some(entries),
            ("items", other) => {
                let reason = format!("must be a list, not {}", other.type_name());
                report("items", key.position, reason, "write the objects as its entries");
                items = Some(Vec::new());
            }
            (other, _) => report(other, key.position, "unknown field".to_owned(), "a List has `items` only"),
        }
    }
    match version {
        Some((_, Value::Text(text))) if text == LIST_VERSION => {}
        Some((position, Value::Text(text))) => {
            let reason = format!("{} is not an apiVersion of {LIST}", quoted(&text));
            report("apiVersion", position, reason, "write `v1`");
        }
        Some((position, _)) => report("apiVersion", position, "must be a text".to_owned(), "write `v1`"),
        None => report("apiVersion", start, "missing".to_owned(), "add `apiVersion: v1`"),
    }
    items.unwrap_or_else(|| {
        report("items", start, "missing".to_owned(), "add `items`: a list of objects");
        Vec::new()
    })
}

fn remove_server_fields(root: &mut Node) {
    let Value::Map(fields) = &mut root.value else { return };
    fields.retain(|(key, _)| key.text != "status");
    if let Some(Value::Map(metadata)) = root.field_mut("metadata").map(|metadata| &mut metadata.value) {
        metadata.retain(|(key, _)| !SERVER_METADATA.contains(&key.text.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the name and the line of each object.
    fn names(text: &str) -> Vec<(String, u32)> {
        let parsed = parse_resources(text);
        assert!(
            parsed.parse_error.is_none() && parsed.documents.iter().all(|object| object.errors.is_empty()),
            "{text}"
        );
        let name = |object: &ParsedDocument| object.root.field("a").and_then(Node::text).unwrap_or("-").to_owned();
        parsed.documents.iter().map(|object| (name(object), object.root.position.line)).collect()
    }

    #[test]
    fn entries_of_a_list_are_documents() {
        let expected = [("x".to_owned(), 3), ("y".to_owned(), 4)];
        assert_eq!(names("kind: List\napiVersion: v1\nitems: [{a: x},\n {a: y}]\n")[1], expected[1]);
        assert_eq!(
            names("apiVersion: v1\nitems:\n- a: x\n- a: y\nkind: List\nmetadata: {resourceVersion: ''}\n"),
            expected
        );
        assert_eq!(names("\n[\n{\"a\": \"x\"},\n{\"a\": \"y\"}]"), expected);
        assert_eq!(names("---\n\n- a: x\n- a: y\n"), expected);
        assert_eq!(names("kind: List\napiVersion: v1\nitems: []\n"), []);
        assert_eq!(names("[]"), []);
        assert_eq!(names("a: x\n"), [("x".to_owned(), 1)]);
    }

    #[test]
    fn errors_belong_to_their_entries() {
        let text = "apiVersion: v1\nkind: List\nother: 1\nitems:\n- a: x\n- b: 1\n  b: 2\n";
        let documents = parse_resources(text).documents;
        let errors: Vec<Vec<String>> =
            documents.iter().map(|object| object.errors.iter().map(|error| error.path.to_string()).collect()).collect();
        assert_eq!(errors, [vec!["other".to_owned()], vec![], vec!["b".to_owned()]]);
        assert_eq!(documents[2].errors[0].position, Some(Position { line: 7, column: 3 }));
    }

    #[test]
    fn fields_that_a_server_writes_are_removed() {
        let text = "metadata: {name: a, uid: 1, resourceVersion: 2, generation: 3, managedFields: [], labels: {uid: x}}\n\
                    status: {x: 1}\nspec: {status: 1}\n";
        let object = parse_resources(text).documents.remove(0).root.value.to_json();
        let expected = serde_json::json!({"metadata": {"name": "a", "labels": {"uid": "x"}}, "spec": {"status": 1}});
        assert_eq!(object, expected);
    }
}
