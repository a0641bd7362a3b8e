//! Filter chains: the Filters and AuthorizationPolicies of the whole mesh, of the Gateway, of the HTTPRoute, and of the
//! Services that a rule forwards to. Ordered by phase, priority, and namespace and name.

use std::collections::HashMap;

use weir_model::limits::MAX_CHAIN_PLUGINS;
use weir_model::{FilterChain, PluginName};

use crate::bundle_catalog::Manifest;
use crate::compile::plugins::{plugin_name, policy_name};
use crate::resolve::{ObjectIndex, ReferenceErrors, Resolved};
use crate::resource::{BackendRef, Filter, HttpRoute, ObjectId, Resource, Rule, RuleAction, TargetKind};
use crate::spec::Phase;
use crate::yaml::FieldPathRef;

/// All plugins in request order, and the chains built so far.
#[derive(Debug)]
pub(crate) struct ChainBuilder<'a> {
    entries: Vec<ChainEntry<'a>>,
    /// Indexes of entries for the whole mesh.
    mesh_wide: Vec<usize>,
    /// Indexes of entries by target kind, namespace and name.
    by_target: HashMap<(TargetKind, &'a str, &'a str), Vec<usize>>,
    /// True if the rules of one route may have different chains.
    has_service_targets: bool,
    interned: HashMap<Vec<usize>, FilterChain>,
}

/// A plugin and its targets.
#[derive(Debug)]
struct ChainEntry<'a> {
    plugin: PluginName,
    id: &'a ObjectId,
    /// Phase and priority. A policy (`None`) precedes the filters of its phase.
    order: (Phase, Option<i32>),
    targets: Option<&'a [(TargetKind, String)]>,
}

/// The objects that decide the chain of a request.
struct RequestScope<'a> {
    gateway: &'a ObjectId,
    route: &'a ObjectId,
    /// `None` when no policy targets a Service, so that all rules of the route have the same chain.
    rule: Option<&'a Rule>,
}

/// The chains of an HTTPRoute's rules: one for all rules, or one per rule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RuleChains(Vec<FilterChain>);

impl RuleChains {
    /// Returns the chain of a rule.
    pub(crate) fn for_rule(&self, rule: usize) -> &FilterChain {
        self.0.get(rule).unwrap_or(&self.0[0])
    }
}

impl<'a> ChainBuilder<'a> {
    /// Creates a builder with all plugins, in request order.
    pub(crate) fn new(objects: &ObjectIndex<'a>) -> Self {
        let filter = |(_, id, filter): (usize, &'a ObjectId, &'a Filter)| {
            let phase = filter.phase.or_else(|| objects.manifest(filter).and_then(Manifest::phase));
            let order = (phase.unwrap_or(Phase::Transform), Some(filter.priority));
            ChainEntry { plugin: plugin_name(id), id, order, targets: filter.targets.as_deref() }
        };
        let policies = objects.authorization_policies().map(|(_, id, policy)| {
            let (plugin, targets) = (policy_name(id), policy.targets.as_deref());
            ChainEntry { plugin, id, order: (Phase::Authz, None), targets }
        });
        let mut entries: Vec<_> = objects.filters().map(filter).chain(policies).collect();
        entries.sort_by(|left, right| {
            let key = |entry: &ChainEntry<'a>| (entry.order, &entry.id.namespace, &entry.id.name);
            key(left).cmp(&key(right))
        });
        let (mut mesh_wide, mut by_target) = (Vec::new(), HashMap::<_, Vec<usize>>::new());
        for (index, entry) in entries.iter().enumerate() {
            let Some(targets) = entry.targets else {
                mesh_wide.push(index);
                continue;
            };
            for (kind, name) in targets {
                by_target.entry((*kind, &*entry.id.namespace, name.as_str())).or_default().push(index);
            }
        }
        let has_service_targets = by_target.keys().any(|(kind, ..)| *kind == TargetKind::Service);
        Self { entries, mesh_wide, by_target, has_service_targets, interned: HashMap::new() }
    }

