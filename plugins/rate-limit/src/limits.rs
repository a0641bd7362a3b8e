//! Every bound of this filter.

/// Limits in one configuration: each costs a request two calls to the host.
pub const MAX_LIMITS: usize = 16;

/// Values that one limit may count by: nobody has needed more than three.
pub const MAX_KEY_PARTS: usize = 8;

/// The longest name of a limit, in bytes: it stands in answers and in the access log.
pub const MAX_NAME: usize = 63;

/// Keys that each limit remembers unless the configuration says otherwise; some 2 MiB when all are in use.
pub const DEFAULT_KEYS: u64 = 65_536;

/// Keys that all limits of a configuration remember together: some 36 MiB, of the 64 MiB that a filter's shared data
/// may take. Beyond those the host would drop buckets of its own choice.
pub const MAX_KEYS: u64 = 1 << 20;

/// How often a bucket is looked at again because another worker changed it meanwhile. Each time one of the workers has
/// got on, so this many in a row have not been seen; it bounds what a request can cost.
pub const MAX_ATTEMPTS: usize = 64;
