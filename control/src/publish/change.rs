//! Changes: requests to apply, delete or roll back objects, and their results.

use std::sync::Arc;

use weir_resources::{Diagnostic, SourceFile};

use crate::publish::shrink::ShrinkPolicy;
use crate::snapshot_cache::EncodedSnapshot;
use crate::store::{ObjectChange, ObjectRef};

/// The path of stored objects in diagnostics.
pub(super) const STORED: &str = "stored";

/// A change to the stored objects.
#[derive(Debug)]
pub enum Change {
    /// Adds or replaces the objects of a text. The path is the requester's name for it, and appears in diagnostics.
    Apply(SourceFile),
    /// Deletes objects.
    Delete(Vec<ObjectRef>),
    /// Restores all objects as they were after this revision.
    Rollback(u64),
}

/// The author and the conditions of a change.
#[derive(Debug, Clone, Default)]
pub struct ChangeRequest {
    /// The name of the token.
    pub author: String,
    /// The reason for the change, in the requester's words.
    pub message: Option<String>,
    /// The revision that the change must follow; any revision when `None`.
    pub expected: Option<u64>,
    /// Validates the change without committing it.
    pub is_dry_run: bool,
    /// The policy for a change that takes away most of the mesh.
    pub shrink: ShrinkPolicy,
    /// The namespaces that the token may change; all when `None`.
    pub namespaces: Option<Vec<String>>,
}

/// The result of a change, or of its dry run.
#[derive(Debug)]
pub struct ChangeResult {
    /// The revision of the change, or the last revision if nothing changed.
    pub revision: u64,
    /// The value of each named object before and after; both are equal for an unchanged object.
    pub changes: Vec<ObjectChange>,
    /// The warnings about the changed objects, and those about other objects that the change has caused.
    pub warnings: Vec<Diagnostic>,
    /// The snapshots before and after, for a dry run only.
    pub dry_run: Option<DryRun>,
}

/// The snapshots before and after a dry run.
#[derive(Debug)]
pub struct DryRun {
    /// The current snapshot.
    pub before: Arc<EncodedSnapshot>,
    /// The snapshot that the change would publish.
    pub after: EncodedSnapshot,
}
