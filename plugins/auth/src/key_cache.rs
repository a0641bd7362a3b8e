//! A cache of verified API keys, so that a repeated key costs no digest.
//!
//! Only verified keys are stored, so a downstream without a key cannot fill the cache, and its size is bounded by the
//! keys. A key is compared in constant time with at most one other. The time reveals whether the slot is in use and the
//! length of the shorter key, but not how much of a guess is correct. Keys are stored in plain text, like the requests
//! that carry them, in the memory of the VM.

use std::fmt;
use std::hint::black_box;

/// The number of slots. A slot has the newest of its keys.
const SLOTS: usize = 64;

/// A key in plain text, and its index in the configuration.
type Slot = Option<(Box<[u8]>, usize)>;

/// The verified API keys of one VM.
pub struct VerifiedKeyCache(Box<[Slot; SLOTS]>);

impl Default for VerifiedKeyCache {
    fn default() -> Self {
        Self(Box::new([const { None }; SLOTS]))
    }
}

/// Prints the name only, since keys are secret.
impl fmt::Debug for VerifiedKeyCache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("VerifiedKeyCache")
    }
}

impl VerifiedKeyCache {
    /// Returns the index of a key that is in the cache.
    pub fn find(&self, key: &[u8]) -> Option<usize> {
        let (cached, index) = self.0[slot_index(key)].as_ref()?;
        equal_in_constant_time(cached, key).then_some(*index)
    }

    /// Inserts a verified key, in place of the key in its slot.
    pub fn insert(&mut self, key: &[u8], index: usize) {
        self.0[slot_index(key)] = Some((key.into(), index));
    }
}

/// Compares all bytes, so the time does not depend on the first difference. The lengths are not secret.
pub fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    let difference = left.iter().zip(right).fold(0, |sum, (left, right)| sum | (left ^ right));
    left.len() == right.len() && black_box(difference) == 0
}

/// Hashes the last eight bytes, in which keys differ most.
fn slot_index(key: &[u8]) -> usize {
    let spread = |sum: usize, byte: &u8| sum.wrapping_mul(31).wrapping_add(usize::from(*byte));
    key.iter().rev().take(8).fold(0, spread) % SLOTS
}
