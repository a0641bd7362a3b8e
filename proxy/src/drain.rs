//! Graceful shutdown: a trigger starts draining, and guards count what is still in flight.
//!
//! ```text
//! serving ── DrainTrigger::drain(deadline) ──► draining ── last DrainGuard dropped, or deadline ──► drained
//! ```
//!
//! Each listener of each worker has its own trigger, which the worker owns; connections own watchers. A request costs
//! one atomic load. No lock is contended between threads in normal operation (invariant I6).

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::time::Instant;

#[derive(Default)]
struct DrainState {
    deadline: OnceLock<Instant>,
    started: Notify,
    in_flight: AtomicUsize,
    idle: Notify,
}

/// Starts draining, and waits until it has finished.
pub(crate) struct DrainTrigger {
    shared: Arc<DrainState>,
}

/// Observes whether draining has started. Cheap to clone.
#[derive(Clone)]
pub(crate) struct DrainWatcher {
    shared: Arc<DrainState>,
}

/// One connection or task in flight. Draining waits until the guard is dropped.
#[must_use = "dropping the guard ends what it counts"]
pub(crate) struct DrainGuard {
    shared: Arc<DrainState>,
}

/// The result of draining.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DrainOutcome {
    /// All guards were dropped.
    Empty,
    /// The deadline passed first, with this many guards still alive.
    DeadlinePassed(usize),
}

/// Returns a trigger and its first watcher.
pub(crate) fn drain_pair() -> (DrainTrigger, DrainWatcher) {
    let shared = Arc::new(DrainState::default());
    (DrainTrigger { shared: Arc::clone(&shared) }, DrainWatcher { shared })
}

impl DrainTrigger {
    /// Starts draining. The first deadline counts; later calls do nothing.
    pub(crate) fn drain(&self, deadline: Instant) {
        if self.shared.deadline.set(deadline).is_ok() {
            self.shared.started.notify_waiters();
        }
    }

    /// Returns another watcher.
    pub(crate) fn watcher(&self) -> DrainWatcher {
        DrainWatcher { shared: Arc::clone(&self.shared) }
    }

    /// Returns the number of live guards.
    pub(crate) fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Acquire)
    }

    /// Waits until no guard is alive or the deadline has passed.
    ///
    /// Before [`DrainTrigger::drain`] there is no deadline.
    pub(crate) async fn drained(&self) -> DrainOutcome {
        let empty = async {
            loop {
                let emptied = self.shared.idle.notified();
                if self.in_flight() == 0 {
                    return;
                }
                emptied.await;
            }
        };
        let Some(deadline) = self.shared.deadline.get() else {
            empty.await;
            return DrainOutcome::Empty;
        };
        match tokio::time::timeout_at(*deadline, empty).await {
            Ok(()) => DrainOutcome::Empty,
            Err(_) => DrainOutcome::DeadlinePassed(self.in_flight()),
        }
    }
}

impl DrainWatcher {
    /// Returns true once draining has started. Costs one atomic load.
    pub(crate) fn is_draining(&self) -> bool {
        self.shared.deadline.get().is_some()
    }

    /// Returns the deadline of draining; `None` before it has started.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.shared.deadline.get().copied()
    }

    /// Waits until draining starts. Cancel-safe.
    pub(crate) async fn signaled(&self) {
        loop {
            // Registered before the flag is read, so that a call between the two is not missed.
            let begun = self.shared.started.notified();
            if self.is_draining() {
                return;
            }
            begun.await;
        }
    }

    /// Returns a guard that counts as in flight until it is dropped.
    pub(crate) fn guard(&self) -> DrainGuard {
        self.shared.in_flight.fetch_add(1, Ordering::AcqRel);
        DrainGuard { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for DrainGuard {
    fn drop(&mut self) {
        if self.shared.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn drained_waits_for_last_guard() {
        let (trigger, watcher) = drain_pair();
        let guard = watcher.guard();
        assert!(!watcher.is_draining());
        trigger.drain(Instant::now() + Duration::from_secs(5));
        watcher.signaled().await;
        assert!(watcher.is_draining());
        let late = watcher.guard();
        drop(guard);
        assert_eq!(trigger.in_flight(), 1);
        let (drained, ()) = tokio::join!(trigger.drained(), async move { drop(late) });
        assert_eq!(drained, DrainOutcome::Empty);
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn second_deadline_is_ignored() {
        let (trigger, watcher) = drain_pair();
        let _guard = watcher.guard();
        let deadline = Instant::now() + Duration::from_secs(5);
        trigger.drain(deadline);
        trigger.drain(deadline + Duration::from_secs(5));
        assert_eq!(watcher.deadline(), Some(deadline));
        assert_eq!(trigger.drained().await, DrainOutcome::DeadlinePassed(1));
        assert_eq!(Instant::now(), deadline);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn drain_notifies_every_watcher() {
        let (trigger, watcher) = drain_pair();
        let other = trigger.watcher();
        let ((), (), ()) = tokio::join!(watcher.signaled(), other.signaled(), async {
            trigger.drain(Instant::now());
        });
    }
}
