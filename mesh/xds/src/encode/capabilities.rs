//! Capabilities in Envoy of a plugin that sees no stream, or only its end. Envoy has no filter of that kind. But it
//! never calls a callback that is missing in `allowed_capabilities`, so these plugins get a list without stream
//! callbacks.

use std::borrow::Cow;
use std::sync::Arc;

use weir_model::{Isolation, Plugin, PluginCapabilities, PluginRole};

/// Every hostcall and callback that does not belong to a stream. A test compares it with the table of `weir-host-abi`.
pub const NON_STREAM_CAPABILITIES: [&str; 103] = [
    "proxy_log",
    "proxy_get_log_level",
    "proxy_get_current_time_nanoseconds",
    "proxy_set_tick_period_milliseconds",
    "proxy_get_configuration",
    "proxy_get_status",
    "proxy_set_effective_context",
    "proxy_done",
    "proxy_call_foreign_function",
    "proxy_get_property",
    "proxy_set_property",
    "proxy_get_header_map_size",
    "proxy_get_header_map_pairs",
    "proxy_set_header_map_pairs",
    "proxy_get_header_map_value",
    "proxy_add_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_remove_header_map_value",
    "proxy_get_buffer_bytes",
    "proxy_get_buffer_status",
    "proxy_set_buffer_bytes",
    "proxy_continue_request",
    "proxy_continue_response",
    "proxy_continue_stream",
    "proxy_close_stream",
    "proxy_clear_route_cache",
    "proxy_send_local_response",
    "proxy_http_call",
    "proxy_grpc_call",
    "proxy_grpc_stream",
    "proxy_grpc_send",
    "proxy_grpc_close",
    "proxy_grpc_cancel",
    "proxy_get_shared_data",
    "proxy_set_shared_data",
    "proxy_register_shared_queue",
    "proxy_resolve_shared_queue",
    "proxy_enqueue_shared_queue",
    "proxy_dequeue_shared_queue",
    "proxy_define_metric",
    "proxy_increment_metric",
    "proxy_record_metric",
    "proxy_get_metric",
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
    "proc_exit",
    "proxy_on_context_create",
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_tick",
    "proxy_on_queue_ready",
    "proxy_on_foreign_function",
    "proxy_on_http_call_response",
    "proxy_on_grpc_receive_initial_metadata",
    "proxy_on_grpc_receive",
    "proxy_on_grpc_receive_trailing_metadata",
    "proxy_on_grpc_close",
    "proxy_on_done",
    "proxy_on_log",
    "proxy_on_delete",
    "proxy_on_grpc_trailing_metadata",
];

/// Returns the plugin for Envoy, with capabilities that hide the streams it must not see.
pub(super) fn restrict_for_envoy(plugin: &Plugin) -> Cow<'_, Plugin> {
    let hidden: &[&str] = match (plugin.isolation, plugin.role) {
        (Isolation::Singleton, _) => &["proxy_on_log"],
        (_, PluginRole::AccessLog) => &[],
        _ => return Cow::Borrowed(plugin),
    };
    let may = |name: &&str| {
        plugin.capabilities.functions.as_ref().is_none_or(|names| names.iter().any(|own| **own == **name))
    };
    let shown = NON_STREAM_CAPABILITIES.iter().copied().filter(|name| !hidden.contains(name)).filter(may);
    let capabilities: Arc<[Arc<str>]> = shown.map(Arc::from).collect();
    let allow = PluginCapabilities {
        functions: Some(capabilities),
        callout_clusters: plugin.capabilities.callout_clusters.clone(),
    };
    Cow::Owned(Plugin { capabilities: allow, ..plugin.clone() })
}
