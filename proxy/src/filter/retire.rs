//! The end of a plugin on a worker: the streams of the old configuration end first, then its plugin context is done and
//! deleted, then its VM goes (`proxy-wasm-abi` §2.6). Bounded: a guest that is never done is dropped.

use std::rc::{Rc, Weak};

use tokio::time::{Instant, sleep};

use crate::filter::call::with_vm;
use crate::filter::slot::{Life, Slot};
use crate::filter::view::About;
use crate::limits::{BREAKER_PAUSE, RETIRE_POLL, RETIRE_TIME};

/// Ends a slot that no configuration refers to, and the one that has followed it.
pub(super) async fn retire(slot: Rc<Slot>) {
    // Streams hold the slot, also those whose turn with this filter is still to come; timers do not.
    while Rc::strong_count(&slot) > 1 {
        sleep(RETIRE_POLL).await;
    }
    let last = slot.last();
    if !Rc::ptr_eq(&slot, &last) {
        recycle(last).await;
    }
    end(slot).await;
}

/// Ends a slot whose VM has served long enough: streams that come go elsewhere.
pub(super) async fn recycle(slot: Rc<Slot>) {
    while slot.places.get() > 0 {
        sleep(RETIRE_POLL).await;
    }
    end(slot).await;
}

/// Has a service run again after a failure, as soon as its breaker lets it, or that of another one in its VM: no stream
/// comes that would.
pub(super) async fn revive(slot: Weak<Slot>) {
    loop {
        sleep(BREAKER_PAUSE).await;
        let Some(slot) = slot.upgrade() else { return };
        if slot.life.get() != Life::Serving || slot.cell.slots().iter().any(|slot| slot.ready().is_ok()) {
            return;
        }
    }
}

async fn end(slot: Rc<Slot>) {
    slot.life.set(Life::Ending);
    let done = with_vm(&slot, About::Plugin, |vm, host| vm.on_done(host, vm.root_context()));
    if let Some(Ok(false)) = done {
        // The guest says `proxy_done` later, mostly from a tick: its timer still runs.
        let deadline = Instant::now() + RETIRE_TIME;
        while Instant::now() < deadline && with_vm(&slot, About::Plugin, |vm, _| vm.plugin_is_done()) == Some(false) {
            sleep(RETIRE_POLL).await;
        }
    }
    let deleted = with_vm(&slot, About::Plugin, |vm, host| vm.on_delete(host, vm.root_context()));
    // Others that live in the VM have streams there.
    for failure in [done.and_then(Result::err), deleted.and_then(Result::err)].iter().flatten() {
        slot.on_failure(failure);
    }
    // What comes late for it is not told to a VM that has forgotten it and in which others live.
    slot.life.set(Life::Gone);
    slot.callouts.abandon();
    // The VM goes with the last plugin that lives in it.
    if Rc::strong_count(&slot.cell) == 1 {
        slot.cell.close();
    }
}
