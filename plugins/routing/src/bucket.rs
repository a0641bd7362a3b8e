//! Divides users into buckets. A user is in the same bucket on every worker and every proxy.

/// The number of buckets. A share is exact to a ten-thousandth of a percent.
pub const BUCKETS: u32 = 1_000_000;

/// Returns the bucket of a user. It depends on `salt` and `user` only, and is independent for different salts.
pub fn of(salt: &str, user: &[u8]) -> u32 {
    let scaled = (u128::from(hash(salt, user)) * u128::from(BUCKETS)) >> 64;
    u32::try_from(scaled).unwrap_or(BUCKETS - 1)
}

/// Hashes both with FNV-1a and the finalizer of MurmurHash3, so that every bit of the text affects every bit of the
/// hash. The hash is not secret. A downstream that chooses its own id chooses its share, as with any sticky split.
pub fn hash(salt: &str, text: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let salted = salt.as_bytes().iter().chain(&[0]).fold(0xcbf2_9ce4_8422_2325, step);
    mix(text.iter().fold(salted, step))
}

const fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
