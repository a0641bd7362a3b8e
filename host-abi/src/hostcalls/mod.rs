//! The hostcalls of module `env`. Each file decodes the arguments of some calls, calls the [`crate::host::Host`], and
//! encodes the result. `module/link.rs` links them by name; [`crate::abi::calls`] has the table of names and
//! signatures.
//!
//! ```text
//! guest ──(numbers)──► function.rs ──► headers.rs, ... ──(typed)──► Host
//!   ▲                                      │
//!   └── result in guest memory ◄── context.rs ◄─┘      one guest allocation of the exact size, one copy
//! ```

pub(crate) mod function;

mod buffers;
mod callouts;
mod foreign;
mod headers;
mod metrics;
mod properties;
mod shared_data;
mod shared_queue;
mod streams;
mod system;
mod toolchain;

pub(crate) mod context;

use function::HostFunction;

/// Returns the implementation of an `env` hostcall.
pub(crate) fn host_function(name: &str) -> Option<HostFunction> {
    use HostFunction as I;
    Some(match name {
        "proxy_log" => I::A3(system::log),
        "proxy_get_log_level" => I::A1(system::log_level),
        "proxy_get_current_time_nanoseconds" => I::A1(system::current_time),
        "proxy_set_tick_period_milliseconds" => I::A1(system::set_tick_period),
        "proxy_get_configuration" => I::A2(buffers::configuration),
        "proxy_get_status" => I::A3(callouts::status),
        "proxy_set_effective_context" => I::A1(system::set_effective_context),
        "proxy_done" => I::A0(system::done),
        "proxy_call_foreign_function" => I::A6(foreign::call_function),
        "proxy_get_property" => I::A4(properties::property),
        "proxy_set_property" => I::A4(properties::set_property),
        "proxy_get_header_map_size" => I::A2(headers::size),
        "proxy_get_header_map_pairs" => I::A3(headers::pairs),
        "proxy_set_header_map_pairs" => I::A3(headers::set_pairs),
        "proxy_get_header_map_value" => I::A5(headers::value),
        "proxy_add_header_map_value" => I::A5(headers::add),
        "proxy_replace_header_map_value" => I::A5(headers::replace),
        "proxy_remove_header_map_value" => I::A3(headers::remove),
        "proxy_get_buffer_bytes" => I::A5(buffers::bytes),
        "proxy_get_buffer_status" => I::A3(buffers::status),
        "proxy_set_buffer_bytes" => I::A5(buffers::set_bytes),
        "proxy_continue_request" => I::A0(streams::continue_request),
        "proxy_continue_response" => I::A0(streams::continue_response),
        "proxy_continue_stream" => I::A1(streams::continue_stream),
        "proxy_close_stream" => I::A1(streams::close_stream),
        "proxy_clear_route_cache" => I::A0(streams::clear_route_cache),
        "proxy_send_local_response" => I::A8(streams::send_local_reply),
        "proxy_http_call" => I::A10(callouts::http_call),
        "proxy_grpc_call" => I::A12(callouts::grpc_call),
        "proxy_grpc_stream" => I::A9(callouts::grpc_stream),
        "proxy_grpc_send" => I::A4(callouts::grpc_send),
        "proxy_grpc_close" => I::A1(callouts::grpc_close),
        "proxy_grpc_cancel" => I::A1(callouts::grpc_cancel),
        "proxy_get_shared_data" => I::A5(shared_data::value),
        "proxy_set_shared_data" => I::A5(shared_data::set_value),
        "proxy_register_shared_queue" => I::A3(shared_queue::register),
        "proxy_resolve_shared_queue" => I::A5(shared_queue::resolve),
        "proxy_enqueue_shared_queue" => I::A3(shared_queue::enqueue),
        "proxy_dequeue_shared_queue" => I::A3(shared_queue::dequeue),
        "proxy_define_metric" => I::A4(metrics::define),
        "proxy_increment_metric" => I::Metric(metrics::increment),
        "proxy_record_metric" => I::Metric(metrics::record),
        "proxy_get_metric" => I::A2(metrics::value),
        "emscripten_notify_memory_growth" => I::A1(toolchain::memory_grew),
        "pthread_equal" => I::A2(toolchain::thread_equal),
        "abort" => I::A4(toolchain::abort),
        "seed" => I::Seed(toolchain::seed),
        _ => return None,
    })
}
