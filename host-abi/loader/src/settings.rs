//! What a plugin is started with: from the model's words to the host's.

use weir_host_abi::{Limits, PluginSettings};
use weir_model::HeaderPause;

/// The settings of a plugin.
pub fn settings(model: &weir_model::Plugin) -> PluginSettings {
    let memory = usize::try_from(model.limits.memory.0).unwrap_or(usize::MAX);
    let limits =
        Limits { memory, call_time: model.limits.call_time, start_time: model.limits.start_time, ..Limits::default() };
    let header_pause = match model.header_pause {
        HeaderPause::HoldAll => weir_host_abi::HeaderPause::HoldAll,
        HeaderPause::HoldHeaders => weir_host_abi::HeaderPause::HoldHeaders,
    };
    PluginSettings {
        name: model.name.to_string(),
        vm_id: model.name.to_string(),
        configuration: model.configuration.to_vec(),
        limits,
        header_pause,
        ..PluginSettings::default()
    }
}
