//! A plugin's timer on one worker (`proxy_set_tick_period_milliseconds`): one task while a period is set. It never
//! catches up ticks that it missed, and ends with the VM.

use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::filter::call::tell_vm;
use crate::filter::slot::Slot;
use crate::filter::view::About;
use crate::limits::MIN_TICK;
use crate::task;

/// Starts, changes or leaves alone the timer, as the VM wants it now.
pub(super) fn follow(slot: &Rc<Slot>) {
    let Some((timer, period)) = timer_of(slot) else { return };
    slot.ticking.set(Some(timer));
    if period.is_some() {
        let (slot, generation) = (Rc::downgrade(slot), slot.generation());
        task::spawn_local("filter-tick", tick_forever(slot, generation, timer));
    }
}

/// The timer that the plugin has set, and its period.
fn timer_of(slot: &Slot) -> Option<(u64, Option<Duration>)> {
    let mut running = slot.cell.vm.borrow_mut();
    let vm = running.as_mut()?;
    vm.act_for(slot.plugin.number);
    Some((vm.tick_generation(), vm.tick_period()))
}

/// Ticks until another timer was set or the VM is gone.
async fn tick_forever(slot: Weak<Slot>, generation: u64, timer: u64) {
    loop {
        let Some(period) = slot.upgrade().and_then(|slot| timer_of(&slot)?.1) else { return };
        tokio::time::sleep(period.max(MIN_TICK)).await;
        let Some(slot) = slot.upgrade() else { return };
        if slot.generation() != generation || slot.ticking.get() != Some(timer) {
            return;
        }
        if slot.is_left_out() {
            continue;
        }
        if !tell_vm(&slot, About::Plugin, |vm, host| vm.on_tick(host)) {
            return;
        }
    }
}
