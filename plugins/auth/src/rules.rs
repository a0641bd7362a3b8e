//! May they do that? Rules on method, path, headers, where the connection is from, and who it is.
//!
//! A request can often be read in more than one way: `/%61dmin`, `/x/../admin`, two `x-role` headers. A deny rule
//! matches when **any** reading matches, an allow rule when **all** do, so no reading slips through.

use std::borrow::Cow;

use weir_sdk::matching::PathMatch;

use crate::peer::{Network, Peer, WorkloadMatch};
use crate::request::Request;
use crate::who::{Identity, Who};

/// One rule. What it does not mention matches.
#[derive(Debug, Default)]
pub struct Rule {
    /// Named in the refusal.
    pub name: String,
    /// For an allow rule: no proof of who it is needed.
    pub anonymous: bool,
    /// Any of these methods; empty is every method.
    pub methods: Vec<String>,
    /// Any of these paths; empty is every path.
    pub paths: Vec<PathMatch>,
    /// All of these headers.
    pub headers: Vec<HeaderMatch>,
    /// Any of these workloads at the other end of the connection; empty is everybody.
    pub workloads: Vec<WorkloadMatch>,
    /// An address of any of these networks at the other end; empty is every address.
    pub networks: Vec<Network>,
    /// This identity.
    pub who: Who,
}

/// A header.
#[derive(Debug)]
pub struct HeaderMatch {
    /// Its name in lower case.
    pub name: String,
    /// What its values must be.
    pub value: ValueMatch,
}

/// The value of a header.
#[derive(Debug, PartialEq, Eq)]
pub enum ValueMatch {
    /// Any value at all.
    Present,
    /// Exactly this.
    Exact(String),
    /// Begins with this.
    Prefix(String),
}

impl Rule {
    /// Whether this rule, as a deny rule, is against the request.
    pub fn denies(&self, request: &Request<'_>, identity: Option<&Identity<'_>>) -> bool {
        let method = |method: &String| method.as_bytes().eq_ignore_ascii_case(request.method);
        let path = |form: &Cow<'_, [u8]>| self.paths.iter().any(|path| matches_loosely(path, form));
        (self.methods.is_empty() || self.methods.iter().any(method))
            && (self.paths.is_empty() || request.path_readings().iter().any(path))
            && self.headers.iter().all(|header| header.denies(request))
            && self.is_from(&request.peer)
            && self.who.denies(identity)
    }

    /// Whether this rule, as an allow rule, is for the request.
    pub fn allows(&self, request: &Request<'_>, identity: Option<&Identity<'_>>) -> bool {
        let method = |method: &String| method.as_bytes() == request.method;
        let path = |form: &Cow<'_, [u8]>| self.paths.iter().any(|path| path.matches(form));
        (self.methods.is_empty() || self.methods.iter().any(method))
            && (self.paths.is_empty() || request.path_readings().iter().all(path))
            && self.headers.iter().all(|header| header.allows(request))
            && self.is_from(&request.peer)
            && self.who.allows(identity)
    }

    /// A peer that has proved nothing is no workload, and one whose address nobody knows is in no network.
    fn is_from(&self, peer: &Peer) -> bool {
        let is_workload = |wanted: &WorkloadMatch| peer.workload().is_some_and(|path| wanted.matches(path));
        let is_near = |network: &Network| peer.is_in(network);
        (self.workloads.is_empty() || self.workloads.iter().any(is_workload))
            && (self.networks.is_empty() || self.networks.iter().any(is_near))
    }
}

/// As [`PathMatch::matches`], but `/admin/` is `/admin` too: many upstreams treat them alike.
fn matches_loosely(wanted: &PathMatch, path: &[u8]) -> bool {
    match wanted {
        PathMatch::Exact(exact) => without_end_slash(path) == without_end_slash(exact.as_bytes()),
        PathMatch::Prefix(_) => wanted.matches(path),
    }
}

fn without_end_slash(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

impl HeaderMatch {
    fn denies(&self, request: &Request<'_>) -> bool {
        request.values(&self.name).any(|line| self.value.matches(line) || elements(line).any(|e| self.value.matches(e)))
    }

    fn allows(&self, request: &Request<'_>) -> bool {
        let mut lines = request.values(&self.name).peekable();
        lines.peek().is_some()
            && lines.all(|line| self.value.matches(line) || elements(line).all(|e| self.value.matches(e)))
    }
}

/// RFC 9110 §5.3: a list may come as several lines or as one line with commas.
fn elements(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

impl ValueMatch {
    fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(exact) => value == exact.as_bytes(),
            Self::Prefix(prefix) => value.starts_with(prefix.as_bytes()),
        }
    }
}
