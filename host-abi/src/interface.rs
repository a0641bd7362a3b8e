//! Exports of a module: ABI version, memory, allocator and callbacks. They are looked up once, when a module is loaded.

use crate::abi::calls::AbiVersion;

/// The exports of a module that a VM needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModuleInterface {
    pub(crate) abi: AbiVersion,
    pub(crate) memory: String,
    pub(crate) allocator: &'static str,
    pub(crate) exports: Exports,
}

/// The set of callbacks that a module exports. Work for a missing callback is skipped: the proxy buffers no body for a
/// chain without `proxy_on_request_body`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exports(u32);

macro_rules! exports {
    ($($bit:literal $method:ident $name:literal $(or $other:literal)?,)+) => {
        impl Exports {
            $(
                #[doc = concat!("Returns whether `", $name, "` is exported.")]
                #[must_use]
                pub const fn $method(self) -> bool {
                    self.0 & (1 << $bit) != 0
                }
            )+

            /// Returns the union with the exports of another module.
            #[must_use]
            pub const fn or(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Returns the exports that are also in `names`.
            pub(crate) fn and<'n>(self, names: impl Iterator<Item = &'n str>) -> Self {
                let mut named = Self::default();
                names.for_each(|name| named.insert(name));
                Self(self.0 & named.0)
            }

            /// Returns the exports that are not in `names`.
            pub(crate) fn without(self, names: &[&str]) -> Self {
                let mut named = Self::default();
                names.iter().for_each(|name| named.insert(name));
                Self(self.0 & !named.0)
            }

            /// Adds a callback; other names have no effect.
            pub(crate) fn insert(&mut self, name: &str) {
                match name {
                    $($name $(| $other)? => self.0 |= 1 << $bit,)+
                    _ => {}
                }
            }
        }
    };
}

exports! {
    0 context_create "proxy_on_context_create",
    1 vm_start "proxy_on_vm_start",
    2 configure "proxy_on_configure",
    3 tick "proxy_on_tick",
    4 queue_ready "proxy_on_queue_ready",
    5 foreign_function "proxy_on_foreign_function",
    6 new_connection "proxy_on_new_connection",
    7 downstream_data "proxy_on_downstream_data",
    8 upstream_data "proxy_on_upstream_data",
    9 downstream_close "proxy_on_downstream_connection_close",
    10 upstream_close "proxy_on_upstream_connection_close",
    11 request_headers "proxy_on_request_headers",
    12 request_body "proxy_on_request_body",
    13 request_trailers "proxy_on_request_trailers",
    14 response_headers "proxy_on_response_headers",
    15 response_body "proxy_on_response_body",
    16 response_trailers "proxy_on_response_trailers",
    17 http_call_response "proxy_on_http_call_response",
    18 grpc_initial_metadata "proxy_on_grpc_receive_initial_metadata",
    19 grpc_receive "proxy_on_grpc_receive",
    20 grpc_trailing_metadata "proxy_on_grpc_receive_trailing_metadata" or "proxy_on_grpc_trailing_metadata",
    21 grpc_close "proxy_on_grpc_close",
    22 done "proxy_on_done",
    23 log "proxy_on_log",
    24 delete "proxy_on_delete",
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::calls::CALLBACKS;

    #[test]
    fn every_callback_in_table_has_one_bit() {
        for callback in CALLBACKS {
            let mut exports = Exports::default();
            exports.insert(callback.name);
            assert_eq!(exports.0.count_ones(), 1, "{}", callback.name);
        }
        let mut exports = Exports::default();
        exports.insert("proxy_on_request_body");
        exports.insert("proxy_unknown");
        assert!(exports.request_body() && !exports.response_body());
    }
}
