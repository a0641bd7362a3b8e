//! Errors between documents. Their positions are looked up at the end.

use crate::yaml::{FieldError, FieldErrors, FieldPath, FieldPathRef};

/// The errors found so far, each with the index of its document.
#[derive(Debug, Default)]
pub(crate) struct ReferenceErrors(pub(crate) Vec<(usize, FieldError)>);

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
        self.0.push((document, FieldError { path, position: None, reason, hint }));
    }

    /// Adds an error of an owned path.
    pub(crate) fn add_at(&mut self, document: usize, path: FieldPath, reason: String, hint: String) {
        self.0.push((document, FieldError { path, position: None, reason, hint }));
    }

    /// Adds the errors of one document.
    pub(crate) fn add_field_errors(&mut self, document: usize, errors: FieldErrors) {
        self.0.extend(errors.into_vec().into_iter().map(|error| (document, error)));
    }
}
