//! Ids for traces and spans, in a VM that has no source of randomness.
//!
//! Two counters of 64 bits, begun at a place that no other VM has begun at, each number scrambled on its way out: an id
//! never comes twice from one VM, and from two VMs only if both began in the same place. The place is made of the
//! first requests' `x-request-id` (a random UUID unless a downstream brings its own) and of the times, in nanoseconds,
//! at which they came. Ids are unlike each other, not secret.

/// How many requests make the place where counting begins. One would do; but one downstream may send the same id to two
/// proxies in the same nanosecond, and not again and again.
const SEEDS: u8 = 16;

/// An odd number near 2^64 divided by the golden ratio: steps of this size land evenly.
const STEP_HIGH: u64 = 0x9e37_79b9_7f4a_7c15;

/// Another odd number without a pattern.
const STEP_LOW: u64 = 0xd1b5_4a32_d192_ed03;

/// Where ids come from.
#[derive(Debug, Default)]
pub struct IdSource {
    high: u64,
    low: u64,
    seeds: u8,
}

impl IdSource {
    /// Whether the next request should be given to [`IdSource::absorb`].
    pub fn is_young(&self) -> bool {
        self.seeds < SEEDS
    }

    /// Moves to another place, which depends on everything absorbed so far.
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
        self.high = scrambled(high.wrapping_add(STEP_HIGH) ^ word).wrapping_add(low.rotate_left(32));
        self.low = scrambled(low.wrapping_add(STEP_LOW) ^ word.rotate_left(29) ^ self.high);
    }

    /// An id for a trace; never zero.
    pub fn trace_id(&mut self) -> u128 {
        loop {
            self.high = self.high.wrapping_add(STEP_HIGH);
            self.low = self.low.wrapping_add(STEP_LOW);
            let id = u128::from(scrambled(self.high)) << 64 | u128::from(scrambled(self.low));
            if id != 0 {
                return id;
            }
        }
    }

    /// An id for a span; never zero.
    pub fn span_id(&mut self) -> u64 {
        loop {
            self.high = self.high.wrapping_add(STEP_HIGH);
            // Apart from the trace ids, which show the scrambled number itself.
            let id = scrambled(scrambled(self.high) ^ STEP_LOW);
            if id != 0 {
                return id;
            }
        }
    }
}

/// One number for each number, far from those of its neighbours: the last steps of SplitMix64.
fn scrambled(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
