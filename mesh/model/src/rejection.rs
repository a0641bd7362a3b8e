//! Why one field of one resource was refused. Collected, never the first only; shown to the person who wrote it.

use std::fmt;

use serde::Serialize;

/// What kind of resource a rejection is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each variant is the model type of the same name")]
pub enum ResourceKind {
    Listener,
    RouteTable,
    Cluster,
    Plugin,
    Secret,
}

/// One resource of a snapshot, by kind and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ResourceId {
    /// Its kind.
    pub kind: ResourceKind,
    /// Its name, as the model's name types print it.
    pub name: String,
}

impl fmt::Display for ResourceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ResourceKind::Listener => "listener",
            ResourceKind::RouteTable => "route table",
            ResourceKind::Cluster => "cluster",
            ResourceKind::Plugin => "plugin",
            ResourceKind::Secret => "secret",
        };
        write!(formatter, "{kind} {}", self.name)
    }
}

/// Why one field of one resource was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{resource}: {field}: {reason}")]
pub struct Rejection {
    /// The resource.
    pub resource: ResourceId,
    /// The field inside the resource, like `address` or `routes[2].action.targets[0]`; names the model's fields.
    pub field: String,
    /// What is wrong, in words, without a full stop.
    pub reason: String,
    /// What to do about it; may be empty.
    pub hint: String,
}
