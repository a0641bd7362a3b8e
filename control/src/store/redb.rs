//! The embedded key-value store: one redb file, whose transactions are on disk when they are acknowledged.
//!
//! Every method blocks on disk. After an I/O error, for example on a full disk, redb accepts nothing more: the file is
//! opened again, which restores the last transaction that is on disk, and the store heals as soon as the disk does.
//!
//! A file that another program replaces, truncates or overwrites while it is open is detected by its inode and its
//! header, which changes with every transaction. Then nothing more is written to it.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, RwLock};
use redb::{Database, DatabaseError, Error, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use tracing::{error, info};

use super::error::{RECOVERY, StoreError};
use super::txn::{KeyRange, Order, Precondition, Put, Txn};

const TABLE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("weir");
/// The name of the file in the folder of the store.
pub(super) const FILE: &str = "weir.redb";
/// Bytes of the file's header. It has the numbers and checksums of the last two transactions.
const HEADER_BYTES: u64 = 512;

/// A key-value store in one file.
#[derive(Debug)]
pub(crate) struct RedbKv {
    path: PathBuf,
    /// Opens an existing file.
    reopen: fn(&Path) -> Result<Database, DatabaseError>,
    /// `None` after an I/O error, until the file could be opened again.
    database: RwLock<Option<Database>>,
    /// The file as this process has left it. Locked during each transaction.
    stamp: Mutex<FileStamp>,
}

/// A file as a transaction has left it.
#[derive(Debug, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    length: u64,
    header: Vec<u8>,
}

impl FileStamp {
    fn read(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata: Metadata = file.metadata()?;
        let mut header = Vec::new();
        file.take(HEADER_BYTES).read_to_end(&mut header)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino(), length: metadata.len(), header })
    }
}

impl RedbKv {
    /// Returns true if a folder has a store: a file that is not empty. Creating the file and its first content are two
    /// steps, so that an empty file can be left by a crash.
    pub(super) fn exists(folder: &Path) -> bool {
        fs::metadata(folder.join(FILE)).is_ok_and(|metadata| metadata.len() > 0)
    }

    /// Creates the store of a folder, which is created if it is absent. Folder and file are readable by this user only.
    ///
    /// # Errors
    /// Another process has the file open, or the folder cannot be written.
    pub(super) fn create(folder: &Path) -> Result<Self, StoreError> {
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(folder);
        made.map_err(|error| unavailable_in(folder, "cannot be created", &error))?;
        let database = Database::create(folder.join(FILE)).map_err(|error| open_error(&folder.join(FILE), &error))?;
        Self::with(folder, database)
    }

    /// Renames the file of a folder, so that another one can be created.
    pub(super) fn move_aside(folder: &Path) -> Result<(), StoreError> {
        let renamed = fs::rename(folder.join(FILE), folder.join(format!("{FILE}.damaged")));
        renamed.map_err(|error| unavailable_in(folder, "cannot be written", &error))
    }

