//! Timer of a plugin on one worker (`proxy_set_tick_period_milliseconds`): one task while a period is set. Missed
//! ticks are skipped, and the task ends with the VM.

use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::filter::invoke::notify_plugin;
use crate::filter::plugin_instance::PluginInstance;
use crate::filter::scope::CallScope;
use crate::limits::MIN_TIMER_PERIOD;
use crate::task;

/// Starts a timer task if the plugin has set another timer than the running task serves.
pub(super) fn sync_timer(instance: &Rc<PluginInstance>) {
    let Some((timer, period)) = timer_settings(instance) else { return };
    instance.timer_generation.set(Some(timer));
    if period.is_some() {
        let (instance, generation) = (Rc::downgrade(instance), instance.generation());
        task::spawn_local("filter-timer", run_timer(instance, generation, timer));
    }
}

/// Returns the generation of the timer that the plugin has set, and its period. `None` without a VM.
fn timer_settings(instance: &PluginInstance) -> Option<(u64, Option<Duration>)> {
    let mut running = instance.vm.running.borrow_mut();
    let vm = running.as_mut()?;
    vm.select_plugin(instance.plugin.plugin_index);
    Some((vm.tick_generation(), vm.tick_period()))
}

/// Calls the guest periodically until it sets another timer or its VM is closed.
async fn run_timer(instance: Weak<PluginInstance>, generation: u64, timer: u64) {
    loop {
        let Some(period) = instance.upgrade().and_then(|instance| timer_settings(&instance)?.1) else { return };
        tokio::time::sleep(period.max(MIN_TIMER_PERIOD)).await;
        let Some(instance) = instance.upgrade() else { return };
        if instance.generation() != generation || instance.timer_generation.get() != Some(timer) {
            return;
        }
        if instance.is_isolated_by_breaker() {
            continue;
        }
        if !notify_plugin(&instance, CallScope::Plugin, |vm, host| vm.on_tick(host)) {
            return;
        }
    }
}
