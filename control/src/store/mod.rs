//! The store of the control plane: applied objects, the revisions that led to them, bundles, tokens and registrations.
//! A revision is committed completely or not at all; an acknowledged revision is durable.
//!
//! ```text
//! head ─► the last revision       revisions/ID ─► author, time, reason       records/ID-ATTEMPT/PART ─► its changes
//! checkpoint ─► all objects at one revision; later revisions are replayed on top
//! ```
//!
//! The parts of a record are written first, under keys that no reader looks up. One conditional transaction then moves
//! the head to the record. So a change of any size is atomic, also in a key-value store that limits its transactions,
//! and two writers cannot both follow one revision. The writers may be two threads, or two control planes that share an
//! etcd.
//!
//! Every change of the bundles changes the [`BundleSetVersion`], which is a precondition of a revision, too. So a
//! bundle is not deleted while a Filter is applied that names it.
//!
//! Every method blocks on disk or on etcd.

// From the top: each module uses only those below it. (The blank lines keep the formatter from sorting them.)

mod kv;

mod redb;

mod location;

mod etcd;

mod txn;

mod object_set;

mod upgrade;

mod revision;

mod error;

use std::path::Path;
use std::sync::Arc;

use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::info;
use weir_resources::ObjectId;

pub use error::StoreError;
pub use etcd::{EtcdKeyPair, EtcdOptions, EtcdTls};
pub use location::StoreLocation;
pub use object_set::{ObjectSet, StoredObject};
pub use revision::{ObjectChange, ObjectRef, Revision, RevisionAction, RevisionMeta};

use crate::limits::{CHECKPOINT_INTERVAL, MAX_CONFLICTS, MAX_REVISIONS, MAX_TOKENS, RECORD_PART_BYTES};
use kv::KvStore;
use object_set::CheckpointObject;
use txn::{KeyRange, Order, Precondition, Put, Txn};
use upgrade::object_id;
pub(crate) use upgrade::upgrade_change;

/// The kind of entries that bundles are stored under.
pub(crate) const BUNDLES: &str = "bundles";
/// The key of the bundle set's version.
const BUNDLE_SET_VERSION: &str = "bundle-stamp";

/// The outcome of a commit.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitOutcome {
    /// The revision is the last one of the store.
    Committed,
    /// Another writer committed first.
    Conflict,
}

/// The store of the control plane.
#[derive(Debug)]
pub struct ResourceStore {
    kv: KvStore,
}

/// The value of `head`: the last revision.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    revision: u64,
    /// The prefix of the revision's record. It is unique also between two revisions of one number, which exist after
    /// the store was restored from a backup.
    #[serde(default)]
    record: String,
}

/// A revision without its changes.
#[derive(Debug, Serialize, Deserialize)]
struct RevisionEntry {
    #[serde(flatten)]
    meta: RevisionMeta,
    /// The changes.
    record: BlobRef,
}

/// A reference to bytes that are stored in parts, because one value may be too small for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlobRef {
    prefix: String,
    parts: usize,
}

/// The version of the set of bundles: a random value that every change of the bundles replaces. Used for optimistic
/// concurrency.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BundleSetVersion(Option<Vec<u8>>);

impl BundleSetVersion {
    fn precondition(&self) -> Precondition<'_> {
        Precondition { key: BUNDLE_SET_VERSION, value: self.0.as_deref() }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    revision: u64,
    record: BlobRef,
}

impl ResourceStore {
    /// Opens the store at a location.
    ///
    /// # Errors
    /// The store cannot be read or written, is damaged, or is a folder that another process has open.
    pub fn open(location: &StoreLocation) -> Result<Self, StoreError> {
        KvStore::open(location).map(|kv| Self { kv })
    }

    /// Opens the store of a folder.
    ///
    /// # Errors
    /// See [`ResourceStore::open`].
    pub fn in_folder(folder: &Path) -> Result<Self, StoreError> {
        Self::open(&StoreLocation::Folder(folder.to_owned()))
    }

    /// Returns a channel that changes when another process may have written; `None` if no other process can.
    pub fn changes(&self) -> Option<watch::Receiver<u64>> {
        self.kv.changes()
    }

