//! Routes of one virtual host by path. A route table's order is its precedence, and the first route that matches wins;
//! here the same route is found without looking at all of them: exact paths are in a hash table, prefixes in a tree of
//! path segments, and only regular expressions are tried one after another, after the others have set the bar.

use weir_model::{PathMatch, Route};

use super::matching::Conditions;
use crate::hashing::FastMap;
use crate::head::RequestHead;

/// The routes of a virtual host, in order of precedence.
pub(super) struct Paths {
    /// Position of the first route in the table.
    first: usize,
    conditions: Vec<Conditions>,
    exact: FastMap<Box<str>, Vec<usize>>,
    prefixes: Node,
    regexes: Vec<(usize, weir_model::matcher::Regex)>,
}

/// One segment of a prefix and what may follow it.
#[derive(Default)]
struct Node {
    /// Routes whose prefix ends here, in order.
    routes: Vec<usize>,
    children: FastMap<Box<[u8]>, Self>,
}

impl Paths {
    /// The routes in their order; the first has the position `first` in the table.
    pub(super) fn new(first: usize, routes: &[std::sync::Arc<Route>]) -> Self {
        let mut this = Self {
            first,
            conditions: routes.iter().map(|route| Conditions::new(&route.matches)).collect(),
            exact: FastMap::default(),
            prefixes: Node::default(),
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

    /// The position in the table of the first route that matches.
    pub(super) fn find(&self, request: &RequestHead) -> Option<usize> {
        let path = request.path.path();
        let mut found = None;
        if let Some(routes) = self.exact.get(path) {
            found = self.first_of(routes, found, request);
        }
        found = self.first_by_prefix(path, found, request);
        for (index, regex) in &self.regexes {
            if found.is_some_and(|found| found < *index) {
                break;
            }
            if self.conditions[*index].hold(request) && regex.matches(path.as_bytes()) {
                found = Some(*index);
            }
        }
        found.map(|index| self.first + index)
    }

    fn first_by_prefix(&self, path: &str, mut found: Option<usize>, request: &RequestHead) -> Option<usize> {
        let Some(mut rest) = path.as_bytes().strip_prefix(b"/") else { return found };
        let mut node = &self.prefixes;
        loop {
            found = self.first_of(&node.routes, found, request);
            let (segment, after) = match rest.iter().position(|byte| *byte == b'/') {
                Some(slash) => (&rest[..slash], Some(&rest[slash + 1..])),
                None => (rest, None),
            };
            let Some(child) = node.children.get(segment) else { return found };
            node = child;
            match after {
                Some(after) => rest = after,
                None => return self.first_of(&node.routes, found, request),
            }
        }
    }

    /// The first of `routes` before `bar` whose conditions hold, or else `bar`.
    fn first_of(&self, routes: &[usize], bar: Option<usize>, request: &RequestHead) -> Option<usize> {
        let before = routes.iter().take_while(|index| bar.is_none_or(|bar| **index < bar));
        before.copied().find(|index| self.conditions[*index].hold(request)).or(bar)
    }
}

impl Node {
    /// The node of a prefix: `/a/b`, or the empty text for all paths.
    fn at(&mut self, prefix: &str) -> &mut Self {
        let mut node = self;
        for segment in prefix.split('/').skip(1) {
            node = node.children.entry(segment.as_bytes().into()).or_default();
        }
        node
    }
}
