//! Targets of `routing` Filters that a rule of their HTTPRoutes lacks: a request of that rule gets 500
//! `routing_mark_unknown` (docs/decisions/005-routing-marks.md).
//!
//! The configuration is read only as far as needed. Other errors in it are those of the filter itself.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use crate::compile::clusters::ServiceEndpoints;
use crate::limits::{MAX_CHECKED_TARGETS, MAX_NAMED_ROUTES};
use crate::resolve::index::Lookup;
use crate::resolve::{Attachment, ObjectIndex, ReferenceErrors, Resolved, backend_id};
use crate::resource::{BackendRef, Filter, ObjectId, Resource, RuleAction, TargetKind};
use crate::spec::Kind;
use crate::suggest::{listing, nearest, quoted};
use crate::warnings::lookup::{by_route, is_builtin};
use crate::yaml::{FieldPath, FieldStep};

/// A target in the configuration of a Filter.
struct Target {
    /// The field, as in `spec.config.rules[0].to`.
    path: FieldPath,
    /// The backend, `namespace/service:port`; empty for the one that the weights pick.
    backend: String,
    /// The version. `None` for all endpoints.
    version: Option<String>,
}

/// A rule of an HTTPRoute that forwards requests to Services.
struct ForwardingRule<'a> {
    /// The rule, as in `rule 1 of HTTPRoute shop/web`.
    name: String,
    backends: Vec<RuleBackend<'a>>,
}

/// A backend of a rule.
struct RuleBackend<'a> {
    /// `namespace/service:port`.
    id: String,
    /// True if the rule's weights pick the backend.
    has_weight: bool,
    /// The versions of its endpoints. `None` if they are unknown, because workloads register them.
    versions: Option<BTreeSet<&'a str>>,
}

/// Warns of each target that a rule served by its Filter lacks.
pub(super) fn check(objects: &ObjectIndex<'_>, resolved: &Resolved<'_>, warnings: &mut ReferenceErrors) {
    let filters: Vec<_> = objects.filters().filter(|(_, _, filter)| is_builtin(filter, "routing")).collect();
    if filters.is_empty() {
        return;
    }
    let attachments = by_route(resolved);
    for (document, id, filter) in filters {
        let targets = targets(filter);
        if targets.is_empty() {
            continue;
        }
        let rules = served_rules(objects, &attachments, id, filter);
        for target in targets {
            if let Some((reason, hint)) = lacking(&target, &rules) {
                warnings.add_at(document, target.path, reason, hint);
            }
        }
    }
}

/// Returns the targets of the configuration, at most [`MAX_CHECKED_TARGETS`]. Shares of 0 percent are left out: no
/// request gets them.
fn targets(filter: &Filter) -> Vec<Target> {
    let config: Value = serde_json::from_slice(&filter.configuration).unwrap_or_default();
    let entries = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let mut targets = Vec::new();
    for (number, rule) in entries(&config, "rules").iter().enumerate() {
        let at = [FieldStep::Field("rules".to_owned()), FieldStep::Entry(number)];
        targets.extend(target(&at, rule));
        for (number, share) in entries(rule, "split").iter().enumerate() {
            if share["percent"].as_f64() == Some(0.0) {
                continue;
            }
            let share_at = [FieldStep::Field("split".to_owned()), FieldStep::Entry(number)];
            targets.extend(target(&[&at[..], &share_at].concat(), share));
        }
    }
    targets.truncate(MAX_CHECKED_TARGETS);
    targets
}

/// Returns the target in the field `to` of an object of the configuration, if it has one.
fn target(at: &[FieldStep], object: &Value) -> Option<Target> {
    let to = object["to"].as_str()?;
    let (backend, version) = to.split_once('@').map_or((to, None), |(backend, version)| (backend, Some(version)));
    let field = |name: &str| FieldStep::Field(name.to_owned());
    let path = FieldPath([&[field("spec"), field("config")], at, &[field("to")]].concat());
    Some(Target { path, backend: backend.to_owned(), version: version.map(str::to_owned) })
}

