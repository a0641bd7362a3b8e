//! What was applied, kept: the objects, and every revision that led to them. A revision that was acknowledged is on disk
//! whole; one that was not is not there at all.
//!
//! ```text
//! head ─► the last revision       revisions/ID ─► who, when, why       records/ID-ATTEMPT/PART ─► what it changed
//! checkpoint ─► all objects at one revision; those after it are replayed on top
//! ```
//!
//! The parts of a record are written first, where nobody looks; the head moves to it in one guarded step. So a change of
//! any size is atomic even in an engine whose transactions are small, and two writers cannot both follow one revision,
//! whether they are two threads or two control planes that share an etcd. Every change of the bundles moves a stamp, which a
//! revision is guarded by too: so no bundle goes away while a Filter comes that names it.
//!
//! Every call blocks.

// From the top: each module uses only those below it. (The blank lines keep the formatter from sorting them.)

mod engine;

mod etcd;

mod embedded;

mod operation;

mod state;

mod revision;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use weir_resources::ObjectId;

pub use etcd::{EtcdOptions, EtcdTls};
pub use revision::{Action, ObjectChange, ObjectName, Revision, RevisionHead};
pub use state::{State, StoredObject};

use crate::limits::{CHECKPOINT_INTERVAL, MAX_REVISIONS, MAX_TOKENS, RECORD_PART_BYTES};
use engine::Engine;
use operation::{Guard, Order, Write};
use state::{CheckpointObject, id_of};

/// What bundles are called.
pub(crate) const BUNDLES: &str = "bundles";
const BUNDLE_STAMP: &str = "bundle-stamp";

/// Where what was applied is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorePlace {
    /// A folder of this process alone.
    Folder(PathBuf),
    /// An etcd, which other control planes may share.
    Etcd(EtcdOptions),
}

impl fmt::Display for StorePlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(formatter),
            Self::Etcd(options) => options.fmt(formatter),
        }
    }
}

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be read or written now.
    #[error("{0}")]
    Unavailable(String),
    /// What it holds is not what was written.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

/// What was applied, kept.
#[derive(Debug)]
pub struct ResourceStore {
    engine: Engine,
}

/// Where the last revision lies.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    revision: u64,
    /// Where its record lies, which no other revision of that number shares: a store may be put back to an earlier time.
    #[serde(default)]
    record: String,
}

/// A revision without its changes, and where they lie.
#[derive(Debug, Serialize, Deserialize)]
struct RevisionEntry {
    #[serde(flatten)]
    head: RevisionHead,
    record: RecordPlace,
}

/// Where a text lies that may be too long for one value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordPlace {
    prefix: String,
    parts: usize,
}

/// What moves with every change of the bundles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BundleStamp(Option<Vec<u8>>);

impl BundleStamp {
    fn guard(&self) -> Guard<'_> {
        Guard { key: BUNDLE_STAMP, value: self.0.as_deref() }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    revision: u64,
    record: RecordPlace,
}

impl ResourceStore {
    /// Opens the store.
    ///
    /// # Errors
    /// It cannot be read or written; it is damaged; it is a folder that another process has open.
    pub fn open(place: &StorePlace) -> Result<Self, StoreError> {
        Engine::open(place).map(|engine| Self { engine })
    }

    /// Opens the store in a folder.
    ///
    /// # Errors
    /// As those of opening any.
    pub fn in_folder(folder: &Path) -> Result<Self, StoreError> {
        Self::open(&StorePlace::Folder(folder.to_owned()))
    }

    /// Says when others may have written something; nothing when nobody else can.
    pub fn changes(&self) -> Option<watch::Receiver<u64>> {
        self.engine.changes()
    }

    /// Whether others write here too.
    pub const fn is_shared(&self) -> bool {
        matches!(self.engine, Engine::Etcd(_))
    }

    /// All objects after the last revision.
    pub fn load(&self) -> Result<State, StoreError> {
        let mut state = self.read_newest_checkpoint()?;
        let head = self.head()?;
        let last = head_of(head.as_deref())?.map_or(0, |head| head.revision);
        for id in state.revision + 1..=last {
            let missing = || StoreError::Damaged(format!("revision {id} of {last} is not there"));
            let revision = self.revision(id)?.ok_or_else(missing)?;
            state.apply(&revision)?;
        }
        state.head = head;
        Ok(state)
    }

    /// What moves with every revision.
    pub(crate) fn head(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.engine.get("head")
    }

