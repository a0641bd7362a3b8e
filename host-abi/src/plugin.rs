//! `Plugin`: a module with its settings. Filter chains refer to it and all workers share it; each worker starts its own
//! VMs from it.

use std::sync::Arc;

use crate::abi::calls::STREAM_CALLBACKS;
use crate::interface::Exports;
use crate::module::Module;
use crate::settings::{PluginRole, PluginSettings};

/// A module with its settings, ready to be started in a VM.
#[derive(Debug, Clone)]
pub struct Plugin {
    settings: Arc<PluginSettings>,
    module: Module,
    exports: Exports,
}

impl Plugin {
    /// Combines a module and its settings, without running guest code.
    #[must_use]
    pub fn new(settings: PluginSettings, module: Module) -> Self {
        let exports = match &settings.capabilities {
            None => module.exports(),
            Some(names) => module.exports().and(names.iter().map(String::as_str)),
        };
        let exports = match settings.role {
            PluginRole::Filter => exports,
            PluginRole::AccessLog => exports.without(STREAM_CALLBACKS),
        };
        Self { settings: Arc::new(settings), module, exports }
    }

    /// Returns the callbacks that the module exports and the settings allow.
    #[must_use]
    pub const fn exports(&self) -> Exports {
        self.exports
    }

    /// Returns the name, configuration and limits of the plugin.
    #[must_use]
    pub fn settings(&self) -> &PluginSettings {
        &self.settings
    }

    /// Returns the compiled module.
    #[must_use]
    pub const fn module(&self) -> &Module {
        &self.module
    }

    pub(crate) const fn shared_settings(&self) -> &Arc<PluginSettings> {
        &self.settings
    }
}
