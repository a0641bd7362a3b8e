//! Latency of requests on one route. `wrk` is not used: it corrects for coordinated omission, so it counts a stall of
//! 50 ms as twenty slow requests. Here it is one request of each connection.

use std::net::SocketAddr;
use std::time::Duration;

use harness::Client;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Latencies of one measurement.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LatencySummary {
    pub(crate) requests: usize,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
}

/// Sends requests to the route `/other` of a [`path_origin`](crate::path_origin) over a few connections for `duration`.
/// Panics if a request fails.
pub(crate) async fn measure(address: SocketAddr, connections: usize, duration: Duration) -> LatencySummary {
    let mut all = JoinSet::new();
    for _ in 0..connections {
        all.spawn(send_until(address, Instant::now() + duration));
    }
    let latencies: Vec<Duration> = all.join_all().await.into_iter().flatten().collect();
    assert!(!latencies.is_empty(), "the other route served no request");
    LatencySummary { requests: latencies.len(), p99: percentile(&latencies, 99), max: percentile(&latencies, 100) }
}

/// Sends one request after another until the deadline. Returns the latency of each.
async fn send_until(address: SocketAddr, deadline: Instant) -> Vec<Duration> {
    let mut client = Client::http1(address).await;
    let mut latencies = Vec::new();
    while Instant::now() < deadline {
        let start = Instant::now();
        let response = client.get("/other").await;
        latencies.push(start.elapsed());
        assert_eq!((response.status, response.text()), (200, "/other".into()), "a request of the other route failed");
    }
    latencies
}

/// Returns the value that `percent` of the values do not exceed.
pub(crate) fn percentile<T: Copy + Ord>(values: &[T], percent: usize) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}
