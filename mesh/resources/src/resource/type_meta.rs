//! `apiVersion` and `kind` of a document (Kubernetes: TypeMeta).

use crate::schema::renamed::{RENAMED_KINDS, renamed_hint};
use crate::schema::unsupported::UNSUPPORTED_KINDS;
use crate::spec::{Kind, WEIR_GROUP};
use crate::suggest::{listing, nearest, quoted};
use crate::yaml::{FieldErrors, FieldPathRef, Node, Value};

/// Returns the document's kind, if kind and version are known.
pub(crate) fn kind(node: &Node, errors: &mut FieldErrors) -> Option<Kind> {
    let root = FieldPathRef::ROOT;
    if matches!(node.value, Value::Error) {
        return None; // The error is reported already.
    }
    if !matches!(node.value, Value::Map(_)) {
        errors.add(
            &root,
            format!("a document must be a map, not {}", node.value.type_name()),
            "begin with `apiVersion:`",
        );
        return None;
    }
    let version = text(node, "apiVersion", "weir.dev/v1alpha1", errors);
    let name = text(node, "kind", "HTTPRoute", errors);
    let (version, name) = (version?, name?);
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) else {
        let (reason, hint) = unknown_kind(version, name);
        errors.add(&root.field("kind"), reason, hint);
        return None;
    };
    if !kind.api_versions().contains(&version) {
        let expected = kind.api_versions()[0];
        let reason = format!("{} is not an apiVersion of {name}", quoted(version));
        let hint = format!("write `{expected}`");
        errors.add(&root.field("apiVersion"), reason, hint);
        // The fields of another version may differ, so further errors would be guesses.
        return None;
    }
    Some(kind)
}

fn unknown_kind(version: &str, name: &str) -> (String, String) {
    let renamed = RENAMED_KINDS.iter().find(|renamed| renamed.old == name);
    if let Some(renamed) = renamed.filter(|_| version.starts_with(WEIR_GROUP)) {
        return (format!("no kind {}", quoted(name)), renamed_hint(name, renamed.kind.name()));
    }
    if let Some((_, hint)) = UNSUPPORTED_KINDS.iter().find(|(kind, _)| *kind == name) {
        return (format!("{} is not supported", quoted(name)), (*hint).to_owned());
    }
    let known = Kind::ALL.iter().map(|kind| kind.name());
    let hint = match nearest(name, known.clone()) {
        Some(kind) => format!("did you mean `{kind}`?"),
        None => format!("the kinds are {}", listing(known)),
    };
    (format!("no kind {}", quoted(name)), hint)
}

fn text<'a>(node: &'a Node, name: &str, example: &str, errors: &mut FieldErrors) -> Option<&'a str> {
    let root = FieldPathRef::ROOT;
    let at = root.field(name);
    match node.field(name) {
        None => {
            errors.add(&at, "missing", format!("add `{name}`, as in `{name}: {example}`"));
            None
        }
        Some(field) => {
            let text = field.text().filter(|text| !text.is_empty());
            if text.is_none() {
                errors.add(&at, "must be a text", format!("write it as in `{name}: {example}`"));
            }
            text
        }
    }
}
