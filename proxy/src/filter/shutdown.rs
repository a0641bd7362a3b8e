//! Shutdown of a plugin on a worker: streams of the old configuration end first, then the plugin context is done and
//! deleted, then its VM is closed. Bounded: a guest that does not finish (`proxy_on_done` returned false) is dropped
//! after a deadline.

use std::rc::{Rc, Weak};

use tokio::time::{Instant, sleep};

use crate::filter::invoke::call_vm;
use crate::filter::plugin_instance::{PluginInstance, PluginPhase};
use crate::filter::scope::CallScope;
use crate::limits::{BREAKER_INITIAL_PAUSE, PLUGIN_SHUTDOWN_POLL_INTERVAL, PLUGIN_SHUTDOWN_TIMEOUT};

/// Shuts down an instance that no configuration refers to, and its latest successor.
pub(super) async fn shut_down_when_unused(instance: Rc<PluginInstance>) {
    // Streams own the instance, also before their first callback. Timers do not.
    while Rc::strong_count(&instance) > 1 {
        sleep(PLUGIN_SHUTDOWN_POLL_INTERVAL).await;
    }
    let latest = instance.latest();
    if !Rc::ptr_eq(&instance, &latest) {
        shut_down_when_drained(latest).await;
    }
    shut_down(instance).await;
}

/// Shuts down a recycled instance after its last stream. New streams use its successor.
pub(super) async fn shut_down_when_drained(instance: Rc<PluginInstance>) {
    while instance.active_streams.get() > 0 {
        sleep(PLUGIN_SHUTDOWN_POLL_INTERVAL).await;
    }
    shut_down(instance).await;
}

/// Restarts a failed singleton plugin once a breaker in its VM closes. Other plugins restart with their next stream,
/// but a singleton has no streams.
pub(super) async fn restart_singleton(instance: Weak<PluginInstance>) {
    loop {
        sleep(BREAKER_INITIAL_PAUSE).await;
        let Some(instance) = instance.upgrade() else { return };
        if instance.phase.get() != PluginPhase::Serving
            || instance.vm.plugins().iter().any(|instance| instance.ensure_running().is_ok())
        {
            return;
        }
    }
}

async fn shut_down(instance: Rc<PluginInstance>) {
    instance.phase.set(PluginPhase::ShuttingDown);
    let done = call_vm(&instance, CallScope::Plugin, |vm, host| vm.on_done(host, vm.plugin_context()));
    if let Some(Ok(false)) = done {
        // The guest calls `proxy_done` later, usually in a timer callback, so its timer keeps running.
        let deadline = Instant::now() + PLUGIN_SHUTDOWN_TIMEOUT;
        while Instant::now() < deadline
            && call_vm(&instance, CallScope::Plugin, |vm, _| vm.take_plugin_done()) == Some(false)
        {
            sleep(PLUGIN_SHUTDOWN_POLL_INTERVAL).await;
        }
    }
    let deleted = call_vm(&instance, CallScope::Plugin, |vm, host| vm.on_delete(host, vm.plugin_context()));
    // Other plugins of the VM may have streams there.
    for failure in [done.and_then(Result::err), deleted.and_then(Result::err)].iter().flatten() {
        instance.on_failure(failure);
    }
    // Late callouts and queue entries must not reach a VM that has deleted the plugin context.
    instance.phase.set(PluginPhase::Removed);
    instance.callouts.abandon_all();
    // The last plugin of a VM closes it.
    if Rc::strong_count(&instance.vm) == 1 {
        instance.vm.close();
    }
}
