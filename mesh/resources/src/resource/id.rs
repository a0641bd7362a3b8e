//! The identity of an object: kind, namespace and name. The compiler and the control plane use it as a key.

use std::fmt;
use std::sync::Arc;

use crate::spec::Kind;

/// The namespace of an object without `metadata.namespace`.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

/// An object's kind, namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// The object's kind.
    pub kind: Kind,
    /// The object's namespace; empty for a cluster-scoped kind.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
}

impl ObjectId {
    /// Returns the identity of an object; `None` if the kind is unknown. Upper and lower case of `kind` are equal.
    /// `namespace` is ignored for a cluster-scoped kind.
    pub fn new(kind: &str, namespace: &str, name: &str) -> Option<Self> {
        let kind = Kind::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(kind))?;
        let namespace = if kind.is_namespaced() { namespace } else { "" };
        Some(Self { kind, namespace: namespace.into(), name: name.into() })
    }

    /// Returns the namespace of a reference in this object: `namespace` if the reference has one, else the object's
    /// own.
    pub(crate) fn reference_namespace<'a>(&'a self, namespace: Option<&'a str>) -> &'a str {
        namespace.unwrap_or(&self.namespace)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name } = self;
        match namespace.is_empty() {
            true => write!(formatter, "{} {name}", kind.name()),
            false => write!(formatter, "{} {namespace}/{name}", kind.name()),
        }
    }
}
