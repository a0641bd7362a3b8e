//! The publisher itself. **Read [`Publisher::apply_change`] downwards for the walk of a change.**
//!
//! ```text
//! apply_change ─► sync_from_store ─► object_changes ─► check_permitted ─► compile ─► build_validated ─► commit
//!                      ▲                                                                                 │ │
//!                      └─────────── another replica committed first (at most MAX_CONFLICTS times) ───────┘ ▼
//!                                                                                                      publish
//! ```
//!
//! An error means that the change was neither committed nor published. One exception: when etcd does not answer
//! ([`StoreError`]), it may have committed the change; the next `sync_from_store` publishes it then. Changes of other
//! replicas that `sync_from_store` has read stay published.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};
use weir_resources::Compiled;

use crate::bundle_store::BundleStore;
use crate::filter_validation::FilterValidator;
use crate::limits::MAX_CONFLICTS;
use crate::publish::admission::{check_modules, check_permitted};
use crate::publish::change::{Change, ChangeRequest, ChangeResult, DryRun};
use crate::publish::diagnostics::to_change_error;
use crate::publish::error::{ChangeError, conflict_error};
use crate::publish::state::{ActiveObject, ReadView, WriterState};
use crate::publish::warnings::warnings_by_object;
use crate::snapshot_cache::{EncodedSnapshot, SnapshotCache};
use crate::store::{CommitOutcome, ObjectSet, ResourceStore, StoreError};
use crate::workload_registry::WorkloadRegistry;

/// The only writer in this process of the store's revisions and of the snapshot cache. Other replicas may share
/// the store.
pub struct Publisher {
    pub(super) store: Arc<ResourceStore>,
    pub(super) snapshot_cache: Arc<SnapshotCache>,
    pub(super) bundles: Arc<BundleStore>,
    pub(super) validator: FilterValidator,
    pub(super) registry: Arc<WorkloadRegistry>,
    pub(super) workloads_changed: Notify,
    pub(super) writer: Mutex<WriterState>,
    /// A copy of the published state, so that readers do not wait for the writer's lock.
    pub(super) read_view: ArcSwap<ReadView>,
    pub(super) published: watch::Sender<PublishedSources>,
}

/// The versions of what the published snapshot was compiled from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedSources {
    /// The last revision of the store.
    pub revision: u64,
    /// The number of changes of the watched files since the start.
    pub file_changes: u64,
}

/// The parts that a publisher uses.
pub struct PublisherDeps {
    /// The store of revisions.
    pub store: Arc<ResourceStore>,
    /// The cache that snapshots are published to.
    pub snapshot_cache: Arc<SnapshotCache>,
    /// The bundles that Filters may name.
    pub bundles: Arc<BundleStore>,
    /// Starts filters before they are published.
    pub validator: FilterValidator,
    /// The workloads that are registered.
    pub registry: Arc<WorkloadRegistry>,
}

