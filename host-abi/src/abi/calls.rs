//! The table of all hostcalls (guest to host) and callbacks (host to guest).
//!
//! The linker registers every import from this table, the module check compares exports with it, and the tests cover it
//! row by row. A row without an implementation, or an implementation without a row, fails a test. The signatures are
//! those of ABI 0.1.0, 0.2.0 and 0.2.1 and of WASI preview 1. Modules of any version can import all of them, because
//! guests mix versions.

/// A value type of hostcalls and callbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// A 32-bit integer; also pointers, lengths, enums and booleans.
    I32,
    /// A 64-bit integer.
    I64,
    /// A 32-bit floating-point number (not used by any canonical call).
    F32,
    /// A 64-bit floating-point number.
    F64,
}

/// A version of the Proxy-Wasm ABI. A module declares it by an exported marker function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AbiVersion {
    /// `proxy_abi_version_0_1_0`
    V0_1_0,
    /// `proxy_abi_version_0_2_0`
    V0_2_0,
    /// `proxy_abi_version_0_2_1`
    V0_2_1,
}

impl std::fmt::Display for AbiVersion {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_2_1 => "0.2.1",
        })
    }
}

impl AbiVersion {
    /// All versions, oldest first.
    pub const ALL: &'static [Self] = &[Self::V0_1_0, Self::V0_2_0, Self::V0_2_1];

    /// Returns the name of the marker export of the version.
    #[must_use]
    pub const fn marker(self) -> &'static str {
        match self {
            Self::V0_1_0 => "proxy_abi_version_0_1_0",
            Self::V0_2_0 => "proxy_abi_version_0_2_0",
            Self::V0_2_1 => "proxy_abi_version_0_2_1",
        }
    }
}

/// The module that a hostcall is imported from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImportModule {
    /// Module name `env`: Proxy-Wasm, and additions of toolchains.
    Env,
    /// Module names `wasi_snapshot_preview1` and `wasi_unstable`.
    Wasi,
}

impl ImportModule {
    /// Returns the import module with this name; `None` if the host has none.
    #[must_use]
    pub fn from_module_name(name: &str) -> Option<Self> {
        match name {
            "env" => Some(Self::Env),
            "wasi_snapshot_preview1" | "wasi_unstable" => Some(Self::Wasi),
            _ => None,
        }
    }
}

/// The phase in which a hostcall is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AllowedPhase {
    /// Always, also while the module initializes or its allocator runs.
    Always,
    /// Only from a callback. Otherwise the call returns `InternalFailure` and is logged.
    Callback,
}

/// A function that guests import.
#[derive(Debug, Clone, Copy)]
pub struct HostcallSpec {
    /// The module it is imported from.
    pub import_module: ImportModule,
    /// Name of the import.
    pub name: &'static str,
    /// Parameter types.
    pub params: &'static [ValueType],
    /// Result type: a status (`env`), an error number (WASI), or nothing.
    pub result: Option<ValueType>,
    /// The ABI versions that specify it.
    pub versions: &'static [AbiVersion],
    /// The phase in which it is allowed.
    pub allowed_phase: AllowedPhase,
}

/// A function that guests export.
#[derive(Debug, Clone, Copy)]
pub struct CallbackSpec {
    /// Name of the export.
    pub name: &'static str,
    /// Parameter types; some callbacks have two forms.
    pub params: &'static [&'static [ValueType]],
    /// Result type: an action, a boolean, or nothing.
    pub result: Option<ValueType>,
    /// The ABI versions that specify it.
    pub versions: &'static [AbiVersion],
}

use ValueType::{F64, I32, I64};

const ALL: &[AbiVersion] = AbiVersion::ALL;
const V0_1_0: &[AbiVersion] = &[AbiVersion::V0_1_0];
const V0_2: &[AbiVersion] = &[AbiVersion::V0_2_0, AbiVersion::V0_2_1];
const V0_2_1: &[AbiVersion] = &[AbiVersion::V0_2_1];

const fn env(name: &'static str, params: &'static [ValueType], versions: &'static [AbiVersion]) -> HostcallSpec {
    HostcallSpec {
        import_module: ImportModule::Env,
        name,
        params,
        result: Some(I32),
        versions,
        allowed_phase: AllowedPhase::Callback,
    }
}