    /// Returns true if other replicas may write to the store.
    pub const fn is_shared(&self) -> bool {
        matches!(self.kv, KvStore::Etcd(_))
    }

    /// Returns all objects as of the last revision.
    pub fn load(&self) -> Result<ObjectSet, StoreError> {
        let mut state = self.read_newest_checkpoint()?;
        let head = self.head()?;
        let last = parse_head(head.as_deref())?.map_or(0, |head| head.revision);
        for id in state.revision + 1..=last {
            let missing = || StoreError::Damaged(format!("revision {id} of {last} is not there"));
            let revision = self.revision(id)?.ok_or_else(missing)?;
            state.apply(&revision)?;
        }
        state.head = head;
        Ok(state)
    }

    /// Returns all objects as of the last revision. If an older release stored some of them with former names, commits a
    /// revision with current names first.
    pub fn load_upgraded(&self) -> Result<ObjectSet, StoreError> {
        for _ in 0..MAX_CONFLICTS {
            let mut state = self.load()?;
            let Some(revision) = state.upgrade_revision() else { return Ok(state) };
            // Another control plane that shares the store may commit the conversion first.
            if self.commit(&mut state, &revision, &self.bundle_set_version()?)? == CommitOutcome::Committed {
                let RevisionMeta { id, objects, .. } = revision.meta;
                info!(revision = id, objects, "objects of an older release converted");
                return Ok(state);
            }
        }
        Err(StoreError::Unavailable("other replicas commit all the time; try again".to_owned()))
    }

    /// Returns the head: bytes that differ after every revision.
    pub(crate) fn head(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.kv.get("head")
    }

    /// Returns the objects as of the last revision; `None` if `state` is as of that revision.
    pub fn load_if_newer(&self, state: &ObjectSet) -> Result<Option<ObjectSet>, StoreError> {
        let head = self.head()?;
        if head == state.head {
            return Ok(None);
        }
        let last = parse_head(head.as_deref())?.map_or(0, |head| head.revision);
        if last <= state.revision || !self.contains(state)? {
            return self.load().map(Some); // The store was restored from a backup.
        }
        let mut next = state.clone();
        for id in state.revision + 1..=last {
            match self.revision(id)? {
                Some(revision) => next.apply(&revision)?,
                None => return self.load().map(Some), // The revision has expired.
            }
        }
        next.head = head;
        Ok(Some(next))
    }

    /// Returns true if the store's history contains the revision of `state`.
    fn contains(&self, state: &ObjectSet) -> Result<bool, StoreError> {
        let Some(Head { revision, record }) = parse_head(state.head.as_deref())? else { return Ok(true) };
        let entry = self.read::<RevisionEntry>(&revision_key(revision))?;
        Ok(entry.is_some_and(|entry| entry.record.prefix == record))
    }

    /// Appends a revision to `state` and updates `state`, if `state` is as of the last revision and the bundles still
    /// have `version`. After a conflict nothing is changed.
    pub fn commit(
        &self,
        state: &mut ObjectSet,
        revision: &Revision,
        version: &BundleSetVersion,
    ) -> Result<CommitOutcome, StoreError> {
        let mut next = state.clone();
        next.apply(revision)?;
        let id = revision.meta.id;
        let (mut txn, record) = self.write_record(&format!("records/{id:020}"), &revision.changes)?;
        let head = to_bytes(&Head { revision: id, record: record.prefix.clone() })?;
        let entry = RevisionEntry { meta: revision.meta.clone(), record };
        txn.puts.push(Put::new(revision_key(id), to_bytes(&entry)?));
        txn.puts.push(Put::new("head", head.clone()));
        if !self.kv.write(&[head_precondition(state.head.as_deref()), version.precondition()], &txn)? {
            return Ok(CommitOutcome::Conflict);
        }
        next.head = Some(head);
        *state = next;
        Ok(CommitOutcome::Committed)
    }

