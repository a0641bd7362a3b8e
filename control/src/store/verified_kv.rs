//! A key-value store that is verified to be the one that this control plane has used. Nothing is read from or written to a
//! store that was emptied, set back or exchanged, so its emptiness is never served and never extended.
//!
//! Values are verified after they are read: what was read before the store was lost is valid, what was read later is not
//! used. Every write has the identity of the store as a precondition.

use std::path::PathBuf;

use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::{info, warn};

use super::error::{RECOVERY, StoreError};
use super::kv::KvStore;
use super::lineage::{IDENTITY, SEEN_FILE, SeenStore, StoreFault, StoreIdentity, has_traces};
use super::location::StoreLocation;
use super::records::{HEAD, Head, RevisionEntry, from_bytes, parse_head, revision_key, to_bytes};
use super::txn::{KeyRange, Order, Precondition, Txn};
use crate::limits::{CHECKPOINT_INTERVAL, MAX_REVISIONS};

/// A store to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// The location of the store.
    pub location: StoreLocation,
    /// The folder of this process's own files.
    pub folder: PathBuf,
    /// True if an absent or empty store is a new mesh, unless the folder was used before.
    pub may_init: bool,
}

/// A verified key-value store.
#[derive(Debug)]
pub(super) struct VerifiedKv {
    pub(super) kv: KvStore,
    location: StoreLocation,
    /// The folder that has what was seen last.
    folder: PathBuf,
    lineage: Mutex<Lineage>,
}

/// The identity of the store, and what this process has seen in it last.
#[derive(Debug)]
struct Lineage {
    /// The stored bytes of the identity: a precondition of each write, so that nothing is written to a store that was
    /// emptied or exchanged.
    identity: Vec<u8>,
    is_initialized: bool,
    seen: SeenStore,
}

