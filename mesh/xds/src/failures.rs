//! Failures of resources after they were accepted: which version has failed, and why.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::resource_type::ResourceType;

/// The version of a resource that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedVersion {
    /// The newest version. The last good one takes its place.
    Newest,
    /// The last good version, which had taken the place of the newest one.
    LastGood,
}

/// The failed resources, by type and name.
#[derive(Debug, Default)]
pub(crate) struct Failures(BTreeMap<(ResourceType, String), Failure>);

/// The failure of one resource.
#[derive(Debug)]
struct Failure {
    /// The reason for which the newest version has failed.
    reason: Arc<str>,
    /// The number of the last update with the newest version. Later updates have the last good one.
    last_update: u64,
    last_good_failed: bool,
}

/// The numbers of two updates.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UpdateNumbers {
    /// The update in which a resource has failed.
    pub(crate) failed: u64,
    /// The newest update so far.
    pub(crate) newest: u64,
}

impl Failures {
    /// Records that a resource has failed in an update. Returns the failed version; `None` when its failure is known.
    pub(crate) fn record(
        &mut self,
        resource_type: ResourceType,
        name: &str,
        reason: &str,
        updates: UpdateNumbers,
    ) -> Option<FailedVersion> {
        let key = (resource_type, name.to_owned());
        let Some(failure) = self.0.get_mut(&key) else {
            let failure = Failure { reason: reason.into(), last_update: updates.newest, last_good_failed: false };
            self.0.insert(key, failure);
            return Some(FailedVersion::Newest);
        };
        if updates.failed <= failure.last_update || failure.last_good_failed {
            return None;
        }
        failure.last_good_failed = true;
        Some(FailedVersion::LastGood)
    }

    /// Returns the reason for which the newest version has failed; `None` when it has not.
    pub(crate) fn reason(&self, resource_type: ResourceType, name: &str) -> Option<&Arc<str>> {
        self.0.get(&(resource_type, name.to_owned())).map(|failure| &failure.reason)
    }

    /// Returns true if the newest version has failed.
    pub(crate) fn contains(&self, resource_type: ResourceType, name: &str) -> bool {
        self.0.contains_key(&(resource_type, name.to_owned()))
    }

    /// Returns true if the last good version has failed, too.
    pub(crate) fn has_last_good_failed(&self, resource_type: ResourceType, name: &str) -> bool {
        self.0.get(&(resource_type, name.to_owned())).is_some_and(|failure| failure.last_good_failed)
    }

    /// Clears the failure of a resource. Returns true when it had failed.
    pub(crate) fn clear(&mut self, resource_type: ResourceType, name: &str) -> bool {
        self.0.remove(&(resource_type, name.to_owned())).is_some()
    }

    /// Clears the failures for which `is_cleared` is true. Returns true when there was one.
    pub(crate) fn clear_if(&mut self, is_cleared: impl Fn(ResourceType, &str) -> bool) -> bool {
        let count = self.0.len();
        self.0.retain(|(resource_type, name), _| !is_cleared(*resource_type, name));
        self.0.len() < count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_of_later_update_is_that_of_last_good_version() {
        let (plugin, name) = (ResourceType::Plugin, "default/guard");
        let mut failures = Failures::default();
        assert_eq!(
            failures.record(plugin, name, "traps", UpdateNumbers { failed: 3, newest: 5 }),
            Some(FailedVersion::Newest)
        );
        // The updates 4 and 5 still had the newest version.
        assert_eq!(failures.record(plugin, name, "traps", UpdateNumbers { failed: 5, newest: 6 }), None);
        assert!(!failures.has_last_good_failed(plugin, name));
        assert_eq!(
            failures.record(plugin, name, "cannot be fetched", UpdateNumbers { failed: 6, newest: 6 }),
            Some(FailedVersion::LastGood)
        );
        assert!(failures.has_last_good_failed(plugin, name));
        assert_eq!(failures.record(plugin, name, "cannot be fetched", UpdateNumbers { failed: 7, newest: 7 }), None);
        assert_eq!(failures.reason(plugin, name).map(|reason| &**reason), Some("traps"));
        assert!(failures.clear_if(|_, _| true) && !failures.contains(plugin, name));
        assert_eq!(
            failures.record(plugin, name, "traps", UpdateNumbers { failed: 8, newest: 8 }),
            Some(FailedVersion::Newest)
        );
    }
}
