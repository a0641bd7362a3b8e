//! The error of a field syntax check: a reason and a hint, without the field's path, which the caller adds.

/// A text or number that is not valid in its field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// The reason, without a full stop.
    pub(crate) reason: String,
    /// The valid form.
    pub(crate) hint: String,
}

impl SyntaxError {
    /// Creates an error from its reason and its hint.
    pub(crate) fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: hint.into() }
    }
}

impl From<weir_model::UnitError> for SyntaxError {
    fn from(error: weir_model::UnitError) -> Self {
        Self { reason: error.reason, hint: error.hint }
    }
}
