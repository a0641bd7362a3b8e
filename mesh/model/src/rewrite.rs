//! Modifications that a route makes to messages: headers, host and path.

use std::sync::Arc;

use serde::Serialize;

/// Changes to headers, applied in this order: set, add, remove (Gateway API `HTTPHeaderFilter`).
/// Names are lower-case RFC 9110 tokens. Values are field values without CR, LF or NUL. Both are checked when a
/// modifier is built.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
pub struct HeaderModifier {
    /// Names and values; each replaces all values of its name.
    pub set: Vec<(Arc<str>, Arc<str>)>,
    /// Names and values; each is appended to the values of its name.
    pub add: Vec<(Arc<str>, Arc<str>)>,
    /// Names whose values are removed.
    pub remove: Vec<Arc<str>>,
}

impl HeaderModifier {
    /// Returns true if there is no change.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
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