    /// Writes a checkpoint and deletes expired revisions, if the last checkpoint is `CHECKPOINT_INTERVAL` revisions
    /// old. A failure loses nothing.
    pub fn checkpoint_if_due(&self, state: &ObjectSet) -> Result<(), StoreError> {
        let last = self.read::<Checkpoint>("checkpoint")?;
        // Another writer may have written a checkpoint of a later revision.
        let since = state.revision.saturating_sub(last.as_ref().map_or(0, |last| last.revision));
        if since < CHECKPOINT_INTERVAL {
            return Ok(());
        }
        let object = |(id, stored): (&ObjectId, &StoredObject)| CheckpointObject {
            object: ObjectRef::from(id),
            value: Arc::clone(&stored.value),
            revision: stored.revision,
        };
        let objects: Vec<_> = state.objects.iter().map(object).collect();
        let (mut txn, record) = self.write_record(&format!("checkpoints/{:020}", state.revision), &objects)?;
        let checkpoint = Checkpoint { revision: state.revision, record };
        txn.puts.push(Put::new("checkpoint", to_bytes(&checkpoint)?));
        txn.deletes = self.expired_keys(state.revision)?;
        // The precondition fails after a commit of another writer, which may have deleted parts of this checkpoint.
        self.kv.write(&[head_precondition(state.head.as_deref())], &txn).map(drop)
    }

    /// Returns a revision; `None` if it does not exist or has expired.
    pub fn revision(&self, id: u64) -> Result<Option<Revision>, StoreError> {
        let Some(RevisionEntry { meta, record }) = self.read(&revision_key(id))? else { return Ok(None) };
        Ok(Some(Revision { meta, changes: self.read_record(&record)? }))
    }

    /// Returns at most `limit` revisions, newest first, beginning before revision `before`.
    pub fn revisions(&self, before: Option<u64>, limit: usize) -> Result<Vec<RevisionMeta>, StoreError> {
        let to = before.map_or("revisions0".to_owned(), revision_key);
        let range = KeyRange { from: "revisions/", to: &to };
        let found = self.kv.list(range, limit, Order::Reverse)?;
        found.iter().map(|(key, bytes)| from_bytes::<RevisionEntry>(key, bytes).map(|entry| entry.meta)).collect()
    }

    /// Returns all entries of a kind, such as `tokens`.
    pub(crate) fn list_entries<T: DeserializeOwned>(&self, kind: &str) -> Result<Vec<T>, StoreError> {
        let (from, to) = (format!("{kind}/"), format!("{kind}0"));
        let found = self.kv.list(KeyRange { from: &from, to: &to }, MAX_TOKENS, Order::Forward)?;
        found.iter().map(|(key, bytes)| from_bytes(key, bytes)).collect()
    }

    /// Inserts or replaces an entry of a kind.
    pub(crate) fn put_entry(&self, kind: &str, name: &str, value: &impl Serialize) -> Result<(), StoreError> {
        self.kv.write(&[], &Txn::put(format!("{kind}/{name}"), to_bytes(value)?)).map(drop)
    }

    /// Deletes entries of a kind, in one transaction where the store allows as many.
    pub(crate) fn delete_entries(&self, kind: &str, names: &[&str]) -> Result<(), StoreError> {
        let keys = names.iter().map(|name| format!("{kind}/{name}")).collect();
        self.kv.write(&[], &Txn::delete(keys)).map(drop)
    }

    /// Deletes an entry of a kind if `predicate` is true for it. Returns false if the predicate is false, or if another
    /// writer changed the entry meanwhile; true if the entry is absent.
    pub(crate) fn delete_entry_if<T: DeserializeOwned>(
        &self,
        kind: &str,
        name: &str,
        predicate: impl FnOnce(&T) -> bool,
    ) -> Result<bool, StoreError> {
        let key = format!("{kind}/{name}");
        let Some(bytes) = self.kv.get(&key)? else { return Ok(true) };
        if !predicate(&from_bytes(&key, &bytes)?) {
            return Ok(false);
        }
        let precondition = Precondition { key: &key, value: Some(&bytes) };
        self.kv.write(&[precondition], &Txn::delete(vec![key.clone()]))
    }

    /// Returns the value of a key that is no entry of a kind.
    pub(crate) fn get_singleton(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.kv.get(key)
    }

    /// Replaces the value of such a key. Returns false, and changes nothing, if the value is not `before`.
    pub(crate) fn compare_and_swap(&self, key: &str, before: Option<&[u8]>, after: &[u8]) -> Result<bool, StoreError> {
        self.kv.write(&[Precondition { key, value: before }], &Txn::put(key, after.to_vec()))
    }