/// Returns the rules that forward requests through a Filter.
fn served_rules<'a>(
    objects: &ObjectIndex<'a>,
    attachments: &HashMap<usize, Vec<&Attachment>>,
    filter_id: &ObjectId,
    filter: &Filter,
) -> Vec<ForwardingRule<'a>> {
    let is_target = |kind: TargetKind, id: &ObjectId| {
        *id.namespace == *filter_id.namespace
            && filter.targets.iter().flatten().any(|(target, name)| *target == kind && **name == *id.name)
    };
    let mut rules = Vec::new();
    for (document, id, route) in objects.http_routes() {
        let Some(attachments) = attachments.get(&document) else { continue };
        let gateways = || attachments.iter().filter_map(|attachment| objects.document(attachment.gateway).id.as_ref());
        let is_served = filter.targets.is_none()
            || is_target(TargetKind::of_route(id.kind), id)
            || gateways().any(|gateway| is_target(TargetKind::Gateway, gateway));
        if !is_served {
            continue;
        }
        for (number, rule) in route.rules.iter().enumerate() {
            let RuleAction::Forward { backends, .. } = &rule.action else { continue };
            // Requests of a rule whose weights are all 0 get 500 before the target is read.
            if backends.iter().all(|backend| backend.weight.get() == 0) {
                continue;
            }
            let backends = backends.iter().map(|backend| RuleBackend {
                id: backend_id(&backend.reference, id),
                has_weight: backend.weight.get() > 0,
                versions: versions(objects, id, &backend.reference),
            });
            rules.push(ForwardingRule { name: format!("rule {number} of {id}"), backends: backends.collect() });
        }
    }
    rules
}

/// Returns the versions of a backend's endpoints. `None` for a ServiceEntry that lists no endpoint and has no registered
/// one: its workloads may register later.
fn versions<'a>(objects: &ObjectIndex<'a>, id: &ObjectId, backend: &BackendRef) -> Option<BTreeSet<&'a str>> {
    let namespace = id.reference_namespace(backend.namespace.as_deref());
    let Lookup::Document(index) = objects.find(Kind::ServiceEntry, namespace, &backend.name) else { return None };
    let document = objects.document(index);
    let (Some(Resource::ServiceEntry(service)), Some(service_id)) = (&document.resource, &document.id) else {
        return None;
    };
    let port = service.ports.iter().find(|port| port.port == backend.port)?;
    let endpoints = ServiceEndpoints { service, registered: objects.registered(service_id) };
    endpoints.are_known().then(|| endpoints.versions(port).into_iter().map(|version| &**version).collect())
}

/// Returns reason and hint of a warning if a rule lacks the target.
fn lacking(target: &Target, rules: &[ForwardingRule<'_>]) -> Option<(String, String)> {
    let lacks: Vec<&ForwardingRule<'_>> = rules.iter().filter(|rule| !rule.has(target)).collect();
    let first = lacks.first()?;
    let noun = match (&target.version, target.backend.is_empty()) {
        (None, _) => format!("the backend {}", quoted(&target.backend)),
        (Some(version), true) => format!("the version {} of each backend", quoted(version)),
        (Some(version), false) => format!("the version {} of a backend {}", quoted(version), quoted(&target.backend)),
    };
    let names: Vec<&str> = lacks.iter().take(MAX_NAMED_ROUTES).map(|rule| rule.name.as_str()).collect();
    let more =
        if lacks.len() > names.len() { format!(" and {} more", lacks.len() - names.len()) } else { String::new() };
    let verb = if lacks.len() == 1 { "lacks" } else { "lack" };
    let reason = format!(
        "{}{more} {verb} {noun}: a request for it gets 500 routing_mark_unknown",
        listing(names.iter().copied())
    );
    Some((reason, first.correction(target)))
}

impl ForwardingRule<'_> {
    fn has(&self, target: &Target) -> bool {
        if target.backend.is_empty() {
            return self
                .backends
                .iter()
                .filter(|backend| backend.has_weight)
                .all(|backend| backend.has_version(target));
        }
        self.backends.iter().any(|backend| backend.id == target.backend && backend.has_version(target))
    }

    /// Returns the hint for a target that this rule lacks.
    fn correction(&self, target: &Target) -> String {
        let is_meant = |backend: &&RuleBackend<'_>| match target.backend.as_str() {
            "" => backend.has_weight && !backend.has_version(target),
            id => backend.id == id,
        };
        match self.backends.iter().find(is_meant) {
            Some(backend) => {
                let versions = listing(backend.versions.iter().flatten().copied());
                format!("the versions of {} are: {versions}", backend.id)
            }
            None => {
                let backends: Vec<&str> = self.backends.iter().map(|backend| backend.id.as_str()).collect();
                match nearest(&target.backend, backends.iter().copied()) {
                    Some(backend) => format!("did you mean `{backend}`?"),
                    None => format!("add it to the rule, with `weight: 0`; its backends are: {}", listing(backends)),
                }
            }
        }
    }
}

impl RuleBackend<'_> {
    /// Returns whether the backend has the target's version, or may have it.
    fn has_version(&self, target: &Target) -> bool {
        match (&target.version, &self.versions) {
            (Some(version), Some(versions)) => versions.contains(version.as_str()),
            (None, _) | (_, None) => true,
        }
    }
}
