//! Random numbers of the host. A module for `wasm32-unknown-unknown` has no source of its own.

use std::cell::Cell;
use std::time::SystemTime;

use crate::clock;
use crate::wasi;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Returns a random number, evenly distributed over all values of a `u64`.
///
/// Proxy-Wasm has no random numbers, so this is `random_get` of WASI. A host that denies it (`allow.capabilities`) makes
/// this a hash of the time and of the number of calls, which is evenly distributed, and can be guessed.
pub fn number() -> u64 {
    wasi::random_bytes().map_or_else(hash_of_the_time, u64::from_le_bytes)
}

fn hash_of_the_time() -> u64 {
    let time = clock::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.replace(COUNT.get().wrapping_add(1));
    mix(u64::from(time.subsec_nanos()) ^ time.as_secs().rotate_left(32) ^ mix(count))
}

/// The output function of SplitMix64 (Steele, Lea, Flood 2014): each bit of the input changes half of the output.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
