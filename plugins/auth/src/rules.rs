//! Authorization: rules on method, path, headers, peer and identity.
//!
//! A request can have more than one reading: `/%61dmin`, `/x/../admin`, two `x-role` headers. A deny rule matches when
//! **any** reading matches, an allow rule when **all** readings match. So no reading bypasses a rule.

use std::borrow::Cow;

use weir_sdk::matching::PathMatch;

use crate::identity_match::{Identity, IdentityMatch};
use crate::peer::{IpBlock, Peer, PrincipalMatch};
use crate::request::Request;

/// An allow or deny rule. An empty field matches every request.
#[derive(Debug, Default)]
pub struct Rule {
    /// The name, which is in the response to a denied request.
    pub name: String,
    /// True for an allow rule that requires no credentials.
    pub anonymous: bool,
    /// The methods, any of which matches.
    pub methods: Vec<String>,
    /// The paths, any of which matches.
    pub paths: Vec<PathMatch>,
    /// The headers, all of which must match.
    pub headers: Vec<HeaderMatch>,
    /// The principals of the peer, any of which matches.
    pub principals: Vec<PrincipalMatch>,
    /// The IP blocks of the peer's address, any of which matches.
    pub ip_blocks: Vec<IpBlock>,
    /// The condition on the identity.
    pub identity: IdentityMatch,
}

/// The condition on one header.
#[derive(Debug)]
pub struct HeaderMatch {
    /// The header's name in lower case.
    pub name: String,
    /// The condition on its values.
    pub value: ValueMatch,
}

/// The condition on the value of a header.
#[derive(Debug, PartialEq, Eq)]
pub enum ValueMatch {
    /// Any value.
    Present,
    /// Exactly this value.
    Exact(String),
    /// Values that begin with this prefix.
    Prefix(String),
}

impl Rule {
    /// Returns whether this rule matches the request, as a deny rule.
    pub fn denies(&self, request: &Request<'_>, identity: Option<&Identity<'_>>) -> bool {
        let method = |method: &String| method.as_bytes().eq_ignore_ascii_case(request.method);
        let path = |reading: &Cow<'_, [u8]>| self.paths.iter().any(|path| path.matches_loosely(reading));
        (self.methods.is_empty() || self.methods.iter().any(method))
            && (self.paths.is_empty() || request.path_readings().iter().any(path))
            && self.headers.iter().all(|header| header.denies(request))
            && self.matches_peer(&request.peer)
            && self.identity.denies(identity)
    }

    /// Returns whether this rule matches the request, as an allow rule.
    pub fn allows(&self, request: &Request<'_>, identity: Option<&Identity<'_>>) -> bool {
        let method = |method: &String| method.as_bytes() == request.method;
        let path = |reading: &Cow<'_, [u8]>| self.paths.iter().any(|path| path.matches(reading));
        (self.methods.is_empty() || self.methods.iter().any(method))
            && (self.paths.is_empty() || request.path_readings().iter().all(path))
            && self.headers.iter().all(|header| header.allows(request))
            && self.matches_peer(&request.peer)
            && self.identity.allows(identity)
    }

    /// Returns whether the peer matches. A peer without a certificate matches no principal, and one without a known
    /// address no IP block.
    fn matches_peer(&self, peer: &Peer) -> bool {
        let is_principal = |wanted: &PrincipalMatch| peer.principal().is_some_and(|path| wanted.matches(path));
        let is_in_block = |ip_block: &IpBlock| peer.is_in(ip_block);
        (self.principals.is_empty() || self.principals.iter().any(is_principal))
            && (self.ip_blocks.is_empty() || self.ip_blocks.iter().any(is_in_block))
    }
}

impl HeaderMatch {
    fn denies(&self, request: &Request<'_>) -> bool {
        request
            .values(&self.name)
            .any(|line| self.value.matches(line) || elements(line).any(|element| self.value.matches(element)))
    }

    fn allows(&self, request: &Request<'_>) -> bool {
        let mut lines = request.values(&self.name).peekable();
        lines.peek().is_some()
            && lines.all(|line| self.value.matches(line) || elements(line).all(|element| self.value.matches(element)))
    }
}

/// Returns the elements of a header line. A list may be several lines, or one line with commas (RFC 9110 §5.3).
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
