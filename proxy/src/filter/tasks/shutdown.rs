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
    let done = call_vm(&plugin, CallScope::Plugin, |vm, host| vm.on_done(host, vm.plugin_context()));
    if let Some(Ok(false)) = done {
        // The guest calls `proxy_done` later, usually in a timer callback, so its timer goes on.
        drop(timeout(PLUGIN_SHUTDOWN_TIMEOUT, plugin.done.notified()).await);
    }
    let deleted = call_vm(&plugin, CallScope::Plugin, |vm, host| vm.on_delete(host, vm.plugin_context()));
    // Other plugins of the VM may have streams there.
    for failure in [done.and_then(Result::err), deleted.and_then(Result::err)].iter().flatten() {
        plugin.on_failure(failure);
    }
    plugin.remove();
}

/// Restarts a failed singleton plugin once a breaker in its VM closes. Other plugins restart with their next stream,
/// but a singleton has no streams.
pub(super) async fn restart_singleton(vm: Weak<VmInstance>, index: usize) {
    loop {
        let Some(pause) = vm.upgrade().map(|vm| vm.plugin(index).health.breaker_pause()) else { return };
        sleep(pause.max(BREAKER_INITIAL_PAUSE)).await;
        let Some(vm) = vm.upgrade() else { return };
        if vm.plugin(index).lifecycle.phase() != PluginPhase::Serving
            || vm.all_plugins().any(|plugin| plugin.ensure_running().is_ok())
        {
            return;
        }
    }
}
