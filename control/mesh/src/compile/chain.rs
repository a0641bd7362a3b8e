//! Which plugins a request goes through: the Filters of the whole mesh, of its Gateway and of its HTTPRoute, ordered by
//! phase, priority, and namespace and name.

use std::collections::HashMap;

use weir_model::limits::MAX_CHAIN_PLUGINS;
use weir_model::{FilterChain, PluginName};

use crate::compile::plugins::plugin_name;
use crate::document::Path;
use crate::resolve::{Catalog, Problems, Resolved};
use crate::resource::{Filter, ObjectId, TargetKind};

/// All Filters in request order, and the chains made of them so far.
#[derive(Debug)]
pub(crate) struct Chains<'a> {
    filters: Vec<(PluginName, &'a ObjectId, &'a Filter)>,
    made: HashMap<Vec<usize>, FilterChain>,
}

impl<'a> Chains<'a> {
    /// All Filters, in the order that requests pass them.
    pub(crate) fn new(catalog: &Catalog<'a>) -> Self {
        let mut filters: Vec<_> = catalog.filters().map(|(_, id, filter)| (plugin_name(id), id, filter)).collect();
        filters.sort_by(|(_, left_id, left), (_, right_id, right)| {
            let left = (left.phase, left.priority, &left_id.namespace, &left_id.name);
            left.cmp(&(right.phase, right.priority, &right_id.namespace, &right_id.name))
        });
        Self { filters, made: HashMap::new() }
    }

    /// The chain of the requests that come through a Gateway and match an HTTPRoute.
    pub(crate) fn chain(&mut self, gateway: &ObjectId, route: &ObjectId) -> FilterChain {
        let chosen = self.chosen(gateway, route);
        let filters = &self.filters;
        let make = |chosen: &Vec<usize>| {
            let plugins = chosen.iter().map(|index| filters[*index].0.clone()).collect();
            FilterChain::new(plugins).expect("`check` has refused longer chains")
        };
        self.made.entry(chosen).or_insert_with_key(make).clone()
    }

    /// Refuses routes whose chain is too long.
    pub(crate) fn check(&self, catalog: &Catalog<'_>, resolved: &Resolved<'_>, problems: &mut Problems) {
        // No chain can be too long then, as nearly always.
        if self.filters.len() <= MAX_CHAIN_PLUGINS {
            return;
        }
        let mut reported = None;
        for attachment in &resolved.attachments {
            let (gateway, route) = (catalog.document(attachment.gateway), catalog.document(attachment.route));
            let (Some(gateway), Some(route)) = (&gateway.id, &route.id) else { continue };
            let count = self.chosen(gateway, route).len();
            if count > MAX_CHAIN_PLUGINS && reported != Some(attachment.route) {
                let reason = format!("{count} Filters are put before this route");
                problems.add(attachment.route, &Path::ROOT, reason, format!("use at most {MAX_CHAIN_PLUGINS}"));
                reported = Some(attachment.route);
            }
        }
    }

    fn chosen(&self, gateway: &ObjectId, route: &ObjectId) -> Vec<usize> {
        let is_for = |id: &ObjectId, filter: &Filter| {
            let Some(targets) = &filter.targets else { return true };
            targets.iter().any(|(kind, name)| {
                let target = match kind {
                    TargetKind::Gateway => gateway,
                    TargetKind::HttpRoute => route,
                };
                target.namespace == id.namespace && *target.name == **name
            })
        };
        let filters = self.filters.iter().enumerate();
        filters.filter(|(_, (_, id, filter))| is_for(id, filter)).map(|(index, _)| index).collect()
    }
}
