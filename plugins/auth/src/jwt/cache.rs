//! Tokens whose signature was right, so that a token that comes again costs one hash.
//!
//! Only right tokens are kept, so nobody without a key can fill it. When they were right does not matter: the times
//! in them are judged anew for each request.

use std::rc::Rc;

use super::Verified;

/// How many tokens are kept in each VM.
pub const MAX_TOKENS: usize = 256;

/// How long they may be together, in bytes: their claims take a few times as much of the VM's memory.
const MAX_BYTES: usize = 512 * 1024;

/// SHA-256 of a whole token, signature included.
pub(super) type Digest = [u8; 32];

/// The newest tokens, the oldest of them first. It is searched from end to end: a tree would add 20 KB to the module.
#[derive(Debug, Default)]
pub(super) struct Cache {
    tokens: Vec<Token>,
    bytes: usize,
}

#[derive(Debug)]
struct Token {
    digest: Digest,
    length: usize,
    verified: Rc<Verified>,
}

impl Cache {
    pub(super) fn find(&self, digest: &Digest) -> Option<Rc<Verified>> {
        let token = self.tokens.iter().find(|token| token.digest[0] == digest[0] && token.digest == *digest)?;
        Some(Rc::clone(&token.verified))
    }

    /// Keeps a token that is not there yet, in the place of the oldest ones if it must.
    pub(super) fn keep(&mut self, digest: Digest, length: usize, verified: Rc<Verified>) {
        while !self.tokens.is_empty() && (self.tokens.len() >= MAX_TOKENS || self.bytes + length > MAX_BYTES) {
            self.bytes -= self.tokens.remove(0).length;
        }
        self.bytes += length;
        self.tokens.push(Token { digest, length, verified });
    }
}
