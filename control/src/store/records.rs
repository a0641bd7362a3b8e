//! The values of the store and their keys, as JSON.

use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::revision::RevisionMeta;
use super::txn::Precondition;

/// The value of `head`: the last revision.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) revision: u64,
    /// The prefix of the revision's record. It is unique also between two revisions of one number, which exist after
    /// the store was restored from a backup.
    #[serde(default)]
    pub(super) record: String,
}

/// A revision without its changes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RevisionEntry {
    #[serde(flatten)]
    pub(super) meta: RevisionMeta,
    /// The changes.
    pub(super) record: BlobRef,
}

/// A reference to bytes that are stored in parts, because one value may be too small for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlobRef {
    pub(super) prefix: String,
    pub(super) parts: usize,
}

/// All objects at one revision.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    pub(super) revision: u64,
    pub(super) record: BlobRef,
}

/// The version of the set of bundles: a random value that every change of the bundles replaces. Used for optimistic
/// concurrency.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BundleSetVersion(pub(super) Option<Vec<u8>>);

impl BundleSetVersion {
    /// Returns the precondition that the set of bundles has this version.
    pub(super) fn precondition(&self) -> Precondition<'_> {
        Precondition { key: BUNDLE_SET_VERSION, value: self.0.as_deref() }
    }
}

/// Returns the precondition that the head has this value.
pub(super) const fn head_precondition(head: Option<&[u8]>) -> Precondition<'_> {
    Precondition { key: HEAD, value: head }
}

/// The key of [`Checkpoint`].
pub(super) const CHECKPOINT: &str = "checkpoint";
/// The key of the bundle set's version.
pub(super) const BUNDLE_SET_VERSION: &str = "bundle-stamp";
/// The key of [`Head`].
pub(super) const HEAD: &str = "head";

/// Parses the value of [`HEAD`].
pub(super) fn parse_head(bytes: Option<&[u8]>) -> Result<Option<Head>, StoreError> {
    bytes.map(|bytes| from_bytes(HEAD, bytes)).transpose()
}

/// Returns a random number, for keys that no other writer uses.
pub(super) fn random() -> Result<u64, StoreError> {
    OsRng.try_next_u64().map_err(|error| StoreError::Unavailable(error.to_string()))
}

pub(super) fn revision_key(id: u64) -> String {
    format!("revisions/{id:020}")
}

pub(super) fn part_key(prefix: &str, index: usize) -> String {
    format!("{prefix}/{index:05}")
}

pub(super) fn to_bytes(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Unavailable(format!("cannot be written as JSON: {error}")))
}

pub(super) fn from_bytes<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::Damaged(format!("{key}: {error}")))
}
