//! Edits of headers: what a RequestHeaderModifier and a ResponseHeaderModifier say.

use std::sync::Arc;

use weir_model::HeaderEdits;

use crate::document::{Faults, Path};
use crate::grammar::http;
use crate::limits::MAX_HEADER_EDITS;
use crate::resource::field::is_bounded;
use crate::suggest::quoted;

/// The edits of one filter as they were written; upstream has a type for each direction.
pub(super) struct WrittenEdits {
    pub(super) set: Vec<(String, String)>,
    pub(super) add: Vec<(String, String)>,
    pub(super) remove: Vec<String>,
}

/// Checks what is set, added and removed.
pub(super) fn check_edits(written: &WrittenEdits, path: &Path<'_>, faults: &mut Faults) -> HeaderEdits {
    let set = check_values(&written.set, &path.field("set"), faults);
    let add = check_values(&written.add, &path.field("add"), faults);
    let at = path.field("remove");
    is_bounded(&written.remove, MAX_HEADER_EDITS, &at, faults);
    let mut remove: Vec<Arc<str>> = Vec::with_capacity(written.remove.len());
    for (index, text) in written.remove.iter().enumerate() {
        let at = at.entry(index);
        match http::editable_header_name(text) {
            Ok(name) if remove.contains(&name) => {
                faults.add(&at, format!("{} is there already", quoted(text)), "remove one of the two");
            }
            Ok(name) if set.iter().chain(&add).any(|(other, _)| *other == name) => {
                let reason = format!("{} is set or added by the same filter", quoted(text));
                faults.add(&at, reason, "`set` replaces what was there; do one or the other");
            }
            Ok(name) => remove.push(name),
            Err(objection) => faults.object(&at, objection),
        }
    }
    if written.set.is_empty() && written.add.is_empty() && written.remove.is_empty() {
        faults.add(path, "changes nothing", "add `set`, `add` or `remove`, or remove the filter");
    }
    HeaderEdits { set, add, remove }
}

fn check_values(written: &[(String, String)], path: &Path<'_>, faults: &mut Faults) -> Vec<(Arc<str>, Arc<str>)> {
    is_bounded(written, MAX_HEADER_EDITS, path, faults);
    let mut checked: Vec<(Arc<str>, Arc<str>)> = Vec::with_capacity(written.len());
    for (index, (text, value)) in written.iter().enumerate() {
        let at = path.entry(index);
        let name = http::editable_header_name(text).map_err(|objection| faults.object(&at.field("name"), objection));
        let value = http::header_value(value).map_err(|objection| faults.object(&at.field("value"), objection));
        let (Ok(name), Ok(value)) = (name, value) else { continue };
        if checked.iter().any(|(other, _)| *other == name) {
            faults.add(&at.field("name"), format!("{} is there already", quoted(text)), "remove one of the two");
        }
        checked.push((name, value));
    }
    checked
}
