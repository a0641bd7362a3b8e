//! Weighted random: one draw, and one binary search in the cumulative weights.

use rand::Rng;
use rand::rngs::SmallRng;

/// Random picks over positions.
pub(crate) struct Random {
    /// `sums[i]` = weights of 0 to i together.
    sums: Box<[u64]>,
}

impl Random {
    pub(super) fn new(weights: &[u32]) -> Self {
        let mut sum = 0;
        let sums = weights.iter().map(|weight| {
            sum += u64::from(*weight);
            sum
        });
        Self { sums: sums.collect() }
    }

    pub(super) fn pick(&self, rng: &mut SmallRng) -> Option<usize> {
        let total = *self.sums.last()?;
        (total > 0).then(|| self.at(rng.random_range(0..total)))
    }

    /// Returns the position whose share contains `draw`, which is below the total.
    fn at(&self, draw: u64) -> usize {
        self.sums.partition_point(|sum| *sum <= draw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(weights: &[u32], mut draw: u64) -> usize {
        for (index, weight) in weights.iter().enumerate() {
            if draw < u64::from(*weight) {
                return index;
            }
            draw -= u64::from(*weight);
        }
        unreachable!("the draw is below the total")
    }

    proptest! {
        #[test]
        fn every_draw_equals_naive_version(weights in prop::collection::vec(0u32..9, 1..20)) {
            let random = Random::new(&weights);
            for draw in 0..weights.iter().map(|weight| u64::from(*weight)).sum() {
                prop_assert_eq!(random.at(draw), naive(&weights, draw));
            }
        }
    }
}
