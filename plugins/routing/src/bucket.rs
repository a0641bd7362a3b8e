//! Which share of the users somebody belongs to: always the same one, whichever worker or proxy is asked.

/// Into how many equal parts users are divided: a share is exact to a ten-thousandth of a percent.
pub const BUCKETS: u32 = 1_000_000;

/// The bucket of a user, the same for the same `salt` and `user`, and independent for different salts.
pub fn of(salt: &str, user: &[u8]) -> u32 {
    let scaled = (u128::from(hash(salt, user)) * u128::from(BUCKETS)) >> 64;
    u32::try_from(scaled).unwrap_or(BUCKETS - 1)
}

/// FNV-1a over both, then the finaliser of MurmurHash3, so that every bit of the text moves every bit of the hash.
/// Not a secret: who chooses their own id chooses their share, as with any sticky split.
pub fn hash(salt: &str, text: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let salted = salt.as_bytes().iter().chain(&[0]).fold(0xcbf2_9ce4_8422_2325, step);
    mixed(text.iter().fold(salted, step))
}

const fn mixed(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
