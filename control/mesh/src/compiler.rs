//! From files to a snapshot, or to every reason why not. Called by the proxy (for `--config` and `validate`) and by the
//! control plane. Pure: it reads no file and keeps nothing of a set of files that it refused.

use std::path::PathBuf;
use std::sync::Arc;

use weir_model::{Rejection, Snapshot, SnapshotBuilder};

use crate::refusal::Refusal;

/// A file that somebody wrote.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Its path as the user named it; used in messages, and its folder is where relative module files are looked for.
    pub path: PathBuf,
    /// What it holds.
    pub text: Arc<str>,
}

/// Compiles files to snapshots. Remembers what it parsed and built by content, so that the next compilation of nearly
/// the same files costs little; what it remembers is bounded by what the last files held.
#[derive(Debug, Default)]
pub struct Compiler {}

impl Compiler {
    /// A compiler that remembers nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The snapshot that the files describe together.
    ///
    /// # Errors
    /// Every refusal, in the order of the files, lines and columns.
    #[expect(clippy::unused_self, clippy::needless_pass_by_ref_mut, reason = "filled in by the next commits")]
    pub fn compile(&mut self, _files: &[SourceFile]) -> Result<Compiled, Vec<Refusal>> {
        match SnapshotBuilder::default().complete() {
            Ok(snapshot) => Ok(Compiled { snapshot }),
            Err(_) => Err(Vec::new()),
        }
    }
}

/// A snapshot, and where each part of it was written.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// What the files describe.
    pub snapshot: Snapshot,
}

impl Compiled {
    /// Says a rejection that came up later (a port in use, a module that does not load) in terms of what was written.
    #[expect(clippy::unused_self, reason = "filled in by the next commits")]
    pub fn refusal(&self, rejection: &Rejection) -> Refusal {
        Refusal {
            file: PathBuf::new(),
            line: 0,
            column: 0,
            object: Some(rejection.resource.to_string()),
            field: rejection.field.clone(),
            reason: rejection.reason.clone(),
            hint: rejection.hint.clone(),
        }
    }
}