    /// Returns the current version of the set of bundles.
    pub(crate) fn bundle_set_version(&self) -> Result<BundleSetVersion, StoreError> {
        Ok(BundleSetVersion(self.kv.get(BUNDLE_SET_VERSION)?))
    }

    /// Stores a bundle and updates `version`. Returns false, and changes nothing, if the set of bundles does not have
    /// `version`.
    pub(crate) fn put_bundle(
        &self,
        key: &str,
        value: &impl Serialize,
        version: &mut BundleSetVersion,
    ) -> Result<bool, StoreError> {
        let puts = vec![Put::new(format!("{BUNDLES}/{key}"), to_bytes(value)?)];
        self.write_if_version(Txn { puts, ..Txn::default() }, &[], version)
    }

    /// Deletes a bundle that no object of `state` names, and updates `version`. Returns false, and changes nothing, if
    /// `state` is not as of the last revision or the set of bundles does not have `version`.
    pub(crate) fn delete_bundle(
        &self,
        key: &str,
        state: &ObjectSet,
        version: &mut BundleSetVersion,
    ) -> Result<bool, StoreError> {
        let txn = Txn::delete(vec![format!("{BUNDLES}/{key}")]);
        self.write_if_version(txn, &[head_precondition(state.head.as_deref())], version)
    }

    /// Applies a transaction that changes the set of bundles. The new version is the transaction's marker: it is
    /// random.
    fn write_if_version(
        &self,
        mut txn: Txn,
        preconditions: &[Precondition<'_>],
        version: &mut BundleSetVersion,
    ) -> Result<bool, StoreError> {
        let next = format!("{:016x}", random()?).into_bytes();
        txn.marker = Some(Put::new(BUNDLE_SET_VERSION, next.clone()));
        let preconditions = [preconditions, &[version.precondition()]].concat();
        let is_written = self.kv.write(&preconditions, &txn)?;
        if is_written {
            *version = BundleSetVersion(Some(next));
        }
        Ok(is_written)
    }

    /// Stores bytes of any length in parts, under a new prefix that begins with `prefix`.
    pub(crate) fn write_bytes(&self, prefix: &str, bytes: &[u8]) -> Result<BlobRef, StoreError> {
        let prefix = format!("{prefix}-{:016x}", random()?);
        let parts: Vec<&[u8]> = bytes.chunks(RECORD_PART_BYTES).collect();
        let blob = BlobRef { parts: parts.len(), prefix };
        for (index, part) in parts.iter().enumerate() {
            let written = self.kv.write(&[], &Txn::put(part_key(&blob.prefix, index), part.to_vec()));
            if let Err(error) = written {
                drop(self.delete_bytes(&blob)); // The first error is the one that is returned.
                return Err(error);
            }
        }
        Ok(blob)
    }

    /// Returns the bytes of a blob.
    pub(crate) fn read_bytes(&self, blob: &BlobRef) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        for index in 0..blob.parts {
            let key = part_key(&blob.prefix, index);
            let missing = || StoreError::Damaged(format!("{key} is not there"));
            bytes.extend(self.kv.get(&key)?.ok_or_else(missing)?);
        }
        Ok(bytes)
    }

    /// Deletes the bytes of a blob.
    pub(crate) fn delete_bytes(&self, blob: &BlobRef) -> Result<(), StoreError> {
        let keys = (0..blob.parts).map(|index| part_key(&blob.prefix, index)).collect();
        self.kv.write(&[], &Txn::delete(keys)).map(drop)
    }

    fn read_newest_checkpoint(&self) -> Result<ObjectSet, StoreError> {
        let mut found = self.read::<Checkpoint>("checkpoint")?;
        loop {
            let Some(checkpoint) = found else { return Ok(ObjectSet::default()) };
            match self.read_checkpoint(&checkpoint) {
                Ok(state) => return Ok(state),
                Err(error) => {
                    let newer = self.read::<Checkpoint>("checkpoint")?;
                    // Another writer may have replaced the checkpoint by a newer one.
                    if newer.as_ref().is_none_or(|newer| newer.revision <= checkpoint.revision) {
                        return Err(error);
                    }
                    found = newer;
                }
            }
        }
    }

