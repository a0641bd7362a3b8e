//! The file format of compiled modules. The cache writes and checks it; a module is loaded from a [`CheckedArtifact`]
//! only.
//!
//! ```text
//! magic 8 | format u32 | key 32 | length of code u64 | SHA-256 of key and code 32 | code        little-endian
//! ```

use sha2::{Digest, Sha256};

const MAGIC: &[u8; 8] = b"WEIRCODE";
const FORMAT_VERSION: u32 = 1;

/// Size of the header before the code in bytes.
pub(crate) const HEADER_BYTES: usize = 8 + 4 + 32 + 8 + 32;

/// The key of an artifact: one module, for engines of one version and settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ArtifactKey([u8; 32]);

impl ArtifactKey {
    pub(crate) fn new(module: &[u8; 32], engine: &[u8; 32]) -> Self {
        Self(Sha256::new().chain_update(module).chain_update(engine).finalize().into())
    }

    /// Returns the file name of the artifact.
    pub(crate) fn file_name(&self) -> String {
        use std::fmt::Write;
        let mut name = String::with_capacity(70);
        for byte in self.0 {
            // Writing to a string does not fail.
            let _written = write!(name, "{byte:02x}");
        }
        name + ".code"
    }
}

/// The reason why an artifact is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArtifactError {
    #[error("it is too short")]
    Short,
    #[error("it is not an artifact")]
    Magic,
    #[error("it has an unknown format version")]
    FormatVersion,
    #[error("it is for another module or engine")]
    Key,
    #[error("its length does not match its header")]
    Length,
    #[error("its content does not match its hash")]
    Digest,
}

/// The code of an artifact with a valid header, key and digest.
#[derive(Debug)]
pub(crate) struct CheckedArtifact<'a>(&'a [u8]);

impl<'a> CheckedArtifact<'a> {
    /// Checks the content of a file.
    pub(crate) fn check(file: &'a [u8], key: ArtifactKey) -> Result<Self, ArtifactError> {
        let (found, code) = file.split_at_checked(HEADER_BYTES).ok_or(ArtifactError::Short)?;
        let expected = header(key, code);
        let parts = [
            (0..8, ArtifactError::Magic),
            (8..12, ArtifactError::FormatVersion),
            (12..44, ArtifactError::Key),
            (44..52, ArtifactError::Length),
            (52..HEADER_BYTES, ArtifactError::Digest),
        ];
        for (range, error) in parts {
            if found[range.clone()] != expected[range] {
                return Err(error);
            }
        }
        Ok(Self(code))
    }

    /// Returns the compiled code.
    pub(crate) const fn code(&self) -> &'a [u8] {
        self.0
    }
}

/// Returns the header for `code`.
pub(crate) fn header(key: ArtifactKey, code: &[u8]) -> [u8; HEADER_BYTES] {
    let digest: [u8; 32] = Sha256::new().chain_update(key.0).chain_update(code).finalize().into();
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[12..44].copy_from_slice(&key.0);
    header[44..52].copy_from_slice(&(code.len() as u64).to_le_bytes());
    header[52..].copy_from_slice(&digest);
    header
}
