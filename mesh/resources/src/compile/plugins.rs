//! Filters and AccessPolicies to plugins.

use std::path::Path;
use std::sync::Arc;

use weir_model::{ModuleSource, Plugin, PluginName, StreamSight};

use crate::bundle::Manifest;
use crate::resolve::Catalog;
use crate::resource::{AccessPolicy, ObjectId};
use crate::source::Sources;
use crate::written::Phase;

/// The plugins of all Filters and AccessPolicies.
pub(crate) fn plugins(sources: &Sources, catalog: &Catalog<'_>) -> Vec<Plugin> {
    let plugin = |(document, id, filter): (usize, &ObjectId, &crate::resource::Filter)| Plugin {
        name: plugin_name(id),
        module: match &filter.module {
            ModuleSource::File(file) => ModuleSource::File(beside(sources.path(document), file)),
            known => known.clone(),
        },
        configuration: filter.configuration.clone(),
        root_id: Arc::clone(&filter.root_id),
        vm: filter.vm.clone(),
        failure: filter.failure,
        header_pause: filter.header_pause,
        sight: match filter.phase.or_else(|| catalog.manifest(filter).and_then(Manifest::phase)) {
            Some(Phase::Log) => StreamSight::End,
            _ => StreamSight::Whole,
        },
        isolation: filter.isolation,
        recycling: filter.recycling,
        limits: filter.limits.or(catalog.manifest(filter).map(Manifest::limits).unwrap_or_default()),
        allow: filter.allow.clone(),
    };
    let guard = |(_, id, policy): (usize, &ObjectId, &AccessPolicy)| {
        let module = ModuleSource::Builtin(Arc::from("auth"));
        Plugin::new(policy_name(id), module, Arc::clone(&policy.configuration))
    };
    catalog.filters().map(plugin).chain(catalog.access_policies().map(guard)).collect()
}

/// The name of the plugin that an AccessPolicy becomes: no Filter can have it.
pub(crate) fn policy_name(id: &ObjectId) -> PluginName {
    PluginName::new(&format!("{}/{POLICY}{}", id.namespace, id.name))
        .expect("namespace and policy are RFC 1123 names, which are short and without white space")
}

/// What an AccessPolicy's plugin is called before its name.
pub(crate) const POLICY: &str = "access:";

/// A plugin's name: `namespace/filter`.
pub(crate) fn plugin_name(id: &ObjectId) -> PluginName {
    PluginName::new(&format!("{}/{}", id.namespace, id.name))
        .expect("namespace and filter are RFC 1123 names, which are short and without white space")
}

/// A file as named from the folder of another.
fn beside(source: &Path, file: &Path) -> std::path::PathBuf {
    let file = file.strip_prefix("./").unwrap_or(file);
    source.parent().unwrap_or(Path::new("")).join(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_beside_the_file_that_names_them() {
        for (source, file, expected) in [
            ("config/shop.yaml", "a.wasm", "config/a.wasm"),
            ("config/shop.yaml", "./a.wasm", "config/a.wasm"),
            ("config/shop.yaml", "../a.wasm", "config/../a.wasm"),
            ("config/shop.yaml", "/lib/a.wasm", "/lib/a.wasm"),
            ("shop.yaml", "./a.wasm", "a.wasm"),
        ] {
            assert_eq!(beside(Path::new(source), Path::new(file)), Path::new(expected), "{source} {file}");
        }
    }
}
