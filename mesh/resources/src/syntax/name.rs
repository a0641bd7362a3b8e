//! Syntax of the names of objects, labels and hosts.

use std::net::IpAddr;
use std::sync::Arc;

use weir_model::HostMatch;

use crate::limits::{MAX_HOSTNAME_BYTES, MAX_LABEL_BYTES, MAX_OBJECT_NAME_BYTES};
use crate::suggest::quoted;
use crate::syntax::error::SyntaxError;

const LABEL_HINT: &str = "use lower-case letters, digits and `-`, beginning and ending with a letter or digit";
const QUALIFIED_HINT: &str = "use letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit";
const SUBDOMAIN_HINT: &str = "use lower-case letters, digits, `-` and `.`, beginning and ending with a letter or digit";

/// Validates an object name: an RFC 1123 subdomain, as in Kubernetes.
pub(crate) fn object_name(text: &str) -> Result<(), SyntaxError> {
    if text.len() > MAX_OBJECT_NAME_BYTES {
        return Err(too_long(text, MAX_OBJECT_NAME_BYTES));
    }
    if is_subdomain(text) {
        return Ok(());
    }
    Err(SyntaxError::new(format!("{} is not a name", quoted(text)), SUBDOMAIN_HINT))
}

/// Validates a namespace or port name: an RFC 1123 label.
pub(crate) fn label(text: &str) -> Result<(), SyntaxError> {
    if text.len() > MAX_LABEL_BYTES {
        return Err(too_long(text, MAX_LABEL_BYTES));
    }
    if is_label(text) {
        return Ok(());
    }
    Err(SyntaxError::new(format!("{} is not a name", quoted(text)), LABEL_HINT))
}

/// Validates a host name, or `*.` and a host name for all hosts below it (Gateway API, `Hostname`).
pub(crate) fn host_match(text: &str) -> Result<HostMatch, SyntaxError> {
    match text.strip_prefix("*.") {
        Some(rest) => hostname(rest).map(|()| HostMatch::Suffix(Arc::from(&text[1..]))),
        None if text.contains('*') => Err(SyntaxError::new(
            format!("{} has `*` elsewhere than in front", quoted(text)),
            "write `*.example.com` for every host below example.com",
        )),
        None => hostname(text).map(|()| HostMatch::Exact(Arc::from(text))),
    }
}

/// Validates a host name without wildcard (Gateway API, `PreciseHostname`): RFC 1123, lower case, no address, no port.
pub(crate) fn hostname(text: &str) -> Result<(), SyntaxError> {
    let bad = |problem: &str, hint: &str| Err(SyntaxError::new(format!("{} {problem}", quoted(text)), hint));
    if text.len() > MAX_HOSTNAME_BYTES {
        return Err(too_long(text, MAX_HOSTNAME_BYTES));
    }
    if text.parse::<IpAddr>().is_ok() {
        return bad("is an address, not a host name", "leave the host name out to serve every host");
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && is_subdomain(host)
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        return bad("has a port", &format!("write `{host}`: the port is the listener's"));
    }
    if is_subdomain(text) {
        return Ok(());
    }
    let lower = text.to_ascii_lowercase();
    if is_subdomain(&lower) {
        return bad("has capital letters", &format!("write `{lower}`: host names are matched in any case"));
    }
    bad("is not a host name", "write it like `shop.example.com` or `*.example.com`, in lower case")
}

/// Validates a version: a Kubernetes label value that is not empty.
pub(crate) fn version(text: &str) -> Result<(), SyntaxError> {
    if text.len() > MAX_LABEL_BYTES {
        return Err(too_long(text, MAX_LABEL_BYTES));
    }
    if is_qualified(text) {
        return Ok(());
    }
    Err(SyntaxError::new(format!("{} is not a version", quoted(text)), format!("{QUALIFIED_HINT}, as in `v1`")))
}

/// Validates a label value (Kubernetes).
pub(crate) fn label_value(text: &str) -> Result<(), SyntaxError> {
    if text.len() > MAX_LABEL_BYTES {
        return Err(too_long(text, MAX_LABEL_BYTES));
    }
    if text.is_empty() || is_qualified(text) {
        return Ok(());
    }
    Err(SyntaxError::new(format!("{} is not a label's value", quoted(text)), QUALIFIED_HINT))
}

