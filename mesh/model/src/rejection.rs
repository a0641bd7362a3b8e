//! Rejections: the reasons why fields of resources are invalid. Every check collects all of them, never only the first.

use std::fmt;

use serde::Serialize;

/// The kind of a resource of a snapshot.
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

/// The kind and name of one resource of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ResourceId {
    /// The kind of the resource.
    pub kind: ResourceKind,
    /// The name, as the name types of this crate print it.
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

/// The reason why one field of one resource is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{resource}: {field}: {reason}")]
pub struct Rejection {
    /// The rejected resource.
    pub resource: ResourceId,
    /// The path of the field inside the resource, such as `address` or `routes[2].action.targets[0]`, in names of this
    /// crate.
    pub field: String,
    /// The error, without a full stop.
    pub reason: String,
    /// A suggested fix; may be empty.
    pub hint: String,
}
