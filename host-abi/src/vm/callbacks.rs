//! `Callbacks`: the guest's callbacks, looked up once when a VM starts.

use wasmtime::{Instance, Store};

use crate::guest_function::{GuestFunction, ReturnType};
use crate::vm_state::VmState;

/// A callback with `N` parameters, and its export if the module has it.
#[derive(Clone, Copy)]
pub(super) struct Callback<const N: usize> {
    pub(super) name: &'static str,
    pub(super) function: Option<GuestFunction<N>>,
}

/// A callback that the module exports.
#[derive(Clone, Copy)]
pub(super) struct ExportedCallback<const N: usize> {
    pub(super) name: &'static str,
    pub(super) function: GuestFunction<N>,
}

impl<const N: usize> Callback<N> {
    /// Returns the exported callback; `None` if the module does not export it.
    pub(super) fn exported(self) -> Option<ExportedCallback<N>> {
        Some(ExportedCallback { name: self.name, function: self.function? })
    }
}

/// A headers callback in its two forms. The export's type determines which one is set.
pub(super) struct HeadersCallback {
    pub(super) with_end: Callback<3>,
    /// The form of ABI 0.1.0.
    pub(super) without_end: Callback<2>,
}

impl HeadersCallback {
    fn find(instance: &Instance, store: &mut Store<VmState>, name: &'static str) -> Self {
        Self {
            with_end: find(instance, store, name, ReturnType::Number),
            without_end: find(instance, store, name, ReturnType::Number),
        }
    }
}

/// All callbacks of a guest.
pub(super) struct Callbacks {
    pub(super) context_create: Callback<2>,
    pub(super) vm_start: Callback<2>,
    pub(super) configure: Callback<2>,
    pub(super) tick: Callback<1>,
    pub(super) queue_ready: Callback<2>,
    pub(super) new_connection: Callback<1>,
    pub(super) downstream_data: Callback<3>,
    pub(super) upstream_data: Callback<3>,
    pub(super) downstream_close: Callback<2>,
    pub(super) upstream_close: Callback<2>,
    pub(super) request_headers: HeadersCallback,
    pub(super) request_body: Callback<3>,
    pub(super) request_trailers: Callback<2>,
    pub(super) response_headers: HeadersCallback,
    pub(super) response_body: Callback<3>,
    pub(super) response_trailers: Callback<2>,
    pub(super) http_call_response: Callback<5>,
    pub(super) grpc_initial_metadata: Callback<3>,
    pub(super) grpc_receive: Callback<3>,
    pub(super) grpc_trailing_metadata: Callback<3>,
    pub(super) grpc_close: Callback<3>,
    pub(super) done: Callback<1>,
    pub(super) log: Callback<1>,
    pub(super) delete: Callback<1>,
}

impl Callbacks {
    /// Looks up the callbacks of an instance.
    pub(super) fn find(instance: &Instance, store: &mut Store<VmState>) -> Self {
        let trailing = find(instance, store, "proxy_on_grpc_receive_trailing_metadata", ReturnType::Nothing);
        let misnamed = find(instance, store, "proxy_on_grpc_trailing_metadata", ReturnType::Nothing);
        Self {
            context_create: find(instance, store, "proxy_on_context_create", ReturnType::Nothing),
            vm_start: find(instance, store, "proxy_on_vm_start", ReturnType::Number),
            configure: find(instance, store, "proxy_on_configure", ReturnType::Number),
            tick: find(instance, store, "proxy_on_tick", ReturnType::Nothing),
            queue_ready: find(instance, store, "proxy_on_queue_ready", ReturnType::Nothing),
            new_connection: find(instance, store, "proxy_on_new_connection", ReturnType::Number),
            downstream_data: find(instance, store, "proxy_on_downstream_data", ReturnType::Number),
            upstream_data: find(instance, store, "proxy_on_upstream_data", ReturnType::Number),
            downstream_close: find(instance, store, "proxy_on_downstream_connection_close", ReturnType::Nothing),
            upstream_close: find(instance, store, "proxy_on_upstream_connection_close", ReturnType::Nothing),
            request_headers: HeadersCallback::find(instance, store, "proxy_on_request_headers"),
            request_body: find(instance, store, "proxy_on_request_body", ReturnType::Number),
            request_trailers: find(instance, store, "proxy_on_request_trailers", ReturnType::Number),
            response_headers: HeadersCallback::find(instance, store, "proxy_on_response_headers"),
            response_body: find(instance, store, "proxy_on_response_body", ReturnType::Number),
            response_trailers: find(instance, store, "proxy_on_response_trailers", ReturnType::Number),
            http_call_response: find(instance, store, "proxy_on_http_call_response", ReturnType::Nothing),
            grpc_initial_metadata: find(instance, store, "proxy_on_grpc_receive_initial_metadata", ReturnType::Nothing),
            grpc_receive: find(instance, store, "proxy_on_grpc_receive", ReturnType::Nothing),
            grpc_trailing_metadata: if trailing.function.is_some() { trailing } else { misnamed },
            grpc_close: find(instance, store, "proxy_on_grpc_close", ReturnType::Nothing),
            done: find(instance, store, "proxy_on_done", ReturnType::Number),
            log: find(instance, store, "proxy_on_log", ReturnType::Nothing),
            delete: find(instance, store, "proxy_on_delete", ReturnType::Nothing),
        }
    }
}

/// Looks up a callback, unless the settings do not allow it.
fn find<const N: usize>(
    instance: &Instance,
    store: &mut Store<VmState>,
    name: &'static str,
    returns: ReturnType,
) -> Callback<N> {
    match store.data().settings().allows_callback(name) {
        true => find_export(instance, store, name, returns),
        false => Callback { name, function: None },
    }
}

/// Looks up an export by name and type.
pub(super) fn find_export<const N: usize>(
    instance: &Instance,
    store: &mut Store<VmState>,
    name: &'static str,
    returns: ReturnType,
) -> Callback<N> {
    Callback { name, function: GuestFunction::find(instance, store, name, returns) }
}
