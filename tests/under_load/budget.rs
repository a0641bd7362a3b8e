//! The budget of a fuzz test: numbers that its clients take one after another, each the seed of an execution.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The numbers of a run's executions.
pub(crate) struct Budget {
    next: AtomicU64,
    end: u64,
    deadline: Option<Instant>,
}

impl Budget {
    /// Returns the numbers from `first`, for as many executions, or for a time if one is set.
    pub(crate) fn new(first: u64, executions: u64, time: Option<Duration>) -> Self {
        let end = if time.is_some() { u64::MAX } else { first + executions };
        Self { next: AtomicU64::new(first), end, deadline: time.map(|time| Instant::now() + time) }
    }

    /// Takes a number; `None` when the budget is spent.
    pub(crate) fn take(&self) -> Option<u64> {
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return None;
        }
        Some(self.next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < self.end)
    }

    /// Returns the number that follows the last one.
    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }
}

/// Runs clients at the same time until each has ended. A client that panics ends the test.
pub(crate) async fn run_clients<F: Future<Output = ()> + Send + 'static>(count: usize, client: impl Fn() -> F) {
    let mut clients = JoinSet::new();
    for _ in 0..count {
        clients.spawn(client());
    }
    while let Some(client) = clients.join_next().await {
        if let Err(error) = client {
            std::panic::resume_unwind(error.into_panic()); // The other clients end with the set.
        }
    }
}

/// Returns the seed of a run, from `WEIR_SEED` if it is set, and prints it.
pub(crate) fn seed_from_env() -> u64 {
    let seed = std::env::var("WEIR_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| SmallRng::from_os_rng().random());
    println!("WEIR_SEED={seed}");
    seed
}

/// Returns a time from an environment variable, in seconds.
pub(crate) fn seconds_from_env(name: &str) -> Option<Duration> {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).map(Duration::from_secs)
}

/// Changes up to three places of `bytes`, or none: a byte is replaced, or a few are removed, repeated or replaced by a
/// word.
pub(crate) fn mutate(bytes: &mut Vec<u8>, words: &[&[u8]], random: &mut SmallRng) {
    for _ in 0..[0, 0, 0, 1, 1, 2, 3][random.random_range(0..7)] {
        let at = random.random_range(0..=bytes.len());
        let end = (at + random.random_range(0..8)).min(bytes.len());
        match random.random_range(0..5) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                let repeated = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, repeated));
            }
            2 => drop(bytes.splice(at..end, words[random.random_range(0..words.len())].iter().copied())),
            3 if random.random_ratio(1, 4) => bytes.truncate(at),
            _ if at < bytes.len() => bytes[at] = random.random(),
            _ => {}
        }
    }
}
