//! What the decision asks of the host. `lib.rs` answers from the SDK, tests from memory.

/// The request, the clock, and the data that all workers share.
pub trait Host {
    /// What a value of shared data had when it was read.
    type Version: Copy;

    /// Nanoseconds since 1970.
    fn now(&self) -> u64;

    /// The first value of a header of the request; `:method` and `:path` are headers, too.
    fn header(&self, name: &str) -> Option<Vec<u8>>;

    /// The downstream's address and port, like `192.0.2.7:1234`.
    fn address(&self) -> Option<Vec<u8>>;

    /// A value of shared data, empty if there is none.
    fn read(&self, name: &str) -> Result<(Vec<u8>, Self::Version), Unavailable>;

    /// Writes it, unless somebody else has since that version.
    fn write(&self, name: &str, value: &[u8], version: Self::Version) -> Result<Written, Unavailable>;
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is done.
    Done,
    /// Somebody else was faster.
    Conflict,
}

/// The host does not keep shared data now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable;
