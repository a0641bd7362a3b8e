//! Ids of traces and spans, in a VM without a source of random numbers.
//!
//! An id is the scrambled value of two 64-bit counters. One VM never repeats an id, and two VMs only if their counters
//! have the same seed. The seed is computed from the `x-request-id` of the first requests (a random UUID unless the
//! downstream sets one) and their times in nanoseconds. Ids are distinct, but not secret.

/// The number of requests that seed the counters. A single request is not enough: a downstream may send the same id to
/// two proxies in the same nanosecond.
const SEEDS: u8 = 16;

/// The step of a counter, an odd number near 2^64 divided by the golden ratio. Its multiples are evenly distributed.
const STEP_HIGH: u64 = 0x9e37_79b9_7f4a_7c15;

/// The step of the other counter, an odd number without a pattern.
const STEP_LOW: u64 = 0xd1b5_4a32_d192_ed03;

/// The source of ids of one VM.
#[derive(Debug, Default)]
pub struct IdSource {
    high: u64,
    low: u64,
    seeds: u8,
}

impl IdSource {
    /// Returns whether the next request must be passed to [`IdSource::absorb`].
    pub fn needs_seed(&self) -> bool {
        self.seeds < SEEDS
    }

    /// Changes the counters by a request. They depend on everything absorbed so far.
    pub fn absorb(&mut self, request_id: &[u8], nanoseconds: u64) {
        self.seeds = self.seeds.saturating_add(1);
        self.absorb_word(nanoseconds);
        for chunk in request_id.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.absorb_word(u64::from_le_bytes(word));
        }
        self.absorb_word(request_id.len() as u64);
    }

    fn absorb_word(&mut self, word: u64) {
        let (high, low) = (self.high, self.low);
        self.high = scramble(high.wrapping_add(STEP_HIGH) ^ word).wrapping_add(low.rotate_left(32));
        self.low = scramble(low.wrapping_add(STEP_LOW) ^ word.rotate_left(29) ^ self.high);
    }

    /// Returns the id of a new trace. Never zero.
    pub fn trace_id(&mut self) -> u128 {
        loop {
            self.high = self.high.wrapping_add(STEP_HIGH);
            self.low = self.low.wrapping_add(STEP_LOW);
            let id = u128::from(scramble(self.high)) << 64 | u128::from(scramble(self.low));
            if id != 0 {
                return id;
            }
        }
    }

    /// Returns the id of a new span. Never zero.
    pub fn span_id(&mut self) -> u64 {
        loop {
            self.high = self.high.wrapping_add(STEP_HIGH);
            // Scrambled twice, so that it differs from trace ids, which contain the number scrambled once.
            let id = scramble(scramble(self.high) ^ STEP_LOW);
            if id != 0 {
                return id;
            }
        }
    }
}

/// Scrambles a number with the last steps of SplitMix64, which map each number to a distinct one.
fn scramble(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
