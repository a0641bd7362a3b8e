//! The number that all hashes of keys begin with. All workers have to use the same, and nobody outside should know it:
//! who does can choose keys that meet in one slot.
//!
//! There is no source of random numbers in the standard ABI. So the first request of the first VM makes the seed, from
//! the clock's nanoseconds and the ids of that request, and shared data keeps it. That stops anybody who cannot watch
//! the proxy start; what is at stake is in the README.

use std::hash::{DefaultHasher, Hasher};

use crate::host::{Host, Unavailable, Written};
use crate::limits::MAX_ATTEMPTS;

/// Its name in shared data.
const NAME: &str = "rl-seed";

/// The seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed([u8; 16]);

impl Seed {
    /// A hasher that begins with the seed: SipHash, whose state then is as little known as the seed.
    pub fn hasher(self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.0);
        hasher
    }
}

/// The seed of shared data, made if there is none. Once for each VM.
///
/// It is written again even when it is there, since a host drops what was written longest ago when it needs room.
pub fn find<H: Host>(host: &H, chance: &[Vec<u8>]) -> Result<Seed, Unavailable> {
    for _attempt in 0..MAX_ATTEMPTS {
        let (value, version) = host.read(NAME)?;
        let seed = value.try_into().unwrap_or_else(|_| make(host.now(), chance));
        if host.write(NAME, &seed, version)? == Written::Done {
            return Ok(Seed(seed));
        }
    }
    Err(Unavailable)
}

fn make(now: u64, chance: &[Vec<u8>]) -> [u8; 16] {
    let half = |which: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(which);
        hasher.write_u64(now);
        for part in chance {
            hasher.write_u64(part.len() as u64);
            hasher.write(part);
        }
        hasher.finish().to_le_bytes()
    };
    let mut seed = [0; 16];
    seed[..8].copy_from_slice(&half(0));
    seed[8..].copy_from_slice(&half(1));
    seed
}
