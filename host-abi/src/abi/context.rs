//! `ContextId`: names one of the guest's contexts. The VM hands ids out; hosts use them as keys.
//!
//! Ids grow from 1 (the plugin context, or that of the first plugin) and are not reused while their context lives.

use std::fmt;

/// The number of a plugin context or stream context within one VM. Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextId(u32);

impl ContextId {
    /// The plugin context of a VM (Proxy-Wasm: root context); of its first plugin, where several share it.
    pub const ROOT: Self = Self(1);

    /// The plugin context of the plugin with this number in its VM, from 0.
    #[must_use]
    pub const fn of_plugin(plugin: usize) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "a VM has a few plugins")]
        let number = plugin as u32;
        Self(number + 1)
    }

    /// The number of the plugin that a plugin context is of: the other way round.
    #[must_use]
    pub const fn plugin(self) -> usize {
        self.0.saturating_sub(1) as usize
    }

    /// Names the context with this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number the guest knows the context by.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ContextId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
