//! The error of the publisher's operations.

use weir_resources::{Diagnostic, ObjectId, SourceFile};

use crate::limits::MAX_CONFLICTS;
use crate::store::StoreError;

/// The reason that a change was not made. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The change or its objects are invalid.
    #[error("rejected with {} errors", .0.len())]
    Invalid(Vec<Diagnostic>),
    /// A named object, revision or workload does not exist.
    #[error("{0}")]
    NotFound(String),
    /// Another change came first, or the object belongs to a file.
    #[error("{0}")]
    Conflict(String),
    /// The token may not make this change.
    #[error("{0}")]
    Forbidden(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A module is unreadable, or the snapshot exceeds a limit.
    #[error("{0}")]
    Unpublishable(String),
}

/// The reason that files were not published. Nothing was changed.
#[derive(Debug)]
pub enum FilesError {
    /// The files are invalid.
    Invalid(Vec<Diagnostic>),
    /// The files take away most of the mesh, which is often a mistake. The text is the rest of a sentence about them.
    Shrinks(String),
}

/// Returns the error for a change that lost against other replicas [`MAX_CONFLICTS`] times.
pub(super) fn conflict_error() -> ChangeError {
    ChangeError::Conflict(format!("other replicas committed first {MAX_CONFLICTS} times; try again"))
}

/// Returns the error for a field with the text that is printed in place of a secret.
pub(super) fn hidden_secret_error(file: &SourceFile, object: &ObjectId, field: String) -> ChangeError {
    let reason = "the secret was left out when the object was printed, and the object has other changes, or is new";
    let hint = "write the secret, or a `secretRef`";
    let diagnostic = Diagnostic::without_position(reason, hint);
    let (file, object) = (file.path.clone(), Some(object.to_string()));
    ChangeError::Invalid(vec![Diagnostic { file, object, field, ..diagnostic }])
}
