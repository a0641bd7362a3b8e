//! Which of two routes of a host comes first (Gateway API, `HTTPRouteRule.matches`): the more specific match, then the
//! older object, then the name, then the order written.

use std::cmp::Ordering;
use std::cmp::Reverse;
use std::sync::Arc;

use weir_model::{PathMatch, Route, RouteMatch};

use crate::resource::ObjectId;

/// A route of a host, with what decides its place besides its match.
#[derive(Debug, Clone)]
pub(crate) struct Candidate<'a> {
    /// The route.
    pub(crate) route: Arc<Route>,
    /// When its HTTPRoute was made.
    pub(crate) created: Option<&'a str>,
    /// Its HTTPRoute.
    pub(crate) id: &'a ObjectId,
    /// Its place among the matches of the HTTPRoute.
    pub(crate) position: usize,
}

/// `Less` for the one that is to be tried first.
pub(crate) fn compare(left: &Candidate<'_>, right: &Candidate<'_>) -> Ordering {
    let by_match = specificity(&left.route.matches).cmp(&specificity(&right.route.matches));
    by_match.then_with(|| {
        // An object that does not say when it was made is younger than one that does.
        let key = |candidate: &Candidate<'_>| (candidate.created.is_none(), candidate.position);
        let (left_key, right_key) = (key(left), key(right));
        (left_key.0, left.created, &left.id.namespace, &left.id.name, left_key.1).cmp(&(
            right_key.0,
            right.created,
            &right.id.namespace,
            &right.id.name,
            right_key.1,
        ))
    })
}

/// The smaller, the more specific. Gateway API leaves open where regular expressions stand: here between exact paths
/// and prefixes, longer ones first; a prefix `/` beside them would otherwise never let them have a request.
fn specificity(matches: &RouteMatch) -> (u8, Reverse<usize>, bool, Reverse<usize>, Reverse<usize>) {
    let (rank, length) = match &matches.path {
        PathMatch::Exact(_) => (0, 0),
        PathMatch::Regex(regex) => (1, regex.pattern().len()),
        PathMatch::Prefix(prefix) => (2, prefix.len()),
    };
    (rank, Reverse(length), matches.method.is_none(), Reverse(matches.headers.len()), Reverse(matches.query.len()))
}
