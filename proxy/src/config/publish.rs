//! The one place where a configuration becomes active: the pointer that every worker reads (invariant I5).

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::active::ActiveConfig;

/// The owner of the active configuration.
pub(crate) struct Publisher {
    active: Arc<ArcSwap<ActiveConfig>>,
}

impl Publisher {
    /// Returns a publisher whose active configuration is empty.
    pub(crate) fn new() -> Self {
        Self { active: Arc::new(ArcSwap::from_pointee(ActiveConfig::empty())) }
    }

    /// Returns the pointer that workers and admin pages read.
    pub(crate) fn active(&self) -> Arc<ArcSwap<ActiveConfig>> {
        Arc::clone(&self.active)
    }

    /// Returns the active configuration.
    pub(crate) fn current(&self) -> Arc<ActiveConfig> {
        self.active.load_full()
    }

    /// From now on this serves. Requests that have begun end on the configuration they began with (I4).
    pub(crate) fn publish(&self, config: ActiveConfig) {
        self.active.store(Arc::new(config));
    }
}
