//! Helpers of all kinds: typed values, and rules shared by many fields.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use weir_model::matcher::Regex;
use weir_model::{ByteSize, GatewayDuration};

use crate::resource::id::{DEFAULT_NAMESPACE, ObjectId};
use crate::spec::Kind;
use crate::syntax::http;
use crate::yaml::{FieldErrors, FieldPathRef, Node};

/// Returns the identity of a document as far as it is readable. Documents with errors have one as well.
pub(crate) fn object(node: &Node, kind: Kind) -> Option<ObjectId> {
    let metadata = node.field("metadata")?;
    let name = metadata.field("name")?.text()?;
    let namespace = match metadata.field("namespace") {
        _ if !kind.is_namespaced() => "",
        Some(namespace) => namespace.text()?,
        None => DEFAULT_NAMESPACE,
    };
    Some(ObjectId { kind, namespace: Arc::from(namespace), name: Arc::from(name) })
}

/// Deserializes a node. The schema was checked before, so an error here is a gap in the schema. The message omits
/// serde's text, which would repeat the value.
pub(crate) fn typed<T: DeserializeOwned>(node: &Node, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<T> {
    let mut ignored = Vec::new();
    let mut note = |field: serde_ignored::Path<'_>| ignored.push(field.to_string());
    let json = node.value.to_json();
    let result = serde_path_to_error::deserialize(serde_ignored::Deserializer::new(json, &mut note));
    for field in &ignored {
        errors.add(&path.field(field), "unknown field", "remove it");
    }
    match result {
        Ok(value) if ignored.is_empty() => Some(value),
        Ok(_) => None,
        Err(error) => {
            let inner = error.path().to_string();
            errors.add(&path.field(&inner), "not a value that this field takes", "see docs/configuration.md");
            None
        }
    }
}

/// Converts a value to another type of the Gateway API that has all of its fields. The types of upstream differ by kind
/// and by place, though not in their form.
pub(crate) fn same_form<T: Serialize, U: DeserializeOwned>(value: T) -> U {
    let json = serde_json::to_value(value).expect("types of the Gateway API are JSON");
    serde_json::from_value(json).expect("a test compares the fields of both types")
}

/// Returns true if a list is within the limit; otherwise adds an error.
pub(crate) fn is_bounded<T>(list: &[T], most: usize, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> bool {
    if list.len() > most {
        errors.add(path, format!("{} entries", list.len()), format!("use at most {most}"));
    }
    list.len() <= most
}

/// Parses a duration (GEP-2257).
pub(crate) fn duration(text: &str, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<Duration> {
    match text.parse::<GatewayDuration>() {
        Ok(duration) => Some(duration.0),
        Err(error) => {
            errors.add_syntax_error(path, error.into());
            None
        }
    }
}

/// Validates a size within bounds.
pub(crate) fn check_size(
    text: &str,
    allowed: &RangeInclusive<ByteSize>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<ByteSize> {
    match text.parse::<ByteSize>() {
        Ok(size) if allowed.contains(&size) => Some(size),
        Ok(size) => {
            errors.add(
                path,
                format!("{size} is too much or too little"),
                format!("use {} to {}", allowed.start(), allowed.end()),
            );
            None
        }
        Err(error) => {
            errors.add_syntax_error(path, error.into());
            None
        }
    }
}

/// Validates a port number.
pub(crate) fn port(number: i64, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<u16> {
    http::port(number).map_err(|error| errors.add_syntax_error(path, error)).ok()
}

/// Compiles a regular expression.
pub(crate) fn regex(pattern: &str, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<Regex> {
    match Regex::new(pattern) {
        Ok(regex) => Some(regex),
        Err(error) => {
            let reason = format!("invalid regular expression: {error}");
            errors.add(
                path,
                reason,
                "write it as RE2 has it, without look-around and back-references; it matches the whole text",
            );
            None
        }
    }
}
