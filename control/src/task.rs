//! Named tasks: every task of the process is spawned here (invariant I10).

use std::future::Future;

use tracing::Instrument;

/// Runs a future beside the caller.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub(crate) fn spawn(name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(future.instrument(tracing::debug_span!("task", name))));
}

/// Runs a future to its end, also when the caller is dropped. `None` when it panicked, or when the process ends.
#[expect(clippy::disallowed_methods, reason = "the other place that spawns")]
pub(crate) async fn complete<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Option<T> {
    tokio::spawn(future).await.ok()
}

/// Runs something that blocks, away from the tasks that must not. `None` when it panicked, or when the process ends.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
