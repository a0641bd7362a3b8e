//! A plugin: Envoy's Wasm filter, for our own proxies inside a message with the limits that Envoy has no fields for.

use weir_model::{FailurePolicy, HeaderPause, Plugin, RemoteModule};

use super::{duration, truth};
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
    let filter = Wasm { config: Some(configuration(plugin, module, cluster)) };
    let typed = match audience {
        Audience::Envoy { .. } => pack(&filter),
        Audience::Weir => pack(&proto::Plugin {
            wasm: Some(filter),
            memory_bytes: plugin.limits.memory.0,
            call_time: Some(duration(plugin.limits.call_time)),
            start_time: Some(duration(plugin.limits.start_time)),
        }),
    };
    core::TypedExtensionConfig { name: plugin.name.to_string(), typed_config: Some(typed) }
}

fn configuration(plugin: &Plugin, module: &RemoteModule, cluster: String) -> wasm::PluginConfig {
    let uri = core::HttpUri {
        uri: module.url.to_string(),
        timeout: Some(duration(FETCH_TIMEOUT)),
        http_upstream_type: Some(core::http_uri::HttpUpstreamType::Cluster(cluster)),
    };
    let remote = core::RemoteDataSource { http_uri: Some(uri), sha256: module.sha256.to_string(), retry_policy: None };
    let code = core::AsyncDataSource { specifier: Some(core::async_data_source::Specifier::Remote(remote)) };
    let vm = wasm::VmConfig {
        vm_id: plugin.name.to_string(),
        runtime: "envoy.wasm.runtime.v8".to_owned(),
        code: Some(code),
        ..wasm::VmConfig::default()
    };
    let configuration = protobuf::BytesValue { value: plugin.configuration.to_vec() };
    let failure = match plugin.failure {
        FailurePolicy::Closed => wasm::FailurePolicy::FailReload,
        FailurePolicy::Open => wasm::FailurePolicy::FailOpen,
    };
    wasm::PluginConfig {
        name: plugin.name.to_string(),
        configuration: (!plugin.configuration.is_empty()).then(|| pack(&configuration)),
        failure_policy: failure as i32,
        allow_on_headers_stop_iteration: Some(truth(plugin.header_pause == HeaderPause::HoldHeaders)),
        vm: Some(wasm::plugin_config::Vm::VmConfig(vm)),
        ..wasm::PluginConfig::default()
    }
}
