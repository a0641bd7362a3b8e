//! Errors between documents. Their positions are looked up at the end.

use crate::yaml::{FieldError, FieldErrors, FieldPath, FieldPathRef};

/// An error in one field of one document.
#[derive(Debug)]
pub(crate) struct ReferenceError {
    /// The index of the document.
    pub(crate) document: usize,
    /// The field.
    pub(crate) path: FieldPath,
    /// The reason.
    pub(crate) reason: String,
    /// The hint.
    pub(crate) hint: String,
}

/// The errors found so far.
#[derive(Debug, Default)]
pub(crate) struct ReferenceErrors(pub(crate) Vec<ReferenceError>);

impl ReferenceErrors {
    /// Adds an error.
    pub(crate) fn add(
        &mut self,
        document: usize,
        path: &FieldPathRef<'_>,
        reason: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let (path, reason, hint) = (path.to_field_path(), reason.into(), hint.into());
        self.0.push(ReferenceError { document, path, reason, hint });
    }

    /// Adds an error of an owned path.
    pub(crate) fn add_at(&mut self, document: usize, path: FieldPath, reason: String, hint: String) {
        self.0.push(ReferenceError { document, path, reason, hint });
    }

    /// Adds the errors of one document.
    pub(crate) fn add_field_errors(&mut self, document: usize, errors: FieldErrors) {
        let reference_error =
            |FieldError { path, position: _, reason, hint }| ReferenceError { document, path, reason, hint };
        self.0.extend(errors.into_vec().into_iter().map(reference_error));
    }
}