    /// The state after what others have written since; nothing when they have not.
    pub fn newer(&self, state: &State) -> Result<Option<State>, StoreError> {
        let head = self.head()?;
        if head == state.head {
            return Ok(None);
        }
        let last = head_of(head.as_deref())?.map_or(0, |head| head.revision);
        if last <= state.revision || !self.has(state)? {
            return self.load().map(Some); // It was put back to an earlier time.
        }
        let mut next = state.clone();
        for id in state.revision + 1..=last {
            match self.revision(id)? {
                Some(revision) => next.apply(&revision)?,
                None => return self.load().map(Some), // Too long ago: it is not kept any more.
            }
        }
        next.head = head;
        Ok(Some(next))
    }

    /// Whether a state is of this store's history.
    fn has(&self, state: &State) -> Result<bool, StoreError> {
        let Some(Head { revision, record }) = head_of(state.head.as_deref())? else { return Ok(true) };
        let entry = self.read::<RevisionEntry>(&revision_key(revision))?;
        Ok(entry.is_some_and(|entry| entry.record.prefix == record))
    }

    /// Adds a revision after `state`, and moves `state` to it, if the bundles are still those of `stamp`. False when another
    /// writer was first: nothing has happened.
    pub fn commit(&self, state: &mut State, revision: &Revision, stamp: &BundleStamp) -> Result<bool, StoreError> {
        let mut next = state.clone();
        next.apply(revision)?;
        let (mut write, record) = self.write_record(&format!("records/{:020}", revision.head.id), &revision.changes)?;
        let head = to_bytes(&Head { revision: revision.head.id, record: record.prefix.clone() })?;
        let entry = RevisionEntry { head: revision.head.clone(), record };
        write.puts.push((revision_key(revision.head.id), to_bytes(&entry)?));
        write.puts.push(("head".to_owned(), head.clone()));
        if !self.engine.write(&[head_guard(state.head.as_deref()), stamp.guard()], &write)? {
            return Ok(false);
        }
        next.head = Some(head);
        *state = next;
        Ok(true)
    }

    /// Writes a checkpoint when one is due, and forgets revisions that are too old. Nothing is lost when this fails.
    pub fn tidy(&self, state: &State) -> Result<(), StoreError> {
        let last = self.read::<Checkpoint>("checkpoint")?;
        // (Another writer may have gone on.)
        let since = state.revision.saturating_sub(last.as_ref().map_or(0, |last| last.revision));
        if since < CHECKPOINT_INTERVAL {
            return Ok(());
        }
        let object = |(id, stored): (&ObjectId, &StoredObject)| CheckpointObject {
            object: ObjectName::from(id),
            value: Arc::clone(&stored.value),
            revision: stored.revision,
        };
        let objects: Vec<_> = state.objects.iter().map(object).collect();
        let (mut write, record) = self.write_record(&format!("checkpoints/{:020}", state.revision), &objects)?;
        let checkpoint = Checkpoint { revision: state.revision, record };
        write.puts.push(("checkpoint".to_owned(), to_bytes(&checkpoint)?));
        write.deletes = self.outdated(state.revision)?;
        // Another writer may have gone on, and may have deleted what this checkpoint is made of.
        self.engine.write(&[head_guard(state.head.as_deref())], &write).map(drop)
    }

    /// A revision, if it is still known.
    pub fn revision(&self, id: u64) -> Result<Option<Revision>, StoreError> {
        let Some(RevisionEntry { head, record }) = self.read(&revision_key(id))? else { return Ok(None) };
        Ok(Some(Revision { head, changes: self.read_record(&record)? }))
    }

    /// The newest revisions before one, newest first.
    pub fn revisions(&self, before: Option<u64>, limit: usize) -> Result<Vec<RevisionHead>, StoreError> {
        let to = before.map_or("revisions0".to_owned(), revision_key);
        let found = self.engine.list(("revisions/", &to), limit, Order::Reverse)?;
        found.iter().map(|(key, bytes)| from_bytes::<RevisionEntry>(key, bytes).map(|entry| entry.head)).collect()
    }

    /// All values of a kind of our own.
    pub(crate) fn entries<T: DeserializeOwned>(&self, kind: &str) -> Result<Vec<T>, StoreError> {
        let (from, to) = (format!("{kind}/"), format!("{kind}0"));
        let found = self.engine.list((&from, &to), MAX_TOKENS, Order::Forward)?;
        found.iter().map(|(key, bytes)| from_bytes(key, bytes)).collect()
    }

