//! Conversion of plugin settings from the model to the host.

use weir_host_abi::{Limits, PluginSettings};
use weir_model::{ByteSize, HeaderPause, PluginRole};

/// Converts the settings of a plugin.
pub fn settings(model: &weir_model::Plugin) -> PluginSettings {
    let bytes = |size: ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
    let limits = Limits {
        memory: bytes(model.limits.memory),
        table_elements: usize::try_from(model.limits.table_elements).unwrap_or(usize::MAX),
        call_time: model.limits.call_time,
        start_time: model.limits.start_time,
        log_bytes_per_second: bytes(model.limits.log_per_second),
    };
    let header_pause = match model.header_pause {
        HeaderPause::All => weir_host_abi::HeaderPause::All,
        HeaderPause::HeadersOnly => weir_host_abi::HeaderPause::HeadersOnly,
    };
    let role = match model.role {
        PluginRole::Filter => weir_host_abi::PluginRole::Filter,
        PluginRole::AccessLog => weir_host_abi::PluginRole::AccessLog,
    };
    let capabilities = model.capabilities.functions.as_ref();
    let variables = model.vm.environment.iter();
    PluginSettings {
        name: model.name.to_string(),
        root_id: model.root_id.to_string(),
        vm_id: model.vm_id(),
        vm_configuration: model.vm.configuration.to_vec(),
        configuration: model.configuration.to_vec(),
        environment: variables.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        limits,
        header_pause,
        role,
        capabilities: capabilities.map(|names| names.iter().map(ToString::to_string).collect()),
    }
}
