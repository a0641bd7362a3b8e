//! What the checks of every kind need: the typed value behind a tree, and the rules that return for many fields.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use weir_model::HumanDuration;
use weir_model::matcher::Regex;

use crate::document::{Faults, Path, Tree};
use crate::grammar::http;
use crate::resource::{DEFAULT_NAMESPACE, ObjectId};
use crate::written::Kind;

/// Which object a document is, as far as that can be read; asked of documents that are wrong, too.
pub(crate) fn object(tree: &Tree, kind: Kind) -> Option<ObjectId> {
    let metadata = tree.field("metadata")?;
    let name = metadata.field("name")?.text()?;
    let namespace = match metadata.field("namespace") {
        _ if !kind.is_namespaced() => "",
        Some(namespace) => namespace.text()?,
        None => DEFAULT_NAMESPACE,
    };
    Some(ObjectId { kind, namespace: Arc::from(namespace), name: Arc::from(name) })
}

/// The typed value. The shape was checked before, so what comes up here is a gap in the schema: it is refused all the
/// same, and without serde's words, which would repeat the value.
pub(crate) fn typed<T: DeserializeOwned>(tree: &Tree, path: &Path<'_>, faults: &mut Faults) -> Option<T> {
    let mut ignored = Vec::new();
    let mut note = |field: serde_ignored::Path<'_>| ignored.push(field.to_string());
    let json = tree.value.to_json();
    let result = serde_path_to_error::deserialize(serde_ignored::Deserializer::new(json, &mut note));
    for field in &ignored {
        faults.add(&path.field(field), "unknown field", "remove it");
    }
    match result {
        Ok(value) if ignored.is_empty() => Some(value),
        Ok(_) => None,
        Err(error) => {
            let inner = error.path().to_string();
            faults.add(&path.field(&inner), "not a value that this field takes", "see docs/configuration.md");
            None
        }
    }
}

/// True when a list has no more entries than it may; refused otherwise.
pub(crate) fn is_bounded<T>(list: &[T], most: usize, path: &Path<'_>, faults: &mut Faults) -> bool {
    if list.len() > most {
        faults.add(path, format!("{} entries", list.len()), format!("use at most {most}"));
    }
    list.len() <= most
}

/// A duration as GEP-2257 has it.
pub(crate) fn duration(text: &str, path: &Path<'_>, faults: &mut Faults) -> Option<Duration> {
    match text.parse::<HumanDuration>() {
        Ok(duration) => Some(duration.0),
        Err(error) => {
            faults.object(path, error.into());
            None
        }
    }
}

/// A port.
pub(crate) fn port(number: i64, path: &Path<'_>, faults: &mut Faults) -> Option<u16> {
    http::port(number).map_err(|objection| faults.object(path, objection)).ok()
}

/// A regular expression.
pub(crate) fn regex(pattern: &str, path: &Path<'_>, faults: &mut Faults) -> Option<Regex> {
    match Regex::new(pattern) {
        Ok(regex) => Some(regex),
        Err(error) => {
            let reason = format!("the regular expression is refused: {error}");
            faults.add(
                path,
                reason,
                "write it as RE2 has it, without look-around and back-references; it matches the whole text",
            );
            None
        }
    }
}
