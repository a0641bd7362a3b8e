//! From resolved references to a snapshot. Called only when nothing was refused; what is equal with the snapshot before
//! is shared with it.

pub(crate) mod chain;
pub(crate) mod clusters;
pub(crate) mod plugins;
pub(crate) mod precedence;
pub(crate) mod reuse;
pub(crate) mod routes;
pub(crate) mod secrets;

use std::collections::BTreeSet;

use weir_model::{Rejection, Snapshot, SnapshotBuilder};

use crate::compile::chain::Chains;
use crate::resolve::{Catalog, Problems, Resolved};
use crate::source::Sources;

pub(crate) use reuse::Memory;

/// Builds the snapshot.
///
/// # Errors
/// What the model refuses although everything here was checked; nothing, as far as anybody knows.
pub(crate) fn compile(
    sources: &Sources,
    catalog: &Catalog<'_>,
    resolved: &Resolved<'_>,
    memory: &mut Memory,
) -> Result<Snapshot, Vec<Rejection>> {
    let mut builder = SnapshotBuilder::default();
    for cluster in clusters::clusters(catalog, resolved) {
        builder.put_cluster(memory.cluster(cluster));
    }
    for plugin in plugins::plugins(sources, catalog) {
        builder.put_plugin(memory.plugin(plugin));
    }
    let mut chains = Chains::new(catalog);
    let mut shown = BTreeSet::new();
    for (listener, table) in routes::listeners(sources, catalog, resolved, &mut chains, memory) {
        shown.extend(secrets::of_listener(&listener));
        builder.put_listener(memory.listener(listener));
        builder.put_route_table(memory.route_table(table));
    }
    for secret in secrets::secrets(catalog, &shown) {
        builder.put_secret(memory.secret(secret));
    }
    let snapshot = builder.complete()?;
    memory.remember(&snapshot);
    Ok(snapshot)
}

/// Checks what only the whole can tell: that no chain is too long.
pub(crate) fn check(catalog: &Catalog<'_>, resolved: &Resolved<'_>, problems: &mut Problems) {
    Chains::new(catalog).check(catalog, resolved, problems);
}
