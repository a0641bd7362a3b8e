//! What requests wait for on a route that is watched. Not with `wrk`, which adds requests that nobody has made for each one
//! that waits: a stall of 50 ms is one request in its turn here, and twenty there.

use std::net::SocketAddr;
use std::time::Duration;

use harness::Client;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What requests have waited.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Waits {
    pub(crate) requests: usize,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
}

/// Asks the route `/other` of an origin that answers with the path, for a while, over a few connections; all its requests
/// succeed.
pub(crate) async fn look(address: SocketAddr, connections: usize, length: Duration) -> Waits {
    let mut all = JoinSet::new();
    for _ in 0..connections {
        all.spawn(ask(address, Instant::now() + length));
    }
    let waited: Vec<Duration> = all.join_all().await.into_iter().flatten().collect();
    assert!(!waited.is_empty(), "the other route stood still");
    Waits { requests: waited.len(), p99: percentile(&waited, 99), max: percentile(&waited, 100) }
}

/// Asks until then, one request after another; how long each has waited.
async fn ask(address: SocketAddr, until: Instant) -> Vec<Duration> {
    let mut client = Client::http1(address).await;
    let mut waited = Vec::new();
    while Instant::now() < until {
        let begun = Instant::now();
        let answer = client.get("/other").await;
        waited.push(begun.elapsed());
        assert_eq!((answer.status, answer.text()), (200, "/other".into()), "a request of the other route failed");
    }
    waited
}

/// The value that this share of the values, in percent, does not exceed.
pub(crate) fn percentile<T: Copy + Ord>(values: &[T], percent: usize) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}
