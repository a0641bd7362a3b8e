//! The error of the certificate authority.

use jiff::Timestamp;

use crate::store::StoreError;

/// An error of the certificate authority.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The state cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state is malformed or belongs to another trust domain.
    #[error("{location}: {reason}")]
    InvalidState {
        /// The file, or the store.
        location: String,
        /// The fault.
        reason: String,
    },
    /// A certificate cannot be created.
    #[error("a certificate cannot be made: {0}")]
    Signing(#[from] rcgen::Error),
    /// The certificate signing request is malformed.
    #[error("the request to sign is wrong: {0}")]
    Request(String),
    /// The roots are those of an external CA and cannot be rotated here.
    #[error(
        "the CA is external: replace the files of --ca-cert, --ca-key and --ca-root, and restart the control planes"
    )]
    ExternallyManaged,
    /// The external signing certificate has expired.
    #[error("the certificate of --ca-cert expired at {0}: replace it")]
    SignerExpired(Timestamp),
    /// The previous rotation is not complete.
    #[error("a rotation is under way; the old root is trusted until {0}")]
    RotationInProgress(Timestamp),
}
