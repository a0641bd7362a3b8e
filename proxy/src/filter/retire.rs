//! The end of a plugin on a worker: its streams end first, then its plugin context is done and deleted, then its VM
//! goes (`proxy-wasm-abi` §2.6). Bounded: a guest that is never done is dropped.

use std::rc::Rc;

use tokio::time::{Instant, sleep};
use weir_host_abi::ContextId;

use crate::filter::call::with_vm;
use crate::filter::host::About;
use crate::filter::slot::Slot;
use crate::limits::{RETIRE_POLL, RETIRE_TIME};

/// Ends a slot that no configuration refers to.
pub(super) async fn retire(slot: Rc<Slot>) {
    while !slot.tenants.borrow().is_empty() {
        sleep(RETIRE_POLL).await;
    }
    if let Some(Ok(false)) = with_vm(&slot, About::Plugin, |vm, host| vm.on_done(host, ContextId::ROOT)) {
        let deadline = Instant::now() + RETIRE_TIME;
        while Instant::now() < deadline {
            match with_vm(&slot, About::Plugin, |vm, host| match vm.take_done() {
                Some(_) => Ok(true),
                // Ticks go on meanwhile: most guests call `proxy_done` from one.
                None => vm.on_tick(host).map(|()| false),
            }) {
                Some(Ok(false)) => sleep(RETIRE_POLL).await,
                _ => break,
            }
        }
    }
    drop(with_vm(&slot, About::Plugin, |vm, host| vm.on_delete(host, ContextId::ROOT)));
    slot.close();
}
