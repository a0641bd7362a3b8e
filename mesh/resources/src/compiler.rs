//! Compiles files to a snapshot, or to all diagnostics. Called by the proxy (`--config` and `validate`) and by the
//! control plane. Reads no file itself; rejected files do not change the next compilation.

use std::sync::Arc;

use weir_model::Rejection;

use crate::bundle_catalog::BundleCatalog;
use crate::compile::{self, BuildCache};
use crate::compiled::Compiled;
use crate::diagnostic::Diagnostic;
use crate::registered_endpoints::RegisteredEndpoints;
use crate::resolve::{ObjectIndex, ReferenceErrors, resolve};
use crate::source::{ChunkCache, LastChunk, SortKey, SourceFile, Sources};
use crate::warnings;

/// Compiles files to snapshots. Caches parsed documents and built routes by content, so that a small change costs
/// little. The caches are bounded by the content of the last compilations.
#[derive(Debug, Default)]
pub struct Compiler {
    chunks: ChunkCache,
    cache: BuildCache,
    bundles: Arc<BundleCatalog>,
    registered: Arc<RegisteredEndpoints>,
}

impl Compiler {
    /// Creates a compiler with empty caches.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the bundles that Filters may name. A new compiler has none.
    pub fn set_bundles(&mut self, bundles: &Arc<BundleCatalog>) {
        self.bundles = Arc::clone(bundles);
    }

    /// Sets the endpoints that workloads registered. A new compiler has none.
    pub fn set_registered(&mut self, registered: RegisteredEndpoints) {
        self.registered = Arc::new(registered);
    }

    /// Compiles the files to one snapshot. The body shows the steps in order.
    ///
    /// # Errors
    /// All diagnostics, ordered by file, line and column.
    pub fn compile(&mut self, files: &[SourceFile]) -> Result<Compiled, Vec<Diagnostic>> {
        let sources = self.chunks.read(files); // Parses and validates new chunks.
        let mut errors = ReferenceErrors::default();
        let objects = ObjectIndex::new(&sources, &self.bundles, &self.registered, &mut errors);
        let resolved = resolve(&objects, &mut errors); // Checks references between objects.
        compile::check(&objects, &resolved, &mut errors);
        let diagnostics = ordered(&sources, sources.document_diagnostics(), &errors);
        if !diagnostics.is_empty() {
            self.chunks.commit_invalid();
            return Err(diagnostics);
        }
        match compile::compile(&sources, &objects, &resolved, &mut self.cache) {
            Ok(snapshot) => {
                let warnings = ordered(&sources, Vec::new(), &warnings::check(&objects, &resolved));
                drop(resolved);
                drop(objects);
                self.chunks.commit_valid();
                Ok(Compiled::new(snapshot, warnings, sources))
            }
            Err(rejections) => {
                self.chunks.commit_invalid();
                Err(rejections.iter().map(internal_diagnostic).collect())
            }
        }
    }
}

/// Returns all errors, or all warnings, as diagnostics, ordered by file, line and column.
fn ordered(sources: &Sources, mut located: Vec<(SortKey, Diagnostic)>, errors: &ReferenceErrors) -> Vec<Diagnostic> {
    let mut last = LastChunk::default();
    located.extend(errors.0.iter().map(|(document, error)| sources.diagnostic(*document, error, &mut last)));
    // The sort is stable: errors at one position keep the order in which they were found.
    located.sort_by_key(|(key, _)| *key);
    let mut diagnostics: Vec<Diagnostic> = located.into_iter().map(|(_, diagnostic)| diagnostic).collect();
    diagnostics.dedup();
    diagnostics
}

/// Converts a rejection by the model. All rules were checked before, so a rejection here is a bug; it is reported as
/// is.
fn internal_diagnostic(rejection: &Rejection) -> Diagnostic {
    let hint = "this is a bug in Weir: report it";
    Diagnostic {
        object: Some(rejection.resource.to_string()),
        field: rejection.field.clone(),
        ..Diagnostic::without_position(&*rejection.reason, hint)
    }
}
