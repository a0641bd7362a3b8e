//! Policies of an HTTPRoute that another HTTPRoute bypasses: both forward to one Service, and another spelling of a path
//! (`/admin;x`, `/%2561dmin`) takes the other route, while the endpoint reads it as `/admin` (CVE-2021-31920).

use std::collections::HashMap;

use weir_model::PathMatch;

use crate::limits::MAX_NAMED_ROUTES;
use crate::resolve::host::covers;
use crate::resolve::index::Lookup;
use crate::resolve::{Attachment, ObjectIndex, ReferenceErrors, Resolved};
use crate::resource::{HttpRoute, ObjectId, Rule, RuleAction, TargetKind};
use crate::spec::Kind;
use crate::suggest::listing;
use crate::warnings::lookup::{by_route, is_builtin};
use crate::yaml::FieldPathRef;

/// A Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct ServiceKey<'a> {
    namespace: &'a str,
    name: &'a str,
}

/// A policy with targets: an AuthorizationPolicy, or a Filter that runs `auth`.
struct Policy<'a> {
    document: usize,
    id: &'a ObjectId,
    targets: &'a [(TargetKind, String)],
}

/// The HTTPRoutes of a compilation, as this check needs them.
struct RouteIndex<'a, 'r> {
    objects: &'r ObjectIndex<'a>,
    /// The routes that forward to a Service by a path with several spellings, by the index of their document.
    by_service: HashMap<ServiceKey<'a>, Vec<usize>>,
    attachments: HashMap<usize, Vec<&'r Attachment>>,
}

/// Warns of each target HTTPRoute whose Services are reachable by another HTTPRoute of the same Gateway and host, without
/// the policy.
pub(super) fn check(objects: &ObjectIndex<'_>, resolved: &Resolved<'_>, warnings: &mut ReferenceErrors) {
    let policies = policies_of_routes(objects);
    if policies.is_empty() {
        return;
    }
    let mut by_service: HashMap<ServiceKey<'_>, Vec<usize>> = HashMap::new();
    for (document, id, route) in objects.http_routes() {
        for service in services(id, route.rules.iter().filter(|rule| has_spellings(rule))) {
            by_service.entry(service).or_default().push(document);
        }
    }
    let index = RouteIndex { objects, by_service, attachments: by_route(resolved) };
    let root = FieldPathRef::ROOT;
    let spec = root.field("spec");
    let list = spec.field("targetRefs");
    for policy in &policies {
        for (number, (kind, name)) in policy.targets.iter().enumerate() {
            if is_route(*kind)
                && let Some((reason, hint)) = index.bypass(policy, *kind, name)
            {
                warnings.add(policy.document, &list.entry(number), reason, hint);
            }
        }
    }
}

/// Returns the AuthorizationPolicies and `auth` Filters that target an HTTPRoute.
fn policies_of_routes<'a>(objects: &ObjectIndex<'a>) -> Vec<Policy<'a>> {
    let policies = objects.authorization_policies().map(|(document, id, policy)| Policy {
        document,
        id,
        targets: policy.targets.as_deref().unwrap_or_default(),
    });
    let filters = objects
        .filters()
        .filter(|(_, _, filter)| is_builtin(filter, "auth"))
        .map(|(document, id, filter)| Policy { document, id, targets: filter.targets.as_deref().unwrap_or_default() });
    let has_route = |policy: &Policy<'_>| policy.targets.iter().any(|(kind, _)| is_route(*kind));
    policies.chain(filters).filter(has_route).collect()
}

const fn is_route(kind: TargetKind) -> bool {
    matches!(kind, TargetKind::HttpRoute | TargetKind::GrpcRoute)
}

/// Returns the distinct Services that rules of a route forward to.
fn services<'a>(id: &'a ObjectId, rules: impl Iterator<Item = &'a Rule>) -> Vec<ServiceKey<'a>> {
    let mut services = Vec::new();
    for rule in rules {
        let RuleAction::Forward { backends, .. } = &rule.action else { continue };
        services.extend(backends.iter().map(|backend| ServiceKey {
            namespace: id.reference_namespace(backend.reference.namespace.as_deref()),
            name: &backend.reference.name,
        }));
    }
    services.sort_unstable();
    services.dedup();
    services
}

/// Returns whether a rule matches several spellings of a path.
fn has_spellings(rule: &Rule) -> bool {
    rule.matches.iter().any(|matches| !matches!(matches.path, PathMatch::Exact(_)))
}

/// The routes to a Service that bypass a policy.
struct Bypass<'a> {
    service: ServiceKey<'a>,
    /// The other routes, at least one and at most [`MAX_NAMED_ROUTES`].
    routes: Vec<OtherRoute<'a>>,
}

/// A route that bypasses the policy of another one.
struct OtherRoute<'a> {
    id: &'a ObjectId,
    route: &'a HttpRoute,
    /// A Gateway of both routes.
    gateway: &'a ObjectId,
    /// True if both routes serve one host there; false if this one serves other hosts, too.
    is_same_host: bool,
}

