//! Encodes a plugin as Envoy's Wasm filter. For `weir-proxy` it is wrapped in `weir.v1.Plugin`, which adds limits.

use weir_model::{FailurePolicy, HeaderPause, Isolation, Plugin, PluginRole, RemoteModule, VmConfig};

use super::{bool_value, capabilities, duration};
use crate::client_type::{ClientType, EncodeOptions};
use crate::proto::{self, Wasm, core, pack, protobuf, wasm};

/// Time after which Envoy abandons fetching a module.
const FETCH_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// Encodes a plugin. Its module is a URL and a hash, by which clients cache it.
pub(crate) fn plugin(
    plugin: &Plugin,
    module: &RemoteModule,
    options: &EncodeOptions<'_>,
) -> core::TypedExtensionConfig {
    let filter = |plugin: &Plugin, cluster| Wasm { config: Some(configuration(plugin, module, cluster)) };
    let typed = match options.client_type {
        ClientType::Weir => pack(&with_limits(plugin, filter(plugin, String::new()))),
        ClientType::Envoy | ClientType::Grpc => {
            pack(&filter(&capabilities::restrict_for_envoy(plugin), options.module_cluster.to_string()))
        }
    };
    core::TypedExtensionConfig { name: plugin.name.to_string(), typed_config: Some(typed) }
}

fn kind_bits(plugin: &Plugin) -> u32 {
    let sight = if plugin.role == PluginRole::AccessLog { proto::KIND_LOG_ONLY } else { 0 };
    let isolation = if plugin.isolation == Isolation::Singleton { proto::KIND_SINGLETON } else { 0 };
    sight + isolation
}

/// Wraps Envoy's filter in `weir.v1.Plugin`.
fn with_limits(plugin: &Plugin, filter: Wasm) -> proto::Plugin {
    let limits = &plugin.limits;
    let names = |services: &std::sync::Arc<[std::sync::Arc<str>]>| proto::Names {
        names: services.iter().map(ToString::to_string).collect(),
    };
    proto::Plugin {
        wasm: Some(filter),
        memory_bytes: limits.memory.0,
        call_time: Some(duration(limits.call_time)),
        start_time: Some(duration(limits.start_time)),
        cpu_per_second: Some(duration(limits.cpu_per_second)),
        table_elements: Some(limits.table_elements),
        log_bytes_per_second: Some(limits.log_per_second.0),
        head_bytes: Some(limits.head.0),
        body_bytes: Some(limits.body.0),
        callouts: Some(limits.callouts),
        shared_data_bytes: Some(limits.shared_data.0),
        metrics: Some(limits.metrics),
        vm_for_each_stream: plugin.isolation == Isolation::Stream,
        kind: kind_bits(plugin),
        services: plugin.capabilities.callout_clusters.as_ref().map(names),
        recycle_requests: plugin.recycling.requests,
        recycle_age: plugin.recycling.age.map(duration),
        recycle_memory_bytes: plugin.recycling.memory.map(|memory| memory.0),
        cluster_aliases: plugin
            .cluster_aliases
            .iter()
            .map(|(alias, cluster)| (alias.to_string(), cluster.to_string()))
            .collect(),
    }
}

pub(super) fn configuration(plugin: &Plugin, module: &RemoteModule, cluster: String) -> wasm::PluginConfig {
    let uri = core::HttpUri {
        uri: module.url.to_string(),
        timeout: Some(duration(FETCH_TIMEOUT)),
        http_upstream_type: Some(core::http_uri::HttpUpstreamType::Cluster(cluster)),
    };
    let remote = core::RemoteDataSource { http_uri: Some(uri), sha256: module.sha256.to_string(), retry_policy: None };
    let code = core::AsyncDataSource { specifier: Some(core::async_data_source::Specifier::Remote(remote)) };
    let bytes = |bytes: &[u8]| pack(&protobuf::BytesValue { value: bytes.to_vec() });
    let VmConfig { id: _, configuration: vm_configuration, environment } = &plugin.vm;
    let variables = environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let no_arguments = wasm::SanitizationConfig::default;
    let capabilities = plugin.capabilities.functions.as_ref().map(|names| wasm::CapabilityRestrictionConfig {
        // Envoy reads an empty list as unrestricted.
        allowed_capabilities: match names.is_empty() {
            true => [(proto::NO_CAPABILITY.to_owned(), no_arguments())].into(),
            false => names.iter().map(|name| (name.to_string(), no_arguments())).collect(),
        },
    });
    let vm = wasm::VmConfig {
        vm_id: plugin.vm_id(),
        runtime: "envoy.wasm.runtime.v8".to_owned(),
        code: Some(code),
        configuration: (!vm_configuration.is_empty()).then(|| bytes(vm_configuration)),
        environment_variables: (!environment.is_empty())
            .then(|| wasm::EnvironmentVariables { key_values: variables, ..wasm::EnvironmentVariables::default() }),
        capability_restriction_config: capabilities,
        ..wasm::VmConfig::default()
    };
    let failure = match plugin.failure {
        FailurePolicy::Closed => wasm::FailurePolicy::FailReload,
        FailurePolicy::Open => wasm::FailurePolicy::FailOpen,
    };
    wasm::PluginConfig {
        name: plugin.name.to_string(),
        root_id: plugin.root_id.to_string(),
        configuration: (!plugin.configuration.is_empty()).then(|| bytes(&plugin.configuration)),
        failure_policy: failure as i32,
        allow_on_headers_stop_iteration: Some(bool_value(plugin.header_pause == HeaderPause::HeadersOnly)),
        vm: Some(wasm::plugin_config::Vm::VmConfig(vm)),
        ..wasm::PluginConfig::default()
    }
}
