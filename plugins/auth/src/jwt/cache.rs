//! The verified tokens of one VM, so that a repeated token costs one hash.
//!
//! Only verified tokens are stored, so a downstream without a key cannot fill the cache. The times of a token are
//! checked for each request.

use std::rc::Rc;

use super::claims::Verified;

/// The maximum number of tokens of one VM.
pub const MAX_TOKENS: usize = 256;

/// The maximum length of all tokens together, in bytes. Their claims take a few times as much of the VM's memory.
const MAX_BYTES: usize = 512 * 1024;

/// The SHA-256 digest of a token with its signature.
pub(super) type Digest = [u8; 32];

/// The newest tokens, oldest first. The search is linear, since a tree would add 20 KB to the module.
#[derive(Debug, Default)]
pub(super) struct Cache {
    tokens: Vec<CachedToken>,
    bytes: usize,
}

#[derive(Debug)]
struct CachedToken {
    digest: Digest,
    length: usize,
    verified: Rc<Verified>,
}

impl Cache {
    pub(super) fn find(&self, digest: &Digest) -> Option<Rc<Verified>> {
        let token = self.tokens.iter().find(|token| token.digest[0] == digest[0] && token.digest == *digest)?;
        Some(Rc::clone(&token.verified))
    }

    /// Inserts a token that is not in the cache. Evicts the oldest tokens when a limit is reached.
    pub(super) fn insert(&mut self, digest: Digest, length: usize, verified: Rc<Verified>) {
        while !self.tokens.is_empty() && (self.tokens.len() >= MAX_TOKENS || self.bytes + length > MAX_BYTES) {
            self.bytes -= self.tokens.remove(0).length;
        }
        self.bytes += length;
        self.tokens.push(CachedToken { digest, length, verified });
    }
}
