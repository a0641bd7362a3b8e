//! `SharedData`: keys and values with versions for compare-and-swap. They are spread over several locks, each locked
//! for the time of one copy.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState as SipState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use parking_lot::Mutex;

use crate::abi::status::Status;
use crate::limits::{MAX_NAME, MAX_SHARED_VALUE, SHARED_ENTRY_OVERHEAD, SHARED_SHARD_BYTES, SHARED_SHARDS};

/// The shared data of one VM id.
pub struct SharedData {
    shards: [Mutex<Shard>; SHARED_SHARDS],
    hasher: SeedableRandomState,
    last_version: AtomicU32,
    writes: AtomicU64,
    evicted: AtomicU64,
    /// Limit of one shard in bytes.
    shard_bytes: AtomicUsize,
}

struct Shard {
    entries: HashMap<Arc<[u8]>, Entry, SeedableRandomState>,
    /// Keys by the number of their last write; the first is the least recently written.
    by_age: BTreeMap<u64, Arc<[u8]>>,
    bytes: usize,
}

struct Entry {
    value: Box<[u8]>,
    version: u32,
    write: u64,
}

impl Default for SharedData {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(Shard::new())),
            hasher: hasher(),
            last_version: AtomicU32::new(0),
            writes: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            shard_bytes: AtomicUsize::new(SHARED_SHARD_BYTES),
        }
    }
}

impl SharedData {
    /// Sets the limit in bytes; the next write evicts the excess. The bytes are divided evenly between the shards, so
    /// one value may have a sixteenth of them.
    pub fn set_limit(&self, bytes: usize) {
        self.shard_bytes.store(bytes / SHARED_SHARDS, Ordering::Relaxed);
    }

    /// Appends the value of a key and returns its version.
    ///
    /// # Errors
    /// `NotFound` if the key does not exist.
    pub fn get(&self, key: &[u8], out: &mut Vec<u8>) -> Result<u32, Status> {
        let shard = self.shard(key).lock();
        let entry = shard.entries.get(key).ok_or(Status::NotFound)?;
        out.extend_from_slice(&entry.value);
        Ok(entry.version)
    }

    /// Stores a value if its version is still `version`, if `version` is 0, or if the key does not exist. A full shard
    /// evicts its least recently written values.
    ///
    /// # Errors
    /// `CasMismatch` when the version differs; `BadArgument` when the key is longer than [`MAX_NAME`] or the value is
    /// longer than [`MAX_SHARED_VALUE`].
    pub fn set(&self, key: &[u8], value: &[u8], version: u32) -> Result<(), Status> {
        if key.len() > MAX_NAME || value.len() > MAX_SHARED_VALUE {
            return Err(Status::BadArgument);
        }
        let mut guard = self.shard(key).lock();
        let shard = &mut *guard;
        let write = self.writes.fetch_add(1, Ordering::Relaxed);
        match shard.entries.get_mut(key) {
            Some(entry) if version != 0 && entry.version != version => return Err(Status::CasMismatch),
            Some(entry) => {
                shard.bytes = shard.bytes - entry.value.len() + value.len();
                if entry.value.len() == value.len() {
                    entry.value.copy_from_slice(value);
                } else {
                    entry.value = value.into();
                }
                entry.version = self.next_version();
                if let Some(key) = shard.by_age.remove(&std::mem::replace(&mut entry.write, write)) {
                    shard.by_age.insert(write, key);
                }
            }
            None => shard.insert(key, Entry { value: value.into(), version: self.next_version(), write }),
        }
        while shard.bytes > self.shard_bytes.load(Ordering::Relaxed)
            && let Some((_, oldest)) = shard.by_age.pop_first()
        {
            shard.remove(&oldest);
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Removes a key and returns whether it existed.
    pub fn remove(&self, key: &[u8]) -> bool {
        self.shard(key).lock().remove(key)
    }

    /// Returns the number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().entries.len()).sum()
    }

    /// Returns whether there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the stored bytes, including the overhead of each entry.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().bytes).sum()
    }

    /// Returns the number of evicted values.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    fn shard(&self, key: &[u8]) -> &Mutex<Shard> {
        let hash = self.hasher.hash_one(key);
        &self.shards[usize::try_from(hash % SHARED_SHARDS as u64).unwrap_or(0)]
    }

    /// Returns the next version. 0 means "no version", so it is skipped when the counter wraps.
    fn next_version(&self) -> u32 {
        loop {
            let version = self.last_version.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            if version != 0 {
                return version;
            }
        }
    }
}

