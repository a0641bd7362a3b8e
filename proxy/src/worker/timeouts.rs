//! Idle and request timeouts of one worker. One task checks all connections and streams every 50 ms. This is cheaper
//! than a timer per request, and precise enough for timeouts in seconds.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use slab::Slab;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::limits::TIMEOUT_SWEEP_INTERVAL;

/// A connection or stream that has timeouts.
pub(crate) trait HasTimeout {
    /// Compares the timeouts with `now`, and closes or aborts what has timed out.
    fn check_timeout(&self, now: Instant);

    /// Aborts a stream that the AuthorizationPolicies of the active configuration deny.
    fn recheck_access(&self, _now: Instant) -> AccessCheck {
        AccessCheck::Done
    }
}

/// The result of checking access again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessCheck {
    /// The stream has access, or was aborted.
    Done,
    /// Undecided: the check is repeated.
    Again,
}

/// The connections and streams that are checked. Bounded by the limits of both.
#[derive(Default)]
pub(crate) struct TimeoutSweeper {
    registered: RefCell<Slab<Weak<dyn HasTimeout>>>,
    became_non_empty: Notify,
}

impl TimeoutSweeper {
    /// Starts checking `timeout`. Returns the key for [`TimeoutSweeper::unregister`].
    pub(crate) fn register(&self, timeout: Weak<dyn HasTimeout>) -> usize {
        let mut registered = self.registered.borrow_mut();
        if registered.is_empty() {
            self.became_non_empty.notify_one();
        }
        registered.insert(timeout)
    }

    /// Stops checking what has this key.
    pub(crate) fn unregister(&self, key: usize) {
        self.registered.borrow_mut().try_remove(key);
    }

    /// Checks all timeouts every [`TIMEOUT_SWEEP_INTERVAL`], forever. Sleeps while nothing is registered.
    pub(crate) async fn sweep_forever(self: Rc<Self>) {
        loop {
            if self.registered.borrow().is_empty() {
                self.became_non_empty.notified().await;
            }
            sleep(TIMEOUT_SWEEP_INTERVAL).await;
            self.sweep(Instant::now());
        }
    }

    /// Returns all that is checked.
    pub(super) fn all(&self) -> Vec<Weak<dyn HasTimeout>> {
        self.registered.borrow().iter().map(|(_, timeout)| Weak::clone(timeout)).collect()
    }

    fn sweep(&self, now: Instant) {
        // A timeout may unregister others, so nothing is borrowed during the checks.
        for timeout in self.all() {
            if let Some(timeout) = timeout.upgrade() {
                timeout.check_timeout(now);
            }
        }
    }
}