    /// Returns the chains of requests that enter through a Gateway and match an HTTPRoute.
    pub(crate) fn chains(&mut self, gateway: &ObjectId, id: &ObjectId, route: &HttpRoute) -> RuleChains {
        if !self.has_service_targets || route.rules.is_empty() {
            return RuleChains(vec![self.chain(&RequestScope { gateway, route: id, rule: None })]);
        }
        RuleChains(
            route.rules.iter().map(|rule| self.chain(&RequestScope { gateway, route: id, rule: Some(rule) })).collect(),
        )
    }

    /// Returns the chain of connections of a TCPRoute: only plugins that target it process bytes.
    pub(crate) fn tcp_chain(&mut self, id: &ObjectId) -> FilterChain {
        let indexes = self.tcp_route_entries(id);
        self.intern(indexes)
    }

    fn tcp_route_entries(&self, id: &ObjectId) -> Vec<usize> {
        self.by_target.get(&(TargetKind::TcpRoute, &id.namespace, &id.name)).cloned().unwrap_or_default()
    }

    fn chain(&mut self, request: &RequestScope<'_>) -> FilterChain {
        let indexes = self.request_entries(request);
        self.intern(indexes)
    }

    fn intern(&mut self, indexes: Vec<usize>) -> FilterChain {
        let entries = &self.entries;
        let make = |indexes: &Vec<usize>| {
            let plugins = indexes.iter().map(|index| entries[*index].plugin.clone()).collect();
            FilterChain::new(plugins).expect("`check` rejects longer chains")
        };
        self.interned.entry(indexes).or_insert_with_key(make).clone()
    }

    /// Reports an error for routes with too long chains.
    pub(crate) fn check(&self, objects: &ObjectIndex<'_>, resolved: &Resolved<'_>, errors: &mut ReferenceErrors) {
        // Fewer plugins than the limit: no chain can be too long.
        if self.entries.len() <= MAX_CHAIN_PLUGINS {
            return;
        }
        let mut reported = None;
        for attachment in &resolved.attachments {
            let (gateway, route) = (objects.document(attachment.gateway), objects.document(attachment.route));
            let (Some(gateway), Some(id)) = (&gateway.id, &route.id) else { continue };
            let count = match &route.resource {
                Some(Resource::HttpRoute(spec) | Resource::GrpcRoute(spec)) => {
                    let longest = spec
                        .rules
                        .iter()
                        .map(|rule| self.request_entries(&RequestScope { gateway, route: id, rule: Some(rule) }).len())
                        .max();
                    longest.unwrap_or_default()
                }
                Some(Resource::TcpRoute(_)) => self.tcp_route_entries(id).len(),
                _ => continue,
            };
            if count > MAX_CHAIN_PLUGINS && reported != Some(attachment.route) {
                let reason = format!("{count} Filters and AuthorizationPolicies apply to this route");
                errors.add(attachment.route, &FieldPathRef::ROOT, reason, format!("use at most {MAX_CHAIN_PLUGINS}"));
                reported = Some(attachment.route);
            }
        }
    }

    fn request_entries(&self, scope: &RequestScope<'_>) -> Vec<usize> {
        let RequestScope { gateway, route, rule } = *scope;
        let mut indexes = self.mesh_wide.clone();
        let mut add = |kind: TargetKind, namespace: &str, name: &str| {
            indexes.extend(self.by_target.get(&(kind, namespace, name)).into_iter().flatten());
        };
        add(TargetKind::Gateway, &gateway.namespace, &gateway.name);
        add(TargetKind::of_route(route.kind), &route.namespace, &route.name);
        if self.has_service_targets {
            for backend in rule.into_iter().flat_map(reached) {
                add(TargetKind::Service, route.reference_namespace(backend.namespace.as_deref()), &backend.name);
            }
        }
        indexes.sort_unstable();
        indexes.dedup();
        indexes
    }
}

/// Returns the backends and mirrors of a rule.
fn reached(rule: &Rule) -> impl Iterator<Item = &BackendRef> {
    let forward = match &rule.action {
        RuleAction::Forward { backends, mirrors, .. } => Some((backends, mirrors)),
        RuleAction::Redirect(_) => None,
    };
    forward.into_iter().flat_map(|(backends, mirrors)| {
        backends.iter().map(|backend| &backend.reference).chain(mirrors.iter().map(|(backend, ..)| backend))
    })
}
