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

mod object_set;

mod upgrade;

mod maintenance;

mod backup;

mod verified_kv;

mod records;

mod revision;

mod kv;

mod redb;

mod lineage;

mod location;

mod etcd;

mod txn;

mod error;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::info;
use weir_resources::ObjectId;

pub(crate) use backup::AUTHORITY;
pub use backup::{BackupHeader, read_backup};
pub use error::StoreError;
pub use etcd::{EtcdKeyPair, EtcdOptions, EtcdTls};
pub(crate) use lineage::{ADMIN_TOKEN_FILE, AUTHORITY_FILE};
pub use location::StoreLocation;
pub use maintenance::{Maintenance, RecoveredStore};
pub use object_set::{ObjectSet, StoredObject};
pub(crate) use records::BlobRef;
pub use records::BundleSetVersion;
pub use revision::{ObjectChange, ObjectRef, Revision, RevisionAction, RevisionMeta};
pub(crate) use upgrade::upgrade_change;
pub use verified_kv::StoreOptions;

use crate::limits::{CHECKPOINT_INTERVAL, MAX_CONFLICTS, MAX_REVISIONS, MAX_TOKENS, RECORD_PART_BYTES};
use object_set::CheckpointObject;
use records::{
    BUNDLE_SET_VERSION, CHECKPOINT, Checkpoint, HEAD, Head, RevisionEntry, from_bytes, head_precondition, parse_head,
    part_key, random, revision_key, to_bytes,
};
use txn::{KeyRange, Order, Precondition, Put, Txn};
use upgrade::object_id;
use verified_kv::VerifiedKv;

/// The kind of entries that bundles are stored under.
pub(crate) const BUNDLES: &str = "bundles";

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
    kv: VerifiedKv,
}

