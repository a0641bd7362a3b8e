//! What one VM finds out at its first request and keeps: the seed, and the number of each limit in shared data.

use std::hash::{DefaultHasher, Hasher};

use crate::config::Config;
use crate::seed::Seed;

/// Where the limits of this filter are in shared data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Begins all hashes of keys.
    pub seed: Seed,
    /// For each limit of the configuration, in its order, a number of its own.
    pub limits: Vec<u64>,
}

impl Scope {
    /// `filter` is the name of the Filter: in Envoy several filters may have the same shared data. A limit keeps its
    /// number, and so its buckets, for as long as it keeps its name.
    pub fn new(seed: Seed, filter: &[u8], config: &Config) -> Self {
        let number = |name: &str| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(filter.len() as u64);
            hasher.write(filter);
            hasher.write(name.as_bytes());
            hasher.finish()
        };
        Self { seed, limits: config.limits.iter().map(|limit| number(&limit.name)).collect() }
    }
}
