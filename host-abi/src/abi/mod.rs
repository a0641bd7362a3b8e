//! The Proxy-Wasm ABI: numbers, wire formats and the table of calls, without any Wasm engine.
//!
//! The rest of the crate uses these types; nothing here depends on the rest of the crate. A value of each type is
//! always valid: numbers from a guest pass through a `TryFrom` once and are enums afterwards.

pub mod action;
pub mod buffer;
pub mod calls;
pub mod context;
pub mod log;
pub mod map;
pub mod metric;
pub mod pairs;
pub mod property;
pub mod protobuf;
pub mod status;
pub mod stream;

/// Declares a fieldless enum with the ABI's numbers and a checked conversion from them.
macro_rules! wire_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $number:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$variant_meta])* $variant = $number,)+
        }

        impl $name {
            /// All values, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the ABI's number of this value.
            #[must_use]
            pub const fn number(self) -> u32 {
                self as u32
            }
        }

        impl TryFrom<u32> for $name {
            type Error = $crate::abi::status::Status;

            /// Converts the ABI's number. An unknown number is the guest's `BadArgument`.
            fn try_from(number: u32) -> Result<Self, $crate::abi::status::Status> {
                match number {
                    $($number => Ok(Self::$variant),)+
                    _ => Err($crate::abi::status::Status::BadArgument),
                }
            }
        }
    };
}
pub(crate) use wire_enum;
