//! The guard against changes that take away most of the mesh by mistake: an empty folder, or a wrong selection.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_model::Snapshot;

use crate::limits::MIN_SHRINK;

/// The policy for changes that take away most of the listeners or clusters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ShrinkPolicy {
    /// A change that takes away more than half, and at least [`MIN_SHRINK`], of the listeners or clusters is rejected.
    #[default]
    Reject,
    /// Any change is made.
    Allow,
}

impl ShrinkPolicy {
    /// Checks a change from one snapshot to the next.
    ///
    /// # Errors
    /// The change is rejected. The text is the rest of a sentence about it.
    pub(super) fn check(self, before: &Snapshot, after: &Snapshot) -> Result<(), String> {
        if self == Self::Allow {
            return Ok(());
        }
        check("listeners", &before.listeners, &after.listeners)?;
        check("clusters", &before.clusters, &after.clusters)
    }
}

fn check<N: Ord, T>(what: &str, before: &BTreeMap<N, Arc<T>>, after: &BTreeMap<N, Arc<T>>) -> Result<(), String> {
    let (all, gone) = (before.len(), before.keys().filter(|name| !after.contains_key(name)).count());
    if gone < MIN_SHRINK || gone * 2 <= all {
        return Ok(());
    }
    Err(format!("would remove {gone} of {all} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_that_removes_most_of_a_large_mesh_is_rejected() {
        let names = |numbers: std::ops::Range<u32>| numbers.map(|number| (number, Arc::new(()))).collect();
        for (before, after, expected) in [
            (0..9, 0..0, Ok(())),
            (0..10, 0..0, Err("would remove 10 of 10 clusters".to_owned())),
            (0..20, 10..20, Ok(())),
            (0..20, 11..40, Err("would remove 11 of 20 clusters".to_owned())),
            (0..1_000, 400..1_000, Ok(())),
            (0..0, 0..50, Ok(())),
        ] {
            let (before, after): (BTreeMap<u32, _>, BTreeMap<u32, _>) = (names(before), names(after));
            assert_eq!(check("clusters", &before, &after), expected);
        }
    }
}
