//! The error of the store.

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be read or written at present.
    #[error("{0}")]
    Unavailable(String),
    /// A stored value is missing or malformed.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}
