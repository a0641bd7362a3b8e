//! `Plugin`: a module with its settings. What a filter chain refers to, shared by all workers; each makes its own VMs
//! from it.

use std::sync::Arc;

use crate::abi::calls::STREAM_CALLBACKS;
use crate::interface::Exports;
use crate::module::Module;
use crate::settings::{PluginSettings, StreamSight};

/// A filter, ready to be started.
#[derive(Debug, Clone)]
pub struct Plugin {
    settings: Arc<PluginSettings>,
    module: Module,
    exports: Exports,
}

impl Plugin {
    /// Puts a module and its settings together. Nothing runs yet.
    #[must_use]
    pub fn new(settings: PluginSettings, module: Module) -> Self {
        let exports = match &settings.capabilities {
            None => module.exports(),
            Some(names) => module.exports().and(names.iter().map(String::as_str)),
        };
        let exports = match settings.sight {
            StreamSight::Whole => exports,
            StreamSight::End => exports.without(STREAM_CALLBACKS),
        };
        Self { settings: Arc::new(settings), module, exports }
    }

    /// The callbacks that its module exports and that it is allowed.
    #[must_use]
    pub const fn exports(&self) -> Exports {
        self.exports
    }

    /// Its name, configuration and limits.
    #[must_use]
    pub fn settings(&self) -> &PluginSettings {
        &self.settings
    }

    /// Its code.
    #[must_use]
    pub const fn module(&self) -> &Module {
        &self.module
    }

    pub(crate) const fn shared_settings(&self) -> &Arc<PluginSettings> {
        &self.settings
    }
}
