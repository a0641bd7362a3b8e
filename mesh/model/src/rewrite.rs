//! Modifications that a route makes to messages: headers, host and path.

use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Changes to headers. Cheap to clone; most routes have none, which takes no memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct HeaderModifier(Option<Arc<HeaderEdits>>);

/// The changes of a [`HeaderModifier`], applied in this order: set, add, remove (Gateway API `HTTPHeaderFilter`).
/// Names are lower-case RFC 9110 tokens. Values are field values without CR, LF or NUL. Both are checked when a
/// modifier is built.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
pub struct HeaderEdits {
    /// Names and values; each replaces all values of its name.
    pub set: Vec<(Arc<str>, Arc<str>)>,
    /// Names and values; each is appended to the values of its name.
    pub add: Vec<(Arc<str>, Arc<str>)>,
    /// Names whose values are removed.
    pub remove: Vec<Arc<str>>,
}

impl HeaderModifier {
    /// Returns a modifier with these changes.
    pub fn new(edits: HeaderEdits) -> Self {
        let HeaderEdits { set, add, remove } = &edits;
        let is_empty = set.is_empty() && add.is_empty() && remove.is_empty();
        Self((!is_empty).then(|| Arc::new(edits)))
    }

    /// Returns the changes.
    pub fn edits(&self) -> &HeaderEdits {
        static NONE: HeaderEdits = HeaderEdits { set: Vec::new(), add: Vec::new(), remove: Vec::new() };
        self.0.as_deref().unwrap_or(&NONE)
    }

    /// Returns true if there is no change.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl Serialize for HeaderModifier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.edits().serialize(serializer)
    }
}

/// A replacement for the path or for a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PathRewrite {
    /// Replaces the whole path and leaves the query.
    Full(Arc<str>),
    /// Replaces the matched prefix; only on a route with [`PathMatch::Prefix`](crate::PathMatch::Prefix).
    Prefix(Arc<str>),
}

/// The `:authority` or `host` header sent to the upstream.
pub type HostRewrite = Arc<str>;

/// Host and path sent to the upstream instead of those of the request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Rewrite {
    /// The replacement for the host; `None` leaves it.
    pub host: Option<HostRewrite>,
    /// The replacement for the path; `None` leaves it.
    pub path: Option<PathRewrite>,
}
