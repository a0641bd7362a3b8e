//! What a document says it is: `apiVersion` and `kind`.

use crate::document::{Faults, Path, Tree, Value};
use crate::schema::unsupported::UNSUPPORTED_KINDS;
use crate::suggest::{listing, nearest, quoted};
use crate::written::Kind;

/// The document's kind, if it is one that is known in this version.
pub(crate) fn kind(tree: &Tree, faults: &mut Faults) -> Option<Kind> {
    let root = Path::ROOT;
    if !matches!(tree.value, Value::Map(_)) {
        faults.add(
            &root,
            format!("a document must be a map, not {}", tree.value.in_words()),
            "begin with `apiVersion:`",
        );
        return None;
    }
    let version = text(tree, "apiVersion", "weir.dev/v1alpha1", faults);
    let name = text(tree, "kind", "HTTPRoute", faults);
    let (version, name) = (version?, name?);
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) else {
        let (reason, hint) = unknown(name);
        faults.add(&root.field("kind"), reason, hint);
        return None;
    };
    if !kind.api_versions().contains(&version) {
        let expected = kind.api_versions()[0];
        let reason = format!("{} is not an apiVersion of {name}", quoted(version));
        let hint = match (kind, version) {
            (Kind::Service, "v1") => {
                format!("write `{expected}`: a core Service has no endpoints of its own to forward to")
            }
            _ => format!("write `{expected}`"),
        };
        faults.add(&root.field("apiVersion"), reason, hint);
        // The fields of another version may differ: what else is wrong can only be guessed.
        return None;
    }
    Some(kind)
}

fn unknown(name: &str) -> (String, String) {
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

fn text<'a>(tree: &'a Tree, name: &str, example: &str, faults: &mut Faults) -> Option<&'a str> {
    let root = Path::ROOT;
    let at = root.field(name);
    match tree.field(name) {
        None => {
            faults.add(&at, "missing", format!("add `{name}`, as in `{name}: {example}`"));
            None
        }
        Some(field) => {
            let text = field.text().filter(|text| !text.is_empty());
            if text.is_none() {
                faults.add(&at, "must be a text", format!("write it as in `{name}: {example}`"));
            }
            text
        }
    }
}
