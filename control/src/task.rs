//! Named tasks: every task of the process is spawned here (invariant I11).

use std::future::Future;

use tokio::time::Instant;
use tracing::Instrument;

/// Spawns a future on the runtime.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub(crate) fn spawn(name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(future.instrument(tracing::debug_span!("task", name))));
}

/// Runs a future to completion, even if the caller is dropped. Returns `None` if it panicked, or if the runtime shuts
/// down.
#[expect(clippy::disallowed_methods, reason = "the other place that spawns")]
pub(crate) async fn run_detached<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Option<T> {
    tokio::spawn(future).await.ok()
}

/// Waits until a time; forever without one.
pub(crate) async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Runs blocking work on a thread for blocking work. Returns `None` if it panicked, or if the runtime shuts down.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
