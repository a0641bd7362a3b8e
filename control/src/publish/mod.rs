//! The one writer: a change comes in (applied, deleted, rolled back, or files that have changed), and is compiled with
//! everything else, kept, and told; or refused, and nothing has happened. **The walk of a change through the control
//! plane is told here**, in [`Publisher::change`].
//!
//! ```text
//! request ─► objects ─┐
//! files ──────────────┴─► compile (weir-resources) ─► filters start? ─► keep (store) ─► tell (board) ─► every proxy
//!                              └─────────────────────┴─► refused: file:line:column, field, reason, hint
//! ```
//!
//! Every call blocks.

mod bundles;
mod explain;
mod replicas;
mod rules;
mod seen;
mod trial;
mod workloads;

use std::collections::{BTreeMap, HashMap};
use std::mem::take;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};
use weir_resources::{Bundles, Compiled, Compiler, ObjectId, Refusal, SourceFile, written_objects};

pub use bundles::Pushed;
pub use seen::LiveObject;

use crate::board::{Board, Told};
use crate::bundle::BundleShelf;
use crate::limits::MAX_CONFLICTS;
use crate::loader::Loader;
use crate::publish::explain::refused;
use crate::publish::replicas::overtaken;
use crate::publish::rules::{check_modules, check_permitted, set_creation, set_namespace};
use crate::publish::seen::Seen;
use crate::registry::Registry;
use crate::store::{
    Action, BundleStamp, ObjectChange, ObjectName, ResourceStore, Revision, RevisionHead, State, StoreError,
    StoredObject,
};

/// The path that stored objects have in refusals.
const STORED: &str = "stored";

/// A change that somebody asks for.
#[derive(Debug)]
pub enum Change {
    /// Objects to add or replace, in a text that the requester calls by this path.
    Apply(SourceFile),
    /// Objects to delete.
    Delete(Vec<ObjectName>),
    /// Everything as it was after this revision.
    Rollback(u64),
}

/// Who asks for a change, and how.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The name of the token.
    pub author: String,
    /// Why, as they say.
    pub message: Option<String>,
    /// The revision that the change is meant to follow; any, when left out.
    pub expected: Option<u64>,
    /// Only find out what would happen.
    pub is_dry_run: bool,
    /// The namespaces that may be changed; all, when left out.
    pub namespaces: Option<Vec<String>>,
}

/// What a change did, or would do.
#[derive(Debug)]
pub struct Outcome {
    /// The revision that it made, or the last one if it changed nothing.
    pub revision: u64,
    /// What became of each object; those that were named and did not change have the same before and after.
    pub changes: Vec<ObjectChange>,
    /// What is told before and after, for a dry run.
    pub told: Option<(Arc<Told>, Told)>,
}

/// Why a change did not happen. Nothing of it did.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// What was written is wrong.
    #[error("refused for {} reasons", .0.len())]
    Invalid(Vec<Refusal>),
    /// An object that was named is not there.
    #[error("{0}")]
    NotFound(String),
    /// Somebody else was first, or the object is not the API's to change.
    #[error("{0}")]
    Conflict(String),
    /// The token may not change this.
    #[error("{0}")]
    Forbidden(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file that is referred to cannot be read.
    #[error("{0}")]
    NotTold(String),
}

/// The one writer.
pub struct Publisher {
    store: Arc<ResourceStore>,
    board: Arc<Board>,
    bundles: Arc<BundleShelf>,
    loader: Loader,
    registry: Arc<Registry>,
    workloads_changed: Notify,
    inner: Mutex<Inner>,
    /// What was told last, for those who read: they do not wait for who writes.
    seen: ArcSwap<Seen>,
    /// The last revision, and how often files have changed.
    changed: watch::Sender<(u64, u64)>,
}

