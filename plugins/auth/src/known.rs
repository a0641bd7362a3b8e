//! API keys that were right before, so that a key that comes again costs no digest: that is most of them.
//!
//! Only right keys are kept, so nobody without one can fill the table, and it holds no more bytes than the keys have. A
//! key is compared in constant time with at most one other, so time tells whether there is one in its place and how long
//! the shorter of them is, and nothing about how much of a guess was right. They are kept as they were shown, where the
//! requests that show them are, too: in the memory of the VM.

use std::fmt;
use std::hint::black_box;

/// Places for keys; the newest key of a place stays.
const PLACES: usize = 64;

/// A key as it was shown, and its number among the configured ones.
type Known = Option<(Box<[u8]>, usize)>;

/// Keys that were right before.
pub struct KnownKeys(Box<[Known; PLACES]>);

impl Default for KnownKeys {
    fn default() -> Self {
        Self(Box::new([const { None }; PLACES]))
    }
}

/// Keys are secrets.
impl fmt::Debug for KnownKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KnownKeys")
    }
}

impl KnownKeys {
    /// The number of a key that was right before.
    pub fn find(&self, key: &[u8]) -> Option<usize> {
        let (known, index) = self.0[place_of(key)].as_ref()?;
        equal_in_constant_time(known, key).then_some(*index)
    }

    /// Keeps a key that is right.
    pub fn keep(&mut self, key: &[u8], index: usize) {
        self.0[place_of(key)] = Some((key.into(), index));
    }
}

/// Looks at every byte, whatever it finds. That the lengths differ is no secret.
pub fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    let difference = left.iter().zip(right).fold(0, |sum, (left, right)| sum | (left ^ right));
    left.len() == right.len() && black_box(difference) == 0
}

/// Keys differ in their last bytes.
fn place_of(key: &[u8]) -> usize {
    let spread = |sum: usize, byte: &u8| sum.wrapping_mul(31).wrapping_add(usize::from(*byte));
    key.iter().rev().take(8).fold(0, spread) % PLACES
}
