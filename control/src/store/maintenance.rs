//! Maintenance of a store that no control plane may open as it is: backup, restore, check, and the acceptance of its
//! present state. `weir-control backup`, `restore`, `check` and `recover` use it.

use std::io::{BufRead, Write};
use std::path::Path;

use tracing::warn;
use weir_model::write_private;

use super::backup::{AUTHORITY, BackupHeader, BackupWriter, read_backup};
use super::error::StoreError;
use super::kv::KvStore;
use super::lineage::{AUTHORITY_FILE, IDENTITY, SeenStore, StoreIdentity};
use super::location::StoreLocation;
use super::records::{BUNDLE_SET_VERSION, CHECKPOINT, HEAD, Head, from_bytes, parse_head, to_bytes};
use super::redb::RedbKv;
use super::txn::{KeyRange, Put, Txn};
use super::verified_kv::StoreOptions;
use crate::limits::{MAX_ETCD_OPERATIONS, RECORD_PART_BYTES};

/// All keys of a store.
const ALL: KeyRange<'static> = KeyRange { from: "", to: "\u{7f}" };
/// The keys that refer to others. A backup has them as of its beginning.
const FIXED: [&str; 4] = [IDENTITY, HEAD, CHECKPOINT, BUNDLE_SET_VERSION];

/// A store without checks of its lineage.
pub struct Maintenance {
    kv: KvStore,
    options: StoreOptions,
}

/// The state of a store after it was restored or accepted.
#[derive(Debug)]
pub struct RecoveredStore {
    /// The id of the store.
    pub id: String,
    /// The last revision.
    pub revision: u64,
}

impl Maintenance {
    /// Opens a store; creates it if it is missing or empty and `may_create` is true.
    ///
    /// # Errors
    /// The store cannot be read or written, is damaged, or is a folder that another process has open.
    pub fn open(options: &StoreOptions, may_create: bool) -> Result<Self, StoreError> {
        Ok(Self { kv: KvStore::open(&options.location, may_create)?, options: options.clone() })
    }

    /// Opens a store to restore a backup into it. A file that is damaged is moved aside, to `weir.redb.damaged`.
    ///
    /// # Errors
    /// The store cannot be read or written, or is a folder that another process has open.
    pub fn open_for_restore(options: &StoreOptions) -> Result<Self, StoreError> {
        match (Self::open(options, true), &options.location) {
            (Err(StoreError::Damaged(reason)), StoreLocation::Folder(folder)) => {
                RedbKv::move_aside(folder)?;
                warn!(reason, "the damaged file was renamed to weir.redb.damaged");
                Self::open(options, true)
            }
            (opened, _) => opened,
        }
    }

