//! Publishes the watched files. Files that would take away most of the mesh are read again after a while first: a folder
//! that is mounted anew is empty for a moment.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};
use weir_file_source::{ConfigUpdate, WatchSignal};

use crate::limits::SHRINK_DELAY;
use crate::publish::{FilesError, Publisher, ShrinkPolicy};
use crate::task;

/// Publishes each update of the files, until their source ends.
pub(super) async fn follow(
    publisher: Arc<Publisher>,
    mut updates: watch::Receiver<Option<ConfigUpdate>>,
    signal: WatchSignal,
) {
    let mut shrink_at: Option<Instant> = None;
    let mut is_requested = false; // True after the last reading of files that take away most of the mesh was requested.
    loop {
        tokio::select! {
            changed = updates.changed() => if changed.is_err() { return },
            () = task::sleep_until(shrink_at), if !is_requested => {
                is_requested = true;
                signal.request_rescan();
                continue;
            }
        }
        let Some(update) = updates.borrow_and_update().clone() else { continue };
        let is_due = shrink_at.is_some_and(|at| at <= Instant::now());
        let mut result = apply(&publisher, update.clone(), ShrinkPolicy::Reject).await;
        if is_due && matches!(result, Err(FilesError::Shrinks(_))) {
            warn!("files published although most of the mesh is gone from them");
            result = apply(&publisher, update, ShrinkPolicy::Allow).await;
        }
        match result {
            Ok(()) => {
                (shrink_at, is_requested) = (None, false);
                info!("configuration published from files");
            }
            Err(FilesError::Shrinks(reason)) => {
                shrink_at.get_or_insert_with(|| Instant::now() + SHRINK_DELAY);
                let delay_s = SHRINK_DELAY.as_secs();
                warn!(delay_s, "files {reason}; they are read again and then published, the last configuration stays");
            }
            Err(FilesError::Invalid(diagnostics)) => {
                diagnostics.iter().for_each(|diagnostic| warn!("rejected: {diagnostic}"));
                warn!(errors = diagnostics.len(), "files rejected; the last valid configuration stays");
            }
        }
    }
}

/// Publishes the files of an update.
///
/// # Errors
/// The files are invalid, or take away most of the mesh.
pub(super) async fn apply(
    publisher: &Arc<Publisher>,
    update: ConfigUpdate,
    policy: ShrinkPolicy,
) -> Result<(), FilesError> {
    if let Err(diagnostics) = update.outcome {
        return Err(FilesError::Invalid(diagnostics.to_vec()));
    }
    let publisher = Arc::clone(publisher);
    let applied = task::blocking(move || publisher.apply_files(&update.files, policy)).await;
    applied.unwrap_or(Ok(())) // `None` if the process ends.
}
