//! The macro that registers a filter.

/// Registers a type that implements [`HttpFilter`](crate::HttpFilter) as the filter of this module. Call it once, in
/// the `lib.rs` of a `cdylib`.
///
/// The allocator of the module is [`SizeClassAllocator`](crate::memory::SizeClassAllocator). A filter with another
/// allocator writes `register!(Stamp, own allocator)`.
#[macro_export]
macro_rules! register {
    ($filter:ty) => {
        $crate::register!($filter, own allocator);
        const _: () = {
            #[cfg(target_arch = "wasm32")]
            #[global_allocator]
            static ALLOCATOR: $crate::memory::SizeClassAllocator = $crate::memory::SizeClassAllocator::new();
        };
    };
    ($filter:ty, own allocator) => {
        const _: () = {
            $crate::proxy_wasm::main! {{ $crate::dispatch::start::<$filter>() }}
        };
    };
}