    /// Keeps a value of a kind of our own.
    pub(crate) fn put_entry(&self, kind: &str, name: &str, value: &impl Serialize) -> Result<(), StoreError> {
        self.engine.write(&[], &Write::put(format!("{kind}/{name}"), to_bytes(value)?)).map(drop)
    }

    /// Forgets a value of a kind of our own.
    pub(crate) fn delete_entry(&self, kind: &str, name: &str) -> Result<(), StoreError> {
        self.engine.write(&[], &Write::delete(vec![format!("{kind}/{name}")])).map(drop)
    }

    /// Forgets a value of a kind of our own, if it is one that may be; false when it is not.
    pub(crate) fn delete_entry_if<T: DeserializeOwned>(
        &self,
        kind: &str,
        name: &str,
        may_go: impl FnOnce(&T) -> bool,
    ) -> Result<bool, StoreError> {
        let key = format!("{kind}/{name}");
        let Some(bytes) = self.engine.get(&key)? else { return Ok(true) };
        if !may_go(&from_bytes(&key, &bytes)?) {
            return Ok(false);
        }
        let guard = Guard { key: &key, value: Some(&bytes) };
        self.engine.write(&[guard], &Write::delete(vec![key.clone()]))
    }

    /// A value that there is one of.
    pub(crate) fn single(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.engine.get(key)
    }

    /// Replaces it; false when it is not `before` any more: nothing has happened.
    pub(crate) fn replace_single(&self, key: &str, before: Option<&[u8]>, after: &[u8]) -> Result<bool, StoreError> {
        self.engine.write(&[Guard { key, value: before }], &Write::put(key, after.to_vec()))
    }

    /// What moves with every change of the bundles.
    pub(crate) fn bundle_stamp(&self) -> Result<BundleStamp, StoreError> {
        Ok(BundleStamp(self.engine.get(BUNDLE_STAMP)?))
    }

    /// Keeps a bundle, if they are still those of `stamp`, and moves that.
    pub(crate) fn put_bundle(
        &self,
        (key, value): (&str, &impl Serialize),
        stamp: &mut BundleStamp,
    ) -> Result<bool, StoreError> {
        let write = Write::put(format!("{BUNDLES}/{key}"), to_bytes(value)?);
        self.write_stamped(write, &[], stamp)
    }

    /// Forgets a bundle that no object of a state names, if that is the last one and the bundles are still those of
    /// `stamp`, and moves that.
    pub(crate) fn delete_bundle(&self, key: &str, state: &State, stamp: &mut BundleStamp) -> Result<bool, StoreError> {
        let write = Write::delete(vec![format!("{BUNDLES}/{key}")]);
        self.write_stamped(write, &[head_guard(state.head.as_deref())], stamp)
    }

    fn write_stamped(
        &self,
        mut write: Write,
        guards: &[Guard<'_>],
        stamp: &mut BundleStamp,
    ) -> Result<bool, StoreError> {
        let next = BundleStamp(Some(format!("{:016x}", random()?).into_bytes()));
        // It is the first, since nobody else writes it: by that the write is recognised when its answer is lost.
        write.puts.insert(0, (BUNDLE_STAMP.to_owned(), next.0.clone().unwrap_or_default()));
        let guards = [guards, &[stamp.guard()]].concat();
        let is_written = self.engine.write(&guards, &write)?;
        if is_written {
            *stamp = next;
        }
        Ok(is_written)
    }

    /// Keeps bytes of any length in parts, below a prefix that nothing else has.
    pub(crate) fn write_bytes(&self, prefix: &str, bytes: &[u8]) -> Result<RecordPlace, StoreError> {
        let prefix = format!("{prefix}-{:016x}", random()?);
        let parts: Vec<&[u8]> = bytes.chunks(RECORD_PART_BYTES).collect();
        let place = RecordPlace { parts: parts.len(), prefix };
        for (index, part) in parts.iter().enumerate() {
            let written = self.engine.write(&[], &Write::put(part_key(&place.prefix, index), part.to_vec()));
            if let Err(error) = written {
                drop(self.delete_bytes(&place)); // As far as the store can.
                return Err(error);
            }
        }
        Ok(place)
    }

    /// The bytes that were kept.
    pub(crate) fn read_bytes(&self, place: &RecordPlace) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        for index in 0..place.parts {
            let key = part_key(&place.prefix, index);
            let missing = || StoreError::Damaged(format!("{key} is not there"));
            bytes.extend(self.engine.get(&key)?.ok_or_else(missing)?);
        }
        Ok(bytes)
    }