struct Inner {
    state: State,
    /// The text of each stored object, as it is compiled.
    texts: HashMap<ObjectId, Arc<str>>,
    files: Vec<SourceFile>,
    compiler: Compiler,
    registry: Arc<Registry>,
    /// Objects that are told: where they were written, and since which generation they say what they say.
    live: BTreeMap<ObjectId, Live>,
    file_changes: u64,
    /// Of when the bundles were that are told.
    told_bundles: BundleStamp,
}

#[derive(Debug, Clone)]
struct Live {
    path: PathBuf,
    hash: [u8; 32],
    since: u64,
}

impl Publisher {
    /// Begins with what the store holds.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn new(
        store: Arc<ResourceStore>,
        board: Arc<Board>,
        (bundles, loader): (Arc<BundleShelf>, Loader),
        registry: Arc<Registry>,
    ) -> Result<Arc<Self>, StoreError> {
        let state = store.load()?;
        bundles.reload()?; // After the revisions that name them.
        let (changed, _) = watch::channel((state.revision, 0));
        let mut inner = Inner {
            state: State::default(),
            texts: HashMap::new(),
            files: Vec::new(),
            compiler: Compiler::new(),
            registry: Arc::clone(&registry),
            live: BTreeMap::new(),
            file_changes: 0,
            told_bundles: BundleStamp::default(),
        };
        inner.texts = inner.texts_of(&state);
        inner.state = state;
        let seen = ArcSwap::from_pointee(Seen { state: inner.state.clone(), ..Seen::default() });
        let inner = Mutex::new(inner);
        Ok(Arc::new(Self {
            store,
            board,
            bundles,
            loader,
            registry,
            workloads_changed: Notify::new(),
            inner,
            seen,
            changed,
        }))
    }

    /// Tells what the store held when this began.
    ///
    /// # Errors
    /// Why it cannot be told: written by another version of this program, or a shipped module is missing.
    pub fn begin(&self) -> Result<(), Refused> {
        let mut inner = self.inner.lock();
        let state = inner.state.clone();
        // It was tried when it was applied. What another version of this program would not take then is told all the same:
        // proxies look for themselves, and nobody could mend it while nothing is told at all.
        let (compiled, told) = self.prepare_untried(&mut inner, &state)?;
        self.tell(&mut inner, &compiled, told);
        Ok(())
    }

    /// A state, ready to be told; whether its filters start was found out by whoever wrote it.
    fn prepare_untried(&self, inner: &mut Inner, state: &State) -> Result<(Compiled, Told), Refused> {
        let files = inner.files.clone();
        let compiled = inner.compile(state, &files, &self.bundles.known()).map_err(Refused::Invalid)?;
        let told = self.board.prepare(&compiled.snapshot).map_err(|not_told| refused(&compiled, not_told))?;
        Ok((compiled, told))
    }

    /// Makes a change, or says why not; once more when another control plane was first.
    ///
    /// # Errors
    /// Nothing has happened.
    pub fn change(&self, change: &Change, request: &Request) -> Result<Outcome, Refused> {
        let mut inner = self.inner.lock();
        for _ in 0..MAX_CONFLICTS {
            self.take_others(&mut inner)?;
            if let Some(outcome) = self.try_change(&mut inner, change, request)? {
                return Ok(outcome);
            }
        }
        Err(overtaken())
    }

    /// Read it downwards. Nothing when another control plane was first.
    fn try_change(&self, inner: &mut Inner, change: &Change, request: &Request) -> Result<Option<Outcome>, Refused> {
        let store = &self.store;
        inner.check_expected(request.expected)?;
        let (stamp, bundles) = (self.bundles.stamp(), self.bundles.known());
        let changes = inner.changes_of(change, (store, &bundles))?; // What becomes of which object.
        check_permitted(&changes, request)?;
        let revision = inner.revision(change, &changes, request);
        let mut next = inner.state.clone();
        next.apply(&revision)?;
        let files = inner.files.clone();
        let compiled = inner.compile(&next, &files, &bundles);
        let compiled = compiled.map_err(|refusals| inner.explain(change, &bundles, &refusals))?;
        let told = check_modules(&compiled).and_then(|()| self.prepare(&compiled));
        // Nothing is kept that could not be told.
        if told.is_err() || request.is_dry_run {
            self.forget_unused();
        }
        let told = told.map_err(|not_told| inner.explain_untold((change, &bundles), &compiled, not_told))?;
        if request.is_dry_run {
            let told = Some((self.board.told(), told));
            return Ok(Some(Outcome { revision: inner.state.revision, changes, told }));
        }
        if revision.changes.is_empty() {
            return Ok(Some(Outcome { revision: inner.state.revision, changes, told: None }));
        }
        let texts = inner.texts_of(&next);
        if !store.commit(&mut inner.state, &revision, &stamp)? {
            return Ok(None);
        }
        inner.texts = texts;
        self.tell(inner, &compiled, told); // From here on every proxy gets it.
        let id = revision.head.id;
        info!(revision = id, author = request.author, objects = revision.head.objects, "a change was applied");
        if let Err(error) = store.tidy(&inner.state) {
            warn!(%error, "no checkpoint was written; nothing is lost, the next start takes longer");
        }
        Ok(Some(Outcome { revision: id, changes, told: None }))
    }

    /// Whether files would be taken together with what the store holds. Nothing is told: they may be the middle of a
    /// change.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check_files(&self, files: &[SourceFile]) -> Result<Arc<Compiled>, Vec<Refusal>> {
        let mut inner = self.inner.lock();
        let (compiled, _) = self.prepare_files(&mut inner, files)?;
        Ok(Arc::new(compiled))
    }

    /// The files have changed: takes them together with what the store holds.
    ///
    /// # Errors
    /// What is wrong with them; what was told before goes on.
    pub fn set_files(&self, files: &[SourceFile]) -> Result<(), Vec<Refusal>> {
        let mut inner = self.inner.lock();
        let (compiled, told) = self.prepare_files(&mut inner, files)?;
        let before = self.board.told();
        if before.generation > 0 && told.says_the_same(&before) {
            files.clone_into(&mut inner.files);
            self.show(&inner);
            return Ok(());
        }
        files.clone_into(&mut inner.files);
        inner.file_changes += 1;
        self.tell(&mut inner, &compiled, told);
        Ok(())
    }

    /// Tells what is there once more: the bytes of a bundle have changed, or workloads have come or gone.
    fn tell_again(&self, inner: &mut Inner) -> Result<(), Refused> {
        let (state, files) = (inner.state.clone(), inner.files.clone());
        let compiled = inner.compile(&state, &files, &self.bundles.known()).map_err(Refused::Invalid)?;
        let told = self.prepare(&compiled).map_err(|not_told| refused(&compiled, not_told))?;
        self.tell(inner, &compiled, told);
        Ok(())
    }

    fn prepare_files(&self, inner: &mut Inner, files: &[SourceFile]) -> Result<(Compiled, Told), Vec<Refusal>> {
        let state = inner.state.clone();
        let compiled = inner.compile(&state, files, &self.bundles.known())?;
        // What was stored before this process began was tried when it was applied.
        let is_first = self.board.told().generation == 0;
        let prepared = self.prepare_but(&compiled, |id| is_first && state.objects.contains_key(id));
        if prepared.is_err() {
            self.forget_unused();
        }
        let told = prepared.map_err(|not_told| match refused(&compiled, not_told) {
            Refused::Invalid(refusals) => refusals,
            other => vec![Refusal::unplaced(other.to_string(), "")],
        })?;
        Ok((compiled, told))
    }

    /// Where revisions are kept.
    pub fn store(&self) -> &Arc<ResourceStore> {
        &self.store
    }

    /// Says when something has changed: the last revision, and how often files did.
    pub fn changes(&self) -> watch::Receiver<(u64, u64)> {
        self.changed.subscribe()
    }

    fn tell(&self, inner: &mut Inner, compiled: &Compiled, told: Told) {
        let generation = told.generation;
        let mut live = BTreeMap::new();
        for (id, path, hash) in compiled.objects() {
            let before = inner.live.get(id).filter(|before| before.hash == hash);
            let since = before.map_or(generation, |before| before.since);
            live.insert(id.clone(), Live { path: path.to_owned(), hash, since });
        }
        inner.live = live;
        inner.told_bundles = self.bundles.stamp();
        self.show(inner);
        self.board.tell(told);
        self.forget_unused();
        self.changed.send_replace((inner.state.revision, inner.file_changes));
    }
}

