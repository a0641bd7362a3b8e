//! The end of a plugin in a VM: its context is done and deleted, and the last plugin closes the VM. Bounded: a guest that
//! does not finish (`proxy_on_done` returned false) is dropped after a deadline.

use std::rc::Weak;

use tokio::time::{sleep, timeout};

use crate::filter::host::CallScope;
use crate::filter::instance::{PluginPhase, PluginRef, VmInstance};
use crate::filter::invoke::call_vm;
use crate::limits::{BREAKER_INITIAL_PAUSE, PLUGIN_SHUTDOWN_TIMEOUT};

/// Shuts down a drained plugin.
pub(super) async fn shut_down(plugin: PluginRef) {
    plugin.lifecycle.begin_shutdown();
    let generation = plugin.vm.generation();
    let done = call_vm(&plugin, CallScope::Plugin, |vm, host| vm.on_done(host, vm.plugin_context()));
    if let Some(Ok(false)) = done {
        // The guest calls `proxy_done` later, usually in a timer callback, so its timer goes on.
        drop(timeout(PLUGIN_SHUTDOWN_TIMEOUT, plugin.done.notified()).await);
    }
    // A VM that was replaced meanwhile, for streams of other plugins, has another context in its place.
    let is_same = plugin.vm.generation() == generation;
    let delete = || call_vm(&plugin, CallScope::Plugin, |vm, host| vm.on_delete(host, vm.plugin_context()));
    let deleted = is_same.then(delete).flatten();
    // Other plugins of the VM may have streams there.
    for failure in [done.and_then(Result::err), deleted.and_then(Result::err)].iter().flatten() {
        plugin.on_failure(failure);
    }
    plugin.remove();
}

/// Restarts the VM of a failed singleton plugin once the breaker of one of its plugins is closed. Other plugins restart
/// with their next stream, but a singleton has no streams. A breaker may be reset at any time, so that it is asked again
/// after each pause.
pub(super) async fn restart_singleton(vm: Weak<VmInstance>, index: usize) {
    loop {
        sleep(BREAKER_INITIAL_PAUSE).await;
        let Some(vm) = vm.upgrade() else { return };
        if vm.plugin(index).lifecycle.phase() != PluginPhase::Serving
            || vm.all_plugins().any(|plugin| plugin.ensure_running().is_ok())
        {
            return;
        }
    }
}
