//! What is wrong in one document, gathered while it is checked. A fault names a field; where that field was written is
//! looked up in the tree afterwards.

use crate::document::path::{FieldPath, Path};
use crate::document::tree::Mark;
use crate::grammar::Objection;

/// Something wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The field.
    pub(crate) path: FieldPath,
    /// Where, if that is not simply where the field was written.
    pub(crate) mark: Option<Mark>,
    /// What is wrong, without a full stop.
    pub(crate) reason: String,
    /// What to do about it.
    pub(crate) hint: String,
}

/// All that is wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    /// Adds one.
    pub(crate) fn add(&mut self, path: &Path<'_>, reason: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Fault { path: path.to_field_path(), mark: None, reason: reason.into(), hint: hint.into() });
    }

    /// Adds what somebody objected to.
    pub(crate) fn object(&mut self, path: &Path<'_>, objection: Objection) {
        self.add(path, objection.reason, objection.hint);
    }

    /// Adds what somebody objected to, if they did.
    pub(crate) fn check(&mut self, path: &Path<'_>, result: Result<(), Objection>) {
        if let Err(objection) = result {
            self.object(path, objection);
        }
    }

    /// Adds one that has a place of its own.
    pub(crate) fn push(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// True when nothing is wrong so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// All of them.
    pub(crate) fn into_vec(self) -> Vec<Fault> {
        self.0
    }
}
