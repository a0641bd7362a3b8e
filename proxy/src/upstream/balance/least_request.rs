//! Least request with two random choices ("power of two choices"). Two endpoints are drawn by weight, and the less
//! loaded one is picked. Load is requests in flight for each unit of weight. Between equally loaded endpoints the first
//! drawn is picked, so that an idle cluster is shared exactly by weight.

use rand::Rng;
use rand::rngs::SmallRng;

use super::random::Random;
use super::weights::{are_equal, usable_positions};

/// Draws of the second endpoint at most, while it equals the first.
const REDRAWS: usize = 3;

/// Least request over positions.
pub(crate) enum LeastRequest {
    /// All weights are equal.
    Even(Box<[usize]>),
    /// Endpoints are drawn by weight.
    Weighted { random: Random, weights: Box<[u32]> },
}

impl LeastRequest {
    pub(super) fn new(weights: &[u32]) -> Self {
        if are_equal(weights) {
            return Self::Even(usable_positions(weights));
        }
        Self::Weighted { random: Random::new(weights), weights: weights.into() }
    }

    pub(super) fn pick(&self, rng: &mut SmallRng, load: impl Fn(usize) -> u32) -> Option<usize> {
        match self {
            Self::Even(positions) => {
                let count = positions.len();
                if count < 2 {
                    return positions.first().copied();
                }
                let first = rng.random_range(0..count);
                let second = (first + rng.random_range(1..count)) % count;
                Some(less_loaded([positions[first], positions[second]], |_| 1, load))
            }
            Self::Weighted { random, weights } => {
                let first = random.pick(rng)?;
                let second = (0..REDRAWS).filter_map(|_| random.pick(rng)).find(|index| *index != first);
                Some(less_loaded([first, second.unwrap_or(first)], |index| weights[index], load))
            }
        }
    }
}

fn less_loaded([first, second]: [usize; 2], weight: impl Fn(usize) -> u32, load: impl Fn(usize) -> u32) -> usize {
    let this = u64::from(load(first)) * u64::from(weight(second));
    let that = u64::from(load(second)) * u64::from(weight(first));
    if that < this { second } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;

    proptest! {
        /// With two endpoints both are always compared, so the pick must be the naive minimum.
        #[test]
        fn least_request_picks_less_loaded(loads in prop::array::uniform2(0u32..50), seed: u64) {
            let mut rng = SmallRng::seed_from_u64(seed);
            let picked = LeastRequest::new(&[7, 7]).pick(&mut rng, |index| loads[index]);
            prop_assert_eq!(loads[picked.unwrap()], loads[0].min(loads[1]));
        }

        /// The most loaded of many is never picked, whatever the weights.
        #[test]
        fn most_loaded_is_avoided(weights in prop::collection::vec(1u32..5, 2..9), seed: u64) {
            let mut rng = SmallRng::seed_from_u64(seed);
            let least_request = LeastRequest::new(&weights);
            let picks = (0..50).filter(|_| {
                least_request.pick(&mut rng, |index| if index == 0 { 1_000_000 } else { 0 }) == Some(0)
            });
            // Drawn by weight, the same endpoint can come up in every draw; with equal weights never.
            let allowed = if are_equal(&weights) { 0 } else { 35 };
            prop_assert!(picks.count() <= allowed);
        }
    }

    #[test]
    fn idle_cluster_is_shared_by_weight() {
        let mut rng = SmallRng::seed_from_u64(7);
        let least_request = LeastRequest::new(&[1, 0, 3]);
        let mut counts = [0; 3];
        for _ in 0..4_000 {
            counts[least_request.pick(&mut rng, |_| 0).unwrap()] += 1;
        }
        assert!(counts[1] == 0 && (2_900..3_100).contains(&counts[2]), "{counts:?}");
    }

    #[test]
    fn pick_without_weights_returns_none() {
        let mut rng = SmallRng::seed_from_u64(1);
        assert_eq!(LeastRequest::new(&[]).pick(&mut rng, |_| 0), None);
        assert_eq!(LeastRequest::new(&[0]).pick(&mut rng, |_| 0), None);
        assert_eq!(LeastRequest::new(&[0, 4]).pick(&mut rng, |_| 9), Some(1));
    }
}
