//! The bounds of a bundle, each with its unit and the reason for the number.

/// The maximum size of a manifest, in bytes. A schema of a hundred documented fields takes a fifth of it.
pub const MAX_MANIFEST_BYTES: usize = 256 * 1024;

/// The maximum number of signatures of one bundle: its author, its reviewer, its mirrors.
pub const MAX_SIGNATURES: usize = 8;
