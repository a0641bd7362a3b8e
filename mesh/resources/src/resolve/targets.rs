//! What Filters and BackendPolicies are for.

use std::collections::HashMap;

use weir_model::ModuleSource;

use crate::document::{Faults, Path};
use crate::resolve::catalog::{Catalog, Found};
use crate::resolve::problem::Problems;
use crate::resource::backend_policy::BackendSettings;
use crate::resource::{ObjectId, Security, TargetKind};
use crate::suggest::quoted;
use crate::written::Kind;

/// The settings of each Service that has a policy, by the Service's document.
pub(crate) type Policies<'a> = HashMap<usize, &'a BackendSettings>;

/// Checks that what Filters and AccessPolicies are put before is there, and the bundles that they name; and that these take what the Filters
/// hand to them.
pub(crate) fn check_filters(catalog: &Catalog<'_>, problems: &mut Problems) {
    let root = Path::ROOT;
    let spec = root.field("spec");
    let list = spec.field("targetRefs");
    for (document, id, filter) in catalog.filters() {
        if let ModuleSource::Bundle(name) = &filter.module
            && let Some((reason, hint)) = catalog.bundles().missing(name)
        {
            problems.add(document, &spec.field("module").field("bundle"), reason, hint);
        }
        if let Some(manifest) = catalog.manifest(filter) {
            let mut faults = Faults::default();
            manifest.check_configuration(&filter.configuration, &spec.field("config"), &mut faults);
            problems.add_faults(document, faults);
        }
        check_targets(catalog, (document, id, filter.targets.as_deref()), &list, problems);
    }
    for (document, id, policy) in catalog.access_policies() {
        check_targets(catalog, (document, id, policy.targets.as_deref()), &list, problems);
    }
}

fn check_targets(
    catalog: &Catalog<'_>,
    (document, id, targets): (usize, &ObjectId, Option<&[(TargetKind, String)]>),
    list: &Path<'_>,
    problems: &mut Problems,
) {
    for (index, (kind, name)) in targets.unwrap_or_default().iter().enumerate() {
        if catalog.find(kind.kind(), &id.namespace, name) == Found::Missing {
            let (reason, hint) = catalog.missing(kind.kind(), &id.namespace, name);
            problems.add(document, &list.entry(index).field("name"), reason, hint);
        }
    }
}

/// Checks that the certificates of Gateways are there.
pub(crate) fn check_certificates(catalog: &Catalog<'_>, problems: &mut Problems) {
    let root = Path::ROOT;
    let spec = root.field("spec");
    let list = spec.field("listeners");
    for (document, id, gateway) in catalog.gateways() {
        for (index, listener) in gateway.listeners.iter().enumerate() {
            let Security::Https(secret) = &listener.security else { continue };
            if catalog.find(Kind::Secret, &id.namespace, secret) == Found::Missing {
                let (reason, hint) = catalog.missing(Kind::Secret, &id.namespace, secret);
                let at = list.entry(index);
                let tls = at.field("tls");
                let certificates = tls.field("certificateRefs");
                problems.add(document, &certificates.entry(0).field("name"), reason, hint);
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