/// Creates a hasher with a random seed. Guests choose keys, and may take them from requests, so shards depend on a
/// secret number. It makes collisions hard to find, not impossible. A filter that lets clients choose many keys must
/// hash them itself.
fn hasher() -> SeedableRandomState {
    SeedableRandomState::with_seed(SipState::new().hash_one(0), SharedSeed::global_random())
}

impl Shard {
    fn new() -> Self {
        Self { entries: HashMap::with_hasher(hasher()), by_age: BTreeMap::new(), bytes: 0 }
    }

    fn insert(&mut self, key: &[u8], entry: Entry) {
        let key: Arc<[u8]> = key.into();
        self.bytes += cost(&key, &entry);
        self.by_age.insert(entry.write, Arc::clone(&key));
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        let Some((key, entry)) = self.entries.remove_entry(key) else { return false };
        self.bytes -= cost(&key, &entry);
        self.by_age.remove(&entry.write);
        true
    }
}

const fn cost(key: &[u8], entry: &Entry) -> usize {
    key.len() + entry.value.len() + SHARED_ENTRY_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_compares_versions() {
        let data = SharedData::default();
        let read = |key: &[u8]| {
            let mut out = Vec::new();
            data.get(key, &mut out).map(|version| (out, version))
        };
        assert_eq!(read(b"a"), Err(Status::NotFound));
        assert_eq!(data.set(b"a", b"one", 77), Ok(()));
        assert_eq!(read(b"a"), Ok((b"one".to_vec(), 1)));
        assert_eq!(data.set(b"a", b"two", 0), Ok(()));
        assert_eq!(data.set(b"a", b"three", 1), Err(Status::CasMismatch));
        assert_eq!(data.set(b"a", b"three", 2), Ok(()));
        assert_eq!(data.set(b"b", b"", 0), Ok(()));
        assert_eq!(read(b"a"), Ok((b"three".to_vec(), 3)));
        assert_eq!(read(b"b"), Ok((Vec::new(), 4)));
        assert!(data.remove(b"b") && !data.remove(b"b"));
    }

    #[test]
    fn rewritten_value_is_not_evicted() {
        let data = SharedData::default();
        let value = vec![0; MAX_SHARED_VALUE];
        data.set(b"old", &value, 0).unwrap();
        for number in 0..200_u32 {
            data.set(&number.to_le_bytes(), &value, 0).unwrap();
            let version = data.get(b"old", &mut Vec::new()).unwrap();
            assert_eq!(data.set(b"old", &value, version), Ok(()));
            assert_eq!(data.set(b"old", &value, version), Err(Status::CasMismatch));
        }
        assert!(data.evicted() > 0 && data.bytes() <= SHARED_SHARDS * SHARED_SHARD_BYTES);
    }

    #[test]
    fn concurrent_increments_are_all_counted() {
        let data = SharedData::default();
        let try_increment = || {
            let mut out = Vec::new();
            let version = data.get(b"n", &mut out).unwrap();
            let next = u32::from_le_bytes(*out.first_chunk().unwrap()) + 1;
            data.set(b"n", &next.to_le_bytes(), version)
        };
        let increment = || {
            for _ in 0..200 {
                while try_increment().is_err() {}
            }
        };
        data.set(b"n", &0_u32.to_le_bytes(), 0).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(increment);
            scope.spawn(increment);
        });
        let mut out = Vec::new();
        data.get(b"n", &mut out).unwrap();
        assert_eq!(out, 400_u32.to_le_bytes());
    }

    #[test]
    fn full_shard_evicts_least_recently_written() {
        let data = SharedData::default();
        let value = vec![0; MAX_SHARED_VALUE];
        for number in 0..200_u32 {
            data.set(&number.to_le_bytes(), &value, 0).unwrap();
        }
        assert!(data.bytes() <= SHARED_SHARDS * SHARED_SHARD_BYTES);
        assert_eq!(data.evicted() + data.len() as u64, 200);
        assert!(data.get(&199_u32.to_le_bytes(), &mut Vec::new()).is_ok());
        assert_eq!(data.set(b"k", &vec![0; MAX_SHARED_VALUE + 1], 0), Err(Status::BadArgument));
    }
}
