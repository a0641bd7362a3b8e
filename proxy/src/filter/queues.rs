//! Tells the VM that registered a shared queue of new entries (`proxy_on_queue_ready`), whichever thread appends them:
//! the numbers wait in an inbox, and a task of the VM's worker takes them out.

use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use weir_host_abi::shared::Notify;

use crate::filter::call::tell_vm;
use crate::filter::slot::Slot;
use crate::filter::view::About;
use crate::limits::MAX_QUEUE_NOTES;
use crate::task;

/// Numbers of queues that have got an entry each.
#[derive(Default)]
pub(super) struct Inbox {
    numbers: Mutex<VecDeque<u32>>,
    arrived: tokio::sync::Notify,
    is_open: AtomicBool,
}

impl Inbox {
    /// Starts the task that empties it, once.
    pub(super) fn open(self: &Arc<Self>, slot: &Rc<Slot>) {
        if !self.is_open.swap(true, Ordering::Relaxed) {
            task::spawn_local("filter-queues", deliver(Arc::clone(self), Rc::downgrade(slot)));
        }
    }

    /// What a queue calls for each entry. Beyond [`MAX_QUEUE_NOTES`] that wait there is none: a guest that is told once
    /// may take out all there is.
    pub(super) fn notify(self: &Arc<Self>) -> Notify {
        let inbox = Arc::downgrade(self);
        Arc::new(move |queue| {
            let Some(inbox) = inbox.upgrade() else { return };
            let mut numbers = inbox.numbers.lock();
            if numbers.len() < MAX_QUEUE_NOTES {
                numbers.push_back(queue);
            }
            drop(numbers);
            inbox.arrived.notify_one();
        })
    }

    fn next(&self) -> Option<u32> {
        self.numbers.lock().pop_front()
    }
}

/// Tells the guest until its slot is gone.
async fn deliver(inbox: Arc<Inbox>, slot: Weak<Slot>) {
    loop {
        tokio::select! {
            () = inbox.arrived.notified() => {}
            // A slot that has gone appends nothing more.
            () = tokio::time::sleep(crate::limits::QUEUE_LOOK) => {}
        }
        let Some(slot) = slot.upgrade() else { return };
        while !slot.is_left_out()
            && let Some(queue) = inbox.next()
        {
            tell_vm(&slot, About::Plugin, |vm, host| vm.on_queue_ready(host, queue));
            tokio::task::yield_now().await; // Requests of the worker have their turn between two.
        }
    }
}
