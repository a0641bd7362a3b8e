//! Header modifiers: `RequestHeaderModifier` and `ResponseHeaderModifier`.

use std::sync::Arc;

use weir_model::{HeaderEdits, HeaderModifier};

use crate::limits::MAX_HEADER_EDITS;
use crate::resource::field::is_bounded;
use crate::suggest::quoted;
use crate::syntax::http;
use crate::yaml::{FieldErrors, FieldPathRef};

/// A header modifier as written. The Gateway API types differ by direction.
pub(super) struct RawHeaderEdits {
    pub(super) set: Vec<(String, String)>,
    pub(super) add: Vec<(String, String)>,
    pub(super) remove: Vec<String>,
}

/// Validates a header modifier.
pub(super) fn check_header_modifier(
    raw: &RawHeaderEdits,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> HeaderModifier {
    let set = check_values(&raw.set, &path.field("set"), errors);
    let add = check_values(&raw.add, &path.field("add"), errors);
    let at = path.field("remove");
    is_bounded(&raw.remove, MAX_HEADER_EDITS, &at, errors);
    let mut remove: Vec<Arc<str>> = Vec::with_capacity(raw.remove.len());
    for (index, text) in raw.remove.iter().enumerate() {
        let at = at.entry(index);
        match http::editable_header_name(text) {
            Ok(name) if remove.contains(&name) => {
                errors.add(&at, format!("{} is there already", quoted(text)), "remove one of the two");
            }
            Ok(name) if set.iter().chain(&add).any(|(other, _)| *other == name) => {
                let reason = format!("{} is set or added by the same filter", quoted(text));
                errors.add(&at, reason, "`set` replaces what was there; do one or the other");
            }
            Ok(name) => remove.push(name),
            Err(error) => errors.add_syntax_error(&at, error),
        }
    }
    if raw.set.is_empty() && raw.add.is_empty() && raw.remove.is_empty() {
        errors.add(path, "changes nothing", "add `set`, `add` or `remove`, or remove the filter");
    }
    HeaderModifier::new(HeaderEdits { set, add, remove })
}

fn check_values(
    raw: &[(String, String)],
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Vec<(Arc<str>, Arc<str>)> {
    is_bounded(raw, MAX_HEADER_EDITS, path, errors);
    let mut checked: Vec<(Arc<str>, Arc<str>)> = Vec::with_capacity(raw.len());
    for (index, (text, value)) in raw.iter().enumerate() {
        let at = path.entry(index);
        let name = http::editable_header_name(text).map_err(|error| errors.add_syntax_error(&at.field("name"), error));
        let value = http::header_value(value).map_err(|error| errors.add_syntax_error(&at.field("value"), error));
        let (Ok(name), Ok(value)) = (name, value) else { continue };
        if checked.iter().any(|(other, _)| *other == name) {
            errors.add(&at.field("name"), format!("{} is there already", quoted(text)), "remove one of the two");
        }
        checked.push((name, value));
    }
    checked
}
