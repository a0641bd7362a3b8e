//! Tables by number: ids that we count up ourselves, and addresses. Nobody outside chooses them, so the hash need not
//! withstand anybody.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table by number.
pub(crate) type IdMap<Id, T> = HashMap<Id, T, BuildHasherDefault<IdHasher>>;

/// The table takes its tag from the top bits and its slot from the low ones; an odd factor keeps ids apart.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// One multiplication.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        // Addresses end in zeros: what differs has to come down.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, id: u32) {
        self.write_u64(u64::from(id));
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = (self.0 ^ id).wrapping_mul(FACTOR);
    }

    fn write_usize(&mut self, id: usize) {
        self.write_u64(id as u64);
    }
}
