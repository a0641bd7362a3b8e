//! One value of shared data: up to [`MAX_ENTRIES`] buckets, each the hash of its key and when it is full again.
//!
//! A bucket that is full is as good as absent, so it is left out at the next write. When all places are taken by buckets
//! that are not, the fullest makes room: it is the one of which the least is forgotten.

/// Buckets in a slot.
pub const MAX_ENTRIES: usize = 8;

/// Bytes of a bucket.
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
    /// Unpacks a value. What does not belong there is left out.
    pub fn unpack(bytes: &[u8]) -> Self {
        let mut slot = Self::default();
        for entry in bytes.chunks_exact(ENTRY).take(MAX_ENTRIES) {
            let (key, full_at) = entry.split_at(ENTRY / 2);
            slot.push(Entry { key: number(key), full_at: number(full_at) });
        }
        slot
    }

    /// Packs it into `bytes`, in place of what they held.
    pub fn pack(&self, bytes: &mut Vec<u8>) {
        bytes.clear();
        for entry in self.live() {
            bytes.extend_from_slice(&entry.key.to_le_bytes());
            bytes.extend_from_slice(&entry.full_at.to_le_bytes());
        }
    }

    /// When the bucket of a key is full again; 0, long past, if there is none.
    pub fn full_at(&self, key: u64) -> u64 {
        self.live().iter().find(|entry| entry.key == key).map_or(0, |entry| entry.full_at)
    }

    /// Sets when the bucket of a key is full again, and leaves out those that are full `now`. Whether one that is not
    /// full had to make room.
    pub fn set(&mut self, key: u64, full_at: u64, now: u64) -> Room {
        let before = *self;
        self.len = 0;
        for entry in before.live().iter().filter(|entry| entry.key != key && entry.full_at > now) {
            self.push(*entry);
        }
        if full_at <= now {
            return Room::Enough;
        }
        let entry = Entry { key, full_at };
        if self.len < MAX_ENTRIES {
            self.push(entry);
            return Room::Enough;
        }
        if let Some(fullest) = self.entries.iter_mut().min_by_key(|entry| entry.full_at) {
            *fullest = entry;
        }
        Room::Made
    }

    fn live(&self) -> &[Entry] {
        &self.entries[..self.len]
    }

    fn push(&mut self, entry: Entry) {
        self.entries[self.len] = entry;
        self.len += 1;
    }
}

/// Whether there was room for a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// There was.
    Enough,
    /// Another bucket that was not full is forgotten for it.
    Made,
}

fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().copied().map_or(0, u64::from_le_bytes)
}