const fn early(name: &'static str, params: &'static [ValueType], versions: &'static [AbiVersion]) -> HostcallSpec {
    HostcallSpec { allowed_phase: AllowedPhase::Always, ..env(name, params, versions) }
}

const fn toolchain(name: &'static str, params: &'static [ValueType], result: Option<ValueType>) -> HostcallSpec {
    HostcallSpec {
        import_module: ImportModule::Env,
        name,
        params,
        result,
        versions: ALL,
        allowed_phase: AllowedPhase::Always,
    }
}

const fn wasi(name: &'static str, params: &'static [ValueType]) -> HostcallSpec {
    HostcallSpec {
        import_module: ImportModule::Wasi,
        name,
        params,
        result: Some(I32),
        versions: ALL,
        allowed_phase: AllowedPhase::Always,
    }
}

const fn callback(
    name: &'static str,
    params: &'static [&'static [ValueType]],
    result: Option<ValueType>,
    versions: &'static [AbiVersion],
) -> CallbackSpec {
    CallbackSpec { name, params, result, versions }
}

/// All hostcalls.
pub const HOSTCALLS: &[HostcallSpec] = &[
    // Integration.
    early("proxy_log", &[I32, I32, I32], ALL),
    early("proxy_get_log_level", &[I32], V0_2_1),
    early("proxy_get_current_time_nanoseconds", &[I32], ALL),
    env("proxy_set_tick_period_milliseconds", &[I32], ALL),
    env("proxy_get_configuration", &[I32, I32], V0_1_0),
    env("proxy_get_status", &[I32, I32, I32], ALL),
    env("proxy_set_effective_context", &[I32], ALL),
    env("proxy_done", &[], ALL),
    env("proxy_call_foreign_function", &[I32, I32, I32, I32, I32, I32], ALL),
    // Properties.
    env("proxy_get_property", &[I32, I32, I32, I32], ALL),
    env("proxy_set_property", &[I32, I32, I32, I32], ALL),
    // Header maps.
    env("proxy_get_header_map_size", &[I32, I32], ALL),
    env("proxy_get_header_map_pairs", &[I32, I32, I32], ALL),
    env("proxy_set_header_map_pairs", &[I32, I32, I32], ALL),
    env("proxy_get_header_map_value", &[I32, I32, I32, I32, I32], ALL),
    env("proxy_add_header_map_value", &[I32, I32, I32, I32, I32], ALL),
    env("proxy_replace_header_map_value", &[I32, I32, I32, I32, I32], ALL),
    env("proxy_remove_header_map_value", &[I32, I32, I32], ALL),
    // Buffers.
    env("proxy_get_buffer_bytes", &[I32, I32, I32, I32, I32], ALL),
    env("proxy_get_buffer_status", &[I32, I32, I32], ALL),
    env("proxy_set_buffer_bytes", &[I32, I32, I32, I32, I32], ALL),
    // Streams.
    env("proxy_continue_request", &[], V0_1_0),
    env("proxy_continue_response", &[], V0_1_0),
    env("proxy_continue_stream", &[I32], V0_2),
    env("proxy_close_stream", &[I32], V0_2),
    env("proxy_clear_route_cache", &[], V0_1_0),
    env("proxy_send_local_response", &[I32, I32, I32, I32, I32, I32, I32, I32], ALL),
    // Callouts.
    env("proxy_http_call", &[I32, I32, I32, I32, I32, I32, I32, I32, I32, I32], ALL),
    env("proxy_grpc_call", &[I32, I32, I32, I32, I32, I32, I32, I32, I32, I32, I32, I32], ALL),
    env("proxy_grpc_stream", &[I32, I32, I32, I32, I32, I32, I32, I32, I32], ALL),
    env("proxy_grpc_send", &[I32, I32, I32, I32], ALL),
    env("proxy_grpc_close", &[I32], ALL),
    env("proxy_grpc_cancel", &[I32], ALL),
    // Shared state.
    env("proxy_get_shared_data", &[I32, I32, I32, I32, I32], ALL),
    env("proxy_set_shared_data", &[I32, I32, I32, I32, I32], ALL),
    env("proxy_register_shared_queue", &[I32, I32, I32], ALL),
    env("proxy_resolve_shared_queue", &[I32, I32, I32, I32, I32], ALL),
    env("proxy_enqueue_shared_queue", &[I32, I32, I32], ALL),
    env("proxy_dequeue_shared_queue", &[I32, I32, I32], ALL),
    // Metrics.
    env("proxy_define_metric", &[I32, I32, I32, I32], ALL),
    env("proxy_increment_metric", &[I32, I64], ALL),
    env("proxy_record_metric", &[I32, I64], ALL),
    env("proxy_get_metric", &[I32, I32], ALL),
    // Not in the specification, but imported by toolchains.
    toolchain("emscripten_notify_memory_growth", &[I32], None),
    toolchain("pthread_equal", &[I32, I32], Some(I32)),
    toolchain("abort", &[I32, I32, I32, I32], None),
    toolchain("seed", &[], Some(F64)),
    // WASI preview 1.
    wasi("args_get", &[I32, I32]),
    wasi("args_sizes_get", &[I32, I32]),
    wasi("clock_res_get", &[I32, I32]),
    wasi("clock_time_get", &[I32, I64, I32]),
    wasi("environ_get", &[I32, I32]),
    wasi("environ_sizes_get", &[I32, I32]),
    wasi("fd_advise", &[I32, I64, I64, I32]),
    wasi("fd_allocate", &[I32, I64, I64]),
    wasi("fd_close", &[I32]),
    wasi("fd_datasync", &[I32]),
    wasi("fd_fdstat_get", &[I32, I32]),
    wasi("fd_fdstat_set_flags", &[I32, I32]),
    wasi("fd_fdstat_set_rights", &[I32, I64, I64]),
    wasi("fd_filestat_get", &[I32, I32]),
    wasi("fd_filestat_set_size", &[I32, I64]),
    wasi("fd_filestat_set_times", &[I32, I64, I64, I32]),
    wasi("fd_pread", &[I32, I32, I32, I64, I32]),
    wasi("fd_prestat_dir_name", &[I32, I32, I32]),
    wasi("fd_prestat_get", &[I32, I32]),
    wasi("fd_pwrite", &[I32, I32, I32, I64, I32]),
    wasi("fd_read", &[I32, I32, I32, I32]),
    wasi("fd_readdir", &[I32, I32, I32, I64, I32]),
    wasi("fd_renumber", &[I32, I32]),
    wasi("fd_seek", &[I32, I64, I32, I32]),
    wasi("fd_sync", &[I32]),
    wasi("fd_tell", &[I32, I32]),
    wasi("fd_write", &[I32, I32, I32, I32]),
    wasi("path_create_directory", &[I32, I32, I32]),
    wasi("path_filestat_get", &[I32, I32, I32, I32, I32]),
    wasi("path_filestat_set_times", &[I32, I32, I32, I32, I64, I64, I32]),
    wasi("path_link", &[I32, I32, I32, I32, I32, I32, I32]),
    wasi("path_open", &[I32, I32, I32, I32, I32, I64, I64, I32, I32]),
    wasi("path_readlink", &[I32, I32, I32, I32, I32, I32]),
    wasi("path_remove_directory", &[I32, I32, I32]),
    wasi("path_rename", &[I32, I32, I32, I32, I32, I32]),
    wasi("path_symlink", &[I32, I32, I32, I32, I32]),
    wasi("path_unlink_file", &[I32, I32, I32]),
    wasi("poll_oneoff", &[I32, I32, I32, I32]),
    HostcallSpec { result: None, ..wasi("proc_exit", &[I32]) },
    wasi("proc_raise", &[I32]),
    wasi("random_get", &[I32, I32]),
    wasi("sched_yield", &[]),
    wasi("sock_accept", &[I32, I32, I32]),
    wasi("sock_recv", &[I32, I32, I32, I32, I32, I32]),
    wasi("sock_send", &[I32, I32, I32, I32, I32]),
    wasi("sock_shutdown", &[I32, I32]),
];

