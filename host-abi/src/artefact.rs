//! The form of a compiled module on disk. The cache writes and checks it; a module is loaded from a [`CheckedArtefact`]
//! only.
//!
//! ```text
//! magic 8 | form u32 | key 32 | length of code u64 | SHA-256 of key and code 32 | code        little-endian
//! ```

use sha2::{Digest, Sha256};

const MAGIC: &[u8; 8] = b"WEIRCODE";
const FORM: u32 = 1;

/// Bytes before the code.
pub(crate) const HEADER_BYTES: usize = 8 + 4 + 32 + 8 + 32;

/// What an artefact is for: one module, for engines of one version and settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ArtefactKey([u8; 32]);

impl ArtefactKey {
    pub(crate) fn new(module: &[u8; 32], engine: &[u8; 32]) -> Self {
        Self(Sha256::new().chain_update(module).chain_update(engine).finalize().into())
    }

    /// The name of its file.
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

/// Why an artefact is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArtefactError {
    #[error("it is too short")]
    Short,
    #[error("it is not an artefact")]
    Magic,
    #[error("it has another form")]
    Form,
    #[error("it is for another module or engine")]
    Key,
    #[error("its length is not what its header says")]
    Length,
    #[error("its content does not match its hash")]
    Digest,
}

/// Code whose header, key and digest are right.
#[derive(Debug)]
pub(crate) struct CheckedArtefact<'a>(&'a [u8]);

impl<'a> CheckedArtefact<'a> {
    /// Checks the bytes of a file.
    pub(crate) fn check(file: &'a [u8], key: ArtefactKey) -> Result<Self, ArtefactError> {
        let (header, code) = file.split_at_checked(HEADER_BYTES).ok_or(ArtefactError::Short)?;
        let expected = header_of(key, code);
        let parts = [
            (0..8, ArtefactError::Magic),
            (8..12, ArtefactError::Form),
            (12..44, ArtefactError::Key),
            (44..52, ArtefactError::Length),
            (52..HEADER_BYTES, ArtefactError::Digest),
        ];
        for (range, error) in parts {
            if header[range.clone()] != expected[range] {
                return Err(error);
            }
        }
        Ok(Self(code))
    }

    /// The compiled code.
    pub(crate) const fn code(&self) -> &'a [u8] {
        self.0
    }
}

/// The header that belongs before `code`.
pub(crate) fn header_of(key: ArtefactKey, code: &[u8]) -> [u8; HEADER_BYTES] {
    let digest: [u8; 32] = Sha256::new().chain_update(key.0).chain_update(code).finalize().into();
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&FORM.to_le_bytes());
    header[12..44].copy_from_slice(&key.0);
    header[44..52].copy_from_slice(&(code.len() as u64).to_le_bytes());
    header[52..].copy_from_slice(&digest);
    header
}
