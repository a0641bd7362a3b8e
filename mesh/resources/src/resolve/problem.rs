//! What is wrong between documents. The place is looked up when all are known.

use crate::document::{Fault, Faults, FieldPath, Path};

/// Something wrong with one field of one document.
#[derive(Debug)]
pub(crate) struct Problem {
    /// The document, by its index among all.
    pub(crate) document: usize,
    /// The field.
    pub(crate) path: FieldPath,
    /// What is wrong.
    pub(crate) reason: String,
    /// What to do about it.
    pub(crate) hint: String,
}

/// All that is wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

impl Problems {
    /// Adds one.
    pub(crate) fn add(&mut self, document: usize, path: &Path<'_>, reason: impl Into<String>, hint: impl Into<String>) {
        let (path, reason, hint) = (path.to_field_path(), reason.into(), hint.into());
        self.0.push(Problem { document, path, reason, hint });
    }

    /// Adds what was found in one field of a document.
    pub(crate) fn add_faults(&mut self, document: usize, faults: Faults) {
        let problem = |Fault { path, mark: _, reason, hint }| Problem { document, path, reason, hint };
        self.0.extend(faults.into_vec().into_iter().map(problem));
    }
}
