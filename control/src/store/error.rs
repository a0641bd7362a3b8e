//! The error of the store.

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be read or written at present. It heals as soon as its cause does.
    #[error("{0}")]
    Unavailable(String),
    /// A stored value is missing or malformed.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The store is not the one that this control plane has used: it is empty, older, or of another mesh.
    #[error("{0}")]
    Lost(String),
}

/// The advice for a store that is lost or damaged, as the end of a message.
pub(super) const RECOVERY: &str = "nothing was changed, and proxies keep their configuration; restore a backup with \
                                   `weir-control restore`, or accept the store as it is with `weir-control recover \
                                   store` (docs/operations.md, Recovery)";
