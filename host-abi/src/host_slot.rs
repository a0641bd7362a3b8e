//! Lends a `&mut dyn Host` to a store for one call. The VM fills the slot, hostcalls read it, and a guard empties it.
//!
//! A store's data must be `'static` and outlives every call; a host does neither. The slot therefore stores a pointer
//! with an erased lifetime, and [`HostGuard`] ensures that the pointer exists only during the real borrow. This is one
//! of the crate's three uses of `unsafe`. The others load compiled code (`module/mod.rs`) and call it
//! (`guest_function.rs`).

use std::marker::PhantomData;
use std::ptr::NonNull;

use wasmtime::Store;

use crate::failure::HostTrap;
use crate::host::Host;

/// The host of the current call, if any.
#[derive(Default)]
pub(crate) struct HostSlot(Option<NonNull<dyn Host>>);

#[expect(unsafe_code, reason = "a pointer is not Send by itself")]
// SAFETY: the slot is filled only while a `HostGuard` borrows the store that owns it. A store that moves to another
// thread has an empty slot, and only the thread that runs the guest uses a full slot.
unsafe impl Send for HostSlot {}

impl HostSlot {
    /// Returns the host of the current call. `&mut self` prevents a second borrow at the same time.
    pub(crate) fn host(&mut self) -> Result<&mut (dyn Host + '_), HostTrap> {
        let Some(pointer) = &mut self.0 else {
            return Err(HostTrap::Violation("a hostcall was made outside a call".to_owned()));
        };
        #[expect(unsafe_code, reason = "the pointer's lifetime was erased by `HostGuard::new`")]
        // SAFETY: `HostGuard` owns the `&mut dyn Host` that this pointer came from and empties the slot before that
        // borrow ends. The reference created here borrows the slot mutably, so there is only one at a time.
        let host = unsafe { pointer.as_mut() };
        Ok(host)
    }
}

/// Store data with a slot for the host.
pub(crate) trait HasHostSlot {
    /// Returns the slot.
    fn slot(&mut self) -> &mut HostSlot;
}

/// A guard that stores a host in a store's slot until it is dropped.
pub(crate) struct HostGuard<'a, T: HasHostSlot + 'static> {
    store: &'a mut Store<T>,
    host: PhantomData<&'a mut dyn Host>,
}

impl<'a, T: HasHostSlot + 'static> HostGuard<'a, T> {
    /// Stores `host` in the store's slot.
    pub(crate) fn new(store: &'a mut Store<T>, host: &'a mut dyn Host) -> Self {
        let pointer: NonNull<dyn Host + 'a> = NonNull::from(host);
        #[expect(unsafe_code, reason = "store data must be 'static, a borrowed host is not")]
        // SAFETY: only the lifetime changes. Dropping this guard removes the pointer from the slot, within 'a. The
        // guard is never forgotten, because it does not leave the function that creates it.
        let pointer = unsafe { std::mem::transmute::<NonNull<dyn Host + 'a>, NonNull<dyn Host + 'static>>(pointer) };
        store.data_mut().slot().0 = Some(pointer);
        Self { store, host: PhantomData }
    }

    /// Returns the store for calls into the guest.
    pub(crate) const fn store(&mut self) -> &mut Store<T> {
        self.store
    }
}

impl<T: HasHostSlot + 'static> Drop for HostGuard<'_, T> {
    fn drop(&mut self) {
        self.store.data_mut().slot().0 = None;
    }
}
