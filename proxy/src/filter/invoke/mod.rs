//! The only code that calls guests, in synchronous sections: maps what happens to callbacks of a VM, and the guest's
//! actions to [`FilterStatus`](crate::filter::chain::FilterStatus)es of the chain.
//!
//! ```text
//! FilterStream::on_event ─► ChainDriver ─► StreamInvoker (http, tcp) ─┐
//! tasks: timer, queue, callout ─► notify_plugin ──────────────────────┴─► call_vm ─► Vm ⇄ ProxyHost
//! ```
//!
//! A failed call (a trap, a limit, a violation of the ABI) ends the VM: [`PluginRef::on_failure`]. A call about a stream
//! returns the failure to the chain of that stream, whose failure policy answers at once. Each filter of every other stream
//! that has a context in the VM gets an effect, and its own policy answers. If such a stream has an event before its effect,
//! the old generation of its context shows that the VM is gone: the policy answers then, and the effect does nothing later.
//! A call of `tasks` is about no stream, so that all streams get the effect.

mod stream; // A stream and its filters: events, contexts, the end.
mod http; // Callbacks about HTTP streams.
mod tcp; // Callbacks about TCP connections.

use weir_host_abi::{Failure, Vm};

use crate::filter::host::{CallScope, ProxyHost};
use crate::filter::instance::{PluginPhase, PluginRef, RunningVm, VmState};

/// Calls the VM of a plugin with a [`ProxyHost`], then reports the plugin's timer and the end of its shutdown. `None` if
/// no VM runs or the plugin was removed from it.
pub(super) fn call_vm<T>(
    plugin: &PluginRef,
    scope: CallScope<'_>,
    call: impl FnOnce(&mut Vm, &mut ProxyHost<'_>) -> T,
) -> Option<T> {
    let phase = plugin.lifecycle.phase();
    if phase == PluginPhase::Removed {
        return None;
    }
    let mut state = plugin.vm.state.borrow_mut();
    let VmState::Running(running) = &mut *state else { return None };
    let RunningVm { vm, streams, metrics, .. } = &mut **running;
    vm.select_plugin(plugin.index);
    let call_timer = plugin.health.cpu_budget.start_call();
    let mut host = ProxyHost { instance: plugin, streams, guest_metrics: metrics, scope, read_only: false };
    let result = call(vm, &mut host);
    if call_timer.is_some() {
        plugin.metrics.memory.set(vm.memory_bytes() as u64);
        plugin.metrics.log_dropped.set(vm.dropped_log_bytes());
    }
    plugin.health.cpu_budget.finish_call(call_timer.as_ref(), &plugin.metrics);
    plugin.set_timer_generation(vm.tick_generation());
    if phase == PluginPhase::ShuttingDown || plugin.vm.is_shared() {
        report_done(vm, plugin);
    }
    Some(result)
}

/// Wakes the shutdowns whose plugins have called `proxy_done`. A guest may do that for any plugin of its VM.
fn report_done(vm: &mut Vm, plugin: &PluginRef) {
    for (index, other) in plugin.vm.plugins.iter().enumerate() {
        if other.lifecycle.phase() == PluginPhase::ShuttingDown {
            vm.select_plugin(index);
            if vm.take_plugin_done() {
                other.done.notify_one();
            }
        }
    }
}

/// Calls a VM outside a filter callback, and handles a failure. Returns true if the call was made and has succeeded.
pub(super) fn notify_plugin(
    plugin: &PluginRef,
    scope: CallScope<'_>,
    call: impl FnOnce(&mut Vm, &mut ProxyHost<'_>) -> Result<(), Failure>,
) -> bool {
    match call_vm(plugin, scope, call) {
        Some(Ok(())) => true,
        Some(Err(failure)) => {
            plugin.on_failure(&failure);
            false
        }
        None => false,
    }
}