    /// Returns the id of the store; `None` if it has none.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn id(&self) -> Result<Option<String>, StoreError> {
        Ok(self.identity()?.map(|identity| identity.id))
    }

    /// Writes a backup of the store. Returns its header.
    ///
    /// # Errors
    /// The store is empty or cannot be read, the output cannot be written, or other writers change the store all the
    /// time.
    pub fn back_up(&self, output: impl Write) -> Result<BackupHeader, StoreError> {
        let authority = match &self.options.location {
            StoreLocation::Folder(folder) => read_authority(folder)?,
            StoreLocation::Etcd(_) => None, // It is an entry of the store.
        };
        back_up(&self.kv, authority.as_deref(), output)
    }

    /// Replaces the content of the store by that of a backup. Running control planes of a shared store take it over.
    ///
    /// The backup must have been checked. The identity is deleted first and written last: a restore that is interrupted
    /// leaves a store that no control plane serves.
    ///
    /// # Errors
    /// The backup or the store cannot be read or written.
    pub fn restore(&self, backup: impl BufRead) -> Result<RecoveredStore, StoreError> {
        let before = self.identity()?;
        self.kv.write(&[], &Txn::delete(vec![IDENTITY.to_owned()]))?;
        self.kv.write(&[], &Txn::delete(self.kv.keys(ALL)?))?;
        let mut puts: Vec<Put> = Vec::new();
        let mut bytes = 0;
        let is_folder = matches!(self.options.location, StoreLocation::Folder(_));
        let mut authority = None;
        let header = read_backup(backup, |key, value| {
            match key {
                IDENTITY => return Ok(()),
                AUTHORITY if is_folder => authority = Some(value),
                key => {
                    bytes += value.len();
                    puts.push(Put::new(key, value));
                }
            }
            // A request to etcd has at most 1.5 MiB.
            if puts.len() >= MAX_ETCD_OPERATIONS || bytes >= RECORD_PART_BYTES {
                bytes = 0;
                self.put_all(std::mem::take(&mut puts)).map_err(|error| error.to_string())?;
            }
            Ok(())
        });
        let header = header.map_err(|reason| StoreError::Damaged(format!("the backup: {reason}")))?;
        self.put_all(puts)?;
        if let Some(authority) = authority {
            self.write_file(AUTHORITY_FILE, &authority)?;
        }
        let seen = SeenStore::read(&self.options.folder).ok().flatten();
        let incarnations = [header.incarnation, before.map_or(0, |identity| identity.incarnation)];
        self.finish(StoreIdentity {
            id: header.store,
            incarnation: next_incarnation(incarnations, seen.as_ref()),
            initialized: true,
        })
    }

    /// Accepts the store as it is: empty, set back, or of another mesh. An empty one continues the mesh that was seen last,
    /// if there is one.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn accept(&self) -> Result<RecoveredStore, StoreError> {
        let seen = SeenStore::read(&self.options.folder).ok().flatten();
        let identity = match self.identity()? {
            Some(identity) => identity,
            None => {
                let new = StoreIdentity::new()?;
                let id = seen.as_ref().map_or(new.id, |seen| seen.id.clone());
                StoreIdentity { id, incarnation: 0, initialized: false }
            }
        };
        let incarnation = next_incarnation([identity.incarnation, 0], seen.as_ref());
        self.finish(StoreIdentity { incarnation, ..identity })
    }

    fn finish(&self, identity: StoreIdentity) -> Result<RecoveredStore, StoreError> {
        self.kv.write(&[], &Txn::put(IDENTITY, to_bytes(&identity)?))?;
        let Head { revision, record } = parse_head(self.kv.get(HEAD)?.as_deref())?.unwrap_or_default();
        let StoreIdentity { id, incarnation, .. } = identity;
        let seen = SeenStore { id: id.clone(), incarnation, revision, record };
        let folder = &self.options.folder;
        seen.write(folder)
            .map_err(|error| StoreError::Unavailable(format!("{} cannot be written: {error}", folder.display())))?;
        Ok(RecoveredStore { id, revision })
    }

    fn identity(&self) -> Result<Option<StoreIdentity>, StoreError> {
        self.kv.get(IDENTITY)?.map(|bytes| from_bytes(IDENTITY, &bytes)).transpose()
    }

    fn put_all(&self, puts: Vec<Put>) -> Result<(), StoreError> {
        self.kv.write(&[], &Txn { puts, ..Txn::default() }).map(drop)
    }

    fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path: &Path = &self.options.folder.join(name);
        write_private(path, bytes)
            .map_err(|error| StoreError::Unavailable(format!("{} cannot be written: {error}", path.display())))
    }

    /// Returns true if the store has no entries.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.kv.keys(ALL)?.iter().all(|key| key == IDENTITY))
    }
}

/// Returns the roots of a folder; `None` without the file, which an external CA does not need.
fn read_authority(folder: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let path = folder.join(AUTHORITY_FILE);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::Unavailable(format!("{} cannot be read: {error}", path.display()))),
    }
}

/// Writes a backup of a key-value store. `authority` is the content of the file of the roots, if there is one.
///
/// Writers may commit meanwhile: the backup has the head as of its beginning, and everything that this head refers to.
pub(super) fn back_up(kv: &KvStore, authority: Option<&[u8]>, output: impl Write) -> Result<BackupHeader, StoreError> {
    let failed = |error: std::io::Error| StoreError::Unavailable(format!("the backup cannot be written: {error}"));
    let roots = || FIXED.into_iter().map(|key| Ok((key, kv.get(key)?))).collect::<Result<Vec<_>, StoreError>>();
    let fixed = roots()?;
    let value = |key: &str| fixed.iter().find(|(name, _)| *name == key).and_then(|(_, value)| value.as_deref());
    let missing = || StoreError::Damaged("it is empty: there is nothing to back up".to_owned());
    let StoreIdentity { id, incarnation, .. } = from_bytes(IDENTITY, value(IDENTITY).ok_or_else(missing)?)?;
    let revision = parse_head(value(HEAD))?.map_or(0, |head| head.revision);
    let header = BackupHeader::new(id, incarnation, revision);
    let mut writer = BackupWriter::new(output, &header).map_err(failed)?;
    for key in kv.keys(ALL)?.iter().filter(|key| !FIXED.contains(&key.as_str())) {
        if let Some(value) = kv.get(key)? {
            writer.entry(key, &value).map_err(failed)?;
        }
    }
    for (key, value) in &fixed {
        if let Some(value) = value {
            writer.entry(key, value).map_err(failed)?;
        }
    }
    if let Some(authority) = authority {
        writer.entry(AUTHORITY, authority).map_err(failed)?;
    }
    // A new checkpoint deletes the old one and the revisions before it.
    let is_same = |(before, now): (&(&str, _), &(&str, _))| before.0 == HEAD || before == now;
    if !fixed.iter().zip(&roots()?).all(is_same) {
        return Err(StoreError::Unavailable("the store has changed during the backup; try again".to_owned()));
    }
    writer.finish().map_err(failed)?;
    Ok(header)
}

