//! The seed of all hashes of keys, the same in all workers. It must be hard to guess: a downstream that knows it can
//! choose keys that share a slot.
//!
//! The standard ABI has no random numbers. So the first request of the first VM computes the seed from the clock's
//! nanoseconds and the ids of that request, and stores it in shared data. An attacker who cannot observe the start of
//! the proxy cannot guess the seed. The README describes the effect of a known seed.

use std::hash::{DefaultHasher, Hasher};

use crate::host::{CasResult, Host, Unavailable};
use crate::limits::MAX_ATTEMPTS;

/// The name of the seed in shared data.
const NAME: &str = "rl-seed";

/// The seed of all hashes of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed([u8; 16]);

impl Seed {
    /// Returns a SipHash hasher that begins with the seed.
    pub fn hasher(self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.0);
        hasher
    }
}

/// Returns the seed of shared data, and creates it if it is absent. Called once for each VM.
///
/// An existing seed is written again: at its limit, the host evicts the value that was written longest ago.
pub fn find<H: Host>(host: &H, entropy: &[Vec<u8>]) -> Result<Seed, Unavailable> {
    for _attempt in 0..MAX_ATTEMPTS {
        let (value, version) = host.read(NAME)?;
        let seed = value.try_into().unwrap_or_else(|_| make(host.now(), entropy));
        if host.write(NAME, &seed, version)? == CasResult::Stored {
            return Ok(Seed(seed));
        }
    }
    Err(Unavailable)
}

fn make(now: u64, entropy: &[Vec<u8>]) -> [u8; 16] {
    let half = |which: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(which);
        hasher.write_u64(now);
        for part in entropy {
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
