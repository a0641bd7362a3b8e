//! Two calls of WASI preview 1, which Proxy-Wasm hosts have for other languages: a monotonic clock and random bytes.
//!
//! Proxy-Wasm itself has neither. A host may deny them to a filter (`allow.capabilities`); both return `None` then.

/// The calls.
#[cfg(target_arch = "wasm32")]
mod host {
    #![expect(unsafe_code, reason = "a hostcall is a foreign function")]

    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
        fn random_get(bytes: *mut u8, size: usize) -> u32;
    }

    /// `CLOCK_MONOTONIC` of WASI.
    const MONOTONIC: u32 = 1;

    pub(super) fn monotonic_nanoseconds() -> Option<u64> {
        let mut time = 0;
        // SAFETY: the host writes eight bytes to a local of that size.
        let error = unsafe { clock_time_get(MONOTONIC, 1, &raw mut time) };
        (error == 0).then_some(time)
    }

    pub(super) fn random_bytes() -> Option<[u8; 8]> {
        let mut bytes = [0; 8];
        // SAFETY: the host writes eight bytes to a local of that size.
        let error = unsafe { random_get(bytes.as_mut_ptr(), bytes.len()) };
        (error == 0).then_some(bytes)
    }
}

/// The calls outside wasm32, where there is no host.
#[cfg(not(target_arch = "wasm32"))]
mod host {
    pub(super) fn monotonic_nanoseconds() -> Option<u64> {
        None
    }

    pub(super) fn random_bytes() -> Option<[u8; 8]> {
        None
    }
}

/// Returns the time of the host's monotonic clock (`clock_time_get`).
pub(crate) fn monotonic_nanoseconds() -> Option<u64> {
    host::monotonic_nanoseconds()
}

/// Returns random bytes of the host (`random_get`).
pub(crate) fn random_bytes() -> Option<[u8; 8]> {
    host::random_bytes()
}
