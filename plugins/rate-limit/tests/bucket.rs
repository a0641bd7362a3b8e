//! The bucket and the slot against naive implementations.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weir_plugin_rate_limit::bucket::{Rate, TakeResult};
use weir_plugin_rate_limit::slot::{MAX_ENTRIES, Slot};

/// A bucket of nanoseconds, filled in steps.
struct Naive {
    filled: u64,
    capacity: u64,
    interval: u64,
    last: u64,
}

impl Naive {
    fn take(&mut self, now: u64) -> bool {
        self.filled = (self.filled + (now - self.last)).min(self.capacity);
        self.last = now;
        let has_token = self.filled >= self.interval;
        if has_token {
            self.filled -= self.interval;
        }
        has_token
    }
}

const START: u64 = 1_800_000_000_000_000_000;

proptest! {
    #[test]
    fn bucket_passes_the_requests_of_a_naive_bucket(
        requests in 1_u64..1_000,
        burst in 1_u64..20,
        steps in prop::collection::vec(0_u64..3_000_000_000, 1..200),
    ) {
        let rate = Rate::new(requests, 60_000_000_000, burst);
        let interval = (60_000_000_000 + requests / 2) / requests;
        let capacity = interval * burst;
        let mut naive = Naive { filled: capacity, capacity, interval, last: START };
        let (mut full_at, mut now) = (0, START);
        for step in steps {
            now += step;
            let taken = rate.take(full_at, now);
            prop_assert_eq!(matches!(taken, TakeResult::Taken(_)), naive.take(now));
            if let TakeResult::Taken(next) = taken {
                full_at = next;
            }
            prop_assert_eq!(rate.quota(full_at, now).remaining, naive.filled / interval);
        }
    }

    /// At an earlier time a bucket never has more tokens.
    #[test]
    fn clock_set_back_adds_no_tokens(full_at: u64, now: u64, back: u64, burst in 1_u64..1_000_000) {
        let rate = Rate::new(7, 3_600_000_000_000, burst);
        let earlier = now.saturating_sub(back);
        if let TakeResult::Taken(_) = rate.take(full_at, earlier) {
            prop_assert!(matches!(rate.take(full_at, now), TakeResult::Taken(_)));
        }
        prop_assert!(rate.quota(full_at, earlier).remaining <= rate.quota(full_at, now).remaining);
    }

    /// A slot has the last bucket set, and each other one unless eight less full ones were set after it.
    #[test]
    fn slot_evicts_the_fullest_bucket(sets in prop::collection::vec((0_u64..24, 1_u64..1_000, 0_u64..3), 1..100)) {
        let mut bytes = Vec::new();
        let mut naive: BTreeMap<u64, u64> = BTreeMap::new();
        let mut now = 0;
        for (key, owed, step) in sets {
            now += step * 100;
            let full_at = now + owed;
            let mut slot = Slot::unpack(&bytes);
            slot.set(key, full_at, now);
            slot.pack(&mut bytes);
            prop_assert!(bytes.len() <= 16 * MAX_ENTRIES);

            naive.retain(|known, full_at| *known != key && *full_at > now);
            if naive.len() == MAX_ENTRIES {
                let least = naive.values().min().copied();
                // Of equal buckets either may be evicted, so the naive table follows the slot.
                let left = Slot::unpack(&bytes);
                let gone = naive.iter().find(|(known, value)| Some(**value) == least && left.full_at(**known) == 0);
                prop_assert!(gone.is_some());
                let gone = gone.map(|(known, _)| *known);
                naive.retain(|known, _| Some(*known) != gone);
            }
            naive.insert(key, full_at);
            let slot = Slot::unpack(&bytes);
            for known in 0..24 {
                prop_assert_eq!(slot.full_at(known), naive.get(&known).copied().unwrap_or(0));
            }
        }
    }

    #[test]
    fn slot_unpacks_any_bytes(bytes: Vec<u8>, key: u64) {
        let mut slot = Slot::unpack(&bytes);
        slot.set(key, 2, 1);
        prop_assert_eq!(slot.full_at(key), 2);
    }
}
