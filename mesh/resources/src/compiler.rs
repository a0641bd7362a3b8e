//! From files to a snapshot, or to every reason why not. Called by the proxy (for `--config` and `validate`) and by the
//! control plane. Pure: it reads no file, and a set of files that it refuses changes nothing of what comes after.

use std::sync::Arc;

use weir_model::Rejection;

use crate::bundle::Bundles;
use crate::compile::{self, Memory};
use crate::compiled::Compiled;
use crate::refusal::Refusal;
use crate::registered::Registered;
use crate::resolve::{Catalog, Problems, resolve};
use crate::source::{ChunkCache, SourceFile, Sources};

/// Compiles files to snapshots. Remembers what it parsed and built by content, so that the next compilation of nearly
/// the same files costs little; what it remembers is bounded by what the last files held.
#[derive(Debug, Default)]
pub struct Compiler {
    chunks: ChunkCache,
    memory: Memory,
    bundles: Arc<Bundles>,
    registered: Arc<Registered>,
}

impl Compiler {
    /// A compiler that remembers nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// These bundles may be named from now on; before, none.
    pub fn set_bundles(&mut self, bundles: &Arc<Bundles>) {
        self.bundles = Arc::clone(bundles);
    }

    /// These have registered themselves; before, nobody.
    pub fn set_registered(&mut self, registered: Registered) {
        self.registered = Arc::new(registered);
    }

    /// The snapshot that the files describe together. Read it downwards: this is the order in which things happen.
    ///
    /// # Errors
    /// Every refusal, in the order of the files, lines and columns.
    pub fn compile(&mut self, files: &[SourceFile]) -> Result<Compiled, Vec<Refusal>> {
        let sources = self.chunks.read(files); // What is new is parsed and checked, each document by itself.
        let mut problems = Problems::default();
        let catalog = Catalog::new(&sources, (&self.bundles, &self.registered), &mut problems);
        let resolved = resolve(&catalog, &mut problems); // What they say about each other.
        compile::check(&catalog, &resolved, &mut problems);
        let refusals = all_refusals(&sources, &problems);
        if !refusals.is_empty() {
            self.chunks.keep_as_refused();
            return Err(refusals);
        }
        match compile::compile(&sources, &catalog, &resolved, &mut self.memory) {
            Ok(snapshot) => {
                drop(resolved);
                drop(catalog);
                self.chunks.keep_as_good();
                Ok(Compiled::new(snapshot, sources))
            }
            Err(rejections) => {
                self.chunks.keep_as_refused();
                Err(rejections.iter().map(unplaced).collect())
            }
        }
    }
}

/// Everything that is wrong, in the order it was written.
fn all_refusals(sources: &Sources, problems: &Problems) -> Vec<Refusal> {
    let mut placed = sources.own_refusals();
    let between = problems.0.iter().map(|it| sources.refusal(it.document, &it.path, &it.reason, &it.hint));
    placed.extend(between);
    // Stable: what is at the same place stays in the order it was found.
    placed.sort_by_key(|(position, _)| *position);
    let mut refusals: Vec<Refusal> = placed.into_iter().map(|(_, refusal)| refusal).collect();
    refusals.dedup();
    refusals
}

/// A rejection that cannot happen: everything was checked. Shown as it is rather than lost.
fn unplaced(rejection: &Rejection) -> Refusal {
    let hint = "this is a mistake of the proxy's own: report it";
    Refusal {
        object: Some(rejection.resource.to_string()),
        field: rejection.field.clone(),
        ..Refusal::unplaced(&*rejection.reason, hint)
    }
}