impl VerifiedKv {
    /// Opens a store. With `may_init` an absent or empty store begins a new mesh, unless a control plane has served from the
    /// folder.
    ///
    /// # Errors
    /// The store cannot be read or written, is damaged, is a folder that another process has open, or is not the store
    /// that was used with this state folder.
    pub(super) fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        let StoreOptions { location, folder, may_init } = options;
        let seen = SeenStore::read(folder)?;
        let is_used = has_traces(folder);
        let may_init = *may_init && !is_used;
        let kv = KvStore::open(location, may_init)?;
        let identity = match kv.get(IDENTITY)? {
            Some(identity) => identity,
            None => create_identity(&kv, location, seen.is_some(), may_init)?,
        };
        let StoreIdentity { id, incarnation, initialized } = from_bytes(IDENTITY, &identity)?;
        let seen = seen.unwrap_or(SeenStore { id, incarnation, ..SeenStore::default() });
        let lineage = Mutex::new(Lineage { identity, is_initialized: initialized, seen });
        let store = Self { kv, location: location.clone(), folder: folder.clone(), lineage };
        store.verify()?;
        Ok(store)
    }

    /// Returns the id of the store, which is the id of the mesh.
    pub(super) fn id(&self) -> String {
        self.lineage.lock().seen.id.clone()
    }

    /// Returns true if the first roots and the first token of the mesh exist. Before that, a start may create them.
    pub(super) fn is_initialized(&self) -> bool {
        self.lineage.lock().is_initialized
    }

    /// Records that the first roots and the first token exist.
    ///
    /// # Errors
    /// The store cannot be written.
    pub(super) fn mark_initialized(&self) -> Result<(), StoreError> {
        if !self.is_initialized() {
            let before = self.lineage.lock().identity.clone();
            let identity = StoreIdentity { initialized: true, ..from_bytes(IDENTITY, &before)? };
            let precondition = Precondition { key: IDENTITY, value: Some(&before) };
            self.kv.write(&[precondition], &Txn::put(IDENTITY, to_bytes(&identity)?))?;
            self.verify()?; // Reads what this process or another replica has written.
        }
        Ok(())
    }

    /// Checks that the store is the one that this process has used, with all revisions that it has seen.
    ///
    /// # Errors
    /// The store cannot be read, or was emptied, set back or exchanged.
    pub(super) fn verify(&self) -> Result<(), StoreError> {
        self.kv.check_unchanged()?;
        let lost = |fault: StoreFault| fault.error(&self.location.to_string());
        let mut seen = self.lineage.lock().seen.clone();
        // The head first: of a store that is emptied in between, the identity is gone.
        let head = self.kv.get(HEAD)?;
        let bytes = self.kv.get(IDENTITY)?.ok_or_else(|| lost(StoreFault::Empty))?;
        let identity: StoreIdentity = from_bytes(IDENTITY, &bytes)?;
        if seen.follow(&identity).map_err(lost)? {
            let StoreIdentity { id, incarnation, .. } = &identity;
            info!(id, incarnation, "an operator has recovered the store; its state is taken over");
            seen = SeenStore { id: id.clone(), incarnation: *incarnation, ..SeenStore::default() };
        }
        let Head { revision, record } = parse_head(head.as_deref())?.unwrap_or_default();
        seen.check_head(revision, &record, || self.has_seen(&seen, revision))?.map_err(lost)?;
        let mut lineage = self.lineage.lock();
        (lineage.identity, lineage.is_initialized) = (bytes, identity.initialized);
        if lineage.seen.incarnation < seen.incarnation {
            lineage.seen = seen;
        }
        Ok(())
    }

    /// Returns true if a history up to the revision `last` has the revision that was seen last.
    fn has_seen(&self, seen: &SeenStore, last: u64) -> Result<bool, StoreError> {
        if seen.revision == 0 || seen.record.is_empty() {
            return Ok(true); // A head of an older release does not name its record.
        }
        let key = revision_key(seen.revision);
        match self.kv.get(&key)? {
            Some(bytes) => Ok(from_bytes::<RevisionEntry>(&key, &bytes)?.record.prefix == seen.record),
            None => Ok(seen.revision + MAX_REVISIONS <= last + CHECKPOINT_INTERVAL),
        }
    }

    /// Remembers a head that was read or written, on disk.
    pub(super) fn remember(&self, head: Option<&[u8]>) -> Result<(), StoreError> {
        let Head { revision, record } = parse_head(head)?.unwrap_or_default();
        let seen = {
            let mut lineage = self.lineage.lock();
            let StoreIdentity { id, incarnation, .. } = from_bytes(IDENTITY, &lineage.identity)?;
            lineage.seen = SeenStore { id, incarnation, revision, record };
            lineage.seen.clone()
        };
        if let Err(error) = seen.write(&self.folder) {
            let path = self.folder.join(SEEN_FILE);
            warn!(path = %path.display(), %error, "cannot be written; an older store would not be detected at a start");
        }
        Ok(())
    }

    /// Applies a transaction if every precondition is met and the store is the one that this process has used.
    pub(super) fn write(&self, preconditions: &[Precondition<'_>], txn: &Txn) -> Result<bool, StoreError> {
        let identity = self.lineage.lock().identity.clone();
        let own = Precondition { key: IDENTITY, value: Some(&identity) };
        if self.kv.write(&[&[own], preconditions].concat(), txn)? {
            return Ok(true);
        }
        self.verify()?; // A store that was exchanged is no conflict between writers.
        Ok(false)
    }

    /// Applies a transaction without preconditions.
    pub(super) fn write_always(&self, txn: &Txn) -> Result<(), StoreError> {
        // The first attempt fails after an operator has recovered the store.
        if self.write(&[], txn)? || self.write(&[], txn)? {
            return Ok(());
        }
        Err(StoreError::Unavailable("the store was recovered at this moment; try again".to_owned()))
    }

    /// Returns the value of a key, verified.
    pub(super) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.kv.get(key)?;
        self.verify()?;
        Ok(value)
    }

    /// Returns the value of a key that a verified value names.
    pub(super) fn get_unverified(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.kv.get(key)
    }

    /// Returns at most `limit` keys of a range with their values, sorted and verified.
    pub(super) fn list(
        &self,
        range: KeyRange<'_>,
        limit: usize,
        order: Order,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let found = self.kv.list(range, limit, order)?;
        self.verify()?;
        Ok(found)
    }

    /// Returns the keys of a range, sorted and verified.
    pub(super) fn keys(&self, range: KeyRange<'_>) -> Result<Vec<String>, StoreError> {
        let found = self.kv.keys(range)?;
        self.verify()?;
        Ok(found)
    }

    /// Returns a channel that changes when another process may have written; `None` if no other process can.
    pub(super) fn changes(&self) -> Option<watch::Receiver<u64>> {
        self.kv.changes()
    }

    /// Returns true if other replicas may write to the store.
    pub(super) const fn is_shared(&self) -> bool {
        matches!(self.kv, KvStore::Etcd(_))
    }
}

/// Writes the identity of a store that has none: one of an older release, or a new one. Returns the stored bytes: those
/// of another replica if it wrote first.
fn create_identity(
    kv: &KvStore,
    location: &StoreLocation,
    was_seen: bool,
    may_init: bool,
) -> Result<Vec<u8>, StoreError> {
    let lost = || StoreFault::Empty.error(&location.to_string());
    let has_any = |from: &str, to: &str| Ok(!kv.list(KeyRange { from, to }, 1, Order::Forward)?.is_empty());
    let is_empty = !has_any("", "\u{7f}")?;
    // A store of an older release has a first token, whatever else is in it.
    let is_older_release = !was_seen && (has_any("tokens/", "tokens0")? || kv.get("head")?.is_some());
    if is_empty && !may_init && !was_seen {
        let reason = format!(
            "the store {location} is empty. If this is a new mesh, start its first control plane once with --init. If the \
             mesh exists, its data is lost, or --store has another address or prefix: {RECOVERY}"
        );
        return Err(StoreError::Lost(reason));
    }
    let is_new = is_empty && may_init;
    if !is_older_release && !is_new {
        return Err(lost());
    }
    let identity = to_bytes(&StoreIdentity::new()?)?;
    if kv.write(&[Precondition { key: IDENTITY, value: None }], &Txn::put(IDENTITY, identity.clone()))? {
        return Ok(identity);
    }
    kv.get(IDENTITY)?.ok_or_else(lost)
}
