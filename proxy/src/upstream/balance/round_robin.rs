//! Weighted round robin: each endpoint in turn, as often as its weight requires, spread evenly. With weights 2 and 1
//! the picks are a, a, b or a, b, a, never a longer run of a.
//!
//! With equal weights a position is enough. Otherwise the k-th pick of an endpoint with weight w is due at k/w, and the
//! earliest due endpoint is picked (earliest deadline first, as in Envoy). A pick takes O(log n). It is exact, because
//! deadlines are compared as fractions.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use rand::Rng;
use rand::rngs::SmallRng;

use super::weights::{are_equal, usable_positions};
use crate::limits::MAX_BALANCER_OFFSET;

/// Round robin over positions.
pub(crate) enum RoundRobin {
    /// All weights are equal.
    Even { positions: Box<[usize]>, next: usize },
    /// The earliest deadline is on top.
    Weighted(BinaryHeap<Reverse<NextPick>>),
}

/// The next pick of an endpoint, which is due at `picks / weight`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NextPick {
    picks: u64,
    weight: u32,
    index: usize,
}

impl Ord for NextPick {
    fn cmp(&self, other: &Self) -> Ordering {
        let this = u128::from(self.picks) * u128::from(other.weight);
        let that = u128::from(other.picks) * u128::from(self.weight);
        this.cmp(&that).then(self.index.cmp(&other.index))
    }
}

impl PartialOrd for NextPick {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for NextPick {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for NextPick {}

impl RoundRobin {
    /// Starts at a random position, so that workers do not all begin with the first endpoint.
    pub(super) fn new(weights: &[u32], rng: &mut SmallRng) -> Self {
        let positions = usable_positions(weights);
        let count = positions.len().max(1);
        if are_equal(weights) {
            return Self::Even { positions, next: rng.random_range(0..count) };
        }
        let mut this = Self::from_start(weights);
        for _ in 0..rng.random_range(0..count.min(MAX_BALANCER_OFFSET)) {
            this.pick();
        }
        this
    }

    fn from_start(weights: &[u32]) -> Self {
        let due = |index: usize| Reverse(NextPick { picks: 1, weight: weights[index], index });
        Self::Weighted(usable_positions(weights).iter().map(|index| due(*index)).collect())
    }

    pub(super) fn pick(&mut self) -> Option<usize> {
        match self {
            Self::Even { positions, next } => {
                let picked = *positions.get(*next)?;
                *next = if *next + 1 == positions.len() { 0 } else { *next + 1 };
                Some(picked)
            }
            Self::Weighted(heap) => {
                let mut top = heap.peek_mut()?;
                top.0.picks += 1;
                Some(top.0.index)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;

    /// Compares every endpoint for each pick.
    fn naive(weights: &[u32], picks: usize) -> Vec<usize> {
        let mut counts = vec![0u64; weights.len()];
        (0..picks)
            .filter_map(|_| {
                let due = |index: usize| NextPick { picks: counts[index] + 1, weight: weights[index], index };
                let index = (0..weights.len()).filter(|index| weights[*index] > 0).min_by_key(|index| due(*index))?;
                counts[index] += 1;
                Some(index)
            })
            .collect()
    }

    proptest! {
        #[test]
        fn picks_equal_naive_version(weights in prop::collection::vec(0u32..6, 1..9)) {
            let sum: u32 = weights.iter().sum();
            let mut round_robin = RoundRobin::from_start(&weights);
            let picked: Vec<_> = (0..sum).filter_map(|_| round_robin.pick()).collect();
            prop_assert_eq!(&picked, &naive(&weights, sum as usize));
            // One round picks each endpoint exactly as often as its weight.
            for (index, weight) in weights.iter().enumerate() {
                prop_assert_eq!(picked.iter().filter(|position| **position == index).count(), *weight as usize);
            }
        }

        #[test]
        fn shares_equal_weights_from_any_start(weights in prop::collection::vec(0u32..6, 1..9), seed: u64) {
            let sum: u32 = weights.iter().sum();
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut round_robin = RoundRobin::new(&weights, &mut rng);
            let picked: Vec<_> = (0..sum * 10).filter_map(|_| round_robin.pick()).collect();
            for (index, weight) in weights.iter().enumerate() {
                let count = picked.iter().filter(|position| **position == index).count();
                prop_assert!(count.abs_diff(*weight as usize * 10) <= *weight as usize + 1);
            }
        }
    }

    #[test]
    fn pick_without_weights_returns_none() {
        let mut rng = SmallRng::seed_from_u64(1);
        assert_eq!(RoundRobin::new(&[], &mut rng).pick(), None);
        assert_eq!(RoundRobin::new(&[0, 0], &mut rng).pick(), None);
        assert_eq!(RoundRobin::new(&[0, 1_000_000], &mut rng).pick(), Some(1));
    }
}
