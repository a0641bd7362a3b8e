//! `ContextId`: the id of a guest's context. The VM assigns the ids; hosts use them as keys.
//!
//! Ids increase from 1 (the plugin context of the first plugin) and are not reused while their context is live.

use std::fmt;

/// The number of a plugin context or stream context within one VM. Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextId(u32);

impl ContextId {
    /// The plugin context (Proxy-Wasm: root context) of a VM, or of its first plugin if several share it.
    pub const ROOT: Self = Self(1);

    /// Returns the plugin context of the plugin with this index in its VM, from 0.
    #[must_use]
    pub const fn of_plugin(plugin: usize) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "a VM has a few plugins")]
        let number = plugin as u32;
        Self(number + 1)
    }

    /// Returns the index of the plugin that a plugin context belongs to. Inverse of [`ContextId::of_plugin`].
    #[must_use]
    pub const fn plugin(self) -> usize {
        self.0.saturating_sub(1) as usize
    }

    /// Creates the id with this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Returns the number of the context in the ABI.
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
