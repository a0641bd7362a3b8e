//! Names in `clusters` of Filters that mean several Service ports. In `weir-proxy` each Filter has names of its own. In an
//! Envoy every name is a cluster, so it has one meaning.

use std::collections::HashMap;

use crate::resolve::{ObjectIndex, ReferenceErrors};
use crate::resource::ObjectId;
use crate::suggest::quoted;
use crate::yaml::FieldPathRef;

/// Warns of each name that means another Service port in an earlier Filter.
pub(super) fn check(objects: &ObjectIndex<'_>, warnings: &mut ReferenceErrors) {
    let root = FieldPathRef::ROOT;
    let spec = root.field("spec");
    let clusters = spec.field("clusters");
    let mut meanings: HashMap<&str, (&ObjectId, String)> = HashMap::new();
    for (document, id, filter) in objects.filters() {
        for (alias, cluster) in &filter.clusters {
            let target = cluster.cluster_name(id);
            let (first, known) = meanings.entry(alias).or_insert_with(|| (id, target.clone()));
            if *known != target {
                let reason = format!(
                    "{} is {known} in Filter {}/{}: an Envoy has one cluster of that name, and uses it for both",
                    quoted(alias),
                    first.namespace,
                    first.name
                );
                warnings.add(document, &clusters.field(alias), reason, "use another name, unless no Envoy runs both");
            }
        }
    }
}
