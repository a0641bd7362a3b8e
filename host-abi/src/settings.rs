//! `PluginSettings`: the configuration of a plugin, without its module. The plugin's owner creates it; the VM and its
//! hostcalls read it.

use std::collections::HashSet;

use crate::abi::action::HeaderPause;
use crate::abi::calls::STREAM_CALLBACKS;
use crate::limits::Limits;

/// The callbacks that a plugin gets for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PluginRole {
    /// All callbacks that the module exports.
    #[default]
    Filter,
    /// Only `proxy_on_log`, with the create, done and delete callbacks.
    AccessLog,
}

/// Name, configuration and limits of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PluginSettings {
    /// Name for logs and metrics; property `plugin_name`.
    pub name: String,
    /// Selects the filter within a module; property `plugin_root_id`.
    pub root_id: String,
    /// Namespace of shared data, queues and metrics; property `plugin_vm_id`.
    pub vm_id: String,
    /// The VM's configuration as the guest reads it, usually empty.
    pub vm_configuration: Vec<u8>,
    /// The plugin's configuration as the guest reads it, usually JSON.
    pub configuration: Vec<u8>,
    /// Environment variables, as (name, value). A pair with a NUL byte is skipped.
    pub environment: Vec<(String, String)>,
    /// Resource limits of the plugin's VM.
    pub limits: Limits,
    /// Meaning of action 1 (pause) in a headers callback.
    pub header_pause: HeaderPause,
    /// Role of the plugin: filter, or access log only.
    pub role: PluginRole,
    /// The allowed hostcalls and callbacks, by name; `None` allows all. A hostcall outside the set returns a failure. A
    /// callback outside the set counts as not exported.
    pub capabilities: Option<HashSet<String>>,
}

impl PluginSettings {
    /// Returns whether a hostcall or callback is allowed.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        self.capabilities.as_ref().is_none_or(|names| names.contains(name))
    }

    /// Returns whether a callback is called if the module exports it.
    #[must_use]
    pub fn allows_callback(&self, name: &str) -> bool {
        self.allows(name) && (self.role == PluginRole::Filter || !STREAM_CALLBACKS.contains(&name))
    }

    /// Returns one of the plugin's own properties, which are readable at any time; `None` for other paths.
    #[must_use]
    pub fn property(&self, path: &[u8]) -> Option<&str> {
        match path {
            b"plugin_name" => Some(&self.name),
            b"plugin_root_id" => Some(&self.root_id),
            b"plugin_vm_id" => Some(&self.vm_id),
            _ => None,
        }
    }
}
