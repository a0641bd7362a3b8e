//! The accepted resources of the control plane in their encoded form, with the last good version of each plugin. They
//! are stored for the next start, so that a filter whose newest version does not load serves after a restart, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_xds::{PersistedResource, ResourceType};

/// Versions of plugins, by name.
pub(super) type PluginVersions = BTreeMap<String, Arc<PersistedResource>>;

/// The versions of accepted resources.
#[derive(Debug, Default)]
pub(super) struct ResourceVersions {
    newest: BTreeMap<(ResourceType, String), Arc<PersistedResource>>,
    /// The version of each plugin that has served last, or else the one before the newest.
    good_plugins: PluginVersions,
}

impl ResourceVersions {
    /// Returns stored resources. Of two versions of one plugin the first is the last good one.
    pub(super) fn restore(stored: Vec<PersistedResource>) -> Self {
        let mut restored = Self::default();
        for resource in stored {
            let (resource_type, name) = (resource.resource_type, resource.name.clone());
            let before = restored.newest.insert((resource_type, name.clone()), Arc::new(resource));
            if let Some(before) = before.filter(|_| resource_type == ResourceType::Plugin) {
                restored.good_plugins.insert(name, before);
            }
        }
        restored
    }

    /// Returns the resources to store, in the order that [`ResourceVersions::restore`] expects.
    pub(super) fn to_store(&self) -> Vec<Arc<PersistedResource>> {
        let is_newest = |(name, good): &(&String, &Arc<PersistedResource>)| {
            self.newest.get(&(ResourceType::Plugin, (*name).clone())) == Some(*good)
        };
        let good = self.good_plugins.iter().filter(|entry| !is_newest(entry)).map(|(_, good)| good);
        good.chain(self.newest.values()).cloned().collect()
    }

    /// Inserts a resource. `replaces_failed` is true if the version before it has failed.
    pub(super) fn insert(&mut self, resource: PersistedResource, replaces_failed: bool) {
        let (resource_type, name) = (resource.resource_type, resource.name.clone());
        let before = self.newest.insert((resource_type, name.clone()), Arc::new(resource));
        if let Some(before) = before.filter(|_| resource_type == ResourceType::Plugin && !replaces_failed) {
            self.good_plugins.entry(name).or_insert(before);
        }
    }

    /// Removes a resource with all of its versions.
    pub(super) fn remove(&mut self, resource_type: ResourceType, name: &str) {
        self.newest.remove(&(resource_type, name.to_owned()));
        if resource_type == ResourceType::Plugin {
            self.good_plugins.remove(name);
        }
    }

    /// Removes the last good version of a plugin.
    pub(super) fn remove_good_plugin(&mut self, name: &str) {
        self.good_plugins.remove(name);
    }

    /// Removes the resources of a type that nothing refers to.
    pub(super) fn retain(&mut self, resource_type: ResourceType, required: &BTreeSet<String>) {
        self.newest.retain(|(other, name), _| *other != resource_type || required.contains(name));
        if resource_type == ResourceType::Plugin {
            self.good_plugins.retain(|name, _| required.contains(name));
        }
    }

    /// Returns the newest version of every resource.
    pub(super) fn newest(&self) -> Vec<Arc<PersistedResource>> {
        self.newest.values().cloned().collect()
    }

    /// Returns true if a version of the resource was accepted.
    pub(super) fn contains(&self, resource_type: ResourceType, name: &str) -> bool {
        self.newest.contains_key(&(resource_type, name.to_owned()))
    }

    /// Returns the last good versions of plugins.
    pub(super) fn good_plugins(&self) -> PluginVersions {
        self.good_plugins.clone()
    }

    /// Returns the newest versions of the plugins that have not failed.
    pub(super) fn working_plugins(&self, has_failed: impl Fn(&str) -> bool) -> PluginVersions {
        let is_working = |name: &String| !has_failed(name);
        let plugins = self.newest.iter().filter(|(key, _)| key.0 == ResourceType::Plugin && is_working(&key.1));
        plugins.map(|((_, name), plugin)| (name.clone(), Arc::clone(plugin))).collect()
    }

    /// Records versions of plugins that serve as the last good ones. Returns those that were others before.
    pub(super) fn confirm(&mut self, serving: &PluginVersions) -> PluginVersions {
        let is_new = |name: &String, version: &Arc<PersistedResource>| {
            self.good_plugins.get(name).is_none_or(|good| !Arc::ptr_eq(good, version))
        };
        let changed: PluginVersions = serving
            .iter()
            .filter(|(name, version)| is_new(name, version))
            .map(|(name, version)| (name.clone(), Arc::clone(version)))
            .collect();
        self.good_plugins.extend(changed.clone());
        changed
    }
}

#[cfg(test)]
mod tests {
    use weir_xds::proto::Any;

    use super::*;

    fn version(resource_type: ResourceType, version: &str) -> PersistedResource {
        let resource = Any { type_url: resource_type.type_url(), value: version.as_bytes().to_vec() };
        PersistedResource { resource_type, name: "a".to_owned(), version: version.to_owned(), resource }
    }

    fn stored(accepted: &ResourceVersions) -> Vec<String> {
        accepted.to_store().iter().map(|resource| resource.version.clone()).collect()
    }

    #[test]
    fn last_good_version_of_plugin_is_stored_before_newest() {
        let plugin = |text| version(ResourceType::Plugin, text);
        let mut accepted = ResourceVersions::default();
        accepted.insert(plugin("1"), false);
        assert_eq!(stored(&accepted), ["1"]);
        let serving = accepted.working_plugins(|_| false);
        assert_eq!(accepted.confirm(&serving).len(), 1);
        assert!(accepted.confirm(&serving).is_empty());
        assert_eq!(stored(&accepted), ["1"]);
        accepted.insert(plugin("2"), false);
        accepted.insert(plugin("3"), true);
        assert_eq!(stored(&accepted), ["1", "3"]);

        let copies = accepted.to_store().iter().map(|resource| PersistedResource::clone(resource)).collect();
        let mut restored = ResourceVersions::restore(copies);
        assert_eq!(restored.newest()[0].version, "3");
        assert_eq!(restored.good_plugins()["a"].version, "1");
        let serving = restored.working_plugins(|_| false);
        restored.confirm(&serving);
        assert_eq!(stored(&restored), ["3"]);
        restored.retain(ResourceType::Plugin, &BTreeSet::new());
        assert!(restored.to_store().is_empty());
    }

    #[test]
    fn other_resources_have_one_version() {
        let mut accepted = ResourceVersions::default();
        accepted.insert(version(ResourceType::Cluster, "1"), false);
        accepted.insert(version(ResourceType::Cluster, "2"), false);
        assert_eq!(stored(&accepted), ["2"]);
    }
}
