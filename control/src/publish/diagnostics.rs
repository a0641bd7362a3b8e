//! Maps errors of a change back to the text that was sent: its file, line and column.

use std::path::PathBuf;
use std::sync::Arc;

use weir_resources::{BundleCatalog, Compiled, Compiler, Diagnostic, ObjectId, SourceFile, parse_objects};

use crate::publish::change::{Change, STORED};
use crate::publish::error::ChangeError;
use crate::publish::state::WriterState;
use crate::snapshot_cache::EncodeError;

impl WriterState {
    /// Returns the error for a change that does not compile, with positions in the text that was sent, if there is
    /// one.
    pub(super) fn locate_rejections(
        &self,
        change: &Change,
        bundles: &Arc<BundleCatalog>,
        diagnostics: &[Diagnostic],
    ) -> ChangeError {
        let as_written = match change {
            Change::Apply(file) => self.compile_as_written(file, bundles),
            Change::Delete(_) | Change::Rollback(_) => None,
        };
        ChangeError::Invalid(as_written.unwrap_or_else(|| diagnostics.to_vec()))
    }

    /// Returns the error for a snapshot that cannot be encoded, with positions in the text that was sent, if there is
    /// one.
    pub(super) fn locate_encode_error(
        &self,
        change: &Change,
        bundles: &Arc<BundleCatalog>,
        compiled: &Compiled,
        error: EncodeError,
    ) -> ChangeError {
        let as_written = match change {
            Change::Apply(file) => self.compile_with(file, bundles).ok(),
            Change::Delete(_) | Change::Rollback(_) => None,
        };
        to_change_error(as_written.as_ref().unwrap_or(compiled), error)
    }

    /// Compiles a text together with all other objects. Returns the errors at their own lines, or `None` without
    /// errors.
    pub(super) fn compile_as_written(
        &self,
        file: &SourceFile,
        bundles: &Arc<BundleCatalog>,
    ) -> Option<Vec<Diagnostic>> {
        self.compile_with(file, bundles).err()
    }

    /// Compiles a text, the files, and the stored objects that the text does not replace.
    fn compile_with(&self, file: &SourceFile, bundles: &Arc<BundleCatalog>) -> Result<Compiled, Vec<Diagnostic>> {
        let replaced: Vec<ObjectId> = parse_objects(file).objects.into_iter().map(|object| object.id).collect();
        let mut all = vec![file.clone()];
        all.extend(self.files.iter().cloned());
        let stored = self.stored_texts.iter().filter(|(id, _)| !replaced.contains(id));
        all.extend(stored.map(|(_, text)| SourceFile { path: PathBuf::from(STORED), text: Arc::clone(text) }));
        // A new compiler: rejections are rare, and the writer's compiler caches results of accepted objects.
        let mut compiler = Compiler::new();
        compiler.set_bundles(bundles);
        compiler.compile(&all)
    }
}

/// Converts an error of encoding, with positions in the source of `compiled`.
pub(super) fn to_change_error(compiled: &Compiled, error: EncodeError) -> ChangeError {
    match error {
        EncodeError::ModuleUnreadable(reason) | EncodeError::TooLarge(reason) => ChangeError::Unpublishable(reason),
        EncodeError::Rejected(rejections) => {
            ChangeError::Invalid(rejections.iter().map(|rejection| compiled.diagnostic(rejection)).collect())
        }
    }
}
