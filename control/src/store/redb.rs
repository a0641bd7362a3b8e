//! The embedded key-value store: one redb file, whose transactions are on disk when they are acknowledged.
//!
//! Every method blocks on disk. After an I/O error, for example on a full disk, redb accepts nothing more: the file is
//! opened again, which restores the last transaction that is on disk, and the store heals as soon as the disk does.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use parking_lot::RwLock;
use redb::{Database, DatabaseError, Error, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use tracing::{error, info};

use super::error::StoreError;
use super::txn::{KeyRange, Order, Precondition, Put, Txn};

const TABLE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("weir");

/// A key-value store in one file.
#[derive(Debug)]
pub(crate) struct RedbKv {
    path: PathBuf,
    /// Opens an existing file.
    reopen: fn(&Path) -> Result<Database, DatabaseError>,
    /// `None` after an I/O error, until the file could be opened again.
    database: RwLock<Option<Database>>,
}

impl RedbKv {
    /// Opens the store of a folder, which is created if it is absent. Folder and file are readable by this user only.
    ///
    /// # Errors
    /// Another process has the file open, the folder cannot be written, or the file is damaged.
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        let failed = |what: &str, error: &dyn std::error::Error| {
            StoreError::Unavailable(format!("the store {} {what}: {error}", folder.display()))
        };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(folder).map_err(|error| failed("cannot be made", &error))?;
        let path = folder.join("weir.redb");
        let database = Database::create(&path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => {
                StoreError::Unavailable(format!("the store {} is in use by another weir-control", folder.display()))
            }
            error => failed("cannot be opened", &error),
        })?;
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&path, private).map_err(|error| failed("cannot be made private", &error))?;
        // An absent or empty file is not created again: it would be taken for a store without objects.
        let kv = Self { path, reopen: |path| Database::open(path), database: RwLock::new(Some(database)) };
        kv.write(&[], &Txn::default())?; // Creates the table: reading an absent table fails.
        Ok(kv)
    }

    /// Runs `act` on the database. Opens the file again if an I/O error has closed it.
    fn with_database<T>(&self, act: impl Fn(&Database) -> Result<T, Error>) -> Result<T, StoreError> {
        if self.database.read().is_none() {
            self.open_again()?;
        }
        let result = match &*self.database.read() {
            Some(database) => act(database),
            None => return Err(unavailable("its file is being opened again")),
        };
        result.map_err(|error| {
            if is_io(&error) {
                error!(path = %self.path.display(), %error, "the store has failed; its file is opened again");
                *self.database.write() = None;
            }
            unavailable(error)
        })
    }

    fn open_again(&self) -> Result<(), StoreError> {
        let mut database = self.database.write();
        if database.is_none() {
            *database = Some((self.reopen)(&self.path).map_err(unavailable)?);
            info!(path = %self.path.display(), "the store is open again");
        }
        Ok(())
    }

    /// Returns the value of a key.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.with_database(|database| {
            let table = database.begin_read()?.open_table(TABLE)?;
            Ok(table.get(key)?.map(|value| value.value().to_vec()))
        })
    }

    /// Returns at most `limit` keys of a range with their values, sorted.
    pub(crate) fn list(
        &self,
        range: KeyRange<'_>,
        limit: usize,
        order: Order,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.with_database(|database| {
            let table = database.begin_read()?.open_table(TABLE)?;
            let mut entries = table.range::<&str>(range.from..range.to)?;
            let mut found = Vec::new();
            while found.len() < limit {
                let next = match order {
                    Order::Forward => entries.next(),
                    Order::Reverse => entries.next_back(),
                };
                let Some(entry) = next else { break };
                let (key, value) = entry?;
                found.push((key.value().to_owned(), value.value().to_vec()));
            }
            Ok(found)
        })
    }

    /// Returns the keys of a range, sorted.
    pub(crate) fn keys(&self, range: KeyRange<'_>) -> Result<Vec<String>, StoreError> {
        self.with_database(|database| {
            let table = database.begin_read()?.open_table(TABLE)?;
            let entries = table.range::<&str>(range.from..range.to)?;
            entries.map(|entry| Ok(entry?.0.value().to_owned())).collect()
        })
    }

    /// Applies a transaction if every precondition is met, and returns whether it did. An applied transaction is on
    /// disk. One that has failed may be on disk, too, if the disk failed after it: the next one compares its
    /// preconditions with what is there.
    pub(crate) fn write(&self, preconditions: &[Precondition<'_>], txn: &Txn) -> Result<bool, StoreError> {
        self.with_database(|database| {
            let transaction = database.begin_write()?;
            let is_met = apply(&transaction, preconditions, txn)?;
            if is_met {
                transaction.commit()?;
            }
            Ok(is_met)
        })
    }
}

