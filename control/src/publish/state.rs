//! The state of the publisher: the stored objects, the files, and the objects of the current snapshot.

use std::collections::{BTreeMap, HashMap};
use std::mem::take;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use weir_resources::{BundleCatalog, Compiled, Compiler, Diagnostic, ObjectId, SourceFile, parse_objects};

use crate::access::restore;
use crate::publish::admission::{CreationOrder, set_creation, set_namespace};
use crate::publish::change::{Change, ChangeRequest, STORED};
use crate::publish::error::{ChangeError, hidden_secret_error};
use crate::store::{
    BundleSetVersion, ObjectChange, ObjectRef, ObjectSet, ResourceStore, Revision, RevisionAction, RevisionMeta,
    StoredObject, upgrade_change,
};
use crate::workload_registry::WorkloadRegistry;

/// The state of the publisher, changed under its lock.
pub(super) struct WriterState {
    pub(super) state: ObjectSet,
    /// The text of each stored object, as the compiler reads it.
    pub(super) stored_texts: HashMap<ObjectId, Arc<str>>,
    pub(super) files: Vec<SourceFile>,
    pub(super) compiler: Compiler,
    pub(super) registry: Arc<WorkloadRegistry>,
    /// The objects of the current snapshot.
    pub(super) active: BTreeMap<ObjectId, ActiveObject>,
    pub(super) file_changes: u64,
    /// The version of the bundles in the current snapshot.
    pub(super) published_bundle_version: BundleSetVersion,
}

#[derive(Debug, Clone)]
pub(super) struct ActiveObject {
    pub(super) path: PathBuf,
    pub(super) hash: [u8; 32],
    pub(super) since_generation: u64,
    /// The compiler's warnings, each on one line.
    pub(super) warnings: Vec<String>,
}

/// A copy of the state for readers.
#[derive(Default)]
pub(super) struct ReadView {
    pub(super) state: ObjectSet,
    pub(super) files: Vec<SourceFile>,
    pub(super) active: BTreeMap<ObjectId, ActiveObject>,
}

impl WriterState {
    /// Returns the state with the stored objects and no files. Nothing is published yet.
    pub(super) fn new(state: ObjectSet, registry: Arc<WorkloadRegistry>) -> Self {
        let mut writer = Self {
            state: ObjectSet::default(),
            stored_texts: HashMap::new(),
            files: Vec::new(),
            compiler: Compiler::new(),
            registry,
            active: BTreeMap::new(),
            file_changes: 0,
            published_bundle_version: BundleSetVersion::default(),
        };
        writer.stored_texts = writer.texts_for(&state);
        writer.state = state;
        writer
    }

    /// Returns a copy for readers.
    pub(super) fn read_view(&self) -> ReadView {
        ReadView { state: self.state.clone(), files: self.files.clone(), active: self.active.clone() }
    }