/// Validates the key of a label or an annotation (Kubernetes): `tier`, or `example.com/tier`.
pub(crate) fn label_key(text: &str) -> Result<(), SyntaxError> {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let is_prefix = |prefix: &str| prefix.len() <= MAX_HOSTNAME_BYTES && is_subdomain(prefix);
    if prefix.is_none_or(is_prefix) && name.len() <= MAX_LABEL_BYTES && is_qualified(name) {
        return Ok(());
    }
    let reason = format!("{} is not the name of a label or an annotation", quoted(text));
    Err(SyntaxError::new(reason, "write it like `tier` or `example.com/tier`"))
}

fn is_qualified(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    is_edge(bytes.first()) && is_edge(bytes.last()) && bytes.iter().all(|byte| is_inner(*byte))
}

/// Validates a time: `2026-01-31T12:00:00Z`, so that times compare as texts do.
pub(crate) fn timestamp(text: &str) -> Result<(), SyntaxError> {
    let pattern = b"dddd-dd-ddTdd:dd:ddZ";
    let fits = |(byte, expected): (u8, &u8)| if *expected == b'd' { byte.is_ascii_digit() } else { byte == *expected };
    if text.len() == pattern.len() && text.bytes().zip(pattern).all(fits) {
        return Ok(());
    }
    Err(SyntaxError::new(format!("{} is not a time", quoted(text)), "write it in UTC, as in `2026-01-31T12:00:00Z`"))
}

/// Parses a time in the format of [`timestamp`] to seconds since 1970.
pub(crate) fn seconds(text: &str) -> Result<u64, SyntaxError> {
    timestamp(text)?;
    let invalid = || SyntaxError::new(format!("{} is not a time", quoted(text)), "the day or hour does not exist");
    let time: jiff::Timestamp = text.parse().map_err(|_| invalid())?;
    u64::try_from(time.as_second()).map_err(|_| invalid())
}

fn too_long(text: &str, limit: usize) -> SyntaxError {
    SyntaxError::new(format!("has {} characters", text.chars().count()), format!("use at most {limit}"))
}

fn is_label(text: &str) -> bool {
    let is_edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = text.as_bytes();
    is_edge(bytes.first())
        && is_edge(bytes.last())
        && bytes.len() <= MAX_LABEL_BYTES
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_match_and_hostname() {
        let long = format!("{}.com", "a".repeat(64));
        for (text, expected) in [
            ("example.com", Ok(HostMatch::Exact("example.com".into()))),
            ("*.example.com", Ok(HostMatch::Suffix(".example.com".into()))),
            ("localhost", Ok(HostMatch::Exact("localhost".into()))),
            ("1e100.net", Ok(HostMatch::Exact("1e100.net".into()))),
            ("*", Err("`*` has `*` elsewhere than in front")),
            ("a.*.com", Err("`a.*.com` has `*` elsewhere than in front")),
            ("*.*.com", Err("`*.com` is not a host name")),
            ("Example.com", Err("`Example.com` has capital letters")),
            ("example.com:80", Err("`example.com:80` has a port")),
            ("127.0.0.1", Err("`127.0.0.1` is an address, not a host name")),
            ("::1", Err("`::1` is an address, not a host name")),
            ("exa_mple.com", Err("`exa_mple.com` is not a host name")),
            ("example..com", Err("`example..com` is not a host name")),
            ("example.com.", Err("`example.com.` is not a host name")),
            ("", Err("`` is not a host name")),
            (long.as_str(), Err("is not a host name")),
        ] {
            match (host_match(text), expected) {
                (Ok(host), Ok(expected)) => assert_eq!(host, expected),
                (Err(error), Err(expected)) => assert!(error.reason.ends_with(expected), "{error:?}"),
                (found, expected) => panic!("{text}: {found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn names() {
        for (text, name, namespace) in [
            ("api", true, true),
            ("api.v1", true, false),
            ("a-b-1", true, true),
            ("1", true, true),
            ("-a", false, false),
            ("a-", false, false),
            ("Api", false, false),
            ("a/b", false, false),
            ("a b", false, false),
            ("", false, false),
        ] {
            assert_eq!((object_name(text).is_ok(), label(text).is_ok()), (name, namespace), "{text}");
        }
    }

    #[test]
    fn times_versions_and_labels() {
        assert!(timestamp("2026-01-31T12:00:00Z").is_ok());
        assert!(timestamp("2026-01-31").is_err() && timestamp("2026-01-31T12:00:00+01:00").is_err());
        assert!(version("v1.2-Beta_3").is_ok() && version("-v1").is_err() && version("").is_err());
        assert!(label_value("").is_ok() && label_value("a b").is_err());
        assert!(label_key("a.b/c-d").is_ok() && label_key("a b").is_err() && label_key("/a").is_err());
    }
}
