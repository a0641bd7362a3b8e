//! Named tasks. Every task of the process is spawned here (invariant I11).
//!
//! Each task therefore has a name, a panic ends its task and not the process, and panics are counted.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::task::{JoinHandle, JoinSet};
use tracing::error;

/// The number of tasks that have panicked since the process started.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Spawns a future on the main runtime. Its result is `None` when it panicked.
#[expect(clippy::disallowed_methods, reason = "the only function that spawns on the main runtime")]
pub(crate) fn spawn<T: Send + 'static>(
    name: &'static str,
    future: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<Option<T>> {
    tokio::spawn(CatchPanic { name, future })
}

/// Spawns a future on the caller's worker. Its result is `None` when it panicked.
pub(crate) fn spawn_local(name: &'static str, future: impl Future<Output = ()> + 'static) -> JoinHandle<Option<()>> {
    tokio::task::spawn_local(CatchPanic { name, future })
}

/// Runs `work` on the blocking pool and waits for it. Returns `None` when it panicked, or when the runtime shuts down.
pub(crate) async fn blocking<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    tokio::task::spawn_blocking(move || catch_panic(name, work)).await.ok().flatten()
}

/// Runs `work`, which may panic on input from operators or guests. Returns `None` when it panicked.
pub(crate) fn catch_panic<T>(name: &'static str, work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| record_panic(name)).ok()
}

/// Completes after the tasks of this worker that are ready now have run.
///
/// A request yields before it writes. So the requests of one turn of the event loop are read, run through their filters
/// and written in three phases, each of which finds its code in the processor's instruction cache
/// (`docs/decisions/018-http1-codec.md`).
pub(crate) fn yield_turn() -> impl Future<Output = ()> {
    let mut has_yielded = false;
    poll_fn(move |context| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Tasks with one name on the main runtime. Dropping the set aborts those that have not finished.
pub(crate) struct TaskSet<T> {
    name: &'static str,
    tasks: JoinSet<Option<T>>,
}

impl<T: Send + 'static> TaskSet<T> {
    /// Returns an empty set, whose tasks will have this name.
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, tasks: JoinSet::new() }
    }

    /// Spawns a future into the set.
    pub(crate) fn spawn(&mut self, future: impl Future<Output = T> + Send + 'static) {
        self.tasks.spawn(CatchPanic { name: self.name, future });
    }

    /// Waits for the next task to finish and returns its result. Returns `None` when no task is left.
    ///
    /// Tasks that panicked are skipped.
    pub(crate) async fn next(&mut self) -> Option<T> {
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok(Some(value)) = ended {
                return Some(value);
            }
        }
        None
    }
}

/// Returns the number of tasks that have panicked since the process started.
pub(crate) fn panic_count() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

pin_project! {
    /// A future that completes with `None` in place of a panic.
    ///
    /// Written by hand, because an `async fn` would store its argument twice, and tasks are what a connection's memory
    /// is spent on.
    struct CatchPanic<F> {
        name: &'static str,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let guarded = self.project();
        match catch_unwind(AssertUnwindSafe(|| guarded.future.poll(context))) {
            Ok(poll) => poll.map(Some),
            Err(_) => {
                record_panic(guarded.name);
                Poll::Ready(None)
            }
        }
    }
}

// The panic hook (`telemetry/log.rs`) logs the message and the location; this adds the task's name.
fn record_panic(name: &'static str) {
    PANICS.fetch_add(1, Ordering::Relaxed);
    error!(task = name, "task panicked; this is a bug of the proxy, other tasks continue");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn panic_ends_only_its_own_task() {
        let before = panic_count();
        let ended = spawn("bad", async { panic!("on purpose") }).await.unwrap();
        assert_eq!(ended, None::<()>);
        assert_eq!(spawn("good", async { 7 }).await.unwrap(), Some(7));
        assert_eq!(blocking("bad", || -> () { panic!("on purpose") }).await, None);
        assert!(panic_count() >= before + 2);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn local_tasks_run_on_their_thread() {
        let local = tokio::task::LocalSet::new();
        let thread = std::thread::current().id();
        let seen = std::rc::Rc::new(std::cell::Cell::new(None));
        let recorded = seen.clone();
        local
            .run_until(async move {
                spawn_local("local", async move { recorded.set(Some(std::thread::current().id())) }).await.unwrap();
            })
            .await;
        assert_eq!(seen.get(), Some(thread));
    }
}
