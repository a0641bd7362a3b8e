//! What Filters and BackendPolicies are for.

use std::collections::HashMap;

use crate::document::Path;
use crate::resolve::catalog::{Catalog, Found};
use crate::resolve::problem::Problems;
use crate::resource::ObjectId;
use crate::resource::backend_policy::BackendSettings;
use crate::suggest::quoted;
use crate::written::Kind;

/// The settings of each Service that has a policy, by the Service's document.
pub(crate) type Policies<'a> = HashMap<usize, &'a BackendSettings>;

/// Checks that what Filters are put before is there.
pub(crate) fn check_filters(catalog: &Catalog<'_>, problems: &mut Problems) {
    let root = Path::ROOT;
    let spec = root.field("spec");
    let list = spec.field("targetRefs");
    for (document, id, filter) in catalog.filters() {
        for (index, (kind, name)) in filter.targets.iter().flatten().enumerate() {
            if catalog.find(kind.kind(), &id.namespace, name) == Found::Missing {
                let (reason, hint) = catalog.missing(kind.kind(), &id.namespace, name);
                problems.add(document, &list.entry(index).field("name"), reason, hint);
            }
        }
    }
}

/// The policy of each Service. A second one for the same Service is refused.
pub(crate) fn policies<'a>(catalog: &Catalog<'a>, problems: &mut Problems) -> Policies<'a> {
    let root = Path::ROOT;
    let spec = root.field("spec");
    let list = spec.field("targetRefs");
    let mut policies: HashMap<usize, (&BackendSettings, &ObjectId)> = HashMap::new();
    for (document, id, policy) in catalog.backend_policies() {
        for (index, name) in policy.services.iter().enumerate() {
            let at = list.entry(index);
            match catalog.find(Kind::Service, &id.namespace, name) {
                Found::Document(service) => match policies.get(&service) {
                    Some((_, other)) => {
                        let reason = format!("Service {} has {} already", quoted(name), quoted(&other.to_string()));
                        problems.add(document, &at.field("name"), reason, "put both into one policy");
                    }
                    None => {
                        policies.insert(service, (&policy.settings, id));
                    }
                },
                Found::Missing => {
                    let (reason, hint) = catalog.missing(Kind::Service, &id.namespace, name);
                    problems.add(document, &at.field("name"), reason, hint);
                }
                Found::Unknown => {}
            }
        }
    }
    policies.into_iter().map(|(service, (settings, _))| (service, settings)).collect()
}
