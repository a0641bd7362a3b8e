//! The embedded engine: keys and values in one file, written by transactions that are on disk when they are acknowledged
//! (redb).
//!
//! Every call blocks.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use super::operation::{Guard, Order, Write};
use crate::store::StoreError;

const TABLE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("weir");

/// Keys and values in one file.
#[derive(Debug)]
pub(crate) struct Embedded {
    database: Database,
}

impl Embedded {
    /// Opens the store in a folder, which is made if it is not there, for this user alone.
    ///
    /// # Errors
    /// Another process has it open; the folder cannot be written; the file is damaged.
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
        let only_ours = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&path, only_ours).map_err(|error| failed("cannot be made private", &error))?;
        let engine = Self { database };
        engine.write(&[], &Write::default())?; // So that the table is there for whoever reads first.
        Ok(engine)
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let transaction = self.database.begin_read().map_err(unavailable)?;
        let table = transaction.open_table(TABLE).map_err(unavailable)?;
        let value = table.get(key).map_err(unavailable)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    /// Keys and values from `from` to before `to`, in order, or in reverse; at most `limit`.
    pub(crate) fn list(
        &self,
        (from, to): (&str, &str),
        limit: usize,
        order: Order,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let transaction = self.database.begin_read().map_err(unavailable)?;
        let table = transaction.open_table(TABLE).map_err(unavailable)?;
        let mut range = table.range::<&str>(from..to).map_err(unavailable)?;
        let mut found = Vec::new();
        while found.len() < limit {
            let next = match order {
                Order::Forward => range.next(),
                Order::Reverse => range.next_back(),
            };
            let Some(entry) = next else { break };
            let (key, value) = entry.map_err(unavailable)?;
            found.push((key.value().to_owned(), value.value().to_vec()));
        }
        Ok(found)
    }

    /// Keys from `from` to before `to`, in order.
    pub(crate) fn keys(&self, (from, to): (&str, &str)) -> Result<Vec<String>, StoreError> {
        let transaction = self.database.begin_read().map_err(unavailable)?;
        let table = transaction.open_table(TABLE).map_err(unavailable)?;
        let range = table.range::<&str>(from..to).map_err(unavailable)?;
        range.map(|entry| entry.map(|(key, _)| key.value().to_owned()).map_err(unavailable)).collect()
    }

    /// Writes, if the guards hold; false when one does not, and nothing has happened. What is acknowledged is on disk.
    pub(crate) fn write(&self, guards: &[Guard<'_>], write: &Write) -> Result<bool, StoreError> {
        let transaction = self.database.begin_write().map_err(unavailable)?;
        {
            let mut table = transaction.open_table(TABLE).map_err(unavailable)?;
            for Guard { key, value } in guards {
                let held = table.get(key).map_err(unavailable)?;
                if held.as_ref().map(|held| held.value()) != *value {
                    return Ok(false);
                }
            }
            for (key, value) in &write.puts {
                table.insert(key.as_str(), value.as_slice()).map_err(unavailable)?;
            }
            for key in &write.deletes {
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

    fn put(key: &str, value: &str) -> Write {
        Write::put(key, value.as_bytes().to_vec())
    }

    #[test]
    fn a_guard_that_does_not_hold_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Embedded::open(folder.path()).unwrap();
        let absent = Guard { key: "head", value: None };
        assert!(engine.write(&[absent], &put("head", "1")).unwrap());
        let absent = Guard { key: "head", value: None };
        assert!(!engine.write(&[absent], &put("head", "2")).unwrap());
        let one = Guard { key: "head", value: Some(b"1") };
        assert!(engine.write(&[one], &put("head", "3")).unwrap());
        assert_eq!(engine.get("head").unwrap().as_deref(), Some(&b"3"[..]));
    }

    #[test]
    fn it_is_read_again_after_it_was_closed_and_by_one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Embedded::open(folder.path()).unwrap();
        for key in ["a/1", "a/2", "a/3", "b/1"] {
            engine.write(&[], &put(key, key)).unwrap();
        }
        let taken = Embedded::open(folder.path()).unwrap_err().to_string();
        assert!(taken.contains("in use by another weir-control"), "{taken}");
        drop(engine);
        let engine = Embedded::open(folder.path()).unwrap();
        let keys = |order| -> Vec<_> {
            engine.list(("a/", "a0"), 2, order).unwrap().into_iter().map(|(key, _)| key).collect()
        };
        assert_eq!(keys(Order::Forward), ["a/1", "a/2"]);
        assert_eq!(keys(Order::Reverse), ["a/3", "a/2"]);
        let mode = fs::metadata(folder.path().join("weir.redb")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