    /// Forgets bytes that were kept.
    pub(crate) fn delete_bytes(&self, place: &RecordPlace) -> Result<(), StoreError> {
        let keys = (0..place.parts).map(|index| part_key(&place.prefix, index)).collect();
        self.engine.write(&[], &Write::delete(keys)).map(drop)
    }

    fn read_newest_checkpoint(&self) -> Result<State, StoreError> {
        let mut found = self.read::<Checkpoint>("checkpoint")?;
        loop {
            let Some(checkpoint) = found else { return Ok(State::default()) };
            match self.read_checkpoint(&checkpoint) {
                Ok(state) => return Ok(state),
                Err(error) => {
                    let newer = self.read::<Checkpoint>("checkpoint")?;
                    // Another writer has put a newer one in its place.
                    if newer.as_ref().is_none_or(|newer| newer.revision <= checkpoint.revision) {
                        return Err(error);
                    }
                    found = newer;
                }
            }
        }
    }

    fn read_checkpoint(&self, checkpoint: &Checkpoint) -> Result<State, StoreError> {
        let objects: Vec<CheckpointObject> = self.read_record(&checkpoint.record)?;
        let mut state = State { revision: checkpoint.revision, ..State::default() };
        for CheckpointObject { object, value, revision } in objects {
            state.objects.insert(id_of(&object)?, StoredObject { value, revision });
        }
        Ok(state)
    }

    /// Keys of what no checkpoint needs and nobody may ask for any more.
    fn outdated(&self, revision: u64) -> Result<Vec<String>, StoreError> {
        let oldest = revision.saturating_sub(MAX_REVISIONS);
        let mut keys = Vec::new();
        for (from, to) in [
            ("revisions/".to_owned(), revision_key(oldest)),
            ("records/".to_owned(), format!("records/{oldest:020}")),
            ("checkpoints/".to_owned(), format!("checkpoints/{revision:020}")),
        ] {
            keys.extend(self.engine.keys((&from, &to))?);
        }
        Ok(keys)
    }

    /// Cuts a value into parts. All but the last are written now; the last goes with the step that refers to them.
    fn write_record(&self, prefix: &str, value: &impl Serialize) -> Result<(Write, RecordPlace), StoreError> {
        let bytes = to_bytes(value)?;
        let prefix = format!("{prefix}-{:016x}", random()?);
        let parts: Vec<&[u8]> = bytes.chunks(RECORD_PART_BYTES).collect();
        let mut write = Write::default();
        for (index, part) in parts.iter().enumerate() {
            let put = (part_key(&prefix, index), part.to_vec());
            if index + 1 < parts.len() {
                self.engine.write(&[], &Write::put(put.0, put.1))?;
            } else {
                write.puts.push(put);
            }
        }
        Ok((write, RecordPlace { prefix, parts: parts.len() }))
    }

    fn read_record<T: DeserializeOwned>(&self, place: &RecordPlace) -> Result<T, StoreError> {
        from_bytes(&place.prefix, &self.read_bytes(place)?)
    }

    fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        self.engine.get(key)?.map(|bytes| from_bytes(key, &bytes)).transpose()
    }
}

fn head_of(bytes: Option<&[u8]>) -> Result<Option<Head>, StoreError> {
    bytes.map(|bytes| from_bytes("head", bytes)).transpose()
}

const fn head_guard(head: Option<&[u8]>) -> Guard<'_> {
    Guard { key: "head", value: head }
}

fn random() -> Result<u64, StoreError> {
    OsRng.try_next_u64().map_err(|error| StoreError::Unavailable(error.to_string()))
}

fn revision_key(id: u64) -> String {
    format!("revisions/{id:020}")
}

fn part_key(prefix: &str, index: usize) -> String {
    format!("{prefix}/{index:05}")
}

fn to_bytes(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Unavailable(format!("cannot be written as JSON: {error}")))
}

