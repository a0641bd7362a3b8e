//! What a plugin is started with: from the model's words to the host's.

use weir_host_abi::{Limits, PluginSettings};
use weir_model::{ByteSize, HeaderPause, StreamSight};

/// The settings of a plugin.
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
        HeaderPause::HoldAll => weir_host_abi::HeaderPause::HoldAll,
        HeaderPause::HoldHeaders => weir_host_abi::HeaderPause::HoldHeaders,
    };
    let sight = match model.sight {
        StreamSight::Whole => weir_host_abi::StreamSight::Whole,
        StreamSight::End => weir_host_abi::StreamSight::End,
    };
    let capabilities = model.allow.capabilities.as_ref();
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
        sight,
        capabilities: capabilities.map(|names| names.iter().map(ToString::to_string).collect()),
    }
}
