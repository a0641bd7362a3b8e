//! The keys of one VM's limits in shared data. The first request of the VM creates the table.

use std::hash::{DefaultHasher, Hasher};

use crate::config::Config;
use crate::seed::Seed;

/// The seed, and the number of each limit in shared data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitTable {
    /// The seed of all hashes of keys.
    pub seed: Seed,
    /// The number of each limit, in the order of the configuration.
    pub limits: Vec<u64>,
}

impl LimitTable {
    /// Creates the table for a configuration. `filter` is the name of the Filter, since in Envoy several filters may
    /// share data. The number depends on the names only, so a new configuration continues with the buckets of a limit.
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
