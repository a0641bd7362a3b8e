//! The health of the control plane: whether its store is the one that it has used, and can be read. Served at `/ready`.

use arc_swap::ArcSwap;

/// The faults that the last check of the store has found. Cheap to read from any task.
#[derive(Debug, Default)]
pub struct Health {
    faults: ArcSwap<Vec<String>>,
}

impl Health {
    /// Returns the present faults, each with what to do about it; empty if the control plane is ready.
    pub fn faults(&self) -> Vec<String> {
        self.faults.load().to_vec()
    }

    /// Replaces the faults. Returns true if they have changed.
    pub fn replace(&self, faults: Vec<String>) -> bool {
        let is_changed = **self.faults.load() != faults;
        if is_changed {
            self.faults.store(std::sync::Arc::new(faults));
        }
        is_changed
    }
}
