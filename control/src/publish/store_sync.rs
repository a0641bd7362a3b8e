//! Synchronizes with other replicas that share the store: before each change of this one, and when the store
//! reports a change.

use tracing::info;

use crate::limits::MAX_CONFLICTS;
use crate::publish::error::{ChangeError, conflict_error};
use crate::publish::publisher::Publisher;
use crate::publish::state::WriterState;
use crate::store::ObjectSet;

impl Publisher {
    /// Publishes what other replicas have written.
    ///
    /// # Errors
    /// The store cannot be read, or its objects do not compile here. The current snapshot stays.
    pub fn sync(&self) -> Result<(), ChangeError> {
        // Read without the writer's lock.
        let (head, bundle_version) = (self.store.head()?, self.store.bundle_set_version()?);
        if self.registry.reload()? {
            self.workloads_changed.notify_one();
        }
        let mut writer = self.writer.lock();
        if head == writer.state.head && bundle_version == writer.published_bundle_version {
            return Ok(());
        }
        self.sync_from_store(&mut writer)
    }

    pub(super) fn sync_from_store(&self, writer: &mut WriterState) -> Result<(), ChangeError> {
        if !self.store.is_shared() {
            return Ok(());
        }
        for _ in 0..MAX_CONFLICTS {
            // Bundles are read after the revisions that name them.
            let next = self.store.load_if_newer(&writer.state)?;
            self.bundles.reload()?;
            if next.is_none() && self.bundles.version() == writer.published_bundle_version {
                return Ok(());
            }
            let next = next.unwrap_or_else(|| writer.state.clone());
            match self.adopt_state(writer, next.clone()) {
                // The store has changed between both reads, so the bundles may not match the revisions.
                Err(ChangeError::Invalid(_) | ChangeError::Unpublishable(_)) if self.store.head()? != next.head => {}
                result => return result.map_err(|error| foreign_revision_error(error, next.revision)),
            }
        }
        Err(conflict_error())
    }

    /// Replaces the state with `next` and publishes it.
    fn adopt_state(&self, writer: &mut WriterState, next: ObjectSet) -> Result<(), ChangeError> {
        let (compiled, encoded) = self.build_unvalidated(writer, &next)?;
        if next.head == writer.state.head && encoded.is_equivalent(&self.snapshot_cache.current()) {
            writer.published_bundle_version = self.bundles.version(); // A bundle that no Filter names has changed.
            return Ok(());
        }
        writer.stored_texts = writer.texts_for(&next);
        writer.state = next;
        info!(revision = writer.state.revision, "revision of another replica published");
        self.publish(writer, &compiled, encoded);
        Ok(())
    }
}

fn foreign_revision_error(error: ChangeError, revision: u64) -> ChangeError {
    match error {
        ChangeError::Invalid(diagnostics) => {
            let reasons: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
            let reasons = reasons.join("; ");
            ChangeError::Conflict(format!(
                "revision {revision}, made by another replica, does not compile here: {reasons}; do all of \
                 them run the same program, with the same --config, --plugins and --trusted-signers?"
            ))
        }
        other => other,
    }
}
