//! Exports that the host needs of every guest: the ABI version and an allocator.

use std::mem::ManuallyDrop;

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

/// Allocates memory that the host fills. [`take`] takes its ownership.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    ManuallyDrop::new(Vec::with_capacity(size)).as_mut_ptr()
}

/// Takes ownership of bytes that the host wrote to memory from [`proxy_on_memory_allocate`].
pub(crate) fn take(pointer: u32, size: u32) -> Vec<u8> {
    if size == 0 {
        return Vec::new();
    }
    // SAFETY: the bytes are one allocation of exactly this size, and the host has written all of it.
    unsafe { Vec::from_raw_parts(pointer as *mut u8, size as usize, size as usize) }
}
