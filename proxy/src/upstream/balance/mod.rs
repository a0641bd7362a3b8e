//! Which endpoint a request goes to. A [`Balancer`] belongs to one worker and one set of endpoints, and is made anew
//! when the set changes. It knows positions and weights only; how busy an endpoint is, it is told.

mod least_request;
mod random;
mod round_robin;

use rand::rngs::SmallRng;
use weir_model::Balancing;

use least_request::LeastRequest;
use random::Random;
use round_robin::RoundRobin;

/// One algorithm with its position.
pub(super) enum Balancer {
    RoundRobin(RoundRobin),
    LeastRequest(LeastRequest),
    Random(Random),
}

impl Balancer {
    /// A balancer over endpoints with these weights. Workers start at different positions, by `rng`.
    pub(super) fn new(balancing: Balancing, weights: &[u32], rng: &mut SmallRng) -> Self {
        match balancing {
            Balancing::RoundRobin => Self::RoundRobin(RoundRobin::new(weights, rng)),
            Balancing::LeastRequest => Self::LeastRequest(LeastRequest::new(weights)),
            Balancing::Random => Self::Random(Random::new(weights)),
        }
    }

    /// The position of an endpoint, or `None` when there is none with a weight. `load` says how busy one is.
    pub(super) fn pick(&mut self, rng: &mut SmallRng, load: impl Fn(usize) -> u32) -> Option<usize> {
        match self {
            Self::RoundRobin(round_robin) => round_robin.pick(),
            Self::LeastRequest(least_request) => least_request.pick(rng, load),
            Self::Random(random) => random.pick(rng),
        }
    }
}

/// The one weight that all of those above 0 have, if they have.
fn even(weights: &[u32]) -> bool {
    let mut shares = weights.iter().filter(|weight| **weight > 0);
    let first = shares.next();
    shares.all(|weight| Some(weight) == first)
}

/// The positions that have a weight.
fn usable(weights: &[u32]) -> Box<[usize]> {
    (0..weights.len()).filter(|index| weights[*index] > 0).collect()
}
