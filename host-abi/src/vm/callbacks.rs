//! `Callbacks`: everything the host may call in a guest, looked up once when a VM starts.

use wasmtime::{Instance, Store};

use crate::entry::{Entry, Returns};
use crate::state::VmState;

/// One export that takes `N` numbers, if the module has it.
#[derive(Clone, Copy)]
pub(super) struct Callback<const N: usize> {
    pub(super) name: &'static str,
    pub(super) entry: Option<Entry<N>>,
}

/// A headers callback in its two forms; the export's type decides which one is filled.
pub(super) struct HeadersCallback {
    pub(super) with_end: Callback<3>,
    /// ABI 0.1.0
    pub(super) without_end: Callback<2>,
}

impl HeadersCallback {
    fn find(instance: &Instance, store: &mut Store<VmState>, name: &'static str) -> Self {
        Self {
            with_end: find(instance, store, name, Returns::Number),
            without_end: find(instance, store, name, Returns::Number),
        }
    }
}

/// Every callback.
pub(super) struct Callbacks {
    pub(super) context_create: Callback<2>,
    pub(super) vm_start: Callback<2>,
    pub(super) configure: Callback<2>,
    pub(super) tick: Callback<1>,
    pub(super) queue_ready: Callback<2>,
    pub(super) foreign_function: Callback<3>,
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
    /// Looks up all callbacks of an instance.
    pub(super) fn find(instance: &Instance, store: &mut Store<VmState>) -> Self {
        let trailing = find(instance, store, "proxy_on_grpc_receive_trailing_metadata", Returns::Nothing);
        let misnamed = find(instance, store, "proxy_on_grpc_trailing_metadata", Returns::Nothing);
        Self {
            context_create: find(instance, store, "proxy_on_context_create", Returns::Nothing),
            vm_start: find(instance, store, "proxy_on_vm_start", Returns::Number),
            configure: find(instance, store, "proxy_on_configure", Returns::Number),
            tick: find(instance, store, "proxy_on_tick", Returns::Nothing),
            queue_ready: find(instance, store, "proxy_on_queue_ready", Returns::Nothing),
            foreign_function: find(instance, store, "proxy_on_foreign_function", Returns::Nothing),
            new_connection: find(instance, store, "proxy_on_new_connection", Returns::Number),
            downstream_data: find(instance, store, "proxy_on_downstream_data", Returns::Number),
            upstream_data: find(instance, store, "proxy_on_upstream_data", Returns::Number),
            downstream_close: find(instance, store, "proxy_on_downstream_connection_close", Returns::Nothing),
            upstream_close: find(instance, store, "proxy_on_upstream_connection_close", Returns::Nothing),
            request_headers: HeadersCallback::find(instance, store, "proxy_on_request_headers"),
            request_body: find(instance, store, "proxy_on_request_body", Returns::Number),
            request_trailers: find(instance, store, "proxy_on_request_trailers", Returns::Number),
            response_headers: HeadersCallback::find(instance, store, "proxy_on_response_headers"),
            response_body: find(instance, store, "proxy_on_response_body", Returns::Number),
            response_trailers: find(instance, store, "proxy_on_response_trailers", Returns::Number),
            http_call_response: find(instance, store, "proxy_on_http_call_response", Returns::Nothing),
            grpc_initial_metadata: find(instance, store, "proxy_on_grpc_receive_initial_metadata", Returns::Nothing),
            grpc_receive: find(instance, store, "proxy_on_grpc_receive", Returns::Nothing),
            grpc_trailing_metadata: if trailing.entry.is_some() { trailing } else { misnamed },
            grpc_close: find(instance, store, "proxy_on_grpc_close", Returns::Nothing),
            done: find(instance, store, "proxy_on_done", Returns::Number),
            log: find(instance, store, "proxy_on_log", Returns::Nothing),
            delete: find(instance, store, "proxy_on_delete", Returns::Nothing),
        }
    }
}

/// A callback of this name and type, if it is exported and allowed.
fn find<const N: usize>(
    instance: &Instance,
    store: &mut Store<VmState>,
    name: &'static str,
    returns: Returns,
) -> Callback<N> {
    match store.data().settings().allows_callback(name) {
        true => find_export(instance, store, name, returns),
        false => Callback { name, entry: None },
    }
}

/// An export of this name and type.
pub(super) fn find_export<const N: usize>(
    instance: &Instance,
    store: &mut Store<VmState>,
    name: &'static str,
    returns: Returns,
) -> Callback<N> {
    Callback { name, entry: Entry::find(instance, store, name, returns) }
}
