//! Virtual hosts by host name: the exact name, then the longest suffix, then the one for every host. `*.example.com`
//! stands for any number of labels in front.
//!
//! Names are compared in lower case, without port and without the trailing dot that makes a name absolute. All
//! spellings of a host are the same host, so that no spelling bypasses a rule.

use std::borrow::Cow;

use weir_model::HostMatch;

use crate::fast_hash::FastMap;
use crate::limits::MAX_HOST_BYTES;

/// Positions of virtual hosts, by host name.
#[derive(Default)]
pub(super) struct HostIndex {
    exact: FastMap<Box<[u8]>, usize>,
    /// Keys begin with the dot.
    suffixes: FastMap<Box<[u8]>, usize>,
    any: Option<usize>,
}

impl HostIndex {
    /// Returns the index of hosts in the order of their positions. No two are equal.
    pub(super) fn new<'a>(hosts: impl Iterator<Item = &'a HostMatch>) -> Self {
        let mut this = Self::default();
        for (index, host) in hosts.enumerate() {
            match host {
                HostMatch::Exact(name) => {
                    this.exact.insert(name.as_bytes().into(), index);
                }
                HostMatch::Suffix(suffix) => {
                    this.suffixes.insert(suffix.as_bytes().into(), index);
                }
                HostMatch::Any => this.any = Some(index),
            }
        }
        this
    }

    /// Returns the position of the virtual host for an `:authority`; `None` when none matches.
    pub(super) fn find(&self, authority: &[u8]) -> Option<usize> {
        if (self.exact.is_empty() && self.suffixes.is_empty()) || authority.len() > MAX_HOST_BYTES {
            return self.any;
        }
        let name = normalized_host(authority);
        if let Some(index) = self.exact.get(&*name) {
            return Some(*index);
        }
        let longest = || {
            let dots = (1..name.len()).filter(|index| name[*index] == b'.');
            dots.filter_map(|index| self.suffixes.get(&name[index..])).next().copied()
        };
        if self.suffixes.is_empty() { None } else { longest() }.or(self.any)
    }
}

/// Returns the host of an `:authority` as the index stores it: lower case, no port, no trailing dot.
fn normalized_host(authority: &[u8]) -> Cow<'_, [u8]> {
    let host = without_port(authority);
    let host = host.strip_suffix(b".").unwrap_or(host);
    if host.iter().any(u8::is_ascii_uppercase) { host.to_ascii_lowercase().into() } else { host.into() }
}

/// Returns the host of an `:authority` without its port. An IPv6 address retains its brackets.
pub(super) fn without_port(authority: &[u8]) -> &[u8] {
    match authority.iter().rposition(|byte| *byte == b':' || *byte == b']') {
        Some(colon) if authority[colon] == b':' => &authority[..colon],
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn host(text: &str) -> HostMatch {
        match text {
            "*" => HostMatch::Any,
            _ => match text.strip_prefix('*') {
                Some(suffix) => HostMatch::Suffix(Arc::from(suffix)),
                None => HostMatch::Exact(Arc::from(text)),
            },
        }
    }

    #[test]
    fn find_returns_most_specific_host() {
        let names = ["*", "*.example.com", "example.com", "*.api.example.com", "a.api.example.com", "[::1]"];
        let hosts: Vec<_> = names.iter().map(|name| host(name)).collect();
        let hosts = HostIndex::new(hosts.iter());
        for (authority, expected) in [
            ("example.com", "example.com"),
            ("EXAMPLE.com:8080", "example.com"),
            ("example.com.", "example.com"),
            ("example.com.:80", "example.com"),
            ("www.example.com", "*.example.com"),
            ("x.y.example.com", "*.example.com"),
            ("x.api.example.com", "*.api.example.com"),
            ("a.api.example.com", "a.api.example.com"),
            ("A.API.example.com:1", "a.api.example.com"),
            ("b.a.api.example.com", "*.api.example.com"),
            ("api.example.com", "*.example.com"),
            ("notexample.com", "*"),
            (".example.com", "*"),
            ("example.com.evil.org", "*"),
            ("", "*"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(hosts.find(authority.as_bytes()).map(|index| names[index]), Some(expected), "{authority}");
        }
        let long = format!("{}.example.com", "a.".repeat(MAX_HOST_BYTES));
        assert_eq!(hosts.find(long.as_bytes()), Some(0));
    }

    #[test]
    fn unknown_host_without_wildcard_is_not_found() {
        let hosts = HostIndex::new([host("example.com")].iter());
        assert_eq!((hosts.find(b"example.com"), hosts.find(b"example.org")), (Some(0), None));
    }

    fn naive(hosts: &[HostMatch], name: &str) -> Option<usize> {
        let rank = |host: &HostMatch| match host {
            HostMatch::Exact(exact) => (**exact == *name).then_some(usize::MAX),
            HostMatch::Suffix(suffix) => (name.len() > suffix.len() && name.ends_with(&**suffix)).then(|| suffix.len()),
            HostMatch::Any => Some(0),
        };
        (0..hosts.len()).filter_map(|index| Some((rank(&hosts[index])?, index))).max().map(|(_, index)| index)
    }

    proptest! {
        #[test]
        fn finds_as_the_naive_version_does(
            names in prop::collection::btree_set("(\\*|[ab])(\\.[ab]){0,3}", 1..8),
            requested in "[ab](\\.[ab]){0,4}",
        ) {
            let hosts: Vec<_> = names.iter().map(|name| host(name)).collect();
            prop_assert_eq!(HostIndex::new(hosts.iter()).find(requested.as_bytes()), naive(&hosts, &requested));
        }
    }
}
