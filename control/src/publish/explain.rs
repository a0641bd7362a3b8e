//! What is wrong with a change, in terms of the text that was sent: its file, its lines.

use std::path::PathBuf;
use std::sync::Arc;

use weir_resources::{Bundles, Compiled, Compiler, ObjectId, Refusal, SourceFile, written_objects};

use crate::board::NotTold;
use crate::publish::{Change, Inner, Refused, STORED};

impl Inner {
    /// Refusals in terms of the text that was sent, where there is one.
    pub(super) fn explain(&self, change: &Change, bundles: &Arc<Bundles>, refusals: &[Refusal]) -> Refused {
        let as_written = match change {
            Change::Apply(file) => self.compile_as_written(file, bundles),
            Change::Delete(_) | Change::Rollback(_) => None,
        };
        Refused::Invalid(as_written.unwrap_or_else(|| refusals.to_vec()))
    }

    /// The same for what was found out after it was compiled.
    pub(super) fn explain_untold(
        &self,
        (change, bundles): (&Change, &Arc<Bundles>),
        compiled: &Compiled,
        not_told: NotTold,
    ) -> Refused {
        let as_written = match change {
            Change::Apply(file) => self.compile_with(file, bundles).ok(),
            Change::Delete(_) | Change::Rollback(_) => None,
        };
        refused(as_written.as_ref().unwrap_or(compiled), not_told)
    }

    /// Everything that is wrong with a text together with what is there, at its own lines; `None` when nothing is.
    pub(super) fn compile_as_written(&self, file: &SourceFile, bundles: &Arc<Bundles>) -> Option<Vec<Refusal>> {
        self.compile_with(file, bundles).err()
    }

    /// A text together with what is there and not replaced by it.
    fn compile_with(&self, file: &SourceFile, bundles: &Arc<Bundles>) -> Result<Compiled, Vec<Refusal>> {
        let replaced: Vec<ObjectId> = written_objects(file).objects.into_iter().map(|object| object.id).collect();
        let mut all = vec![file.clone()];
        all.extend(self.files.iter().cloned());
        let kept = self.texts.iter().filter(|(id, _)| !replaced.contains(id));
        all.extend(kept.map(|(_, text)| SourceFile { path: PathBuf::from(STORED), text: Arc::clone(text) }));
        // A compiler of its own: what is refused is rare, and the real one remembers what is good.
        let mut compiler = Compiler::new();
        compiler.set_bundles(bundles);
        compiler.compile(&all)
    }
}

/// What cannot be told, in terms of what was written.
pub(super) fn refused(compiled: &Compiled, not_told: NotTold) -> Refused {
    match not_told {
        NotTold::Module(reason) | NotTold::TooMuch(reason) => Refused::NotTold(reason),
        NotTold::Rejected(rejections) => {
            Refused::Invalid(rejections.iter().map(|rejection| compiled.refusal(rejection)).collect())
        }
    }
}
