//! Notifies the VM that registered a shared queue of new entries (`proxy_on_queue_ready`). Any thread may append
//! entries. Their queue ids are stored here, and a task of the VM's worker calls the guest.

use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use weir_host_abi::shared::QueueNotifier;

use crate::filter::invoke::notify_plugin;
use crate::filter::plugin_instance::PluginInstance;
use crate::filter::scope::CallScope;
use crate::limits::MAX_QUEUE_NOTIFICATIONS;
use crate::task;

/// Ids of queues that have a new entry, one per entry.
#[derive(Default)]
pub(super) struct QueueNotifications {
    queue_ids: Mutex<VecDeque<u32>>,
    added: tokio::sync::Notify,
    task_started: AtomicBool,
}

impl QueueNotifications {
    /// Starts the task that calls the guest, once.
    pub(super) fn start_task(self: &Arc<Self>, instance: &Rc<PluginInstance>) {
        if !self.task_started.swap(true, Ordering::Relaxed) {
            task::spawn_local("filter-queues", deliver(Arc::clone(self), Rc::downgrade(instance)));
        }
    }

    /// Returns the function that a queue calls for each new entry. Drops notifications beyond [`MAX_QUEUE_NOTES`]: a
    /// guest that is notified once can dequeue all entries.
    pub(super) fn notifier(self: &Arc<Self>) -> QueueNotifier {
        let notifications = Arc::downgrade(self);
        Arc::new(move |queue| {
            let Some(notifications) = notifications.upgrade() else { return };
            let mut queue_ids = notifications.queue_ids.lock();
            if queue_ids.len() < MAX_QUEUE_NOTIFICATIONS {
                queue_ids.push_back(queue);
            }
            drop(queue_ids);
            notifications.added.notify_one();
        })
    }

    fn next(&self) -> Option<u32> {
        self.queue_ids.lock().pop_front()
    }
}

/// Calls the guest for each notification until its plugin instance is dropped.
async fn deliver(notifications: Arc<QueueNotifications>, instance: Weak<PluginInstance>) {
    loop {
        tokio::select! {
            () = notifications.added.notified() => {}
            // A dropped instance sends no notification, so the loop checks for it.
            () = tokio::time::sleep(crate::limits::QUEUE_POLL_INTERVAL) => {}
        }
        let Some(instance) = instance.upgrade() else { return };
        while !instance.is_isolated_by_breaker()
            && let Some(queue) = notifications.next()
        {
            notify_plugin(&instance, CallScope::Plugin, |vm, host| vm.on_queue_ready(host, queue));
            tokio::task::yield_now().await; // Lets requests of the worker run between two callbacks.
        }
    }
}