/// Returns an incarnation that every control plane takes for newer: greater than the known ones, also than those that
/// other control planes have seen, by the time in milliseconds.
fn next_incarnation(known: [u64; 2], seen: Option<&SeenStore>) -> u64 {
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
    let known = known.into_iter().chain(seen.map(|seen| seen.incarnation)).max().unwrap_or(0);
    now.max(known + 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::ResourceStore;
    use super::*;

    fn options(folder: &Path) -> StoreOptions {
        StoreOptions { location: StoreLocation::Folder(folder.to_owned()), folder: folder.to_owned(), may_init: false }
    }

    fn entries(store: &ResourceStore) -> Vec<serde_json::Value> {
        store.list_entries("tokens").unwrap()
    }

    #[test]
    fn restored_store_continues_the_mesh_on_another_machine() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = ResourceStore::in_folder(first.path()).unwrap();
        store.put_entry("tokens", "t", &json!("one")).unwrap();
        store.mark_initialized().unwrap();
        let id = store.id();
        drop(store);
        std::fs::write(first.path().join(AUTHORITY_FILE), "roots").unwrap();
        let mut backup = Vec::new();
        let header = Maintenance::open(&options(first.path()), false).unwrap().back_up(&mut backup).unwrap();
        assert_eq!(header.store, id);
        // Changes after the backup are gone; the store is of the same mesh.
        let store = ResourceStore::in_folder(first.path()).unwrap();
        store.put_entry("tokens", "u", &json!("two")).unwrap();
        assert_eq!(entries(&store).len(), 2);
        drop(store);
        for folder in [first.path(), second.path()] {
            let restored = Maintenance::open(&options(folder), true).unwrap().restore(&*backup).unwrap();
            assert_eq!(restored.id, id);
            let store = ResourceStore::in_folder(folder).unwrap();
            assert_eq!((entries(&store), store.is_initialized()), (vec![json!("one")], true));
            assert_eq!(std::fs::read_to_string(folder.join(AUTHORITY_FILE)).unwrap(), "roots");
        }
    }

    #[test]
    fn interrupted_restore_leaves_store_that_does_not_start() {
        let folder = tempfile::tempdir().unwrap();
        let store = ResourceStore::in_folder(folder.path()).unwrap();
        store.put_entry("tokens", "t", &json!("one")).unwrap();
        store.load().unwrap();
        drop(store);
        let mut backup = Vec::new();
        Maintenance::open(&options(folder.path()), false).unwrap().back_up(&mut backup).unwrap();
        let cut = &backup[..backup.len() / 2];
        assert!(Maintenance::open(&options(folder.path()), false).unwrap().restore(cut).is_err());
        assert!(matches!(ResourceStore::in_folder(folder.path()), Err(StoreError::Lost(_))));
        Maintenance::open(&options(folder.path()), false).unwrap().restore(&*backup).unwrap();
        assert_eq!(entries(&ResourceStore::in_folder(folder.path()).unwrap()).len(), 1);
    }

    #[test]
    fn accepted_loss_is_new_state_of_same_mesh() {
        let folder = tempfile::tempdir().unwrap();
        let store = ResourceStore::in_folder(folder.path()).unwrap();
        store.load().unwrap();
        store.mark_initialized().unwrap();
        let id = store.id();
        drop(store);
        std::fs::write(folder.path().join("weir.redb"), "").unwrap();
        assert!(matches!(ResourceStore::in_folder(folder.path()), Err(StoreError::Lost(_))));
        let accepted = Maintenance::open(&options(folder.path()), true).unwrap().accept().unwrap();
        assert_eq!((accepted.id.as_str(), accepted.revision), (id.as_str(), 0));
        let store = ResourceStore::in_folder(folder.path()).unwrap();
        assert_eq!((store.id(), store.is_initialized()), (id, false));
    }
}