impl<'a> RouteIndex<'a, '_> {
    /// Returns reason and hint of a warning if another route bypasses the policy of the route `name`.
    fn bypass(&self, policy: &Policy<'a>, kind: TargetKind, name: &str) -> Option<(String, String)> {
        let Lookup::Document(document) = self.objects.find(kind.kind(), &policy.id.namespace, name) else {
            return None;
        };
        let (id, route) = self.http_route(document)?;
        services(id, route.rules.iter())
            .into_iter()
            .filter(|service| !policy.covers(TargetKind::Service, service.namespace, service.name))
            .find_map(|service| self.bypass_to(policy, document, service))
            .map(|bypass| (bypass.reason(route), bypass.hint(policy)))
    }

    fn bypass_to(&self, policy: &Policy<'_>, document: usize, service: ServiceKey<'a>) -> Option<Bypass<'a>> {
        let others = self.by_service.get(&service)?.iter().filter(|other| **other != document);
        let routes: Vec<_> =
            others.filter_map(|other| self.other_route(policy, document, *other)).take(MAX_NAMED_ROUTES).collect();
        (!routes.is_empty()).then_some(Bypass { service, routes })
    }

    /// Returns a route that serves a host of the route `guarded` on one of its Gateways, without the policy.
    fn other_route(&self, policy: &Policy<'_>, guarded: usize, other: usize) -> Option<OtherRoute<'a>> {
        let (id, route) = self.http_route(other)?;
        if policy.covers(TargetKind::of_route(id.kind), &id.namespace, &id.name) {
            return None;
        }
        let of_route = |route: usize| self.attachments.get(&route).into_iter().flatten();
        let mut found = None;
        for there in of_route(other) {
            let mut here = of_route(guarded).filter(|here| here.gateway == there.gateway);
            let Some(gateway) = &self.objects.document(there.gateway).id else { continue };
            if policy.covers(TargetKind::Gateway, &gateway.namespace, &gateway.name) {
                continue;
            }
            if here.clone().any(|here| here.host == there.host) {
                return Some(OtherRoute { id, route, gateway, is_same_host: true });
            }
            // A narrower host is another site on purpose.
            if here.any(|here| covers(&there.host, &here.host)) {
                found = found.or(Some(OtherRoute { id, route, gateway, is_same_host: false }));
            }
        }
        found
    }

    fn http_route(&self, document: usize) -> Option<(&'a ObjectId, &'a HttpRoute)> {
        let document = self.objects.document(document);
        Some((document.id.as_ref()?, document.resource.as_ref()?.http_route()?))
    }
}

impl Policy<'_> {
    /// Returns whether the policy targets this object. Targets are in the policy's own namespace.
    fn covers(&self, kind: TargetKind, namespace: &str, name: &str) -> bool {
        let is_target = |(target, target_name): &(TargetKind, String)| *target == kind && target_name == name;
        *self.id.namespace == *namespace && self.targets.iter().any(is_target)
    }
}

impl Bypass<'_> {
    fn reason(&self, guarded: &HttpRoute) -> String {
        let names: Vec<String> = self.routes.iter().map(|other| other.id.to_string()).collect();
        let names = listing(names.iter().map(String::as_str));
        let ServiceKey { namespace, name } = self.service;
        let [forward, take] = if self.routes.len() == 1 { ["forwards", "takes"] } else { ["forward", "take"] };
        let on_same_host = || self.routes.iter().filter(|other| other.is_same_host);
        let taken = match on_same_host().find_map(|other| example(guarded, other, self.service)) {
            Some(path) => format!("other spellings of its paths, like `{path}`"),
            None if on_same_host().next().is_some() => "requests that it does not match".to_owned(),
            None => "its paths on other hosts".to_owned(),
        };
        format!("{names} {forward} to Service {namespace}/{name} without this policy, and {take} {taken}")
    }

    fn hint(&self, policy: &Policy<'_>) -> String {
        let own = |namespace: &str| *namespace == *policy.id.namespace;
        let ServiceKey { namespace, name: service } = self.service;
        let mut targets = Vec::new();
        // A Filter cannot target a Service.
        if own(namespace) && policy.id.kind != Kind::Filter {
            targets.push(format!("Service `{service}`"));
        }
        if let Some(other) = self.routes.iter().find(|other| own(&other.gateway.namespace)) {
            targets.push(format!("Gateway `{}`", other.gateway.name));
        }
        if targets.is_empty() {
            return format!("write an AuthorizationPolicy in namespace `{namespace}` that targets Service `{service}`");
        }
        format!("target {} in its place, with `paths` in the rules", targets.join(" or "))
    }
}

/// Returns a path that the other route takes and that a lenient endpoint reads as one of the guarded route. `None` if
/// the routes differ in something else than their paths.
fn example(guarded: &HttpRoute, other: &OtherRoute<'_>, service: ServiceKey<'_>) -> Option<String> {
    let guarded = guarded.rules.iter().flat_map(|rule| &rule.matches).find_map(|matches| match &matches.path {
        PathMatch::Exact(path) | PathMatch::Prefix(path) => Some(&**path),
        PathMatch::Regex(_) => None,
    })?;
    let to_service =
        other.route.rules.iter().filter(|rule| services(other.id, std::iter::once(*rule)).contains(&service));
    let prefix = to_service.flat_map(|rule| &rule.matches).find_map(|matches| match &matches.path {
        PathMatch::Prefix(prefix) => Some(&**prefix),
        PathMatch::Exact(_) | PathMatch::Regex(_) => None,
    })?;
    let is_below = guarded.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match (is_below, guarded.len() > prefix.len()) {
        (true, true) => Some(format!("{guarded};x")),
        (true, false) => None,
        (false, _) => {
            let up = "/..;".repeat(prefix.matches('/').count());
            Some(format!("{prefix}{up}{}", if guarded.is_empty() { "/" } else { guarded }))
        }
    }
}