fn from_bytes<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::Damaged(format!("{key}: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn revision(id: u64, name: &str, before: Option<Value>, after: Option<Value>) -> Revision {
        let object = ObjectName { kind: "Service".to_owned(), namespace: "default".to_owned(), name: name.to_owned() };
        let head = RevisionHead {
            id,
            time: jiff::Timestamp::UNIX_EPOCH,
            author: "me".to_owned(),
            message: None,
            action: Action::Apply,
            objects: 1,
        };
        let change = ObjectChange { object, before: before.map(Arc::new), after: after.map(Arc::new) };
        Revision { head, changes: vec![change] }
    }

    fn names(state: &State) -> Vec<String> {
        state.objects.keys().map(|id| id.name.to_string()).collect()
    }

    #[test]
    fn what_was_committed_is_loaded_and_only_one_of_two_writers_wins() {
        let folder = tempfile::tempdir().unwrap();
        let store = ResourceStore::in_folder(folder.path()).unwrap();
        let mut state = store.load().unwrap();
        let mut behind = state.clone();
        assert!(
            store.commit(&mut state, &revision(1, "a", None, Some(json!({"v": 1}))), &BundleStamp::default()).unwrap()
        );
        assert!(
            !store
                .commit(&mut behind, &revision(1, "b", None, Some(json!({"v": 1}))), &BundleStamp::default())
                .unwrap()
        );
        assert_eq!((behind.revision, behind.objects.len()), (0, 0));
        let large = json!({"text": "x".repeat(3 * RECORD_PART_BYTES)});
        assert!(
            store.commit(&mut state, &revision(2, "c", None, Some(large.clone())), &BundleStamp::default()).unwrap()
        );
        assert!(
            store.commit(&mut state, &revision(3, "a", Some(json!({"v": 1})), None), &BundleStamp::default()).unwrap()
        );
        drop(store);
        let store = ResourceStore::in_folder(folder.path()).unwrap();
        let loaded = store.load().unwrap();
        assert_eq!((loaded.revision, names(&loaded)), (3, vec!["c".to_owned()]));
        assert_eq!(store.revision(2).unwrap().unwrap().changes[0].after.as_deref(), Some(&large));
        let ids = |before| -> Vec<u64> { store.revisions(before, 2).unwrap().iter().map(|head| head.id).collect() };
        assert_eq!((ids(None), ids(Some(2))), (vec![3, 2], vec![1]));
    }

    #[test]
    fn a_store_that_was_put_back_has_another_history() {
        let folder = tempfile::tempdir().unwrap();
        let store = ResourceStore::in_folder(folder.path()).unwrap();
        let (mut state, stamp) = (store.load().unwrap(), BundleStamp::default());
        assert!(store.commit(&mut state, &revision(1, "a", None, Some(json!({}))), &stamp).unwrap());
        let mut put_back = store.load().unwrap();
        assert!(store.commit(&mut state, &revision(2, "b", None, Some(json!({}))), &stamp).unwrap());
        assert!(store.newer(&state).unwrap().is_none());
        assert_eq!(names(&store.newer(&put_back).unwrap().unwrap()), ["a", "b"]);

        store.replace_single("head", state.head.as_deref(), put_back.head.as_deref().unwrap()).unwrap();
        assert_eq!(names(&store.newer(&state).unwrap().unwrap()), ["a"]);
        // Somebody goes on from there: the same numbers are other revisions.
        for (id, name) in [(2, "x"), (3, "y")] {
            assert!(store.commit(&mut put_back, &revision(id, name, None, Some(json!({}))), &stamp).unwrap());
            assert_eq!(names(&store.newer(&state).unwrap().unwrap()), names(&put_back));
            let mut behind = state.clone();
            assert!(!store.commit(&mut behind, &revision(3, "c", None, Some(json!({}))), &stamp).unwrap());
        }
    }

    #[test]
    fn a_checkpoint_replaces_what_led_to_it_and_old_revisions_go() {
        let folder = tempfile::tempdir().unwrap();
        let store = ResourceStore::in_folder(folder.path()).unwrap();
        let mut state = store.load().unwrap();
        let last = MAX_REVISIONS + 2 * CHECKPOINT_INTERVAL;
        for id in 1..=last {
            let name = format!("s{}", id % 7);
            assert!(
                store
                    .commit(&mut state, &revision(id, &name, None, Some(json!({"v": id}))), &BundleStamp::default())
                    .unwrap()
            );
            store.tidy(&state).unwrap();
        }
        let loaded = store.load().unwrap();
        assert_eq!((loaded.revision, loaded.objects.len()), (last, 7));
        assert!(loaded.objects.iter().all(|(id, it)| *it.value == *state.objects[id].value));
        assert!(store.revision(1).unwrap().is_none(), "too old");
        assert!(store.revision(last - MAX_REVISIONS + CHECKPOINT_INTERVAL).unwrap().is_some());
        let checkpoints = store.engine.list(("checkpoints/", "checkpoints0"), 10, Order::Forward).unwrap();
        assert_eq!(checkpoints.len(), 1);
    }
}