    /// Opens the existing store of a folder, and reads all of it once, to find damage before anything is served.
    ///
    /// # Errors
    /// Another process has the file open, the folder cannot be written, or the file is damaged.
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        let database = open_checked(&folder.join(FILE), |path| Database::open(path))?;
        Self::with(folder, database)
    }

    fn with(folder: &Path, database: Database) -> Result<Self, StoreError> {
        let path = folder.join(FILE);
        let private = fs::set_permissions(&path, fs::Permissions::from_mode(0o600));
        private.map_err(|error| unavailable_in(folder, "cannot be made private", &error))?;
        let stamp = FileStamp::read(&path).map_err(|error| unavailable_in(folder, "cannot be read", &error))?;
        let (database, stamp) = (RwLock::new(Some(database)), Mutex::new(stamp));
        let kv = Self { path, reopen: |path| Database::open(path), database, stamp };
        kv.write(&[], &Txn::default())?; // Creates the table: reading an absent table fails.
        Ok(kv)
    }

    /// Checks that the file is the one that was opened, as this process has left it.
    ///
    /// # Errors
    /// The file was removed, replaced, truncated or overwritten.
    pub(super) fn check_unchanged(&self) -> Result<(), StoreError> {
        self.check_stamp(&self.stamp.lock())
    }

    fn check_stamp(&self, stamp: &FileStamp) -> Result<(), StoreError> {
        if self.database.read().is_none() {
            return Ok(()); // The file is checked when it is opened again.
        }
        match FileStamp::read(&self.path) {
            Ok(now) if now == *stamp => Ok(()),
            Ok(now) if (now.device, now.inode) == (stamp.device, stamp.inode) => {
                Err(damaged(&self.path, "another program has changed it while it was in use"))
            }
            Ok(_) => Err(damaged(&self.path, "it was replaced while it was in use; stop weir-control first")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(damaged(&self.path, "it was removed while it was in use"))
            }
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Runs `act` on the database. Opens the file again if an I/O error has closed it.
    fn with_database<T>(&self, act: impl Fn(&Database) -> Result<T, Error>) -> Result<T, StoreError> {
        if self.database.read().is_none() {
            self.open_again()?;
        }
        self.with_open_database(act)
    }

    fn with_open_database<T>(&self, act: impl Fn(&Database) -> Result<T, Error>) -> Result<T, StoreError> {
        // redb panics on some pages that were overwritten.
        let result = catch_unwind(AssertUnwindSafe(|| self.database.read().as_ref().map(act)));
        match result {
            Ok(None) => Err(unavailable("its file is being opened again")),
            Ok(Some(Ok(value))) => Ok(value),
            Ok(Some(Err(error))) => {
                if is_io(&error) {
                    error!(path = %self.path.display(), %error, "the store has failed; its file is opened again");
                    *self.database.write() = None;
                }
                Err(unavailable(error))
            }
            Err(_) => {
                // A database that has panicked is not usable, and closing it may panic, too.
                drop(catch_unwind(AssertUnwindSafe(|| *self.database.write() = None)));
                Err(damaged(&self.path, "parts of it were overwritten"))
            }
        }
    }

    fn open_again(&self) -> Result<(), StoreError> {
        let mut stamp = self.stamp.lock();
        let mut database = self.database.write();
        if database.is_some() {
            return Ok(());
        }
        if !fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() > 0) {
            return Err(damaged(&self.path, "it is missing or empty"));
        }
        *database = Some(open_checked(&self.path, self.reopen)?);
        *stamp = FileStamp::read(&self.path).map_err(unavailable)?;
        info!(path = %self.path.display(), "the store is open again");
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
        if self.database.read().is_none() {
            self.open_again()?;
        }
        let mut stamp = self.stamp.lock();
        self.check_stamp(&stamp)?;
        let written = self.with_open_database(|database| {
            let transaction = database.begin_write()?;
            let is_met = apply(&transaction, preconditions, txn)?;
            if is_met {
                transaction.commit()?;
            }
            Ok(is_met)
        });
        if let Ok(now) = FileStamp::read(&self.path)
            && (now.device, now.inode) == (stamp.device, stamp.inode)
        {
            *stamp = now; // Also after an error: the transaction may have begun to write.
        }
        written
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

fn damaged(path: &Path, reason: &str) -> StoreError {
    StoreError::Damaged(format!("{}: {reason}; {RECOVERY}", path.display()))
}

/// Opens an existing file, and reads all of it once, to find damage.
fn open_checked(path: &Path, open: fn(&Path) -> Result<Database, DatabaseError>) -> Result<Database, StoreError> {
    let checked = catch_unwind(AssertUnwindSafe(|| {
        let mut database = open(path)?;
        database.check_integrity().map(|is_intact| (database, is_intact))
    }));
    match checked {
        Ok(Ok((database, true))) => Ok(database),
        Ok(Ok((_, false))) => Err(damaged(path, "parts of it were lost")),
        Ok(Err(error)) => Err(open_error(path, &error)),
        Err(_) => Err(damaged(path, "it is no store, or parts of it were overwritten")),
    }
}

/// Returns the error of opening or creating a file.
fn open_error(path: &Path, error: &DatabaseError) -> StoreError {
    let folder = path.parent().unwrap_or(path);
    match error {
        DatabaseError::DatabaseAlreadyOpen => {
            StoreError::Unavailable(format!("the store {} is in use by another weir-control", folder.display()))
        }
        DatabaseError::Storage(redb::StorageError::Io(error)) if !is_damage(error.kind()) => {
            unavailable_in(folder, "cannot be opened", error)
        }
        DatabaseError::Storage(_) => damaged(path, &error.to_string()),
        error => unavailable_in(folder, "cannot be opened", error),
    }
}

/// Returns true for the I/O errors of a file that was overwritten or cut.
fn is_damage(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

fn unavailable_in(folder: &Path, what: &str, error: &dyn std::error::Error) -> StoreError {
    StoreError::Unavailable(format!("the store {} {what}: {error}", folder.display()))
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
        let kv = RedbKv::create(folder.path()).unwrap();
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
        let kv = RedbKv::create(folder.path()).unwrap();
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
            let file = File::options().read(true).write(true).open(path)?;
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
        drop(RedbKv::create(folder.path()).unwrap());
        let path = folder.path().join("weir.redb");
        let database = RwLock::new(Some(FullDisk::open(&path).unwrap()));
        let stamp = Mutex::new(FileStamp::read(&path).unwrap());
        let kv = RedbKv { path: path.clone(), reopen: FullDisk::open, database, stamp };
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

    #[test]
    fn file_that_was_changed_while_in_use_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let kv = RedbKv::create(folder.path()).unwrap();
        let path = folder.path().join("weir.redb");
        kv.write(&[], &put("a", "1")).unwrap();
        let older = fs::read(&path).unwrap();
        kv.write(&[], &put("a", "2")).unwrap();
        kv.check_unchanged().unwrap();
        let current = fs::read(&path).unwrap();
        for (case, bytes, expected) in [
            ("an older copy", &older[..], "another program has changed it"),
            ("an empty file", &[], "another program has changed it"),
            ("half of the file", &current[..current.len() / 2], "another program has changed it"),
            ("zeros", &vec![0; current.len()], "another program has changed it"),
        ] {
            fs::write(&path, bytes).unwrap();
            let error = kv.write(&[], &put("a", "3")).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("weir-control restore"), "{case}: {error}");
            assert_eq!(fs::read(&path).unwrap(), bytes, "{case}");
            fs::write(&path, &current).unwrap();
            kv.check_unchanged().unwrap();
        }
        kv.write(&[], &put("a", "3")).unwrap();
        let moved = folder.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        let error = kv.check_unchanged().unwrap_err().to_string();
        assert!(error.contains("it was removed while it was in use"), "{error}");
        fs::copy(&moved, &path).unwrap();
        let error = kv.write(&[], &put("a", "4")).unwrap_err().to_string();
        assert!(error.contains("it was replaced while it was in use"), "{error}");
        fs::rename(&moved, &path).unwrap();
        kv.write(&[], &put("a", "4")).unwrap();
    }

    #[test]
    fn damage_is_detected_when_store_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let kv = RedbKv::create(folder.path()).unwrap();
        for number in 0..200 {
            kv.write(&[], &put(&format!("key-{number:05}"), &"value ".repeat(200))).unwrap();
        }
        drop(kv);
        let path = folder.path().join("weir.redb");
        let intact = fs::read(&path).unwrap();
        RedbKv::open(folder.path()).unwrap();
        let (mut detected, pages) = (0, intact.len() / 4_096);
        for page in 0..pages {
            let mut damaged = intact.clone();
            damaged[page * 4_096..(page + 1) * 4_096].fill(0);
            if damaged == intact {
                continue;
            }
            fs::write(&path, &damaged).unwrap();
            match RedbKv::open(folder.path()) {
                Ok(kv) => {
                    // The page is free: everything is there.
                    for number in 0..200 {
                        let value = kv.get(&format!("key-{number:05}")).unwrap();
                        assert_eq!(value, Some("value ".repeat(200).into_bytes()), "page {page}, key {number}");
                    }
                }
                Err(error) => {
                    assert!(matches!(error, StoreError::Damaged(_)), "page {page}: {error}");
                    detected += 1;
                }
            }
        }
        assert!(detected > 50, "{detected} of {pages}");
        for (case, bytes) in
            [("half", &intact[..intact.len() / 2]), ("a page", &intact[..4_096]), ("text", b"no store")]
        {
            fs::write(&path, bytes).unwrap();
            let opened = RedbKv::open(folder.path());
            assert!(matches!(opened, Err(StoreError::Damaged(_))), "{case}: {opened:?}");
        }
    }
}