/// All callbacks.
pub const CALLBACKS: &[CallbackSpec] = &[
    callback("proxy_on_context_create", &[&[I32, I32]], None, ALL),
    callback("proxy_on_vm_start", &[&[I32, I32]], Some(I32), ALL),
    callback("proxy_on_configure", &[&[I32, I32]], Some(I32), ALL),
    callback("proxy_on_tick", &[&[I32]], None, ALL),
    callback("proxy_on_queue_ready", &[&[I32, I32]], None, ALL),
    callback("proxy_on_foreign_function", &[&[I32, I32, I32]], None, V0_2),
    callback("proxy_on_new_connection", &[&[I32]], Some(I32), ALL),
    callback("proxy_on_downstream_data", &[&[I32, I32, I32]], Some(I32), ALL),
    callback("proxy_on_upstream_data", &[&[I32, I32, I32]], Some(I32), ALL),
    callback("proxy_on_downstream_connection_close", &[&[I32, I32]], None, ALL),
    callback("proxy_on_upstream_connection_close", &[&[I32, I32]], None, ALL),
    callback("proxy_on_request_headers", &[&[I32, I32, I32], &[I32, I32]], Some(I32), ALL),
    callback("proxy_on_request_body", &[&[I32, I32, I32]], Some(I32), ALL),
    callback("proxy_on_request_trailers", &[&[I32, I32]], Some(I32), ALL),
    callback("proxy_on_response_headers", &[&[I32, I32, I32], &[I32, I32]], Some(I32), ALL),
    callback("proxy_on_response_body", &[&[I32, I32, I32]], Some(I32), ALL),
    callback("proxy_on_response_trailers", &[&[I32, I32]], Some(I32), ALL),
    callback("proxy_on_http_call_response", &[&[I32, I32, I32, I32, I32]], None, ALL),
    callback("proxy_on_grpc_receive_initial_metadata", &[&[I32, I32, I32]], None, ALL),
    callback("proxy_on_grpc_receive", &[&[I32, I32, I32]], None, ALL),
    callback("proxy_on_grpc_receive_trailing_metadata", &[&[I32, I32, I32]], None, ALL),
    callback("proxy_on_grpc_close", &[&[I32, I32, I32]], None, ALL),
    callback("proxy_on_done", &[&[I32]], Some(I32), ALL),
    callback("proxy_on_log", &[&[I32]], None, ALL),
    callback("proxy_on_delete", &[&[I32]], None, ALL),
    // One SDK misnames `proxy_on_grpc_receive_trailing_metadata`; both are accepted.
    callback("proxy_on_grpc_trailing_metadata", &[&[I32, I32, I32]], None, ALL),
];

