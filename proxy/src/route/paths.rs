//! Routes of one virtual host by path. The order of a route table is its precedence, and the first route that matches
//! wins.
//!
//! The index finds that route without checking all of them. Exact paths are in a hash table, and prefixes in a tree of
//! path segments. Regular expressions are tried one after another, and only those before the best match so far.

use weir_model::{PathMatch, Route};

use super::matching::RouteConditions;
use crate::fast_hash::FastMap;
use crate::head::RequestHead;

/// The routes of a virtual host, in order of precedence.
pub(super) struct PathIndex {
    /// The position of the first route in the table.
    first: usize,
    conditions: Vec<RouteConditions>,
    exact: FastMap<Box<str>, Vec<usize>>,
    prefixes: PrefixNode,
    regexes: Vec<(usize, weir_model::matcher::Regex)>,
}

/// One path segment of prefixes, and the segments that follow it.
#[derive(Default)]
struct PrefixNode {
    /// Routes whose prefix ends with this segment, in order.
    routes: Vec<usize>,
    children: PrefixChildren,
}

/// The segments that follow a segment. Most segments have few followers, for which a hash table takes several times
/// the memory and is no faster.
enum PrefixChildren {
    Few(Vec<(Box<[u8]>, PrefixNode)>),
    Many(FastMap<Box<[u8]>, PrefixNode>),
}

/// The most segments in [`PrefixChildren::Few`].
const FEW_CHILDREN: usize = 4;

impl PathIndex {
    /// Returns the index of these routes. The first has the position `first` in the table.
    pub(super) fn new(first: usize, routes: &[std::sync::Arc<Route>]) -> Self {
        let mut this = Self {
            first,
            conditions: routes.iter().map(|route| RouteConditions::new(&route.matches)).collect(),
            exact: FastMap::default(),
            prefixes: PrefixNode::default(),
            regexes: Vec::new(),
        };
        for (index, route) in routes.iter().enumerate() {
            match &route.matches.path {
                PathMatch::Exact(path) => this.exact.entry((**path).into()).or_default().push(index),
                PathMatch::Prefix(prefix) => this.prefixes.at(prefix).routes.push(index),
                PathMatch::Regex(regex) => this.regexes.push((index, regex.clone())),
            }
        }
        this
    }

    /// Returns the position in the table of the first route that matches.
    pub(super) fn find(&self, request: &RequestHead) -> Option<usize> {
        let path = request.path.path();
        let mut found = None;
        if let Some(routes) = self.exact.get(path) {
            found = self.first_match(routes, found, request);
        }
        found = self.first_prefix_match(path, found, request);
        for (index, regex) in &self.regexes {
            if found.is_some_and(|found| found < *index) {
                break;
            }
            if self.conditions[*index].matches(request) && regex.matches(path.as_bytes()) {
                found = Some(*index);
            }
        }
        found.map(|index| self.first + index)
    }

    fn first_prefix_match(&self, path: &str, mut found: Option<usize>, request: &RequestHead) -> Option<usize> {
        let Some(mut rest) = path.as_bytes().strip_prefix(b"/") else { return found };
        let mut node = &self.prefixes;
        loop {
            found = self.first_match(&node.routes, found, request);
            let (segment, after) = match rest.iter().position(|byte| *byte == b'/') {
                Some(slash) => (&rest[..slash], Some(&rest[slash + 1..])),
                None => (rest, None),
            };
            let Some(child) = node.children.find(segment) else { return found };
            node = child;
            match after {
                Some(after) => rest = after,
                None => return self.first_match(&node.routes, found, request),
            }
        }
    }

    /// Returns the first of `routes` that is before `bar` and whose conditions match, otherwise `bar`.
    fn first_match(&self, routes: &[usize], bar: Option<usize>, request: &RequestHead) -> Option<usize> {
        let before = routes.iter().take_while(|index| bar.is_none_or(|bar| **index < bar));
        before.copied().find(|index| self.conditions[*index].matches(request)).or(bar)
    }
}

impl PrefixNode {
    /// Returns the node of a prefix: `/a/b`, or the empty text for all paths.
    fn at(&mut self, prefix: &str) -> &mut Self {
        let mut node = self;
        for segment in prefix.split('/').skip(1) {
            node = node.children.at(segment.as_bytes());
        }
        node
    }
}

impl Default for PrefixChildren {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl PrefixChildren {
    fn find(&self, segment: &[u8]) -> Option<&PrefixNode> {
        match self {
            Self::Few(few) => few.iter().find(|(name, _)| **name == *segment).map(|(_, node)| node),
            Self::Many(many) => many.get(segment),
        }
    }

    /// Returns the node of a segment, and adds it if it is absent.
    fn at(&mut self, segment: &[u8]) -> &mut PrefixNode {
        if let Self::Few(few) = self
            && few.len() == FEW_CHILDREN
            && few.iter().all(|(name, _)| **name != *segment)
        {
            *self = Self::Many(std::mem::take(few).into_iter().collect());
        }
        match self {
            Self::Few(few) => {
                let index = few.iter().position(|(name, _)| **name == *segment).unwrap_or_else(|| {
                    few.reserve_exact(1);
                    few.push((segment.into(), PrefixNode::default()));
                    few.len() - 1
                });
                &mut few[index].1
            }
            Self::Many(many) => many.entry(segment.into()).or_default(),
        }
    }
}
