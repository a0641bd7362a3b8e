//! The end of a plugin on a worker: the streams of the old configuration end first, then its plugin context is done and
//! deleted, then its VM goes (`proxy-wasm-abi` §2.6). Bounded: a guest that is never done is dropped.

use std::rc::Rc;

use tokio::time::{Instant, sleep};
use weir_host_abi::ContextId;

use crate::filter::call::with_vm;
use crate::filter::slot::Slot;
use crate::filter::view::About;
use crate::limits::{RETIRE_POLL, RETIRE_TIME};

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

async fn end(slot: Rc<Slot>) {
    if let Some(Ok(false)) = with_vm(&slot, About::Plugin, |vm, host| vm.on_done(host, ContextId::ROOT)) {
        // The guest says `proxy_done` later, mostly from a tick: its timer still runs.
        let deadline = Instant::now() + RETIRE_TIME;
        while Instant::now() < deadline && with_vm(&slot, About::Plugin, |vm, _| vm.take_done()) == Some(None) {
            sleep(RETIRE_POLL).await;
        }
    }
    drop(with_vm(&slot, About::Plugin, |vm, host| vm.on_delete(host, ContextId::ROOT)));
    // The VM goes with the last plugin that lives in it.
    if Rc::strong_count(&slot.cell) == 1 {
        slot.cell.close();
    }
}
