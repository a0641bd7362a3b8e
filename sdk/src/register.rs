//! The one macro.

/// Makes a type that implements [`HttpFilter`](crate::HttpFilter) the filter of this module. Write it once, in the
/// `lib.rs` of a `cdylib`.
#[macro_export]
macro_rules! register {
    ($filter:ty) => {
        const _: () = {
            $crate::proxy_wasm::main! {{ $crate::dispatch::start::<$filter>() }}
        };
    };
}
