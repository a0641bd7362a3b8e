//! Load balancers: which endpoint a request is sent to. A [`Balancer`] belongs to one worker and one set of endpoints,
//! and is rebuilt when the set changes. It stores positions and weights only; the caller passes the load of an
//! endpoint.

mod least_request;
mod random;
mod round_robin;
mod weights;

use rand::rngs::SmallRng;
use weir_model::LbPolicy;

use least_request::LeastRequest;
use random::Random;
use round_robin::RoundRobin;

/// One algorithm with its state.
pub(super) enum Balancer {
    RoundRobin(RoundRobin),
    LeastRequest(LeastRequest),
    Random(Random),
}

impl Balancer {
    /// Returns a balancer over endpoints with these weights. With `rng`, workers start at different positions.
    pub(super) fn new(balancing: LbPolicy, weights: &[u32], rng: &mut SmallRng) -> Self {
        match balancing {
            LbPolicy::RoundRobin => Self::RoundRobin(RoundRobin::new(weights, rng)),
            LbPolicy::LeastRequest => Self::LeastRequest(LeastRequest::new(weights)),
            LbPolicy::Random => Self::Random(Random::new(weights)),
        }
    }

    /// Returns the position of an endpoint; `None` when none has a weight. `load` returns the requests in flight at a
    /// position.
    pub(super) fn pick(&mut self, rng: &mut SmallRng, load: impl Fn(usize) -> u32) -> Option<usize> {
        match self {
            Self::RoundRobin(round_robin) => round_robin.pick(),
            Self::LeastRequest(least_request) => least_request.pick(rng, load),
            Self::Random(random) => random.pick(rng),
        }
    }
}
