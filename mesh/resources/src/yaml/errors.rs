//! Errors of one document, collected during validation. An error names a field; its position is looked up in the nodes
//! at the end.

use crate::syntax::SyntaxError;
use crate::yaml::node::Position;
use crate::yaml::path::{FieldPath, FieldPathRef, FieldStep};

/// An error in one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldError {
    /// The field's path.
    pub(crate) path: FieldPath,
    /// The position, if it is not that of the field.
    pub(crate) position: Option<Position>,
    /// The reason, without a full stop.
    pub(crate) reason: String,
    /// The hint.
    pub(crate) hint: String,
}

/// The errors found so far.
#[derive(Debug, Default)]
pub(crate) struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    /// Adds an error.
    pub(crate) fn add(&mut self, path: &FieldPathRef<'_>, reason: impl Into<String>, hint: impl Into<String>) {
        self.0.push(FieldError {
            path: path.to_field_path(),
            position: None,
            reason: reason.into(),
            hint: hint.into(),
        });
    }

    /// Adds an error of a field below an owned path.
    pub(crate) fn add_below(&mut self, path: &FieldPath, fields: &[&str], reason: String, hint: String) {
        let mut path = path.clone();
        path.0.extend(fields.iter().map(|field| FieldStep::Field((*field).to_owned())));
        self.0.push(FieldError { path, position: None, reason, hint });
    }

    /// Adds an error of a syntax check.
    pub(crate) fn add_syntax_error(&mut self, path: &FieldPathRef<'_>, error: SyntaxError) {
        self.add(path, error.reason, error.hint);
    }

    /// Adds the error of a syntax check, if there is one.
    pub(crate) fn check(&mut self, path: &FieldPathRef<'_>, result: Result<(), SyntaxError>) {
        if let Err(error) = result {
            self.add_syntax_error(path, error);
        }
    }

    /// Adds an error with its own position.
    pub(crate) fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    /// Returns true without errors.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of errors.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the errors.
    pub(crate) fn into_vec(self) -> Vec<FieldError> {
        self.0
    }
}