impl ResourceStore {
    /// Opens a store. With `may_init` an absent or empty store begins a new mesh, unless a control plane has served from the
    /// folder.
    ///
    /// # Errors
    /// The store cannot be read or written, is damaged, is a folder that another process has open, or is not the store
    /// that was used with this state folder.
    pub fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        VerifiedKv::open(options).map(|kv| Self { kv })
    }

    /// Opens the store of a folder, or creates it.
    ///
    /// # Errors
    /// See [`ResourceStore::open`].
    pub fn in_folder(folder: &Path) -> Result<Self, StoreError> {
        let location = StoreLocation::Folder(folder.to_owned());
        Self::open(&StoreOptions { location, folder: folder.to_owned(), may_init: true })
    }

    /// Returns the id of the store, which is the id of the mesh.
    pub fn id(&self) -> String {
        self.kv.id()
    }

    /// Returns true if the first roots and the first token of the mesh exist. Before that, a start may create them.
    pub fn is_initialized(&self) -> bool {
        self.kv.is_initialized()
    }

    /// Records that the first roots and the first token exist.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn mark_initialized(&self) -> Result<(), StoreError> {
        self.kv.mark_initialized()
    }

    /// Checks that the store is the one that this process has used, with all revisions that it has seen.
    ///
    /// # Errors
    /// The store cannot be read, or was emptied, set back or exchanged.
    pub fn verify(&self) -> Result<(), StoreError> {
        self.kv.verify()
    }

    /// Writes a backup of the store. `authority` is the state of the CA, unless the store has it.
    ///
    /// # Errors
    /// The store is lost or cannot be read, the output cannot be written, or the store has changed too much meanwhile.
    pub fn back_up(&self, authority: Option<&[u8]>, output: impl Write) -> Result<BackupHeader, StoreError> {
        self.verify()?;
        maintenance::back_up(&self.kv.kv, authority, output)
    }

    /// Returns a channel that changes when another process may have written; `None` if no other process can.
    pub fn changes(&self) -> Option<watch::Receiver<u64>> {
        self.kv.changes()
    }

    /// Returns true if other replicas may write to the store.
    pub const fn is_shared(&self) -> bool {
        self.kv.is_shared()
    }

    /// Returns all objects as of the last revision.
    pub fn load(&self) -> Result<ObjectSet, StoreError> {
        let loaded = self.load_all();
        self.verify()?; // What was read of a store that is emptied meanwhile is not used.
        let state = loaded?;
        self.kv.remember(state.head.as_deref())?;
        Ok(state)
    }

    fn load_all(&self) -> Result<ObjectSet, StoreError> {
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
        self.kv.get(HEAD)
    }

    /// Returns the objects as of the last revision; `None` if `state` is as of that revision.
    pub fn load_if_newer(&self, state: &ObjectSet) -> Result<Option<ObjectSet>, StoreError> {
        let head = self.head()?;
        if head == state.head {
            return Ok(None);
        }
        let last = parse_head(head.as_deref())?.map_or(0, |head| head.revision);
        if last <= state.revision || !self.contains(state)? {
            return self.load().map(Some); // An operator has recovered the store.
        }
        let mut next = state.clone();
        for id in state.revision + 1..=last {
            match self.revision(id)? {
                Some(revision) => next.apply(&revision)?,
                None => return self.load().map(Some), // The revision has expired.
            }
        }
        next.head = head;
        self.verify()?;
        self.kv.remember(next.head.as_deref())?;
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
        txn.puts.push(Put::new(HEAD, head.clone()));
        if !self.kv.write(&[head_precondition(state.head.as_deref()), version.precondition()], &txn)? {
            return Ok(CommitOutcome::Conflict);
        }
        next.head = Some(head);
        *state = next;
        self.kv.remember(state.head.as_deref())?;
        Ok(CommitOutcome::Committed)
    }

    /// Writes a checkpoint and deletes expired revisions, if the last checkpoint is `CHECKPOINT_INTERVAL` revisions
    /// old. A failure loses nothing.
    pub fn checkpoint_if_due(&self, state: &ObjectSet) -> Result<(), StoreError> {
        let last = self.read::<Checkpoint>(CHECKPOINT)?;
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
        txn.puts.push(Put::new(CHECKPOINT, to_bytes(&checkpoint)?));
        txn.deletes = self.expired_keys(state.revision)?;
        // The precondition fails after a commit of another writer, which may have deleted parts of this checkpoint.
        self.kv.write(&[head_precondition(state.head.as_deref())], &txn).map(drop)
    }

    /// Returns a revision; `None` if it does not exist or has expired.
    pub fn revision(&self, id: u64) -> Result<Option<Revision>, StoreError> {
        let Some(RevisionEntry { meta, record }) = self.read(&revision_key(id))? else {
            return self.verify().map(|()| None); // Of a store that was emptied nothing is known.
        };
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
        self.kv.write_always(&Txn::put(format!("{kind}/{name}"), to_bytes(value)?))
    }

    /// Deletes entries of a kind, in one transaction where the store allows as many.
    pub(crate) fn delete_entries(&self, kind: &str, names: &[&str]) -> Result<(), StoreError> {
        let keys = names.iter().map(|name| format!("{kind}/{name}")).collect();
        self.kv.write_always(&Txn::delete(keys))
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
        let Some(bytes) = self.get_singleton(&key)? else { return Ok(true) };
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
        self.get_singleton(BUNDLE_SET_VERSION).map(BundleSetVersion)
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
            let written = self.kv.write_always(&Txn::put(part_key(&blob.prefix, index), part.to_vec()));
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
            bytes.extend(self.kv.get_unverified(&key)?.ok_or_else(missing)?);
        }
        Ok(bytes)
    }

    /// Deletes the bytes of a blob.
    pub(crate) fn delete_bytes(&self, blob: &BlobRef) -> Result<(), StoreError> {
        let keys = (0..blob.parts).map(|index| part_key(&blob.prefix, index)).collect();
        self.kv.write_always(&Txn::delete(keys))
    }

    fn read_newest_checkpoint(&self) -> Result<ObjectSet, StoreError> {
        let mut found = self.read::<Checkpoint>(CHECKPOINT)?;
        loop {
            let Some(checkpoint) = found else { return Ok(ObjectSet::default()) };
            match self.read_checkpoint(&checkpoint) {
                Ok(state) => return Ok(state),
                Err(error) => {
                    let newer = self.read::<Checkpoint>(CHECKPOINT)?;
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
                self.kv.write_always(&Txn { marker: Some(put), ..Txn::default() })?;
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
        self.kv.get_unverified(key)?.map(|bytes| from_bytes(key, &bytes)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::lineage::{IDENTITY, StoreIdentity};
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

    fn commit(store: &ResourceStore, state: &mut ObjectSet, id: u64, name: &str) -> CommitOutcome {
        store.commit(state, &revision(id, name, None, Some(json!({}))), &BundleSetVersion::default()).unwrap()
    }

    #[test]
    fn store_that_was_set_back_or_emptied_is_neither_read_nor_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = ResourceStore::in_folder(folder.path()).unwrap();
        let mut state = store.load().unwrap();
        assert_eq!(commit(&store, &mut state, 1, "a"), CommitOutcome::Committed);
        let first = state.clone();
        assert_eq!(commit(&store, &mut state, 2, "b"), CommitOutcome::Committed);
        assert!(store.load_if_newer(&state).unwrap().is_none());
        assert_eq!(names(&store.load_if_newer(&first).unwrap().unwrap()), ["a", "b"]);
        let entry = json!({"v": 1});
        store.put_entry("tokens", "t", &entry).unwrap();

        // Set back by one revision, then continued with other revisions of the same numbers.
        let set_head =
            |from: &ObjectSet| store.kv.kv.write(&[], &Txn::put("head", from.head.clone().unwrap())).unwrap();
        set_head(&first);
        let assert_lost = |expected: &str| {
            for error in [
                store.load_if_newer(&state).err(),
                store.load().err(),
                store.list_entries::<Value>("tokens").err(),
                store.get_singleton("authority").err(),
            ] {
                let error = error.unwrap_or_else(|| panic!("{expected}: the store is read")).to_string();
                assert!(error.contains(expected) && error.contains("weir-control recover"), "{error}");
            }
        };
        assert_lost("its last revision is 1, and revision 2 was seen");
        set_head(&state);
        store.verify().unwrap();

        // Emptied.
        let identity = store.kv.kv.get(IDENTITY).unwrap().unwrap();
        store
            .kv
            .kv
            .write(&[], &Txn::delete(vec![IDENTITY.to_owned(), "head".to_owned(), "tokens/t".to_owned()]))
            .unwrap();
        assert_lost("has lost its data");
        assert!(matches!(store.put_entry("tokens", "u", &entry), Err(StoreError::Lost(_))));
        assert!(store.kv.kv.get("tokens/u").unwrap().is_none(), "nothing is written to an emptied store");
        // An operator accepts the emptiness: the history begins again.
        let mut accepted: StoreIdentity = from_bytes(IDENTITY, &identity).unwrap();
        accepted.incarnation += 1;
        store.kv.kv.write(&[], &Txn::put(IDENTITY, to_bytes(&accepted).unwrap())).unwrap();
        let mut next = store.load_if_newer(&state).unwrap().unwrap();
        assert_eq!((next.revision, next.objects.len()), (0, 0));
        assert_eq!(commit(&store, &mut next, 1, "x"), CommitOutcome::Committed);
        store.verify().unwrap();
    }

    #[test]
    fn lost_or_older_store_does_not_start() {
        let folder = tempfile::tempdir().unwrap();
        let open = || ResourceStore::in_folder(folder.path());
        let (path, copy) = (folder.path().join("weir.redb"), folder.path().join("copy"));
        let store = open().unwrap();
        let mut state = store.load().unwrap();
        assert_eq!(commit(&store, &mut state, 1, "a"), CommitOutcome::Committed);
        drop(store);
        std::fs::copy(&path, &copy).unwrap();
        let store = open().unwrap();
        assert_eq!(commit(&store, &mut state, 2, "b"), CommitOutcome::Committed);
        let id = store.id();
        drop(store);
        let current = std::fs::read(&path).unwrap();
        let other = tempfile::tempdir().unwrap();
        drop(ResourceStore::in_folder(other.path()).unwrap());
        let cases: [(&str, Option<Vec<u8>>, &str); 4] = [
            ("an older copy", Some(std::fs::read(&copy).unwrap()), "its last revision is 1, and revision 2 was seen"),
            ("an empty file", Some(Vec::new()), "missing or empty"),
            ("no file", None, "missing or empty"),
            ("another mesh", Some(std::fs::read(other.path().join("weir.redb")).unwrap()), "the store of another mesh"),
        ];
        for (case, bytes, expected) in cases {
            std::fs::remove_file(&path).ok();
            if let Some(bytes) = bytes {
                std::fs::write(&path, bytes).unwrap();
            }
            let error = open().err().unwrap_or_else(|| panic!("{case} is opened")).to_string();
            assert!(error.contains(expected) && error.contains("weir-control restore"), "{case}: {error}");
        }
        std::fs::write(&path, &current).unwrap();
        assert_eq!(open().unwrap().id(), id);
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