impl Publisher {
    /// Loads the stored objects; objects of an older release are converted. Publishes nothing yet.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn new(deps: PublisherDeps) -> Result<Arc<Self>, StoreError> {
        let PublisherDeps { store, snapshot_cache, bundles, validator, registry } = deps;
        let state = store.load_upgraded()?;
        bundles.reload()?; // After the revisions: a bundle is pushed before a Filter names it, so none is missing.
        let (published, _) = watch::channel(PublishedSources { revision: state.revision, file_changes: 0 });
        let writer = WriterState::new(state, Arc::clone(&registry));
        let read_view = ArcSwap::from_pointee(writer.read_view());
        Ok(Arc::new(Self {
            store,
            snapshot_cache,
            bundles,
            validator,
            registry,
            workloads_changed: Notify::new(),
            writer: Mutex::new(writer),
            read_view,
            published,
        }))
    }

    /// Publishes the objects that the store had when this process started.
    ///
    /// # Errors
    /// The objects do not compile or encode, for example because a shipped module is missing.
    pub fn publish_stored(&self) -> Result<(), ChangeError> {
        let mut writer = self.writer.lock();
        let state = writer.state.clone();
        // Filters are not started here: each was when it was applied, and each proxy starts them again. A filter that
        // fails now must not leave every proxy without a configuration.
        let (compiled, encoded) = self.build_unvalidated(&mut writer, &state)?;
        self.publish(&mut writer, &compiled, encoded);
        Ok(())
    }

    /// Builds a snapshot from `state` without test-starting its filters: the replica that committed it already
    /// did.
    pub(super) fn build_unvalidated(
        &self,
        writer: &mut WriterState,
        state: &ObjectSet,
    ) -> Result<(Compiled, EncodedSnapshot), ChangeError> {
        let files = writer.files.clone();
        let compiled = writer.compile(state, &files, &self.bundles.catalog()).map_err(ChangeError::Invalid)?;
        let encoded =
            self.snapshot_cache.encode(&compiled.snapshot).map_err(|error| to_change_error(&compiled, error))?;
        Ok((compiled, encoded))
    }

    /// Applies a change. Retries when another replica commits first.
    ///
    /// # Errors
    /// The change is invalid, forbidden or in conflict, or the store failed. The change was not committed; etcd that does not answer may
    /// have committed it.
    pub fn apply_change(&self, change: &Change, request: &ChangeRequest) -> Result<ChangeResult, ChangeError> {
        let mut writer = self.writer.lock();
        for _ in 0..MAX_CONFLICTS {
            self.sync_from_store(&mut writer)?;
            if let Some(outcome) = self.try_apply_change(&mut writer, change, request)? {
                return Ok(outcome);
            }
        }
        Err(conflict_error())
    }

    /// Tries a change once. Returns `None` when another replica committed first.
    fn try_apply_change(
        &self,
        writer: &mut WriterState,
        change: &Change,
        request: &ChangeRequest,
    ) -> Result<Option<ChangeResult>, ChangeError> {
        let store = &self.store;
        writer.check_expected_revision(request.expected)?;
        let (bundle_version, bundles) = (self.bundles.version(), self.bundles.catalog());
        let changes = writer.object_changes(change, store, &bundles)?; // The value of each object before and after.
        check_permitted(&changes, request)?;
        let revision = writer.revision(change, &changes, request);
        let mut next = writer.state.clone();
        next.apply(&revision)?;
        let files = writer.files.clone();
        let compiled = writer.compile(&next, &files, &bundles);
        let compiled = compiled.map_err(|diagnostics| writer.locate_rejections(change, &bundles, &diagnostics))?;
        let encoded = check_modules(&compiled).and_then(|()| self.build_validated(&compiled));
        // This attempt publishes nothing: the modules that were read for it are evicted.
        if encoded.is_err() || request.is_dry_run {
            self.evict_unused();
        }
        // Only a change that can be published is committed.
        let encoded = encoded.map_err(|error| writer.locate_encode_error(change, &bundles, &compiled, error))?;
        if !request.is_dry_run
            && let Err(reason) = request.shrink.check(&self.snapshot_cache.current().snapshot, &compiled.snapshot)
        {
            self.evict_unused();
            let advice = "if this is intended, repeat it with `allowShrink=true` (`weir --allow-shrink`)";
            return Err(ChangeError::Conflict(format!("the change {reason}; {advice}")));
        }
        let warnings = writer.change_warnings(&compiled, &changes);
        if request.is_dry_run {
            let dry_run = Some(DryRun { before: self.snapshot_cache.current(), after: encoded });
            return Ok(Some(ChangeResult { revision: writer.state.revision, changes, warnings, dry_run }));
        }
        // Objects that do not differ are no revision.
        if revision.changes.is_empty() {
            return Ok(Some(ChangeResult { revision: writer.state.revision, changes, warnings, dry_run: None }));
        }
        let stored_texts = writer.texts_for(&next); // Lets the next compilation reuse objects that did not change.
        match store.commit(&mut writer.state, &revision, &bundle_version)? {
            CommitOutcome::Conflict => return Ok(None),
            CommitOutcome::Committed => {}
        }
        writer.stored_texts = stored_texts;
        self.publish(writer, &compiled, encoded); // From here on every proxy gets it.
        let id = revision.meta.id;
        info!(revision = id, author = request.author, objects = revision.meta.objects, "revision committed");
        if let Err(error) = store.checkpoint_if_due(&writer.state) {
            warn!(%error, "checkpoint failed; no data is lost, the next start takes longer");
        }
        Ok(Some(ChangeResult { revision: id, changes, warnings, dry_run: None }))
    }

    /// Compiles and publishes the current state again, after the bytes of a bundle or the registered endpoints have
    /// changed.
    pub(super) fn republish(&self, writer: &mut WriterState) -> Result<(), ChangeError> {
        let (state, files) = (writer.state.clone(), writer.files.clone());
        let compiled = writer.compile(&state, &files, &self.bundles.catalog()).map_err(ChangeError::Invalid)?;
        let encoded = self.build_validated(&compiled).map_err(|error| to_change_error(&compiled, error))?;
        self.publish(writer, &compiled, encoded);
        Ok(())
    }

    /// Returns the store of revisions.
    pub fn store(&self) -> &Arc<ResourceStore> {
        &self.store
    }

    /// Returns a receiver that is notified at each `publish`.
    pub fn subscribe(&self) -> watch::Receiver<PublishedSources> {
        self.published.subscribe()
    }

    /// Makes `encoded` the snapshot that proxies receive, and notifies readers and subscribers.
    pub(super) fn publish(&self, writer: &mut WriterState, compiled: &Compiled, encoded: EncodedSnapshot) {
        let generation = encoded.generation; // The number of the snapshot since this process started.
        let mut active = BTreeMap::new();
        let mut notes = warnings_by_object(compiled);
        // An object with the same text keeps the generation that it is served since.
        for (id, path, hash) in compiled.objects() {
            let before = writer.active.get(id).filter(|before| before.hash == hash);
            let since_generation = before.map_or(generation, |before| before.since_generation);
            let warnings = if notes.is_empty() { None } else { notes.remove(&id.to_string()) };
            let warnings = warnings.unwrap_or_default();
            writer.log_new_warnings(id, &warnings);
            active.insert(id.clone(), ActiveObject { path: path.to_owned(), hash, since_generation, warnings });
        }
        writer.active = active;
        writer.published_bundle_version = self.bundles.version();
        self.refresh_read_view(writer);
        self.snapshot_cache.publish(encoded);
        self.evict_unused();
        let sources = PublishedSources { revision: writer.state.revision, file_changes: writer.file_changes };
        self.published.send_replace(sources);
    }
}
