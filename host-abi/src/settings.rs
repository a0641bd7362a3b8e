//! `PluginSettings`: everything about a plugin but its module. Made by the plugin's owner, read by the VM and its
//! hostcalls.

use crate::abi::action::HeaderPause;
use crate::limits::Limits;

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
}
