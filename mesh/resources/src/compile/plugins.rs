//! Plugins from Filters and AuthorizationPolicies.

use std::path::Path;
use std::sync::Arc;

use weir_model::{ACCESS_POLICY_PREFIX, ClusterAliases, ModuleSource, Plugin, PluginName, PluginRole};

use crate::bundle_catalog::Manifest;
use crate::compile::clusters::cluster_name;
use crate::resolve::{NamespaceSecrets, ObjectIndex};
use crate::resource::{AuthorizationPolicy, ClusterRef, Filter, ObjectId};
use crate::source::Sources;
use crate::spec::Phase;

/// Returns the plugins of all Filters and AuthorizationPolicies.
pub(crate) fn plugins(sources: &Sources, objects: &ObjectIndex<'_>) -> Vec<Plugin> {
    let plugin = |(document, id, filter): (usize, &ObjectId, &Filter)| Plugin {
        name: plugin_name(id),
        module: match &filter.module {
            ModuleSource::File(file) => ModuleSource::File(resolve_relative(sources.path(document), file)),
            known => known.clone(),
        },
        configuration: NamespaceSecrets::of(objects, id).filter_configuration(filter),
        root_id: Arc::clone(&filter.root_id),
        vm: NamespaceSecrets::of(objects, id).vm(filter),
        failure: filter.failure,
        header_pause: filter.header_pause,
        role: match filter.phase.or_else(|| objects.manifest(filter).and_then(Manifest::phase)) {
            Some(Phase::Log) => PluginRole::AccessLog,
            _ => PluginRole::Filter,
        },
        isolation: filter.isolation,
        recycling: filter.recycling,
        limits: filter.limits.or(objects.manifest(filter).map(Manifest::limits).unwrap_or_default()),
        capabilities: filter.allow.clone(),
        cluster_aliases: cluster_aliases(id, filter),
    };
    let policy_plugin = |(_, id, policy): (usize, &ObjectId, &AuthorizationPolicy)| {
        let module = ModuleSource::Builtin(Arc::from("auth"));
        Plugin::new(policy_name(id), module, NamespaceSecrets::of(objects, id).policy_configuration(policy))
    };
    objects.filters().map(plugin).chain(objects.authorization_policies().map(policy_plugin)).collect()
}

fn cluster_aliases(id: &ObjectId, filter: &Filter) -> ClusterAliases {
    let cluster =
        |(alias, cluster): &(Arc<str>, ClusterRef)| (Arc::clone(alias), cluster_name(&cluster.cluster_name(id)));
    filter.clusters.iter().map(cluster).collect()
}

/// Returns the plugin name of an AuthorizationPolicy. No Filter can have it, since `:` is not valid in an object name.
pub(crate) fn policy_name(id: &ObjectId) -> PluginName {
    PluginName::new(&format!("{}/{ACCESS_POLICY_PREFIX}{}", id.namespace, id.name))
        .expect("namespace and policy are RFC 1123 names, which are short and without white space")
}

/// Returns the plugin name of a Filter: `namespace/filter`.
pub(crate) fn plugin_name(id: &ObjectId) -> PluginName {
    PluginName::new(&format!("{}/{}", id.namespace, id.name))
        .expect("namespace and filter are RFC 1123 names, which are short and without white space")
}

/// Returns a module path, relative to the folder of the resource file.
fn resolve_relative(source: &Path, file: &Path) -> std::path::PathBuf {
    let file = file.strip_prefix("./").unwrap_or(file);
    source.parent().unwrap_or(Path::new("")).join(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolve_relative_starts_at_folder_of_source() {
        for (source, file, expected) in [
            ("config/shop.yaml", "a.wasm", "config/a.wasm"),
            ("config/shop.yaml", "./a.wasm", "config/a.wasm"),
            ("config/shop.yaml", "../a.wasm", "config/../a.wasm"),
            ("config/shop.yaml", "/lib/a.wasm", "/lib/a.wasm"),
            ("shop.yaml", "./a.wasm", "a.wasm"),
        ] {
            assert_eq!(resolve_relative(Path::new(source), Path::new(file)), Path::new(expected), "{source} {file}");
        }
    }
}
