//! The snapshot build from resolved references. Called only without errors. Equal parts are shared with the previous
//! snapshot.

pub(crate) mod routes;
pub(crate) mod precedence;
pub(crate) mod cache;
pub(crate) mod chain;
pub(crate) mod plugins;
pub(crate) mod clusters;
pub(crate) mod secrets;

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_model::{Rejection, Snapshot, SnapshotBuilder};

use crate::compile::chain::ChainBuilder;
use crate::resolve::{ObjectIndex, ReferenceErrors, Resolved};
use crate::source::Sources;

pub(crate) use cache::BuildCache;

/// Builds the snapshot.
///
/// # Errors
/// Rejections by the model. None is expected, since all rules were checked before.
pub(crate) fn compile(
    sources: &Sources,
    objects: &ObjectIndex<'_>,
    resolved: &Resolved<'_>,
    cache: &mut BuildCache,
) -> Result<Arc<Snapshot>, Vec<Rejection>> {
    let mut builder = SnapshotBuilder::default();
    let mut used_secrets = BTreeSet::new();
    for cluster in clusters::clusters(objects, resolved) {
        used_secrets.extend(secrets::cluster_secrets(&cluster));
        builder.put_cluster(cache.cluster(cluster));
    }
    for plugin in plugins::plugins(sources, objects) {
        builder.put_plugin(cache.plugin(plugin));
    }
    let mut chains = ChainBuilder::new(objects);
    for (listener, table) in routes::listeners(sources, objects, resolved, &mut chains, cache) {
        used_secrets.extend(secrets::listener_secrets(&listener));
        builder.put_listener(cache.listener(listener));
        builder.put_route_table(cache.route_table(table));
    }
    for secret in secrets::secrets(objects, resolved, &used_secrets) {
        builder.put_secret(cache.secret(secret));
    }
    let snapshot = Arc::new(builder.complete()?);
    cache.store(&snapshot);
    Ok(snapshot)
}

/// Checks the length of filter chains, which depends on all objects.
pub(crate) fn check(objects: &ObjectIndex<'_>, resolved: &Resolved<'_>, errors: &mut ReferenceErrors) {
    ChainBuilder::new(objects).check(objects, resolved, errors);
}
