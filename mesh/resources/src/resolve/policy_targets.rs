//! Targets of Filters, AuthorizationPolicies and BackendTrafficPolicies, and the Secrets of Gateways.

use std::collections::HashMap;

use weir_model::ModuleSource;

use crate::resolve::errors::ReferenceErrors;
use crate::resolve::index::{Lookup, ObjectIndex};
use crate::resource::backend_traffic_policy::BackendSettings;
use crate::resource::{ListenerTls, ObjectId, Resource, Secret, TargetKind};
use crate::spec::Kind;
use crate::suggest::quoted;
use crate::yaml::{FieldErrors, FieldPathRef};

/// The settings of each Service with a BackendTrafficPolicy, by the index of the ServiceEntry's document.
pub(crate) type TrafficPolicies<'a> = HashMap<usize, &'a BackendSettings>;

/// Checks the targets of Filters and AuthorizationPolicies, the bundles of Filters, and their configurations.
pub(crate) fn check_filters(objects: &ObjectIndex<'_>, errors: &mut ReferenceErrors) {
    let root = FieldPathRef::ROOT;
    let spec = root.field("spec");
    let list = spec.field("targetRefs");
    for (document, id, filter) in objects.filters() {
        if let ModuleSource::Bundle(name) = &filter.module
            && let Some((reason, hint)) = objects.bundles().missing(name)
        {
            errors.add(document, &spec.field("module").field("bundle"), reason, hint);
        }
        if let Some(manifest) = objects.manifest(filter) {
            let mut field_errors = FieldErrors::default();
            manifest.check_configuration(&filter.configuration, &spec.field("config"), &mut field_errors);
            errors.add_field_errors(document, field_errors);
        }
        let targets = PolicyTargets { document, id, targets: filter.targets.as_deref() };
        check_targets(objects, &targets, &list, errors);
    }
    for (document, id, policy) in objects.authorization_policies() {
        let targets = PolicyTargets { document, id, targets: policy.targets.as_deref() };
        check_targets(objects, &targets, &list, errors);
    }
}

/// The `targetRefs` of a Filter or an AuthorizationPolicy.
struct PolicyTargets<'a> {
    /// The index of the policy's document.
    document: usize,
    id: &'a ObjectId,
    /// `None` for the whole mesh.
    targets: Option<&'a [(TargetKind, String)]>,
}

fn check_targets(
    objects: &ObjectIndex<'_>,
    policy: &PolicyTargets<'_>,
    list: &FieldPathRef<'_>,
    errors: &mut ReferenceErrors,
) {
    let PolicyTargets { document, id, targets } = *policy;
    for (index, (kind, name)) in targets.unwrap_or_default().iter().enumerate() {
        if objects.find(kind.kind(), &id.namespace, name) == Lookup::Missing {
            let (reason, hint) = objects.missing(kind.kind(), &id.namespace, name);
            errors.add(document, &list.entry(index).field("name"), reason, hint);
        }
    }
}

/// Returns reason and hint of an error if a Secret does not exist, or has no certificate.
pub(crate) fn certificate_problem(
    objects: &ObjectIndex<'_>,
    namespace: &str,
    secret: &str,
) -> Option<(String, String)> {
    match objects.find(Kind::Secret, namespace, secret) {
        Lookup::Missing => Some(objects.missing(Kind::Secret, namespace, secret)),
        Lookup::Document(found) => match &objects.document(found).resource {
            Some(Resource::Secret(Secret::Opaque(_))) => {
                let reason = format!("the Secret {} has no certificate", quoted(secret));
                Some((reason, "give it `type: kubernetes.io/tls`, `tls.crt` and `tls.key`".to_owned()))
            }
            _ => None,
        },
        Lookup::Unknown => None,
    }
}

/// Checks that the Secrets of Gateways exist and have certificates.
pub(crate) fn check_certificates(objects: &ObjectIndex<'_>, errors: &mut ReferenceErrors) {
    let root = FieldPathRef::ROOT;
    let spec = root.field("spec");
    let list = spec.field("listeners");
    for (document, id, gateway) in objects.gateways() {
        for (index, listener) in gateway.listeners.iter().enumerate() {
            let ListenerTls::Https(secret) = &listener.tls else { continue };
            if let Some((reason, hint)) = certificate_problem(objects, &id.namespace, secret) {
                let at = list.entry(index);
                let tls = at.field("tls");
                let certificates = tls.field("certificateRefs");
                errors.add(document, &certificates.entry(0).field("name"), reason, hint);
            }
        }
    }
}

/// Returns the settings of each Service. Reports an error for a second policy of one Service.
pub(crate) fn traffic_policies<'a>(objects: &ObjectIndex<'a>, errors: &mut ReferenceErrors) -> TrafficPolicies<'a> {
    let root = FieldPathRef::ROOT;
    let spec = root.field("spec");
    let list = spec.field("targetRefs");
    let mut traffic_policies: HashMap<usize, (&BackendSettings, &ObjectId)> = HashMap::new();
    for (document, id, policy) in objects.backend_traffic_policies() {
        for (index, name) in policy.services.iter().enumerate() {
            let at = list.entry(index);
            match objects.find(Kind::ServiceEntry, &id.namespace, name) {
                Lookup::Document(service) => match traffic_policies.get(&service) {
                    Some((_, other)) => {
                        let reason =
                            format!("ServiceEntry {} has {} already", quoted(name), quoted(&other.to_string()));
                        errors.add(document, &at.field("name"), reason, "put both into one policy");
                    }
                    None => {
                        traffic_policies.insert(service, (&policy.settings, id));
                    }
                },
                Lookup::Missing => {
                    let (reason, hint) = objects.missing(Kind::ServiceEntry, &id.namespace, name);
                    errors.add(document, &at.field("name"), reason, hint);
                }
                Lookup::Unknown => {}
            }
        }
    }
    traffic_policies.into_iter().map(|(service, (settings, _))| (service, settings)).collect()
}