/// Makes the changes of a transaction, unless a precondition is not met. Returns whether it did.
fn apply(transaction: &WriteTransaction, preconditions: &[Precondition<'_>], txn: &Txn) -> Result<bool, Error> {
    let mut table = transaction.open_table(TABLE)?;
    for Precondition { key, value } in preconditions {
        let current = table.get(key)?;
        if current.as_ref().map(|current| current.value()) != *value {
            return Ok(false);
        }
    }
    for Put { key, value } in txn.all_puts() {
        table.insert(key.as_str(), value.as_slice())?;
    }
    for key in &txn.deletes {
        table.remove(key.as_str())?;
    }
    Ok(true)
}

/// Returns true for errors after which redb accepts nothing more.
fn is_io(error: &Error) -> bool {
    matches!(error, Error::Io(_) | Error::PreviousIo | Error::DatabaseClosed)
}

fn unavailable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(format!("the store cannot be read or written: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicBool, Ordering};

    use redb::StorageBackend;
    use redb::backends::FileBackend;

    use super::*;

    fn put(key: &str, value: &str) -> Txn {
        Txn::put(key, value.as_bytes().to_vec())
    }

    #[test]
    fn failed_precondition_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let kv = RedbKv::open(folder.path()).unwrap();
        let absent = Precondition { key: "head", value: None };
        assert!(kv.write(&[absent], &put("head", "1")).unwrap());
        let absent = Precondition { key: "head", value: None };
        assert!(!kv.write(&[absent], &put("head", "2")).unwrap());
        let one = Precondition { key: "head", value: Some(b"1") };
        assert!(kv.write(&[one], &put("head", "3")).unwrap());
        assert_eq!(kv.get("head").unwrap().as_deref(), Some(&b"3"[..]));
    }

    #[test]
    fn reopened_store_has_its_entries_and_open_file_is_exclusive() {
        let folder = tempfile::tempdir().unwrap();
        let kv = RedbKv::open(folder.path()).unwrap();
        for key in ["a/1", "a/2", "a/3", "b/1"] {
            kv.write(&[], &put(key, key)).unwrap();
        }
        let in_use = RedbKv::open(folder.path()).unwrap_err().to_string();
        assert!(in_use.contains("in use by another weir-control"), "{in_use}");
        drop(kv);
        let kv = RedbKv::open(folder.path()).unwrap();
        let keys = |order| -> Vec<_> {
            kv.list(KeyRange { from: "a/", to: "a0" }, 2, order).unwrap().into_iter().map(|(key, _)| key).collect()
        };
        assert_eq!(keys(Order::Forward), ["a/1", "a/2"]);
        assert_eq!(keys(Order::Reverse), ["a/3", "a/2"]);
        let mode = fs::metadata(folder.path().join("weir.redb")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    /// True while the disk of [`FullDisk`] is full.
    static IS_FULL: AtomicBool = AtomicBool::new(false);

    /// A file on a disk that may be full.
    #[derive(Debug)]
    struct FullDisk(FileBackend);

    impl FullDisk {
        fn open(path: &Path) -> Result<Database, DatabaseError> {
            let file = fs::File::options().read(true).write(true).open(path)?;
            Database::builder().create_with_backend(Self(FileBackend::new(file)?))
        }

        fn check() -> io::Result<()> {
            if IS_FULL.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    impl StorageBackend for FullDisk {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            Self::check()?;
            self.0.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            Self::check()?;
            self.0.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            Self::check()?;
            self.0.write(offset, data)
        }

        fn close(&self) -> io::Result<()> {
            self.0.close()
        }
    }

    #[test]
    fn store_heals_when_disk_has_room_again() {
        let folder = tempfile::tempdir().unwrap();
        drop(RedbKv::open(folder.path()).unwrap());
        let path = folder.path().join("weir.redb");
        let database = RwLock::new(Some(FullDisk::open(&path).unwrap()));
        let kv = RedbKv { path: path.clone(), reopen: FullDisk::open, database };
        kv.write(&[], &put("before", "1")).unwrap();
        IS_FULL.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            assert!(kv.write(&[], &put("during", "2")).is_err());
        }
        IS_FULL.store(false, Ordering::SeqCst);
        assert_eq!(kv.get("before").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(kv.get("during").unwrap(), None, "an unacknowledged transaction");
        kv.write(&[], &put("after", "3")).unwrap();
        assert_eq!(kv.get("after").unwrap().as_deref(), Some(&b"3"[..]));
        // A file that has vanished meanwhile is no store without objects.
        fs::remove_file(&path).unwrap();
        *kv.database.write() = None;
        assert!(kv.get("before").is_err() && !path.exists());
    }
}
