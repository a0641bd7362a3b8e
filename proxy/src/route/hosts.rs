//! Virtual hosts by host name: the exact name, then the longest suffix (`*.example.com` stands for any number of labels
//! in front), then the one for every host. Names are compared in lower case, without port and without the dot at the
//! end that makes a name absolute: all of these are the same host, and a rule for a host must not be passed by writing it
//! in another way.

use std::borrow::Cow;

use weir_model::HostMatch;

use crate::hashing::FastMap;
use crate::limits::MAX_HOST_BYTES;

/// Positions of virtual hosts, by name.
#[derive(Default)]
pub(super) struct Hosts {
    exact: FastMap<Box<[u8]>, usize>,
    /// With the dot in front.
    suffixes: FastMap<Box<[u8]>, usize>,
    any: Option<usize>,
}

impl Hosts {
    /// The hosts in the order of their positions; no two are the same.
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

    /// The position of the virtual host that serves an `:authority`.
    pub(super) fn find(&self, authority: &[u8]) -> Option<usize> {
        if (self.exact.is_empty() && self.suffixes.is_empty()) || authority.len() > MAX_HOST_BYTES {
            return self.any;
        }
        let name = name(authority);
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

/// The host of an `:authority` as names are held: lower case, without port, without the dot at the end.
fn name(authority: &[u8]) -> Cow<'_, [u8]> {
    let host = without_port(authority);
    let host = host.strip_suffix(b".").unwrap_or(host);
    if host.iter().any(u8::is_ascii_uppercase) { host.to_ascii_lowercase().into() } else { host.into() }
}

/// The host of an `:authority`; an IPv6 address keeps its brackets.
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
    fn the_most_specific_host_is_found() {
        let names = ["*", "*.example.com", "example.com", "*.api.example.com", "a.api.example.com", "[::1]"];
        let hosts: Vec<_> = names.iter().map(|name| host(name)).collect();
        let hosts = Hosts::new(hosts.iter());
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
    fn without_a_host_for_all_others_are_not_served() {
        let hosts = Hosts::new([host("example.com")].iter());
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
            asked in "[ab](\\.[ab]){0,4}",
        ) {
            let hosts: Vec<_> = names.iter().map(|name| host(name)).collect();
            prop_assert_eq!(Hosts::new(hosts.iter()).find(asked.as_bytes()), naive(&hosts, &asked));
        }
    }
}