/// The callbacks of a live stream or connection.
pub const STREAM_CALLBACKS: &[&str] = &[
    "proxy_on_new_connection",
    "proxy_on_downstream_data",
    "proxy_on_upstream_data",
    "proxy_on_downstream_connection_close",
    "proxy_on_upstream_connection_close",
    "proxy_on_request_headers",
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_response_headers",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
];

/// Exported allocators of guests, in order of preference. Their only form is `(size) -> pointer`.
pub const ALLOCATORS: &[&str] = &["proxy_on_memory_allocate", "malloc"];

/// Returns the hostcall with this module name and import name.
#[must_use]
pub fn hostcall(module_name: &str, name: &str) -> Option<&'static HostcallSpec> {
    let library = ImportModule::from_module_name(module_name)?;
    HOSTCALLS.iter().find(|hostcall| hostcall.import_module == library && hostcall.name == name)
}

/// Returns the callback with this export name.
#[must_use]
pub fn callback_named(name: &str) -> Option<&'static CallbackSpec> {
    CALLBACKS.iter().find(|callback| callback.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        let names: HashSet<_> = HOSTCALLS.iter().map(|hostcall| (hostcall.import_module, hostcall.name)).collect();
        assert_eq!(names.len(), HOSTCALLS.len());
        for module in ["env", "wasi_snapshot_preview1", "wasi_unstable"] {
            let library = ImportModule::from_module_name(module);
            for row in HOSTCALLS.iter().filter(|row| Some(row.import_module) == library) {
                assert_eq!(hostcall(module, row.name).map(|found| found.name), Some(row.name));
            }
        }
        assert!(hostcall("env", "fd_write").is_none());
        let names: HashSet<_> = CALLBACKS.iter().map(|callback| callback.name).collect();
        assert_eq!(names.len(), CALLBACKS.len());
    }

    #[test]
    fn proxy_hostcalls_return_a_status() {
        for row in HOSTCALLS.iter().filter(|row| row.name.starts_with("proxy_")) {
            assert_eq!(row.result, Some(I32), "{}", row.name);
        }
    }
}
