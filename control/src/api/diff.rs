//! Differences for people: of an object as YAML, and of what each proxy is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use similar::TextDiff;
use weir_model::Snapshot;
use weir_resources::to_yaml;

use crate::api::hidden::without_secrets;
use crate::board::Scope;
use crate::limits::MAX_DIFF_LINES;
use crate::status::ProxyEntry;

/// What becomes of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Effect {
    Created,
    Changed,
    Deleted,
    Unchanged,
}

impl Effect {
    pub(crate) fn of<T: PartialEq>(before: Option<&T>, after: Option<&T>) -> Self {
        match (before, after) {
            (None, Some(_)) => Self::Created,
            (Some(_), None) => Self::Deleted,
            (before, after) if before == after => Self::Unchanged,
            _ => Self::Changed,
        }
    }
}

/// What a change means for the proxies of one scope.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScopeDiff {
    /// The Gateway that these proxies serve; nothing for those that serve every Gateway.
    gateway: Option<String>,
    /// The proxies that are connected and have this scope.
    proxies: Vec<String>,
    /// What they would be told.
    resources: Vec<ResourceDiff>,
}

/// What becomes of one resource.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResourceDiff {
    /// `listener`, `routeTable`, `cluster`, `plugin` or `secret`.
    kind: &'static str,
    /// Its name.
    name: String,
    /// What becomes of it.
    effect: Effect,
    /// How it changes, as a unified diff; nothing is shown of a plugin, whose configuration may hold secrets.
    #[serde(skip_serializing_if = "String::is_empty")]
    diff: String,
}

/// How an object changes, as a unified diff of its YAML.
pub(crate) fn of_objects(before: Option<&Value>, after: Option<&Value>) -> String {
    let text = |value: Option<&Value>| value.map(|value| to_yaml(&without_secrets(value))).unwrap_or_default();
    let diff = unified(&text(before), &text(after));
    if diff.is_empty() && before != after { "(what differs is hidden)\n".to_owned() } else { diff }
}

/// What a change means for each scope that is in use; for everything, when none is.
pub(crate) fn of_scopes(before: &Snapshot, after: &Snapshot, proxies: &[ProxyEntry]) -> Vec<ScopeDiff> {
    let mut scopes: BTreeMap<Scope, BTreeSet<String>> = BTreeMap::new();
    for proxy in proxies {
        scopes.entry(proxy.scope.clone()).or_default().insert(proxy.node.clone());
    }
    if scopes.is_empty() {
        scopes.insert(Scope::Everything, BTreeSet::new());
    }
    let diff = |(scope, nodes): (Scope, BTreeSet<String>)| {
        let resources = of_snapshots(&scope.of_snapshot(before), &scope.of_snapshot(after));
        let gateway = if let Scope::Gateway(name) = scope { Some(name) } else { None };
        ScopeDiff { gateway, proxies: nodes.into_iter().collect(), resources }
    };
    scopes.into_iter().map(diff).collect()
}

fn of_snapshots(before: &Snapshot, after: &Snapshot) -> Vec<ResourceDiff> {
    let mut diffs = of_maps("listener", &before.listeners, &after.listeners);
    diffs.extend(of_maps("routeTable", &before.route_tables, &after.route_tables));
    diffs.extend(of_maps("cluster", &before.clusters, &after.clusters));
    let mut plugins = of_maps("plugin", &before.plugins, &after.plugins);
    plugins.iter_mut().for_each(|plugin| plugin.diff.clear());
    diffs.extend(plugins);
    let mut secrets = of_maps("secret", &before.secrets, &after.secrets);
    secrets.iter_mut().for_each(|secret| secret.diff.clear());
    diffs.extend(secrets);
    diffs
}

fn of_maps<N, T>(kind: &'static str, before: &BTreeMap<N, Arc<T>>, after: &BTreeMap<N, Arc<T>>) -> Vec<ResourceDiff>
where
    N: Ord + ToString,
    T: PartialEq + Serialize,
{
    let names: BTreeSet<&N> = before.keys().chain(after.keys()).collect();
    let diff = |name: &N| {
        let (before, after) = (before.get(name), after.get(name));
        let effect = Effect::of(before, after);
        if effect == Effect::Unchanged {
            return None;
        }
        let text = |value: Option<&Arc<T>>| value.and_then(|it| serde_json::to_value(it).ok()).map(|it| to_yaml(&it));
        let diff = unified(&text(before).unwrap_or_default(), &text(after).unwrap_or_default());
        Some(ResourceDiff { kind, name: name.to_string(), effect, diff })
    };
    names.into_iter().filter_map(diff).collect()
}

fn unified(before: &str, after: &str) -> String {
    let diff = TextDiff::from_lines(before, after).unified_diff().context_radius(3).to_string();
    let mut lines = diff.split_inclusive('\n');
    let shown: String = lines.by_ref().take(MAX_DIFF_LINES).collect();
    match lines.count() {
        0 => shown,
        more => format!("{shown}… and {more} more lines\n"),
    }
}
