//! `Callbacks`: typed handles for everything the host may call in a guest, looked up once when a VM starts.

use wasmtime::{Instance, Store, TypedFunc, WasmParams, WasmResults};

use crate::state::VmState;

/// One export, if the module has it.
pub(super) struct Callback<P, R> {
    pub(super) name: &'static str,
    pub(super) function: Option<TypedFunc<P, R>>,
}

type One = u32;
type Two = (u32, u32);
type Three = (u32, u32, u32);
type Five = (u32, u32, u32, u32, u32);

/// A headers callback in its two forms; the export's type decides which one is filled.
pub(super) struct HeadersCallback {
    pub(super) with_end: Callback<Three, u32>,
    /// ABI 0.1.0
    pub(super) without_end: Callback<Two, u32>,
}

impl HeadersCallback {
    fn find(instance: &Instance, store: &mut Store<VmState>, name: &'static str) -> Self {
        Self { with_end: find(instance, store, name), without_end: find(instance, store, name) }
    }
}

/// Every callback.
pub(super) struct Callbacks {
    pub(super) context_create: Callback<Two, ()>,
    pub(super) vm_start: Callback<Two, u32>,
    pub(super) configure: Callback<Two, u32>,
    pub(super) tick: Callback<One, ()>,
    pub(super) queue_ready: Callback<Two, ()>,
    pub(super) foreign_function: Callback<Three, ()>,
    pub(super) new_connection: Callback<One, u32>,
    pub(super) downstream_data: Callback<Three, u32>,
    pub(super) upstream_data: Callback<Three, u32>,
    pub(super) downstream_close: Callback<Two, ()>,
    pub(super) upstream_close: Callback<Two, ()>,
    pub(super) request_headers: HeadersCallback,
    pub(super) request_body: Callback<Three, u32>,
    pub(super) request_trailers: Callback<Two, u32>,
    pub(super) response_headers: HeadersCallback,
    pub(super) response_body: Callback<Three, u32>,
    pub(super) response_trailers: Callback<Two, u32>,
    pub(super) http_call_response: Callback<Five, ()>,
    pub(super) grpc_initial_metadata: Callback<Three, ()>,
    pub(super) grpc_receive: Callback<Three, ()>,
    pub(super) grpc_trailing_metadata: Callback<Three, ()>,
    pub(super) grpc_close: Callback<Three, ()>,
    pub(super) done: Callback<One, u32>,
    pub(super) log: Callback<One, ()>,
    pub(super) delete: Callback<One, ()>,
}

impl Callbacks {
    /// Looks up all callbacks of an instance.
    pub(super) fn find(instance: &Instance, store: &mut Store<VmState>) -> Self {
        let trailing = find(instance, store, "proxy_on_grpc_receive_trailing_metadata");
        let misnamed = find(instance, store, "proxy_on_grpc_trailing_metadata");
        Self {
            context_create: find(instance, store, "proxy_on_context_create"),
            vm_start: find(instance, store, "proxy_on_vm_start"),
            configure: find(instance, store, "proxy_on_configure"),
            tick: find(instance, store, "proxy_on_tick"),
            queue_ready: find(instance, store, "proxy_on_queue_ready"),
            foreign_function: find(instance, store, "proxy_on_foreign_function"),
            new_connection: find(instance, store, "proxy_on_new_connection"),
            downstream_data: find(instance, store, "proxy_on_downstream_data"),
            upstream_data: find(instance, store, "proxy_on_upstream_data"),
            downstream_close: find(instance, store, "proxy_on_downstream_connection_close"),
            upstream_close: find(instance, store, "proxy_on_upstream_connection_close"),
            request_headers: HeadersCallback::find(instance, store, "proxy_on_request_headers"),
            request_body: find(instance, store, "proxy_on_request_body"),
            request_trailers: find(instance, store, "proxy_on_request_trailers"),
            response_headers: HeadersCallback::find(instance, store, "proxy_on_response_headers"),
            response_body: find(instance, store, "proxy_on_response_body"),
            response_trailers: find(instance, store, "proxy_on_response_trailers"),
            http_call_response: find(instance, store, "proxy_on_http_call_response"),
            grpc_initial_metadata: find(instance, store, "proxy_on_grpc_receive_initial_metadata"),
            grpc_receive: find(instance, store, "proxy_on_grpc_receive"),
            grpc_trailing_metadata: if trailing.function.is_some() { trailing } else { misnamed },
            grpc_close: find(instance, store, "proxy_on_grpc_close"),
            done: find(instance, store, "proxy_on_done"),
            log: find(instance, store, "proxy_on_log"),
            delete: find(instance, store, "proxy_on_delete"),
        }
    }
}

/// A callback of this name and type, if it is exported and allowed.
fn find<P: WasmParams, R: WasmResults>(
    instance: &Instance,
    store: &mut Store<VmState>,
    name: &'static str,
) -> Callback<P, R> {
    match store.data().settings().allows_callback(name) {
        true => find_export(instance, store, name),
        false => Callback { name, function: None },
    }
}

/// An export of this name and type; another type is as good as none here (the module check has refused wrong ones).
pub(super) fn find_export<P: WasmParams, R: WasmResults>(
    instance: &Instance,
    store: &mut Store<VmState>,
    name: &'static str,
) -> Callback<P, R> {
    let function = instance.get_func(&mut *store, name).and_then(|function| function.typed(&*store).ok());
    Callback { name, function }
}
