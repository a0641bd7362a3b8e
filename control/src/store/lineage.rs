//! The lineage of a store. By it a control plane detects a store that was emptied, set back, or exchanged, and never
//! takes it for the current one.
//!
//! ```text
//! identity    in the store          id, incarnation                     the incarnation grows with `recover` and `restore`
//! store.json  in the state folder   id, incarnation, revision, record   what this control plane has seen last
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};
use weir_model::{hex, write_private};

use super::error::{RECOVERY, StoreError};

/// The key of the store's identity.
pub(super) const IDENTITY: &str = "identity";
/// The name of the file in the state folder that has what was seen last.
pub(super) const SEEN_FILE: &str = "store.json";
/// The file of the CA's roots in the folder of a store that is not shared.
pub(crate) const AUTHORITY_FILE: &str = "authority.json";
/// The file of the first admin token in the state folder.
pub(crate) const ADMIN_TOKEN_FILE: &str = "admin.token";
/// The files in the state folder of a control plane that has served. Beside one of them, an empty store is a lost one.
const TRACES: [&str; 3] = [SEEN_FILE, AUTHORITY_FILE, ADMIN_TOKEN_FILE];

/// The identity of a store, stored in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StoreIdentity {
    /// A random id: the id of the mesh, which proxies compare.
    pub(super) id: String,
    /// Grows each time an operator accepts or restores a state of the store.
    pub(super) incarnation: u64,
    /// True once the first roots and the first token exist. Before that, a start may create them.
    pub(super) initialized: bool,
}

impl StoreIdentity {
    /// Creates the identity of a new store.
    pub(super) fn new() -> Result<Self, StoreError> {
        let mut bytes = [0; 16];
        OsRng.try_fill_bytes(&mut bytes).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self { id: hex::encode(&bytes), incarnation: 1, initialized: false })
    }
}

/// The last state of the store that a control plane has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SeenStore {
    /// The id of the store.
    pub(super) id: String,
    /// The incarnation of the store.
    pub(super) incarnation: u64,
    /// The last revision; 0 before the first.
    pub(super) revision: u64,
    /// The key of that revision's record; empty before the first.
    pub(super) record: String,
}

impl SeenStore {
    /// Reads the file of a state folder; `None` if it is absent.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, StoreError> {
        let path = folder.join(SEEN_FILE);
        let failed = |error: &dyn std::fmt::Display| {
            StoreError::Damaged(format!("{} cannot be read: {error}; {RECOVERY}", path.display()))
        };
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Writes the file of a state folder. Blocks until it is on disk.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        write_private(&folder.join(SEEN_FILE), &bytes)
    }

    /// Compares the identity of a store with what was seen. Returns true if an operator has accepted or restored a
    /// state of the store since then, so that its revisions need not continue the ones that were seen.
    pub(super) fn follow(&self, identity: &StoreIdentity) -> Result<bool, StoreFault> {
        if identity.id != self.id {
            return Err(StoreFault::Foreign { found: identity.id.clone(), expected: self.id.clone() });
        }
        if identity.incarnation < self.incarnation {
            return Err(StoreFault::Older { found: 0, expected: self.revision });
        }
        Ok(identity.incarnation > self.incarnation)
    }

    /// Checks that a store whose last revision has the record `record` continues the revisions that were seen.
    /// `is_known` looks up whether the store's history has the revision that was seen last.
    pub(super) fn check_head(
        &self,
        revision: u64,
        record: &str,
        is_known: impl FnOnce() -> Result<bool, StoreError>,
    ) -> Result<Result<(), StoreFault>, StoreError> {
        if revision < self.revision {
            return Ok(Err(StoreFault::Older { found: revision, expected: self.revision }));
        }
        let continues = if revision == self.revision { record == self.record } else { is_known()? };
        Ok(if continues { Ok(()) } else { Err(StoreFault::Forked { revision: self.revision }) })
    }
}

/// The reason that a store is not the one that a control plane has used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum StoreFault {
    /// The store has no identity.
    #[error("has lost its data: it is empty, or a restore into it was interrupted")]
    Empty,
    /// The file of the store is missing or empty.
    #[error("has lost its data: {} is missing or empty", .0.display())]
    NoFile(PathBuf),
    /// The store of another mesh.
    #[error("is the store of another mesh: its id is {found}, not {expected}")]
    Foreign {
        /// The id of the store.
        found: String,
        /// The id that was seen last.
        expected: String,
    },
    /// An earlier state of the store.
    #[error("was set back to an earlier state: its last revision is {found}, and revision {expected} was seen")]
    Older {
        /// The last revision of the store.
        found: u64,
        /// The revision that was seen last.
        expected: u64,
    },
    /// A state of the store with other revisions.
    #[error("was set back and then changed: it has another revision {revision} than the one that was seen")]
    Forked {
        /// The revision that was seen last.
        revision: u64,
    },
}

impl StoreFault {
    /// Returns the error for a store.
    pub(super) fn error(&self, location: &str) -> StoreError {
        StoreError::Lost(format!("the store {location} {self}; {RECOVERY}"))
    }
}

/// Returns true if a control plane has served from a state folder.
pub(super) fn has_traces(folder: &Path) -> bool {
    TRACES.iter().any(|name| folder.join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(revision: u64, record: &str) -> SeenStore {
        SeenStore { id: "a".to_owned(), incarnation: 2, revision, record: record.to_owned() }
    }

    #[test]
    fn store_of_another_mesh_or_an_earlier_incarnation_is_rejected() {
        let identity = |id: &str, incarnation| StoreIdentity { id: id.to_owned(), incarnation, initialized: true };
        assert_eq!(seen(3, "r3").follow(&identity("a", 2)), Ok(false));
        assert_eq!(seen(3, "r3").follow(&identity("a", 3)), Ok(true), "an operator has recovered it");
        assert!(matches!(seen(3, "r3").follow(&identity("b", 9)), Err(StoreFault::Foreign { .. })));
        assert_eq!(seen(3, "r3").follow(&identity("a", 1)), Err(StoreFault::Older { found: 0, expected: 3 }));
    }

    #[test]
    fn revisions_must_continue_the_ones_that_were_seen() {
        let check =
            |revision, record: &str, is_known| seen(3, "r3").check_head(revision, record, || Ok(is_known)).unwrap();
        assert_eq!(check(3, "r3", false), Ok(()));
        assert_eq!(check(7, "r7", true), Ok(()));
        assert_eq!(check(2, "r2", true), Err(StoreFault::Older { found: 2, expected: 3 }));
        assert_eq!(check(3, "x3", true), Err(StoreFault::Forked { revision: 3 }));
        assert_eq!(check(7, "x7", false), Err(StoreFault::Forked { revision: 3 }));
    }

    #[test]
    fn what_was_seen_survives_a_restart_and_damage_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(SeenStore::read(folder.path()).unwrap(), None);
        assert!(!has_traces(folder.path()));
        seen(3, "r3").write(folder.path()).unwrap();
        assert_eq!(SeenStore::read(folder.path()).unwrap(), Some(seen(3, "r3")));
        assert!(has_traces(folder.path()));
        fs::write(folder.path().join(SEEN_FILE), "").unwrap();
        assert!(matches!(SeenStore::read(folder.path()), Err(StoreError::Damaged(_))));
    }
}