    fn read_checkpoint(&self, checkpoint: &Checkpoint) -> Result<ObjectSet, StoreError> {
        let objects: Vec<CheckpointObject> = self.read_record(&checkpoint.record)?;
        let mut state = ObjectSet { revision: checkpoint.revision, ..ObjectSet::default() };
        for CheckpointObject { object, value, revision } in objects {
            state.objects.insert(object_id(&object)?, StoredObject::read(&value, revision));
        }
        Ok(state)
    }

    /// Returns the keys of revisions and records that are older than `MAX_REVISIONS`, and of older checkpoints.
    fn expired_keys(&self, revision: u64) -> Result<Vec<String>, StoreError> {
        let oldest = revision.saturating_sub(MAX_REVISIONS);
        let mut keys = Vec::new();
        for (from, to) in [
            ("revisions/", revision_key(oldest)),
            ("records/", format!("records/{oldest:020}")),
            ("checkpoints/", format!("checkpoints/{revision:020}")),
        ] {
            keys.extend(self.kv.keys(KeyRange { from, to: &to })?);
        }
        Ok(keys)
    }

    /// Writes all parts of a value but the last, and returns a transaction that writes the last part. Its key has a
    /// random prefix, so it is the transaction's marker.
    fn write_record(&self, prefix: &str, value: &impl Serialize) -> Result<(Txn, BlobRef), StoreError> {
        let bytes = to_bytes(value)?;
        let prefix = format!("{prefix}-{:016x}", random()?);
        let parts: Vec<&[u8]> = bytes.chunks(RECORD_PART_BYTES).collect();
        let mut txn = Txn::default();
        for (index, part) in parts.iter().enumerate() {
            let put = Put::new(part_key(&prefix, index), part.to_vec());
            if index + 1 < parts.len() {
                self.kv.write(&[], &Txn { marker: Some(put), ..Txn::default() })?;
            } else {
                txn.marker = Some(put);
            }
        }
        Ok((txn, BlobRef { prefix, parts: parts.len() }))
    }

    fn read_record<T: DeserializeOwned>(&self, blob: &BlobRef) -> Result<T, StoreError> {
        from_bytes(&blob.prefix, &self.read_bytes(blob)?)
    }

    fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        self.kv.get(key)?.map(|bytes| from_bytes(key, &bytes)).transpose()
    }
}

fn parse_head(bytes: Option<&[u8]>) -> Result<Option<Head>, StoreError> {
    bytes.map(|bytes| from_bytes("head", bytes)).transpose()
}

