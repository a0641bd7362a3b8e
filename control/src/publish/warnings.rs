//! The compiler's warnings: those of each object, for its status, and those of a change, for its author.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tracing::warn;
use weir_resources::{Compiled, Diagnostic, ObjectId};

use crate::publish::change::STORED;
use crate::publish::state::WriterState;
use crate::store::ObjectChange;

impl WriterState {
    /// Returns the warnings about the objects of a change, and those that the current snapshot does not have.
    pub(super) fn change_warnings(&self, compiled: &Compiled, changes: &[ObjectChange]) -> Vec<Diagnostic> {
        if compiled.warnings.is_empty() {
            return Vec::new();
        }
        let changed: Vec<String> = changes.iter().filter_map(|change| Some(change.object.id()?.to_string())).collect();
        let known: Vec<(String, &String)> = self
            .active
            .iter()
            .flat_map(|(id, active)| active.warnings.iter().map(|note| (id.to_string(), note)))
            .collect();
        let is_relevant = |warning: &&Diagnostic| {
            let object = warning.object.as_deref().unwrap_or_default();
            let is_known = known.iter().any(|(id, known)| id == object && **known == note(warning));
            changed.iter().any(|id| id == object) || !is_known
        };
        compiled.warnings.iter().filter(is_relevant).map(without_stored_position).collect()
    }

    /// Logs the warnings about an object that the current snapshot does not have.
    pub(super) fn log_new_warnings(&self, id: &ObjectId, warnings: &[String]) {
        let known = self.active.get(id).map(|active| active.warnings.as_slice()).unwrap_or_default();
        for warning in warnings.iter().filter(|warning| !known.contains(warning)) {
            warn!(object = %id, "{warning}");
        }
    }
}

/// Returns the warnings of each object, each on one line, by the object's name in diagnostics.
pub(super) fn warnings_by_object(compiled: &Compiled) -> HashMap<String, Vec<String>> {
    let mut by_object = HashMap::<String, Vec<String>>::new();
    for warning in &compiled.warnings {
        by_object.entry(warning.object.clone().unwrap_or_default()).or_default().push(note(warning));
    }
    by_object
}

/// Returns a warning on one line, without its position and its object.
fn note(warning: &Diagnostic) -> String {
    let reason = Diagnostic { object: None, ..without_position(warning) };
    reason.one_line()
}

/// Returns a warning without the position in the text of a stored object, which no user has written.
fn without_stored_position(warning: &Diagnostic) -> Diagnostic {
    if warning.file == Path::new(STORED) { without_position(warning) } else { warning.clone() }
}

fn without_position(warning: &Diagnostic) -> Diagnostic {
    Diagnostic { file: PathBuf::new(), line: 0, column: 0, ..warning.clone() }
}
