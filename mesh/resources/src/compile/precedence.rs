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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_model::matcher::Regex;
    use weir_model::{
        DirectResponse, FilterChain, HeaderEdits, HeaderMatch, QueryMatch, RouteAction, RouteName, TextMatch,
    };

    use super::*;
    use crate::written::Kind;

    /// What a candidate is made of: path kind and length, method, headers, query, time, name, position.
    type Parts = (u8, usize, bool, usize, usize, Option<u8>, u8, usize);

    fn parts() -> impl Strategy<Value = Parts> {
        (0..3_u8, 0..3_usize, any::<bool>(), 0..3_usize, 0..3_usize, prop::option::of(0..3_u8), 0..3_u8, 0..4_usize)
    }

    fn route(parts: &Parts) -> Arc<Route> {
        let (kind, length, has_method, headers, query, ..) = *parts;
        let text = "/a".repeat(length);
        let path = match kind {
            0 => PathMatch::Exact(text.into()),
            1 => PathMatch::Regex(Regex::new(&text).unwrap()),
            _ => PathMatch::Prefix(text.into()),
        };
        let value = || TextMatch::Exact("v".into());
        Arc::new(Route {
            name: RouteName::new("default/r/0/0").unwrap(),
            matches: RouteMatch {
                path,
                method: has_method.then(|| "GET".into()),
                headers: (0..headers).map(|_| HeaderMatch { name: "h".into(), value: value() }).collect(),
                query: (0..query).map(|_| QueryMatch { name: "q".into(), value: value() }).collect(),
            },
            chain: FilterChain::default(),
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            action: RouteAction::Respond(DirectResponse { status: 500, detail: "x".into() }),
            metadata: weir_model::Metadata::default(),
        })
    }

    /// The rules one after another, as the Gateway API's text has them: each keeps the best of those still equal.
    fn naive_first(mut left: Vec<(usize, Parts)>) -> usize {
        fn keep<K: Ord>(left: &mut Vec<(usize, Parts)>, key: impl Fn(&Parts) -> K) {
            let best = left.iter().map(|(_, parts)| key(parts)).min();
            left.retain(|(_, parts)| Some(key(parts)) == best);
        }
        keep(&mut left, |parts| parts.0 != 0); // An exact path.
        keep(&mut left, |parts| parts.0 == 2); // A regular expression before a prefix.
        if left[0].1.0 != 0 {
            keep(&mut left, |parts| 100 - parts.1); // The longest.
        }
        keep(&mut left, |parts| !parts.2); // One with a method.
        keep(&mut left, |parts| 100 - parts.3); // The most headers.
        keep(&mut left, |parts| 100 - parts.4); // The most query parameters.
        keep(&mut left, |parts| parts.5.map_or(u8::MAX, |time| time)); // The oldest.
        keep(&mut left, |parts| parts.6); // The first by name.
        keep(&mut left, |parts| parts.7); // The first written.
        left[0].0
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_rules_one_by_one(all in prop::collection::vec(parts(), 1..12)) {
            let ids: Vec<ObjectId> = all
                .iter()
                .map(|parts| ObjectId {
                    kind: Kind::HttpRoute,
                    namespace: "default".into(),
                    name: format!("r{}", parts.6).into(),
                })
                .collect();
            let times: Vec<Option<String>> =
                all.iter().map(|parts| parts.5.map(|day| format!("2026-01-0{}T00:00:00Z", day + 1))).collect();
            let mut sorted: Vec<(usize, Candidate<'_>)> = all
                .iter()
                .enumerate()
                .map(|(index, parts)| {
                    let (created, id) = (times[index].as_deref(), &ids[index]);
                    (index, Candidate { route: route(parts), created, id, position: parts.7 })
                })
                .collect();
            sorted.sort_by(|(_, left), (_, right)| compare(left, right));
            let mut remaining: Vec<(usize, Parts)> = all.iter().copied().enumerate().collect();
            for (index, _) in &sorted {
                prop_assert_eq!(all[*index], all[naive_first(remaining.clone())]);
                remaining.retain(|(other, _)| other != index);
            }
        }
    }
}
