//! Notifies the VM that registered a shared queue of new entries (`proxy_on_queue_ready`).

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use crate::filter::host::CallScope;
use crate::filter::instance::{PluginRef, QueueNotifications};
use crate::filter::invoke::notify_plugin;

/// Calls the guest for each notification until its VM is dropped.
pub(super) fn run(plugin: &PluginRef) -> impl Future<Output = ()> + use<> {
    let (vm, index) = (Rc::downgrade(&plugin.vm), plugin.index);
    let notifications: Arc<QueueNotifications> = Arc::clone(&plugin.queue_notifications);
    async move {
        while notifications.wait().await {
            let Some(plugin) = vm.upgrade().map(|vm| vm.plugin(index)) else { return };
            while !plugin.is_isolated_by_breaker()
                && let Some(queue) = notifications.next()
            {
                notify_plugin(&plugin, CallScope::Plugin, |vm, host| vm.on_queue_ready(host, queue));
                tokio::task::yield_now().await; // Lets requests of the worker run between two callbacks.
            }
        }
    }
}