impl Inner {
    fn check_expected(&self, expected: Option<u64>) -> Result<(), Refused> {
        let last = self.state.revision;
        match expected {
            Some(expected) if expected != last => {
                Err(Refused::Conflict(format!("revision {expected} is not the last one any more, {last} is")))
            }
            _ => Ok(()),
        }
    }

    fn changes_of(
        &self,
        change: &Change,
        (store, bundles): (&ResourceStore, &Arc<Bundles>),
    ) -> Result<Vec<ObjectChange>, Refused> {
        match change {
            Change::Apply(file) => self.applied(file, bundles),
            Change::Delete(names) => names.iter().map(|name| self.deleted(name)).collect(),
            Change::Rollback(to) => self.rolled_back(*to, store),
        }
    }

    fn applied(&self, file: &SourceFile, bundles: &Arc<Bundles>) -> Result<Vec<ObjectChange>, Refused> {
        let written = written_objects(file);
        if !written.refusals.is_empty() {
            return Err(Refused::Invalid(self.compile_as_written(file, bundles).unwrap_or(written.refusals)));
        }
        let mut changes: Vec<ObjectChange> = Vec::with_capacity(written.objects.len());
        for object in written.objects {
            self.check_not_in_file(&object.id)?;
            let before = self.state.objects.get(&object.id).map(|stored| Arc::clone(&stored.value));
            let mut after = object.value;
            set_namespace(&object.id, &mut after);
            set_creation(&object.id, before.as_deref(), &mut after)?;
            changes.push(ObjectChange { object: (&object.id).into(), before, after: Some(Arc::new(after)) });
        }
        let mut names: Vec<_> = changes.iter().map(|change| &change.object).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Refused::Invalid(self.compile_as_written(file, bundles).unwrap_or_default()));
        }
        Ok(changes)
    }

    fn deleted(&self, name: &ObjectName) -> Result<ObjectChange, Refused> {
        let ObjectName { kind, namespace, name: short } = name;
        let missing = || Refused::NotFound(format!("there is no {kind} {namespace}/{short}"));
        let id = name.id().ok_or_else(missing)?;
        self.check_not_in_file(&id)?;
        let before = self.state.objects.get(&id).ok_or_else(missing)?;
        Ok(ObjectChange { object: (&id).into(), before: Some(Arc::clone(&before.value)), after: None })
    }

    /// Undoes every revision after one, the newest first.
    fn rolled_back(&self, to: u64, store: &ResourceStore) -> Result<Vec<ObjectChange>, Refused> {
        let last = self.state.revision;
        if to > last {
            return Err(Refused::NotFound(format!("there is no revision {to}; the last one is {last}")));
        }
        let mut then: BTreeMap<ObjectName, Option<Arc<Value>>> = BTreeMap::new();
        for id in (to + 1..=last).rev() {
            let revision = store.revision(id)?;
            let revision = revision.ok_or_else(|| Refused::NotFound(format!("revision {id} is not kept any more")))?;
            for change in revision.changes {
                then.insert(change.object, change.before);
            }
        }
        let now = |name: &ObjectName| Some(Arc::clone(&self.state.objects.get(&name.id()?)?.value));
        let change = |(object, after): (ObjectName, _)| ObjectChange { before: now(&object), object, after };
        Ok(then.into_iter().map(change).collect())
    }

    fn check_not_in_file(&self, id: &ObjectId) -> Result<(), Refused> {
        match self.live.get(id) {
            Some(live) if live.path != Path::new(STORED) => {
                let path = live.path.display();
                Err(Refused::Conflict(format!("{id} is written in the file {path}; change it there")))
            }
            _ => Ok(()),
        }
    }

    fn revision(&self, change: &Change, changes: &[ObjectChange], request: &Request) -> Revision {
        let changes: Vec<_> = changes.iter().filter(|change| change.before != change.after).cloned().collect();
        let head = RevisionHead {
            id: self.state.revision + 1,
            time: jiff::Timestamp::now(),
            author: request.author.clone(),
            message: request.message.clone(),
            action: match change {
                Change::Apply(_) => Action::Apply,
                Change::Delete(_) => Action::Delete,
                Change::Rollback(to) => Action::Rollback { to: *to },
            },
            objects: changes.len(),
        };
        Revision { head, changes }
    }

    fn compile(
        &mut self,
        state: &State,
        files: &[SourceFile],
        bundles: &Arc<Bundles>,
    ) -> Result<Compiled, Vec<Refusal>> {
        let mut all = files.to_vec();
        let stored = |(id, stored)| SourceFile { path: PathBuf::from(STORED), text: self.text(id, stored) };
        all.extend(state.objects.iter().map(stored));
        let mut compiler = take(&mut self.compiler); // What a panic leaves behind is not used again.
        compiler.set_bundles(bundles);
        compiler.set_registered(self.registry.endpoints());
        let compiled = compiler.compile(&all);
        self.compiler = compiler;
        compiled
    }

    /// The text of an object: the same as long as it says the same.
    fn text(&self, id: &ObjectId, stored: &StoredObject) -> Arc<str> {
        let is_kept = self.state.objects.get(id).is_some_and(|kept| Arc::ptr_eq(&kept.value, &stored.value));
        let known = self.texts.get(id).filter(|_| is_kept).cloned();
        known.unwrap_or_else(|| Arc::from(serde_json::to_string_pretty(&stored.value).unwrap_or_default()))
    }

    /// The texts of all objects of the next state.
    fn texts_of(&self, next: &State) -> HashMap<ObjectId, Arc<str>> {
        next.objects.iter().map(|(id, stored)| (id.clone(), self.text(id, stored))).collect()
    }
}

