//! New entries of the shared queues that a plugin has registered (`proxy_on_queue_ready`). Any thread may append
//! entries. Their queue ids wait here for the task of the plugin's worker.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use weir_host_abi::shared::QueueNotifier;

use crate::limits::MAX_QUEUE_NOTIFICATIONS;

/// Ids of queues that have a new entry, one for each entry.
#[derive(Default)]
pub(crate) struct QueueNotifications {
    queue_ids: Mutex<VecDeque<u32>>,
    changed: Notify,
    has_task: AtomicBool,
    is_closed: AtomicBool,
}

impl QueueNotifications {
    /// Returns true for the first caller: it starts the task that calls the guest.
    pub(crate) fn claim_task(&self) -> bool {
        !self.has_task.swap(true, Ordering::Relaxed)
    }

    /// Returns the function that a queue calls for each new entry. Drops notifications beyond
    /// [`MAX_QUEUE_NOTIFICATIONS`]: a guest that is notified once can dequeue all entries.
    pub(crate) fn notifier(self: &Arc<Self>) -> QueueNotifier {
        let notifications = Arc::downgrade(self);
        Arc::new(move |queue| {
            let Some(notifications) = notifications.upgrade() else { return };
            let mut queue_ids = notifications.queue_ids.lock();
            if queue_ids.len() < MAX_QUEUE_NOTIFICATIONS {
                queue_ids.push_back(queue);
            }
            drop(queue_ids);
            notifications.changed.notify_one();
        })
    }

    /// Ends the task: the plugin instance is gone.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Waits for an entry. Returns false once the plugin instance is gone.
    pub(crate) async fn wait(&self) -> bool {
        self.changed.notified().await;
        !self.is_closed.load(Ordering::Relaxed)
    }

    /// Removes and returns the next queue id.
    pub(crate) fn next(&self) -> Option<u32> {
        self.queue_ids.lock().pop_front()
    }
}
