//! All bounds of this filter.

/// The maximum number of limits in a configuration. Each costs a request two hostcalls.
pub const MAX_LIMITS: usize = 16;

/// The maximum number of values in the key of a limit.
pub const MAX_KEY_PARTS: usize = 8;

/// The longest name of a limit, in bytes. Responses and the access log have the name.
pub const MAX_NAME: usize = 63;

/// The default of `maxKeys`, the keys that each limit stores. All in use, they take about 2 MiB.
pub const DEFAULT_KEYS: u64 = 65_536;

/// The maximum number of keys of all limits together. They take about 36 MiB of the 64 MiB that the shared data of a
/// filter may take. Beyond 64 MiB the host would evict buckets.
pub const MAX_KEYS: u64 = 1 << 20;

/// The maximum number of attempts to change a bucket that other workers change at the same time. It bounds the cost of
/// a request. In each attempt one of the workers succeeds, so this many conflicts in a row are unlikely.
pub const MAX_ATTEMPTS: usize = 64;
