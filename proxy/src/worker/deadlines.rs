//! What must not take for ever on a worker, looked at a few times a second by one task: cheaper than a timer for each
//! request, and as exact as timeouts of seconds need to be.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use slab::Slab;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::limits::DEADLINE_SWEEP;

/// Something that can be overdue.
pub(crate) trait Overdue {
    /// Looks at the time, and ends what is overdue.
    fn check(&self, now: Instant);
}

/// What is looked at. Bounded by connections and their streams.
#[derive(Default)]
pub(crate) struct Deadlines {
    watched: RefCell<Slab<Weak<dyn Overdue>>>,
    begun: Notify,
}

impl Deadlines {
    /// Looks at something from now on. The number takes it out again.
    pub(crate) fn watch(&self, overdue: Weak<dyn Overdue>) -> usize {
        let mut watched = self.watched.borrow_mut();
        if watched.is_empty() {
            self.begun.notify_one();
        }
        watched.insert(overdue)
    }

    /// Looks at it no more.
    pub(crate) fn forget(&self, number: usize) {
        self.watched.borrow_mut().try_remove(number);
    }

    /// Looks for ever; sleeps while there is nothing.
    pub(crate) async fn sweep_forever(self: Rc<Self>) {
        loop {
            if self.watched.borrow().is_empty() {
                self.begun.notified().await;
            }
            sleep(DEADLINE_SWEEP).await;
            self.sweep(Instant::now());
        }
    }

    fn sweep(&self, now: Instant) {
        // Ending one may take others out, so nothing is borrowed while they are looked at.
        let watched: Vec<_> = self.watched.borrow().iter().map(|(_, overdue)| Weak::clone(overdue)).collect();
        for overdue in watched {
            if let Some(overdue) = overdue.upgrade() {
                overdue.check(now);
            }
        }
    }
}