const fn head_precondition(head: Option<&[u8]>) -> Precondition<'_> {
    Precondition { key: "head", value: head }
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
        let object =
            ObjectRef { kind: "ServiceEntry".to_owned(), namespace: "default".to_owned(), name: name.to_owned() };
        let meta = RevisionMeta {
            id,
            time: jiff::Timestamp::UNIX_EPOCH,
            author: "me".to_owned(),
            message: None,
            action: RevisionAction::Apply,
            objects: 1,
        };
        let change = ObjectChange { object, before: before.map(Arc::new), after: after.map(Arc::new) };
        Revision { meta, changes: vec![change] }
    }

    fn names(state: &ObjectSet) -> Vec<String> {
        state.objects.keys().map(|id| id.name.to_string()).collect()
    }

    #[test]
    fn committed_revisions_are_loaded_and_concurrent_commit_fails() {
        let folder = tempfile::tempdir().unwrap();
        let store = ResourceStore::in_folder(folder.path()).unwrap();
        let mut state = store.load().unwrap();
        let mut behind = state.clone();
        assert_eq!(
            store
                .commit(&mut state, &revision(1, "a", None, Some(json!({"v": 1}))), &BundleSetVersion::default())
                .unwrap(),
            CommitOutcome::Committed
        );
        assert_eq!(
            store
                .commit(&mut behind, &revision(1, "b", None, Some(json!({"v": 1}))), &BundleSetVersion::default())
                .unwrap(),
            CommitOutcome::Conflict
        );
        assert_eq!((behind.revision, behind.objects.len()), (0, 0));
        let large = json!({"text": "x".repeat(3 * RECORD_PART_BYTES)});
        assert_eq!(
            store
                .commit(&mut state, &revision(2, "c", None, Some(large.clone())), &BundleSetVersion::default())
                .unwrap(),
            CommitOutcome::Committed
        );
        assert_eq!(
            store
                .commit(&mut state, &revision(3, "a", Some(json!({"v": 1})), None), &BundleSetVersion::default())
                .unwrap(),
            CommitOutcome::Committed
        );
        drop(store);
        let store = ResourceStore::in_folder(folder.path()).unwrap();
        let loaded = store.load().unwrap();
        assert_eq!((loaded.revision, names(&loaded)), (3, vec!["c".to_owned()]));
        assert_eq!(store.revision(2).unwrap().unwrap().changes[0].after.as_deref(), Some(&large));
        let ids = |before| -> Vec<u64> { store.revisions(before, 2).unwrap().iter().map(|meta| meta.id).collect() };
        assert_eq!((ids(None), ids(Some(2))), (vec![3, 2], vec![1]));
    }

    #[test]
    fn restored_store_has_another_history() {
        let folder = tempfile::tempdir().unwrap();
        let store = ResourceStore::in_folder(folder.path()).unwrap();
        let (mut state, version) = (store.load().unwrap(), BundleSetVersion::default());
        assert_eq!(
            store.commit(&mut state, &revision(1, "a", None, Some(json!({}))), &version).unwrap(),
            CommitOutcome::Committed
        );
        let mut restored = store.load().unwrap();
        assert_eq!(
            store.commit(&mut state, &revision(2, "b", None, Some(json!({}))), &version).unwrap(),
            CommitOutcome::Committed
        );
        assert!(store.load_if_newer(&state).unwrap().is_none());
        assert_eq!(names(&store.load_if_newer(&restored).unwrap().unwrap()), ["a", "b"]);

        store.compare_and_swap("head", state.head.as_deref(), restored.head.as_deref().unwrap()).unwrap();
        assert_eq!(names(&store.load_if_newer(&state).unwrap().unwrap()), ["a"]);
        // Commits after the restore: other revisions with the same numbers.
        for (id, name) in [(2, "x"), (3, "y")] {
            assert_eq!(
                store.commit(&mut restored, &revision(id, name, None, Some(json!({}))), &version).unwrap(),
                CommitOutcome::Committed
            );
            assert_eq!(names(&store.load_if_newer(&state).unwrap().unwrap()), names(&restored));
            let mut behind = state.clone();
            assert_eq!(
                store.commit(&mut behind, &revision(3, "c", None, Some(json!({}))), &version).unwrap(),
                CommitOutcome::Conflict
            );
        }
    }

    #[test]
    fn checkpoint_replaces_revisions_and_old_revisions_expire() {
        let folder = tempfile::tempdir().unwrap();
        let store = ResourceStore::in_folder(folder.path()).unwrap();
        let mut state = store.load().unwrap();
        let last = MAX_REVISIONS + 2 * CHECKPOINT_INTERVAL;
        for id in 1..=last {
            let name = format!("s{}", id % 7);
            assert_eq!(
                store
                    .commit(
                        &mut state,
                        &revision(id, &name, None, Some(json!({"v": id}))),
                        &BundleSetVersion::default()
                    )
                    .unwrap(),
                CommitOutcome::Committed
            );
            store.checkpoint_if_due(&state).unwrap();
        }
        let loaded = store.load().unwrap();
        assert_eq!((loaded.revision, loaded.objects.len()), (last, 7));
        assert!(loaded.objects.iter().all(|(id, stored)| *stored.value == *state.objects[id].value));
        assert!(store.revision(1).unwrap().is_none(), "too old");
        assert!(store.revision(last - MAX_REVISIONS + CHECKPOINT_INTERVAL).unwrap().is_some());
        let checkpoints =
            store.kv.list(KeyRange { from: "checkpoints/", to: "checkpoints0" }, 10, Order::Forward).unwrap();
        assert_eq!(checkpoints.len(), 1);
    }
}
