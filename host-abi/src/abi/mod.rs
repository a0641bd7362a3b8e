//! The Proxy-Wasm contract itself: numbers, wire formats and the table of calls, without any Wasm engine.
//!
//! Everything above reads these types; nothing here depends on the rest of the crate. Each file promises that a value
//! which exists is valid: numbers from a guest pass a `TryFrom` once and are enums afterwards.

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

/// Declares a fieldless enum with the contract's numbers and its checked conversion from them.
macro_rules! wire_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $number:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$variant_meta])* $variant = $number,)+
        }

        impl $name {
            /// Every value, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The number that stands for this value on the wire.
            #[must_use]
            pub const fn number(self) -> u32 {
                self as u32
            }
        }

        impl TryFrom<u32> for $name {
            type Error = $crate::abi::status::Status;

            /// Reads the contract's number; one that is not in the enum is the guest's `BadArgument`.
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