#[cfg(test)]
mod tests {
    use weir_model::ClusterName;

    use super::*;
    use crate::bundle::TrustedSigners;
    use crate::module_store::ModuleStore;

    #[test]
    fn files_are_told_when_they_are_set_and_only_if_they_say_something_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(ResourceStore::in_folder(folder.path()).unwrap());
        let shelf = Arc::new(BundleShelf::open(Arc::clone(&store), TrustedSigners::default()).unwrap());
        let loader = Loader::new(folder.path().join("cache"));
        let modules = Arc::new(ModuleStore::new(folder.path().to_owned()));
        let board = Board::new(modules, ([127, 0, 0, 1], 1).into(), ClusterName::new("modules").unwrap());
        let registry = Arc::new(Registry::open(Arc::clone(&store)).unwrap());
        let publisher = Publisher::new(store, Arc::clone(&board), (shelf, loader), registry).unwrap();
        let service = |port: u16| {
            let text = format!(
                "apiVersion: weir.dev/v1alpha1\nkind: Service\nmetadata: {{name: a}}\nspec: {{ports: [{{name: http, \
                 port: 80, protocol: HTTP}}], endpoints: [{{address: \"127.0.0.1:{port}\"}}]}}\n"
            );
            [SourceFile { path: "a.yaml".into(), text: text.into() }]
        };
        publisher.check_files(&service(1)).unwrap();
        assert_eq!(board.told().generation, 0, "a look is only a look");
        publisher.set_files(&service(1)).unwrap();
        publisher.set_files(&service(1)).unwrap();
        assert_eq!(board.told().generation, 1);
        publisher.check_files(&[]).unwrap();
        assert_eq!(board.told().snapshot.clusters.len(), 1, "what is gone for a moment is not gone");
        publisher.set_files(&service(2)).unwrap();
        assert_eq!(board.told().generation, 2);
    }
}
