//! The one macro.

/// Makes a type that implements [`HttpFilter`](crate::HttpFilter) the filter of this module. Write it once, in the
/// `lib.rs` of a `cdylib`.
///
/// The module gets [`SmallBlocks`](crate::memory::SmallBlocks) as its allocator. A filter that has one of its own says
/// `register!(Stamp, own allocator)`.
#[macro_export]
macro_rules! register {
    ($filter:ty) => {
        $crate::register!($filter, own allocator);
        const _: () = {
            #[cfg(target_arch = "wasm32")]
            #[global_allocator]
            static ALLOCATOR: $crate::memory::SmallBlocks = $crate::memory::SmallBlocks::new();
        };
    };
    ($filter:ty, own allocator) => {
        const _: () = {
            $crate::proxy_wasm::main! {{ $crate::dispatch::start::<$filter>() }}
        };
    };
}
