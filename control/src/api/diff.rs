//! Diffs for users: of objects as YAML, and of the snapshot of each scope.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use similar::TextDiff;
use weir_model::Snapshot;
use weir_resources::to_yaml;

use crate::access::redact;
use crate::limits::MAX_DIFF_LINES;
use crate::scope::Scope;
use crate::status::ProxyState;
use crate::store::{ObjectChange, ObjectRef};

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ChangeType {
    Created,
    Changed,
    Deleted,
    Unchanged,
}

impl ChangeType {
    pub(crate) fn between<T: PartialEq>(before: Option<&T>, after: Option<&T>) -> Self {
        match (before, after) {
            (None, Some(_)) => Self::Created,
            (Some(_), None) => Self::Deleted,
            (before, after) if before == after => Self::Unchanged,
            _ => Self::Changed,
        }
    }
}

/// The effect of a change on the proxies of one scope.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScopeDiff {
    /// The Gateway that the proxies serve; `null` for proxies that serve all Gateways.
    gateway: Option<String>,
    /// The connected proxies of the scope.
    proxies: Vec<String>,
    /// The resources that change.
    resources: Vec<ResourceDiff>,
}

/// The change of one resource.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResourceDiff {
    /// `listener`, `routeTable`, `cluster`, `plugin` or `secret`.
    kind: &'static str,
    /// The name.
    name: String,
    /// The kind of the change.
    #[serde(rename = "effect")]
    change_type: ChangeType,
    /// A unified diff. Absent for a plugin or a secret: their configuration may contain secrets.
    #[serde(skip_serializing_if = "String::is_empty")]
    diff: String,
}

/// The change of one object.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ObjectDiff {
    /// The object.
    #[serde(flatten)]
    pub(crate) object: ObjectRef,
    /// The kind of the change.
    #[serde(rename = "effect")]
    pub(crate) change_type: ChangeType,
    /// A unified diff.
    #[serde(skip_serializing_if = "String::is_empty")]
    diff: String,
}

impl From<&ObjectChange> for ObjectDiff {
    fn from(change: &ObjectChange) -> Self {
        Self {
            object: change.object.clone(),
            change_type: ChangeType::between(change.before.as_ref(), change.after.as_ref()),
            diff: object_diff(change.before.as_deref(), change.after.as_deref()),
        }
    }
}

/// Returns a unified diff of an object's YAML, without secrets.
fn object_diff(before: Option<&Value>, after: Option<&Value>) -> String {
    let text = |value: Option<&Value>| value.map(|value| to_yaml(&redact(value))).unwrap_or_default();
    let diff = unified(&text(before), &text(after));
    if diff.is_empty() && before != after { "(what differs is hidden)\n".to_owned() } else { diff }
}

/// Returns the effect of a change on each scope in use. Without a connected proxy the scope is everything.
pub(crate) fn scope_diffs(before: &Snapshot, after: &Snapshot, proxies: &[ProxyState]) -> Vec<ScopeDiff> {
    let mut scopes: BTreeMap<Scope, BTreeSet<String>> = BTreeMap::new();
    for proxy in proxies {
        scopes.entry(proxy.scope.clone()).or_default().insert(proxy.node.clone());
    }
    if scopes.is_empty() {
        scopes.insert(Scope::Everything, BTreeSet::new());
    }
    let diff = |(scope, nodes): (Scope, BTreeSet<String>)| {
        let resources = snapshot_diffs(&scope.restrict(before), &scope.restrict(after));
        let gateway = if let Scope::Gateway(name) = scope { Some(name) } else { None };
        ScopeDiff { gateway, proxies: nodes.into_iter().collect(), resources }
    };
    scopes.into_iter().map(diff).collect()
}

fn snapshot_diffs(before: &Snapshot, after: &Snapshot) -> Vec<ResourceDiff> {
    let mut diffs = map_diffs("listener", &before.listeners, &after.listeners);
    diffs.extend(map_diffs("routeTable", &before.route_tables, &after.route_tables));
    diffs.extend(map_diffs("cluster", &before.clusters, &after.clusters));
    let mut plugins = map_diffs("plugin", &before.plugins, &after.plugins);
    plugins.iter_mut().for_each(|plugin| plugin.diff.clear());
    diffs.extend(plugins);
    let mut secrets = map_diffs("secret", &before.secrets, &after.secrets);
    secrets.iter_mut().for_each(|secret| secret.diff.clear());
    diffs.extend(secrets);
    diffs
}

fn map_diffs<N, T>(kind: &'static str, before: &BTreeMap<N, Arc<T>>, after: &BTreeMap<N, Arc<T>>) -> Vec<ResourceDiff>
where
    N: Ord + ToString,
    T: PartialEq + Serialize,
{
    let names: BTreeSet<&N> = before.keys().chain(after.keys()).collect();
    let diff = |name: &N| {
        let (before, after) = (before.get(name), after.get(name));
        let change_type = ChangeType::between(before, after);
        if change_type == ChangeType::Unchanged {
            return None;
        }
        let text = |value: Option<&Arc<T>>| {
            value.and_then(|value| serde_json::to_value(value).ok()).map(|value| to_yaml(&value))
        };
        let diff = unified(&text(before).unwrap_or_default(), &text(after).unwrap_or_default());
        Some(ResourceDiff { kind, name: name.to_string(), change_type, diff })
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
