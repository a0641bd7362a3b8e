//! What the host needs of every guest: its version of the ABI, and memory for what the host gives it.

use std::mem::ManuallyDrop;

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

/// Memory that the host fills and [`take`] takes over.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    ManuallyDrop::new(Vec::with_capacity(size)).as_mut_ptr()
}

/// What the host put into memory that it had this guest allocate.
pub(crate) fn take(pointer: u32, size: u32) -> Vec<u8> {
    if size == 0 {
        return Vec::new();
    }
    // SAFETY: the host promises that these bytes are one allocation of exactly this size, all of it written.
    unsafe { Vec::from_raw_parts(pointer as *mut u8, size as usize, size as usize) }
}
