//! What a route changes: headers, host and path.

use std::sync::Arc;

use serde::Serialize;

/// Changes to headers, applied in this order: set, add, remove (Gateway API `HTTPHeaderFilter`).
/// Names are lower case and checked to be RFC 9110 tokens; values to be field values without CR, LF or NUL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
pub struct HeaderEdits {
    /// Replace all values of the name by this one.
    pub set: Vec<(Arc<str>, Arc<str>)>,
    /// Append one more value.
    pub add: Vec<(Arc<str>, Arc<str>)>,
    /// Remove all values of the name.
    pub remove: Vec<Arc<str>>,
}

impl HeaderEdits {
    /// True when nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// What becomes of the path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PathRewrite {
    /// The whole path is replaced; the query stays.
    Full(Arc<str>),
    /// The matched prefix is replaced; only on a route with [`PathMatch::Prefix`](crate::PathMatch::Prefix).
    Prefix(Arc<str>),
}

/// The host that the upstream sees.
pub type HostRewrite = Arc<str>;

/// What the upstream sees instead of what the downstream sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Rewrite {
    /// Another host.
    pub host: Option<HostRewrite>,
    /// Another path.
    pub path: Option<PathRewrite>,
}
