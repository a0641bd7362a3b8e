//! The embedded key-value store: one redb file, whose transactions are on disk when they are acknowledged.
//!
//! Every method blocks on disk.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use super::error::StoreError;
use super::txn::{KeyRange, Order, Precondition, Put, Txn};

const TABLE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("weir");

/// A key-value store in one file.
#[derive(Debug)]
pub(crate) struct RedbKv {
    database: Database,
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
        let kv = Self { database };
        kv.write(&[], &Txn::default())?; // Creates the table: reading an absent table fails.
        Ok(kv)
    }

    /// Returns the value of a key.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let transaction = self.database.begin_read().map_err(unavailable)?;
        let table = transaction.open_table(TABLE).map_err(unavailable)?;
        let value = table.get(key).map_err(unavailable)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    /// Returns at most `limit` keys of a range with their values, sorted.
    pub(crate) fn list(
        &self,
        range: KeyRange<'_>,
        limit: usize,
        order: Order,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let transaction = self.database.begin_read().map_err(unavailable)?;
        let table = transaction.open_table(TABLE).map_err(unavailable)?;
        let mut entries = table.range::<&str>(range.from..range.to).map_err(unavailable)?;
        let mut found = Vec::new();
        while found.len() < limit {
            let next = match order {
                Order::Forward => entries.next(),
                Order::Reverse => entries.next_back(),
            };
            let Some(entry) = next else { break };
            let (key, value) = entry.map_err(unavailable)?;
            found.push((key.value().to_owned(), value.value().to_vec()));
        }
        Ok(found)
    }

    /// Returns the keys of a range, sorted.
    pub(crate) fn keys(&self, range: KeyRange<'_>) -> Result<Vec<String>, StoreError> {
        let transaction = self.database.begin_read().map_err(unavailable)?;
        let table = transaction.open_table(TABLE).map_err(unavailable)?;
        let entries = table.range::<&str>(range.from..range.to).map_err(unavailable)?;
        entries.map(|entry| entry.map(|(key, _)| key.value().to_owned()).map_err(unavailable)).collect()
    }

    /// Applies a transaction if every precondition is met, and returns whether it did. An applied transaction is on
    /// disk.
    pub(crate) fn write(&self, preconditions: &[Precondition<'_>], txn: &Txn) -> Result<bool, StoreError> {
        let transaction = self.database.begin_write().map_err(unavailable)?;
        {
            let mut table = transaction.open_table(TABLE).map_err(unavailable)?;
            for Precondition { key, value } in preconditions {
                let current = table.get(key).map_err(unavailable)?;
                if current.as_ref().map(|current| current.value()) != *value {
                    return Ok(false);
                }
            }
            for Put { key, value } in txn.all_puts() {
                table.insert(key.as_str(), value.as_slice()).map_err(unavailable)?;
            }
            for key in &txn.deletes {
                table.remove(key.as_str()).map_err(unavailable)?;
            }
        }
        transaction.commit().map_err(unavailable)?;
        Ok(true)
    }
}

fn unavailable(error: impl std::error::Error) -> StoreError {
    StoreError::Unavailable(format!("the store cannot be read or written: {error}"))
}

#[cfg(test)]
mod tests {
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
}