    pub(super) fn check_expected_revision(&self, expected: Option<u64>) -> Result<(), ChangeError> {
        let last = self.state.revision;
        match expected {
            Some(expected) if expected != last => {
                Err(ChangeError::Conflict(format!("revision {expected} is not the last one; {last} is")))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn object_changes(
        &self,
        change: &Change,
        store: &ResourceStore,
        bundles: &Arc<BundleCatalog>,
    ) -> Result<Vec<ObjectChange>, ChangeError> {
        match change {
            Change::Apply(file) => self.apply_objects(file, bundles),
            Change::Delete(names) => names.iter().map(|name| self.delete_object(name)).collect(),
            Change::Rollback(to) => self.rollback_objects(*to, store),
        }
    }

    fn apply_objects(&self, file: &SourceFile, bundles: &Arc<BundleCatalog>) -> Result<Vec<ObjectChange>, ChangeError> {
        let written = parse_objects(file);
        if !written.diagnostics.is_empty() {
            return Err(ChangeError::Invalid(self.compile_as_written(file, bundles).unwrap_or(written.diagnostics)));
        }
        let mut changes: Vec<ObjectChange> = Vec::with_capacity(written.objects.len());
        for (index, object) in written.objects.into_iter().enumerate() {
            self.check_not_in_file(&object.id)?;
            let before = self.state.objects.get(&object.id).map(|stored| Arc::clone(&stored.value));
            let mut after = object.value;
            set_namespace(&object.id, &mut after);
            set_creation(before.as_deref(), &mut after, CreationOrder { revision: self.state.revision + 1, index });
            let restored = restore(before.as_ref(), Arc::new(after));
            let after = restored.map_err(|field| hidden_secret_error(file, &object.id, field))?;
            changes.push(ObjectChange { object: (&object.id).into(), before, after: Some(after) });
        }
        let mut names: Vec<_> = changes.iter().map(|change| &change.object).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(ChangeError::Invalid(self.compile_as_written(file, bundles).unwrap_or_default()));
        }
        Ok(changes)
    }

    fn delete_object(&self, name: &ObjectRef) -> Result<ObjectChange, ChangeError> {
        let ObjectRef { kind, namespace, name: short } = name;
        let missing = || ChangeError::NotFound(format!("there is no {kind} {namespace}/{short}"));
        let id = name.id().ok_or_else(missing)?;
        self.check_not_in_file(&id)?;
        let before = self.state.objects.get(&id).ok_or_else(missing)?;
        Ok(ObjectChange { object: (&id).into(), before: Some(Arc::clone(&before.value)), after: None })
    }

    /// Returns the changes that undo every revision after `to`, the newest first.
    fn rollback_objects(&self, to: u64, store: &ResourceStore) -> Result<Vec<ObjectChange>, ChangeError> {
        let last = self.state.revision;
        if to > last {
            return Err(ChangeError::NotFound(format!("there is no revision {to}; the last one is {last}")));
        }
        let mut then: BTreeMap<ObjectRef, Option<Arc<Value>>> = BTreeMap::new();
        for id in (to + 1..=last).rev() {
            let revision = store.revision(id)?;
            let revision =
                revision.ok_or_else(|| ChangeError::NotFound(format!("revision {id} is no longer stored")))?;
            for change in revision.changes.into_iter().map(upgrade_change) {
                then.insert(change.object, change.before);
            }
        }
        let now = |name: &ObjectRef| Some(Arc::clone(&self.state.objects.get(&name.id()?)?.value));
        let change = |(object, after): (ObjectRef, _)| ObjectChange { before: now(&object), object, after };
        Ok(then.into_iter().map(change).collect())
    }

    fn check_not_in_file(&self, id: &ObjectId) -> Result<(), ChangeError> {
        match self.active.get(id) {
            Some(active) if active.path != Path::new(STORED) => {
                let path = active.path.display();
                Err(ChangeError::Conflict(format!("{id} is written in the file {path}; change it there")))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn revision(&self, change: &Change, changes: &[ObjectChange], request: &ChangeRequest) -> Revision {
        let changes: Vec<_> = changes.iter().filter(|change| change.before != change.after).cloned().collect();
        let meta = RevisionMeta {
            id: self.state.revision + 1,
            time: jiff::Timestamp::now(),
            author: request.author.clone(),
            message: request.message.clone(),
            action: match change {
                Change::Apply(_) => RevisionAction::Apply,
                Change::Delete(_) => RevisionAction::Delete,
                Change::Rollback(to) => RevisionAction::Rollback { to: *to },
            },
            objects: changes.len(),
        };
        Revision { meta, changes }
    }

    pub(super) fn compile(
        &mut self,
        state: &ObjectSet,
        files: &[SourceFile],
        bundles: &Arc<BundleCatalog>,
    ) -> Result<Compiled, Vec<Diagnostic>> {
        let mut all = files.to_vec();
        let stored = |(id, stored)| SourceFile { path: PathBuf::from(STORED), text: self.text(id, stored) };
        all.extend(state.objects.iter().map(stored));
        let mut compiler = take(&mut self.compiler); // If the compiler panics, its state is discarded.
        compiler.set_bundles(bundles);
        compiler.set_registered(self.registry.endpoints());
        let compiled = compiler.compile(&all);
        self.compiler = compiler;
        compiled
    }

    /// Returns the text of an object. The same `Arc` is returned while the value is unchanged, so the compiler can
    /// reuse its result.
    fn text(&self, id: &ObjectId, stored: &StoredObject) -> Arc<str> {
        let is_unchanged = self.state.objects.get(id).is_some_and(|current| Arc::ptr_eq(&current.value, &stored.value));
        let known = self.stored_texts.get(id).filter(|_| is_unchanged).cloned();
        known.unwrap_or_else(|| Arc::from(serde_json::to_string_pretty(&stored.value).unwrap_or_default()))
    }

    /// Returns the texts of all objects in `next`.
    pub(super) fn texts_for(&self, next: &ObjectSet) -> HashMap<ObjectId, Arc<str>> {
        next.objects.iter().map(|(id, stored)| (id.clone(), self.text(id, stored))).collect()
    }
}
