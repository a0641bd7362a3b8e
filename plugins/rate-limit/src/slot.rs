//! One value of shared data: up to [`MAX_ENTRIES`] buckets, each the hash of its key and the time at which it is full.
//!
//! A full bucket equals an absent one, so the next write removes it. When all buckets of the slot are in use, the
//! fullest is evicted, since the least of its state is lost.

/// The number of buckets in a slot.
pub const MAX_ENTRIES: usize = 8;

/// The size of a bucket, in bytes.
const ENTRY: usize = 16;

/// A slot, unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slot {
    entries: [Entry; MAX_ENTRIES],
    len: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Entry {
    key: u64,
    full_at: u64,
}

impl Slot {
    /// Unpacks a value of shared data. Ignores excess bytes.
    pub fn unpack(bytes: &[u8]) -> Self {
        let mut slot = Self::default();
        for entry in bytes.chunks_exact(ENTRY).take(MAX_ENTRIES) {
            let (key, full_at) = entry.split_at(ENTRY / 2);
            slot.push(Entry { key: number(key), full_at: number(full_at) });
        }
        slot
    }

    /// Packs the slot into `bytes`, and replaces their content.
    pub fn pack(&self, bytes: &mut Vec<u8>) {
        bytes.clear();
        for entry in self.live() {
            bytes.extend_from_slice(&entry.key.to_le_bytes());
            bytes.extend_from_slice(&entry.full_at.to_le_bytes());
        }
    }

    /// Returns the time at which the bucket of a key is full. Returns 0, which is in the past, for an absent bucket.
    pub fn full_at(&self, key: u64) -> u64 {
        self.live().iter().find(|entry| entry.key == key).map_or(0, |entry| entry.full_at)
    }

    /// Sets the time at which the bucket of a key is full, and removes buckets that are full at `now`. Returns whether
    /// a bucket was evicted.
    pub fn set(&mut self, key: u64, full_at: u64, now: u64) -> Insertion {
        let before = *self;
        self.len = 0;
        for entry in before.live().iter().filter(|entry| entry.key != key && entry.full_at > now) {
            self.push(*entry);
        }
        if full_at <= now {
            return Insertion::Fit;
        }
        let entry = Entry { key, full_at };
        if self.len < MAX_ENTRIES {
            self.push(entry);
            return Insertion::Fit;
        }
        if let Some(fullest) = self.entries.iter_mut().min_by_key(|entry| entry.full_at) {
            *fullest = entry;
        }
        Insertion::Evicted
    }

    fn live(&self) -> &[Entry] {
        &self.entries[..self.len]
    }

    fn push(&mut self, entry: Entry) {
        self.entries[self.len] = entry;
        self.len += 1;
    }
}

/// The result of setting a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Insertion {
    /// The slot had capacity for the bucket.
    Fit,
    /// Another bucket, which was not full, was evicted.
    Evicted,
}

fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().copied().map_or(0, u64::from_le_bytes)
}
