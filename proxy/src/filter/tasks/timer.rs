//! Timer of a plugin on one worker (`proxy_set_tick_period_milliseconds`): one task while a period is set. Missed
//! ticks are skipped. The task ends with the VM, or when the guest sets another period.

use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::filter::host::CallScope;
use crate::filter::instance::{PluginRef, VmInstance, VmState};
use crate::filter::invoke::notify_plugin;
use crate::limits::MIN_TIMER_PERIOD;

/// A timer that a plugin has set in a running VM.
pub(super) struct RunningTimer {
    vm: Weak<VmInstance>,
    plugin: usize,
    /// Generation of the VM.
    vm_generation: u64,
    /// Generation of the timer.
    generation: u64,
}

/// Returns the timer that the plugin has set now; `None` without a period, or without a VM.
pub(super) fn running_timer(plugin: &PluginRef) -> Option<RunningTimer> {
    let generation = plugin.timer.generation.get()?;
    period(plugin)?;
    Some(RunningTimer {
        vm: Rc::downgrade(&plugin.vm),
        plugin: plugin.index,
        vm_generation: plugin.vm.generation(),
        generation,
    })
}

fn period(plugin: &PluginRef) -> Option<Duration> {
    match &mut *plugin.vm.state.borrow_mut() {
        VmState::Running(running) => {
            running.vm.select_plugin(plugin.index);
            running.vm.tick_period()
        }
        VmState::Stopped | VmState::Closed => None,
    }
}

/// Calls the guest periodically until it sets another timer or its VM is gone.
pub(super) async fn run(timer: RunningTimer) {
    let RunningTimer { vm, plugin, vm_generation, generation } = timer;
    let current = || {
        let plugin = vm.upgrade()?.plugin(plugin);
        let is_set = plugin.vm.generation() == vm_generation && plugin.timer.generation.get() == Some(generation);
        is_set.then_some(plugin)
    };
    loop {
        let Some(period) = current().and_then(|plugin| period(&plugin)) else { return };
        tokio::time::sleep(period.max(MIN_TIMER_PERIOD)).await;
        let Some(plugin) = current() else { return };
        if !plugin.is_isolated_by_breaker() && !notify_plugin(&plugin, CallScope::Plugin, |vm, host| vm.on_tick(host)) {
            return;
        }
    }
}
