//! `PluginSettings`: everything about a plugin but its module. Made by the plugin's owner, read by the VM and its
//! hostcalls.

use std::collections::HashSet;

use crate::abi::action::HeaderPause;
use crate::abi::calls::STREAM_CALLBACKS;
use crate::limits::Limits;

/// What a plugin sees of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StreamSight {
    /// All of it.
    #[default]
    Whole,
    /// `proxy_on_log`, with what belongs to it: create, done and delete.
    End,
}

/// What a plugin is called, how it is configured and what it may use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PluginSettings {
    /// Name for logs and metrics; property `plugin_name`.
    pub name: String,
    /// Chooses the filter among those in one module; property `plugin_root_id`.
    pub root_id: String,
    /// Namespace of shared data, queues and metrics; property `plugin_vm_id`.
    pub vm_id: String,
    /// What the guest reads as the VM's configuration, usually empty.
    pub vm_configuration: Vec<u8>,
    /// What the guest reads as the plugin's configuration, usually JSON.
    pub configuration: Vec<u8>,
    /// Environment variables, as (name, value). A pair with a NUL byte is left out.
    pub environment: Vec<(String, String)>,
    /// What a VM of this plugin may use.
    pub limits: Limits,
    /// What "pause" means in a headers callback.
    pub header_pause: HeaderPause,
    /// Whether streams go through it, or only their ends are told to it.
    pub sight: StreamSight,
    /// The hostcalls that it may make and the callbacks that are called, by name; `None` is all of them. A hostcall that
    /// is not in the list answers a failure, a callback that is not is as good as not there.
    pub capabilities: Option<HashSet<String>>,
}

impl PluginSettings {
    /// Whether a hostcall may be made or a callback be called.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        self.capabilities.as_ref().is_none_or(|names| names.contains(name))
    }

    /// Whether a callback is called, where the module has it.
    #[must_use]
    pub fn allows_callback(&self, name: &str) -> bool {
        self.allows(name) && (self.sight == StreamSight::Whole || !STREAM_CALLBACKS.contains(&name))
    }

    /// The plugin's own properties, which it can read at any time.
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
