//! The less busy of two picked at random ("power of two choices"). The two are drawn by weight, and busy means requests
//! in flight for each unit of weight; between equally busy ones the first drawn is taken, so an idle cluster is shared
//! out exactly by weight.

use rand::Rng;
use rand::rngs::SmallRng;

use super::random::Random;
use super::{even, usable};

/// How often the second is drawn again when it is the first.
const REDRAWS: usize = 3;

/// Least request over positions.
pub(crate) enum LeastRequest {
    /// All weights are equal.
    Even(Box<[usize]>),
    /// Drawn by weight.
    Weighted { random: Random, weights: Box<[u32]> },
}

impl LeastRequest {
    pub(super) fn new(weights: &[u32]) -> Self {
        if even(weights) {
            return Self::Even(usable(weights));
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
                Some(less_busy([positions[first], positions[second]], |_| 1, load))
            }
            Self::Weighted { random, weights } => {
                let first = random.pick(rng)?;
                let second = (0..REDRAWS).filter_map(|_| random.pick(rng)).find(|index| *index != first);
                Some(less_busy([first, second.unwrap_or(first)], |index| weights[index], load))
            }
        }
    }
}

fn less_busy([first, second]: [usize; 2], weight: impl Fn(usize) -> u32, load: impl Fn(usize) -> u32) -> usize {
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
        /// With two endpoints both are always looked at, so the pick must be the naive minimum.
        #[test]
        fn of_two_the_less_busy_is_picked(loads in prop::array::uniform2(0u32..50), seed: u64) {
            let mut rng = SmallRng::seed_from_u64(seed);
            let picked = LeastRequest::new(&[7, 7]).pick(&mut rng, |index| loads[index]);
            prop_assert_eq!(loads[picked.unwrap()], loads[0].min(loads[1]));
        }

        /// The busiest of many, alone at the top, is never picked, whatever the weights.
        #[test]
        fn the_busiest_is_avoided(weights in prop::collection::vec(1u32..5, 2..9), seed: u64) {
            let mut rng = SmallRng::seed_from_u64(seed);
            let least_request = LeastRequest::new(&weights);
            let picks = (0..50).filter(|_| {
                least_request.pick(&mut rng, |index| if index == 0 { 1_000_000 } else { 0 }) == Some(0)
            });
            // Drawn by weight the same one can come up in every redraw; in the even case never.
            let allowed = if even(&weights) { 0 } else { 35 };
            prop_assert!(picks.count() <= allowed);
        }
    }

    #[test]
    fn an_idle_cluster_is_shared_out_by_weight() {
        let mut rng = SmallRng::seed_from_u64(7);
        let least_request = LeastRequest::new(&[1, 0, 3]);
        let mut counts = [0; 3];
        for _ in 0..4_000 {
            counts[least_request.pick(&mut rng, |_| 0).unwrap()] += 1;
        }
        assert!(counts[1] == 0 && (2_900..3_100).contains(&counts[2]), "{counts:?}");
    }

    #[test]
    fn without_weights_there_is_no_pick() {
        let mut rng = SmallRng::seed_from_u64(1);
        assert_eq!(LeastRequest::new(&[]).pick(&mut rng, |_| 0), None);
        assert_eq!(LeastRequest::new(&[0]).pick(&mut rng, |_| 0), None);
        assert_eq!(LeastRequest::new(&[0, 4]).pick(&mut rng, |_| 9), Some(1));
    }
}
