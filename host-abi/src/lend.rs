//! Lends a `&mut dyn Host` to a store for one call. The VM fills the slot, hostcalls look into it, and a guard empties
//! it.
//!
//! A store's data must be `'static` and outlives every call, a host does neither. So the slot keeps a pointer whose
//! lifetime is erased, and [`Lent`] promises that it is there only while the real borrow lives. This is one of the
//! crate's three uses of `unsafe` (the others load compiled code, in `module/mod.rs`, and enter it, in `entry.rs`).

use std::marker::PhantomData;
use std::ptr::NonNull;

use wasmtime::Store;

use crate::failure::Stop;
use crate::host::Host;

/// Holds the host of the call that is under way, if one is.
#[derive(Default)]
pub(crate) struct HostSlot(Option<NonNull<dyn Host>>);

#[expect(unsafe_code, reason = "a pointer is not Send by itself")]
// SAFETY: the slot is filled only while a `Lent` borrows the store that owns it, so a store that moves to another
// thread has an empty slot, and a full slot is used only by the thread that runs the guest.
unsafe impl Send for HostSlot {}

impl HostSlot {
    /// The host of the call that is under way. Taking `&mut self` keeps a second one from being borrowed meanwhile.
    pub(crate) fn host(&mut self) -> Result<&mut (dyn Host + '_), Stop> {
        let Some(pointer) = &mut self.0 else {
            return Err(Stop::Violation("a hostcall was made outside a call".to_owned()));
        };
        #[expect(unsafe_code, reason = "the pointer's lifetime was erased by `Lent::new`")]
        // SAFETY: `Lent` holds the `&mut dyn Host` that this pointer came from and empties the slot before that borrow
        // ends. The reference made here borrows the slot mutably, so there is only one at a time.
        let host = unsafe { pointer.as_mut() };
        Ok(host)
    }
}

/// Store data that has a slot for the host.
pub(crate) trait Borrows {
    /// The slot.
    fn slot(&mut self) -> &mut HostSlot;
}

/// Keeps a host in a store's slot for as long as it lives.
pub(crate) struct Lent<'a, T: Borrows + 'static> {
    store: &'a mut Store<T>,
    host: PhantomData<&'a mut dyn Host>,
}

impl<'a, T: Borrows + 'static> Lent<'a, T> {
    /// Puts `host` into the store's slot.
    pub(crate) fn new(store: &'a mut Store<T>, host: &'a mut dyn Host) -> Self {
        let pointer: NonNull<dyn Host + 'a> = NonNull::from(host);
        #[expect(unsafe_code, reason = "store data must be 'static, a borrowed host is not")]
        // SAFETY: only the lifetime changes. The pointer leaves the slot when this guard is dropped, within 'a; the
        // guard is never forgotten, because it does not leave the function that makes it.
        let pointer = unsafe { std::mem::transmute::<NonNull<dyn Host + 'a>, NonNull<dyn Host + 'static>>(pointer) };
        store.data_mut().slot().0 = Some(pointer);
        Self { store, host: PhantomData }
    }

    /// The store to call the guest with.
    pub(crate) const fn store(&mut self) -> &mut Store<T> {
        self.store
    }
}

impl<T: Borrows + 'static> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        self.store.data_mut().slot().0 = None;
    }
}
