//! The host functions that the decision needs. `lib.rs` implements them with the SDK, the tests in memory.

/// The request, the clock, and the data that all workers share.
pub trait Host {
    /// The version of a value in shared data, for compare-and-swap.
    type Version: Copy;

    /// Returns the time in nanoseconds since 1970.
    fn now(&self) -> u64;

    /// Returns the first value of a request header. `:method` and `:path` are headers, too.
    fn header(&self, name: &str) -> Option<Vec<u8>>;

    /// Returns the downstream's address and port, like `192.0.2.7:1234`.
    fn address(&self) -> Option<Vec<u8>>;

    /// Returns a value of shared data, or an empty value if it is absent.
    fn read(&self, name: &str) -> Result<(Vec<u8>, Self::Version), Unavailable>;

    /// Stores a value, unless it has changed since `version` was read.
    fn write(&self, name: &str, value: &[u8], version: Self::Version) -> Result<CasResult, Unavailable>;
}

/// The result of a compare-and-swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CasResult {
    /// The value is stored.
    Stored,
    /// Another worker has changed the value.
    Conflict,
}

/// The error when the host's shared data is unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable;
