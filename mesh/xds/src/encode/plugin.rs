//! A plugin: Envoy's Wasm filter, for our own proxies inside a message with the limits that Envoy has no fields for.

use weir_model::{FailurePolicy, HeaderPause, Isolation, Plugin, PluginVm, RemoteModule, StreamSight};

use super::{capabilities, duration, truth};
use crate::audience::Audience;
use crate::proto::{self, Wasm, core, pack, protobuf, wasm};

/// The longest that Envoy waits for a module.
const FETCH_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// The plugin with its module, which is known by its hash and fetched once.
pub(crate) fn plugin(plugin: &Plugin, module: &RemoteModule, audience: &Audience) -> core::TypedExtensionConfig {
    let cluster = match audience {
        Audience::Weir => String::new(),
        Audience::Envoy { module_cluster } => module_cluster.to_string(),
    };
    let filter = |plugin: &Plugin| Wasm { config: Some(configuration(plugin, module, cluster)) };
    let typed = match audience {
        Audience::Envoy { .. } => pack(&filter(&capabilities::of_envoy(plugin))),
        Audience::Weir => pack(&with_limits(plugin, filter(plugin))),
    };
    core::TypedExtensionConfig { name: plugin.name.to_string(), typed_config: Some(typed) }
}

fn kind_of(plugin: &Plugin) -> u32 {
    let sight = if plugin.sight == StreamSight::End { proto::SEES_ENDS } else { 0 };
    let isolation = if plugin.isolation == Isolation::Process { proto::ONE_VM } else { 0 };
    sight + isolation
}

/// The filter with what Envoy has no fields for.
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
        kind: kind_of(plugin),
        services: plugin.allow.services.as_ref().map(names),
        recycle_requests: plugin.recycling.requests,
        recycle_age: plugin.recycling.age.map(duration),
        recycle_memory_bytes: plugin.recycling.memory.map(|memory| memory.0),
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
    let PluginVm { id: _, configuration: vm_configuration, environment } = &plugin.vm;
    let variables = environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let anything = wasm::SanitizationConfig::default;
    let capabilities = plugin.allow.capabilities.as_ref().map(|names| wasm::CapabilityRestrictionConfig {
        // To Envoy an empty list is no list.
        allowed_capabilities: match names.is_empty() {
            true => [(proto::NO_CAPABILITY.to_owned(), anything())].into(),
            false => names.iter().map(|name| (name.to_string(), anything())).collect(),
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
        allow_on_headers_stop_iteration: Some(truth(plugin.header_pause == HeaderPause::HoldHeaders)),
        vm: Some(wasm::plugin_config::Vm::VmConfig(vm)),
        ..wasm::PluginConfig::default()
    }
}
