//! The order of the routes of a host (Gateway API, `HTTPRouteRule.matches` and `GRPCRouteRule.matches`): the more
//! specific match, then the older object, then the name, then the order in the document.

use std::cmp::Ordering;
use std::cmp::Reverse;
use std::sync::Arc;

use weir_model::{PathMatch, Route, RouteMatch};

use crate::resource::{Creation, MethodLengths, ObjectId};

/// A route of a host, with the properties that decide its rank.
#[derive(Debug, Clone)]
pub(crate) struct RankedRoute<'a> {
    /// The route.
    pub(crate) route: Arc<Route>,
    /// The lengths of its gRPC method; `None` for a route of an HTTPRoute.
    pub(crate) grpc_method: Option<MethodLengths>,
    /// The creation of its HTTPRoute or GRPCRoute.
    pub(crate) creation: &'a Creation,
    /// The identity of its HTTPRoute or GRPCRoute.
    pub(crate) id: &'a ObjectId,
    /// Its index among the matches of the HTTPRoute or GRPCRoute.
    pub(crate) match_index: usize,
}

/// Compares two routes; `Less` for the route that is matched first. Routes of two HTTPRoutes are never equal.
pub(crate) fn compare(left: &RankedRoute<'_>, right: &RankedRoute<'_>) -> Ordering {
    // `resolve` rejects a GRPCRoute on the host of an HTTPRoute, so that only a total order matters between both kinds.
    let by_match = match (left.grpc_method, right.grpc_method) {
        (Some(left_method), Some(right_method)) => {
            let headers = |ranked: &RankedRoute<'_>| Reverse(ranked.route.matches.headers.len());
            (Reverse(left_method), headers(left)).cmp(&(Reverse(right_method), headers(right)))
        }
        (None, None) => specificity(&left.route.matches).cmp(&specificity(&right.route.matches)),
        (left_method, right_method) => left_method.is_some().cmp(&right_method.is_some()),
    };
    by_match.then_with(|| {
        let left_key = (left.creation, &left.id.namespace, &left.id.name, left.match_index);
        left_key.cmp(&(right.creation, &right.id.namespace, &right.id.name, right.match_index))
    })
}

/// Returns the rank of a match; smaller is more specific. The Gateway API does not define the rank of regular
/// expressions. Here they rank between exact paths and prefixes, longer ones first; a prefix `/` of the same host would
/// otherwise hide them.
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
    use weir_model::{FilterChain, HeaderMatch, HeaderModifier, QueryMatch, RouteAction, RouteName, StringMatch};

    use super::*;
    use crate::spec::Kind;

    /// The inputs of a route: path kind and length, method, headers, query, creation, name, index.
    type Parts = (u8, usize, bool, usize, usize, u8, u8, usize);

    /// Creations, the oldest first.
    fn creation(number: u8) -> Creation {
        let time = |day: u8| Creation::Time(format!("2026-01-0{day}T00:00:00Z"));
        let revision = |revision, index| Creation::Revision { revision, index };
        match number {
            0 => time(1),
            1 => time(2),
            2 => revision(9, 0),
            3 => revision(9, 2),
            4 => revision(9, 10),
            5 => revision(10, 0),
            _ => Creation::Unknown,
        }
    }

    fn parts() -> impl Strategy<Value = Parts> {
        (0..3_u8, 0..3_usize, any::<bool>(), 0..3_usize, 0..3_usize, 0..7_u8, 0..3_u8, 0..4_usize)
    }

    fn route(parts: &Parts) -> Arc<Route> {
        let (kind, length, has_method, headers, query, ..) = *parts;
        let text = "/a".repeat(length);
        let path = match kind {
            0 => PathMatch::Exact(text.into()),
            1 => PathMatch::Regex(Regex::new(&text).unwrap()),
            _ => PathMatch::Prefix(text.into()),
        };
        let value = || StringMatch::Exact("v".into());
        Arc::new(Route {
            name: RouteName::new("default/r/0/0").unwrap(),
            matches: RouteMatch {
                path,
                method: has_method.then(|| "GET".into()),
                headers: (0..headers).map(|_| HeaderMatch { name: "h".into(), value: value() }).collect(),
                query: (0..query).map(|_| QueryMatch { name: "q".into(), value: value() }).collect(),
            },
            chain: FilterChain::default(),
            request_headers: HeaderModifier::default(),
            response_headers: HeaderModifier::default(),
            cors: None,
            action: RouteAction::NoBackend,
            metadata: weir_model::Metadata::default(),
        })
    }

    /// Returns the first route by the Gateway API's rules, one after another: each rule retains the best of the routes
    /// that are still equal.
    fn naive_first(mut left: Vec<(usize, Parts)>) -> usize {
        fn retain_best<K: Ord>(left: &mut Vec<(usize, Parts)>, key: impl Fn(&Parts) -> K) {
            let best = left.iter().map(|(_, parts)| key(parts)).min();
            left.retain(|(_, parts)| Some(key(parts)) == best);
        }
        retain_best(&mut left, |parts| parts.0 != 0); // An exact path.
        retain_best(&mut left, |parts| parts.0 == 2); // A regular expression before a prefix.
        if left[0].1.0 != 0 {
            retain_best(&mut left, |parts| 100 - parts.1); // The longest.
        }
        retain_best(&mut left, |parts| !parts.2); // One with a method.
        retain_best(&mut left, |parts| 100 - parts.3); // The most headers.
        retain_best(&mut left, |parts| 100 - parts.4); // The most query parameters.
        retain_best(&mut left, |parts| parts.5); // The oldest.
        retain_best(&mut left, |parts| parts.6); // The first by name.
        retain_best(&mut left, |parts| parts.7); // The first written.
        left[0].0
    }

    proptest! {
        #[test]
        fn compare_matches_naive_order(all in prop::collection::vec(parts(), 1..12)) {
            let ids: Vec<ObjectId> = all
                .iter()
                .map(|parts| ObjectId {
                    kind: Kind::HttpRoute,
                    namespace: "default".into(),
                    name: format!("r{}", parts.6).into(),
                })
                .collect();
            let creations: Vec<Creation> = all.iter().map(|parts| creation(parts.5)).collect();
            let mut sorted: Vec<(usize, RankedRoute<'_>)> = all
                .iter()
                .enumerate()
                .map(|(index, parts)| {
                    let (creation, id) = (&creations[index], &ids[index]);
                    (index, RankedRoute { route: route(parts), grpc_method: None, creation, id, match_index: parts.7 })
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
