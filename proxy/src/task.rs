//! Named tasks: every task of the process is spawned here (invariant I10), so that each has a name, none ends the
//! process when it panics, and panics are counted. Called by whoever starts something that runs beside its caller.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::task::{JoinHandle, JoinSet};
use tracing::error;

/// Tasks that panicked since the process started.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Runs a future beside the caller, on the main runtime. `None` when it panicked.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub(crate) fn spawn<T: Send + 'static>(
    name: &'static str,
    future: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<Option<T>> {
    tokio::spawn(Guarded { name, future })
}

/// Runs a future beside the caller, on the caller's worker.
pub(crate) fn spawn_local(name: &'static str, future: impl Future<Output = ()> + 'static) -> JoinHandle<Option<()>> {
    tokio::task::spawn_local(Guarded { name, future })
}

/// Runs something slow on the blocking pool and waits for it. `None` when it panicked, or when the runtime ends.
pub(crate) async fn blocking<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    tokio::task::spawn_blocking(move || caught(name, work)).await.ok().flatten()
}

/// Runs something that may panic on what people or guests wrote. `None` when it did.
pub(crate) fn caught<T>(name: &'static str, work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| note_panic(name)).ok()
}

/// Tasks of one purpose on the main runtime; those that have not ended when the set is dropped are given up.
pub(crate) struct TaskSet<T> {
    name: &'static str,
    tasks: JoinSet<Option<T>>,
}

impl<T: Send + 'static> TaskSet<T> {
    /// No task yet; all will have this name.
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, tasks: JoinSet::new() }
    }

    /// Runs a future beside the caller.
    pub(crate) fn spawn(&mut self, future: impl Future<Output = T> + Send + 'static) {
        self.tasks.spawn(Guarded { name: self.name, future });
    }

    /// What the next task that ends gives; `None` when there is none left. A task that panicked gives nothing.
    pub(crate) async fn next(&mut self) -> Option<T> {
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok(Some(value)) = ended {
                return Some(value);
            }
        }
        None
    }
}

/// Tasks that panicked since the process started.
pub(crate) fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

pin_project! {
    /// A future that ends with `None` in place of a panic. Written by hand: an `async fn` would hold its argument twice, and
    /// tasks are what a connection's memory goes to.
    struct Guarded<F> {
        name: &'static str,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Guarded<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let guarded = self.project();
        match catch_unwind(AssertUnwindSafe(|| guarded.future.poll(context))) {
            Ok(poll) => poll.map(Some),
            Err(_) => {
                note_panic(guarded.name);
                Poll::Ready(None)
            }
        }
    }
}

// The message and the place are logged by the panic hook (`telemetry/log.rs`); here it gets the task's name.
fn note_panic(name: &'static str) {
    PANICS.fetch_add(1, Ordering::Relaxed);
    error!(task = name, "a task panicked and was ended; this is a bug of the proxy, the others go on");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_panic_ends_its_task_only() {
        let before = panics();
        let ended = spawn("bad", async { panic!("on purpose") }).await.unwrap();
        assert_eq!(ended, None::<()>);
        assert_eq!(spawn("good", async { 7 }).await.unwrap(), Some(7));
        assert_eq!(blocking("bad", || -> () { panic!("on purpose") }).await, None);
        assert!(panics() >= before + 2);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn local_tasks_run_on_their_thread() {
        let local = tokio::task::LocalSet::new();
        let thread = std::thread::current().id();
        let seen = std::rc::Rc::new(std::cell::Cell::new(None));
        let note = seen.clone();
        local
            .run_until(async move {
                spawn_local("local", async move { note.set(Some(std::thread::current().id())) }).await.unwrap();
            })
            .await;
        assert_eq!(seen.get(), Some(thread));
    }
}
