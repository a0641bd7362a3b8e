//! Notifies the VM that registered a shared queue of new entries (`proxy_on_queue_ready`).

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::sleep;

use crate::filter::host::CallScope;
use crate::filter::instance::{PluginRef, QueueNotifications};
use crate::filter::invoke::notify_plugin;
use crate::limits::BREAKER_INITIAL_PAUSE;

/// Calls the guest for each notification until its VM is dropped. While the plugin's breaker keeps it out of a shared VM,
/// notifications wait.
pub(super) fn run(plugin: &PluginRef) -> impl Future<Output = ()> + use<> {
    let (vm, index) = (Rc::downgrade(&plugin.vm), plugin.index);
    let notifications: Arc<QueueNotifications> = Arc::clone(&plugin.queue_notifications);
    async move {
        while notifications.wait().await {
            loop {
                let Some(plugin) = vm.upgrade().map(|vm| vm.plugin(index)) else { return };
                if plugin.is_isolated_by_breaker() {
                    drop(plugin);
                    sleep(BREAKER_INITIAL_PAUSE).await;
                    continue;
                }
                let Some(queue) = notifications.next() else { break };
                notify_plugin(&plugin, CallScope::Plugin, |vm, host| vm.on_queue_ready(host, queue));
                tokio::task::yield_now().await; // Lets requests of the worker run between two callbacks.
            }
        }
    }
}
