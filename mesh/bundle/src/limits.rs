//! Every bound on a bundle: the number, its unit, and why it is that number.

/// Bytes of a manifest: a schema of a hundred fields with their descriptions fits five times over.
pub const MAX_MANIFEST_BYTES: usize = 256 * 1024;

/// Signatures of one bundle: its author, its reviewer, whoever mirrors it.
pub const MAX_SIGNATURES: usize = 8;
