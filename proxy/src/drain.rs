//! Ending gracefully: one side says that it is time, the other side finishes what it has in flight.
//!
//! ```text
//! serving ── DrainTrigger::drain(deadline) ──► draining ── last DrainGuard dropped, or deadline ──► drained
//! ```
//!
//! Each listener of each worker has its own trigger, held by that worker; connections hold the watcher. What is asked
//! per request is one load of an atomic; nothing here is locked by two threads in normal running (invariant I6).

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::time::Instant;

#[derive(Default)]
struct Shared {
    deadline: OnceLock<Instant>,
    begun: Notify,
    in_flight: AtomicUsize,
    emptied: Notify,
}

/// Says that it is time to end.
pub(crate) struct DrainTrigger {
    shared: Arc<Shared>,
}

/// Learns that it is time to end. Cheap to clone.
#[derive(Clone)]
pub(crate) struct DrainWatcher {
    shared: Arc<Shared>,
}

/// Something in flight that draining waits for, until it is dropped.
pub(crate) struct DrainGuard {
    shared: Arc<Shared>,
}

/// How draining ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drained {
    /// Nothing is in flight any more.
    Empty,
    /// The deadline came first; so many were still in flight.
    DeadlinePassed(usize),
}

/// A trigger and its first watcher.
pub(crate) fn drain_pair() -> (DrainTrigger, DrainWatcher) {
    let shared = Arc::new(Shared::default());
    (DrainTrigger { shared: Arc::clone(&shared) }, DrainWatcher { shared })
}

impl DrainTrigger {
    /// Begins to drain. The first deadline counts; later calls change nothing.
    pub(crate) fn drain(&self, deadline: Instant) {
        if self.shared.deadline.set(deadline).is_ok() {
            self.shared.begun.notify_waiters();
        }
    }

    /// Another watcher.
    pub(crate) fn watcher(&self) -> DrainWatcher {
        DrainWatcher { shared: Arc::clone(&self.shared) }
    }

    /// What is in flight now.
    pub(crate) fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Acquire)
    }

    /// Waits until nothing is in flight or the deadline has come. Only after [`DrainTrigger::drain`]; before it, waits
    /// until nothing is in flight.
    pub(crate) async fn drained(&self) -> Drained {
        let empty = async {
            loop {
                let emptied = self.shared.emptied.notified();
                if self.in_flight() == 0 {
                    return;
                }
                emptied.await;
            }
        };
        let Some(deadline) = self.shared.deadline.get() else {
            empty.await;
            return Drained::Empty;
        };
        match tokio::time::timeout_at(*deadline, empty).await {
            Ok(()) => Drained::Empty,
            Err(_) => Drained::DeadlinePassed(self.in_flight()),
        }
    }
}

impl DrainWatcher {
    /// True once draining has begun. One load.
    pub(crate) fn is_draining(&self) -> bool {
        self.shared.deadline.get().is_some()
    }

    /// When draining gives up waiting; `None` before it has begun.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.shared.deadline.get().copied()
    }

    /// Waits until draining begins. Cancel-safe.
    pub(crate) async fn signaled(&self) {
        loop {
            // Registered before the flag is read, so that a call between the two is not missed.
            let begun = self.shared.begun.notified();
            if self.is_draining() {
                return;
            }
            begun.await;
        }
    }

    /// Counts something as in flight until the guard is dropped.
    pub(crate) fn guard(&self) -> DrainGuard {
        self.shared.in_flight.fetch_add(1, Ordering::AcqRel);
        DrainGuard { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for DrainGuard {
    fn drop(&mut self) {
        if self.shared.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn draining_waits_for_what_is_in_flight() {
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
        assert_eq!(drained, Drained::Empty);
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn the_first_deadline_counts() {
        let (trigger, watcher) = drain_pair();
        let _guard = watcher.guard();
        let deadline = Instant::now() + Duration::from_secs(5);
        trigger.drain(deadline);
        trigger.drain(deadline + Duration::from_secs(5));
        assert_eq!(watcher.deadline(), Some(deadline));
        assert_eq!(trigger.drained().await, Drained::DeadlinePassed(1));
        assert_eq!(Instant::now(), deadline);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn every_waiter_is_told() {
        let (trigger, watcher) = drain_pair();
        let other = trigger.watcher();
        let ((), (), ()) = tokio::join!(watcher.signaled(), other.signaled(), async {
            trigger.drain(Instant::now());
        });
    }
}
