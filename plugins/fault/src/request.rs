//! The request that is decided on. `lib.rs` implements it with the SDK, the tests in memory.

/// A request.
pub trait Request {
    /// Returns the first value of a request header. `:method` and `:path` are headers, too.
    fn header(&self, name: &str) -> Option<Vec<u8>>;
}
