//! Which plugins a request goes through: the Filters and AccessPolicies of the whole mesh, of its Gateway, of its
//! HTTPRoute, and of the Services that its rule forwards to; ordered by phase, priority, and namespace and name.

use std::collections::HashMap;

use weir_model::limits::MAX_CHAIN_PLUGINS;
use weir_model::{FilterChain, PluginName};

use crate::bundle::Manifest;
use crate::compile::plugins::{plugin_name, policy_name};
use crate::document::Path;
use crate::resolve::{Catalog, Problems, Resolved, namespace};
use crate::resource::{BackendRef, Filter, HttpRoute, ObjectId, Resource, Rule, RuleAction, TargetKind};
use crate::written::Phase;

/// All plugins in request order, and the chains made of them so far.
#[derive(Debug)]
pub(crate) struct Chains<'a> {
    links: Vec<Link<'a>>,
    /// Those for the whole mesh.
    everywhere: Vec<usize>,
    /// Those for an object, by its kind, namespace and name.
    by_target: HashMap<(TargetKind, &'a str, &'a str), Vec<usize>>,
    /// Whether the rules of one route may differ.
    has_service_targets: bool,
    made: HashMap<Vec<usize>, FilterChain>,
}

/// A plugin, and what it is put before.
#[derive(Debug)]
struct Link<'a> {
    plugin: PluginName,
    id: &'a ObjectId,
    /// Phase and priority. A policy stands before the filters of its phase.
    order: (Phase, Option<i32>),
    targets: Option<&'a [(TargetKind, String)]>,
}

/// The chains of an HTTPRoute's rules: one for all of them, or one for each.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RuleChains(Vec<FilterChain>);

impl RuleChains {
    /// That of one rule.
    pub(crate) fn of(&self, rule: usize) -> &FilterChain {
        self.0.get(rule).unwrap_or(&self.0[0])
    }
}

impl<'a> Chains<'a> {
    /// All plugins, in the order that requests pass them.
    pub(crate) fn new(catalog: &Catalog<'a>) -> Self {
        let filter = |(_, id, filter): (usize, &'a ObjectId, &'a Filter)| {
            let phase = filter.phase.or_else(|| catalog.manifest(filter).and_then(Manifest::phase));
            let order = (phase.unwrap_or(Phase::Transform), Some(filter.priority));
            Link { plugin: plugin_name(id), id, order, targets: filter.targets.as_deref() }
        };
        let policies = catalog.access_policies().map(|(_, id, policy)| {
            let (plugin, targets) = (policy_name(id), policy.targets.as_deref());
            Link { plugin, id, order: (Phase::Authz, None), targets }
        });
        let mut links: Vec<_> = catalog.filters().map(filter).chain(policies).collect();
        links.sort_by(|left, right| {
            let of = |link: &Link<'a>| (link.order, &link.id.namespace, &link.id.name);
            of(left).cmp(&of(right))
        });
        let (mut everywhere, mut by_target) = (Vec::new(), HashMap::<_, Vec<usize>>::new());
        for (index, link) in links.iter().enumerate() {
            let Some(targets) = link.targets else {
                everywhere.push(index);
                continue;
            };
            for (kind, name) in targets {
                by_target.entry((*kind, &*link.id.namespace, name.as_str())).or_default().push(index);
            }
        }
        let has_service_targets = by_target.keys().any(|(kind, ..)| *kind == TargetKind::Service);
        Self { links, everywhere, by_target, has_service_targets, made: HashMap::new() }
    }

    /// The chains of the requests that come through a Gateway and match an HTTPRoute.
    pub(crate) fn chains(&mut self, gateway: &ObjectId, id: &ObjectId, route: &HttpRoute) -> RuleChains {
        if !self.has_service_targets || route.rules.is_empty() {
            return RuleChains(vec![self.chain((gateway, id, None))]);
        }
        RuleChains(route.rules.iter().map(|rule| self.chain((gateway, id, Some(rule)))).collect())
    }

    /// The chain of the connections that take a TCPRoute: only what names it sees bytes.
    pub(crate) fn tcp_chain(&mut self, id: &ObjectId) -> FilterChain {
        let chosen = self.of_tcp_route(id);
        self.made_of(chosen)
    }

    fn of_tcp_route(&self, id: &ObjectId) -> Vec<usize> {
        self.by_target.get(&(TargetKind::TcpRoute, &id.namespace, &id.name)).cloned().unwrap_or_default()
    }

    fn chain(&mut self, request: (&ObjectId, &ObjectId, Option<&Rule>)) -> FilterChain {
        let chosen = self.chosen(request);
        self.made_of(chosen)
    }

    fn made_of(&mut self, chosen: Vec<usize>) -> FilterChain {
        let links = &self.links;
        let make = |chosen: &Vec<usize>| {
            let plugins = chosen.iter().map(|index| links[*index].plugin.clone()).collect();
            FilterChain::new(plugins).expect("`check` has refused longer chains")
        };
        self.made.entry(chosen).or_insert_with_key(make).clone()
    }

    /// Refuses routes whose chain is too long.
    pub(crate) fn check(&self, catalog: &Catalog<'_>, resolved: &Resolved<'_>, problems: &mut Problems) {
        // No chain can be too long then, as nearly always.
        if self.links.len() <= MAX_CHAIN_PLUGINS {
            return;
        }
        let mut reported = None;
        for attachment in &resolved.attachments {
            let (gateway, route) = (catalog.document(attachment.gateway), catalog.document(attachment.route));
            let (Some(gateway), Some(id)) = (&gateway.id, &route.id) else { continue };
            let count = match &route.resource {
                Some(Resource::HttpRoute(spec)) => {
                    let longest = spec.rules.iter().map(|rule| self.chosen((gateway, id, Some(rule))).len()).max();
                    longest.unwrap_or_default()
                }
                Some(Resource::TcpRoute(_)) => self.of_tcp_route(id).len(),
                _ => continue,
            };
            if count > MAX_CHAIN_PLUGINS && reported != Some(attachment.route) {
                let reason = format!("{count} Filters and AccessPolicies are put before this route");
                problems.add(attachment.route, &Path::ROOT, reason, format!("use at most {MAX_CHAIN_PLUGINS}"));
                reported = Some(attachment.route);
            }
        }
    }

    fn chosen(&self, (gateway, route, rule): (&ObjectId, &ObjectId, Option<&Rule>)) -> Vec<usize> {
        let mut chosen = self.everywhere.clone();
        let mut add = |kind: TargetKind, namespace: &str, name: &str| {
            chosen.extend(self.by_target.get(&(kind, namespace, name)).into_iter().flatten());
        };
        add(TargetKind::Gateway, &gateway.namespace, &gateway.name);
        add(TargetKind::HttpRoute, &route.namespace, &route.name);
        if self.has_service_targets {
            for backend in rule.into_iter().flat_map(reached) {
                add(TargetKind::Service, namespace(backend.namespace.as_deref(), route), &backend.name);
            }
        }
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }
}

/// What a rule forwards or mirrors to.
fn reached(rule: &Rule) -> impl Iterator<Item = &BackendRef> {
    let forward = match &rule.action {
        RuleAction::Forward { backends, mirrors, .. } => Some((backends, mirrors)),
        RuleAction::Redirect(_) => None,
    };
    forward.into_iter().flat_map(|(backends, mirrors)| {
        backends.iter().map(|(backend, _)| backend).chain(mirrors.iter().map(|(backend, ..)| backend))
    })
}
