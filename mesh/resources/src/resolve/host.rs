//! Intersection of host names (Gateway API, `HTTPRoute.spec.hostnames`).

use weir_model::HostMatch;

/// Returns true if every host of `inner` is one of `outer`.
pub(crate) fn covers(outer: &HostMatch, inner: &HostMatch) -> bool {
    match (outer, inner) {
        (HostMatch::Any, _) => true,
        (_, HostMatch::Any) | (HostMatch::Exact(_), HostMatch::Suffix(_)) => false,
        (HostMatch::Exact(outer), HostMatch::Exact(inner)) => outer == inner,
        (HostMatch::Suffix(outer), HostMatch::Suffix(inner)) => inner.ends_with(&**outer),
        // `*.example.com` requires a label before the dot: `.example.com` itself is no host name.
        (HostMatch::Suffix(outer), HostMatch::Exact(inner)) => inner.len() > outer.len() && inner.ends_with(&**outer),
    }
}

/// Returns the common hosts: the narrower match, if one covers the other.
pub(crate) fn intersection(left: &HostMatch, right: &HostMatch) -> Option<HostMatch> {
    if covers(left, right) {
        return Some(right.clone());
    }
    covers(right, left).then(|| left.clone())
}

/// Returns a host match for a message.
pub(crate) fn display(host: &HostMatch) -> String {
    match host {
        HostMatch::Any => "every host".to_owned(),
        HostMatch::Exact(name) => name.to_string(),
        HostMatch::Suffix(suffix) => format!("*{suffix}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> HostMatch {
        match text.strip_prefix('*') {
            Some("") => HostMatch::Any,
            Some(suffix) => HostMatch::Suffix(suffix.into()),
            None => HostMatch::Exact(text.into()),
        }
    }

    #[test]
    fn intersection_is_narrower_host() {
        for (left, right, expected) in [
            ("*", "*", Some("*")),
            ("*", "a.com", Some("a.com")),
            ("*", "*.a.com", Some("*.a.com")),
            ("a.com", "a.com", Some("a.com")),
            ("a.com", "b.com", None),
            ("*.a.com", "x.a.com", Some("x.a.com")),
            ("*.a.com", "x.y.a.com", Some("x.y.a.com")),
            ("*.a.com", "a.com", None),
            ("*.a.com", "xa.com", None),
            ("*.a.com", "*.x.a.com", Some("*.x.a.com")),
            ("*.a.com", "*.com", Some("*.a.com")),
            ("*.a.com", "*.b.com", None),
            ("*.a.com", "*.a.com", Some("*.a.com")),
        ] {
            let expected = expected.map(host);
            assert_eq!(intersection(&host(left), &host(right)), expected, "{left} {right}");
            assert_eq!(intersection(&host(right), &host(left)), expected, "{right} {left}");
        }
    }
}
