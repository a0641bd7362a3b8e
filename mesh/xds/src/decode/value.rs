//! Decodes single values: durations, addresses, config sources, string matchers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use weir_model::limits::MAX_DURATION;
use weir_model::matcher::Regex;
use weir_model::{EndpointAddress, StringMatch, UnixPath, UnixPathError};

use super::field_cursor::{FieldCursor, unsupported};
use crate::proto::core::config_source::ConfigSourceSpecifier;
use crate::proto::{core, matcher, protobuf};

/// Decodes a duration from 0 to [`MAX_DURATION`].
pub(super) fn duration(duration: protobuf::Duration, cursor: &FieldCursor<'_>) -> Option<Duration> {
    let protobuf::Duration { seconds, nanos } = duration;
    let duration = u64::try_from(seconds).ok().zip(u32::try_from(nanos).ok());
    let duration =
        duration.filter(|(_, nanos)| *nanos < 1_000_000_000).map(|(seconds, nanos)| Duration::new(seconds, nanos));
    match duration {
        Some(duration) if duration <= MAX_DURATION => Some(duration),
        Some(_) => cursor.reject_value("is too long", "the longest duration is 99999 hours"),
        None => cursor.reject_value("is no duration", "write seconds and nanoseconds that are not negative"),
    }
}

/// Decodes the address of an endpoint: an IP address and a port, or a Unix socket (`pipe`).
pub(super) fn endpoint_address(address: core::Address, cursor: &FieldCursor<'_>) -> Option<EndpointAddress> {
    let Some(core::address::Address::Pipe(core::Pipe { path, mode })) = address.address else {
        return socket_address(Some(address), cursor).map(EndpointAddress::Socket);
    };
    let cursor = cursor.field("pipe");
    unsupported!(cursor; mode);
    match UnixPath::new(&path) {
        Ok(path) => Some(EndpointAddress::Unix(path)),
        Err(UnixPathError { reason, hint }) => {
            cursor.field("path").reject_value(&format!("`{}` {reason}", path.escape_debug()), hint)
        }
    }
}

/// Decodes an IP address and a port.
pub(super) fn socket_address(address: Option<core::Address>, cursor: &FieldCursor<'_>) -> Option<SocketAddr> {
    let (host, port) = host_and_port(address, cursor)?;
    match host.parse::<IpAddr>() {
        Ok(ip) => Some(SocketAddr::new(ip, port)),
        Err(_) => {
            cursor.reject_value(&format!("`{host}` is no IP address"), "a name needs a cluster of the type STRICT_DNS")
        }
    }
}

/// Decodes a host name or IP address, and a port.
pub(super) fn host_and_port(address: Option<core::Address>, cursor: &FieldCursor<'_>) -> Option<(String, u16)> {
    let core::Address { address } = cursor.required(address)?;
    let core::address::Address::SocketAddress(socket) = cursor.required(address)? else {
        return cursor.reject_value("is no socket address", "give `socket_address`");
    };
    let cursor = cursor.field("socket_address");
    let core::SocketAddress {
        protocol,
        address,
        resolver_name,
        ipv4_compat,
        network_namespace_filepath,
        port_specifier,
    } = socket;
    unsupported!(cursor; protocol, resolver_name, ipv4_compat, network_namespace_filepath);
    let port = match cursor.required(port_specifier)? {
        core::socket_address::PortSpecifier::PortValue(port) => u16::try_from(port).ok(),
        core::socket_address::PortSpecifier::NamedPort(_) => None,
    };
    match port {
        Some(port) => Some((address, port)),
        None => cursor.field("port_value").reject_value("is no port", "give a number up to 65535"),
    }
}

/// Accepts `ads: {}` and `self: {}`: all resources come on the ADS stream.
pub(super) fn config_source(source: Option<core::ConfigSource>, cursor: &FieldCursor<'_>) -> Option<()> {
    let core::ConfigSource { authorities, initial_fetch_timeout: _, resource_api_version, config_source_specifier } =
        cursor.required(source)?;
    unsupported!(cursor; authorities);
    if resource_api_version == core::ApiVersion::V2 as i32 {
        cursor.field("resource_api_version").reject("is V2", "use V3");
    }
    match cursor.required(config_source_specifier)? {
        ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_) => Some(()),
        ConfigSourceSpecifier::Path(_)
        | ConfigSourceSpecifier::PathConfigSource(_)
        | ConfigSourceSpecifier::ApiConfigSource(_) => {
            cursor.reject_value("is another source", "everything comes on the one stream: use `ads: {}`")
        }
    }
}

/// Decodes a string matcher. Prefix, suffix and contains become a regex.
pub(super) fn text_match(matcher: matcher::StringMatcher, cursor: &FieldCursor<'_>) -> Option<StringMatch> {
    use matcher::string_matcher::MatchPattern;
    let matcher::StringMatcher { ignore_case, match_pattern } = matcher;
    let pattern = match (cursor.required(match_pattern)?, ignore_case) {
        (MatchPattern::Exact(text), false) => return Some(StringMatch::Exact(text.into())),
        (MatchPattern::SafeRegex(regex), _) => {
            return pattern(regex, &cursor.field("safe_regex")).map(StringMatch::Regex);
        }
        (MatchPattern::Exact(text), true) => format!("(?i){}", escaped(&text)),
        (MatchPattern::Prefix(text), ignore) => format!("{}{}(?s:.*)", case(ignore), escaped(&text)),
        (MatchPattern::Suffix(text), ignore) => format!("(?s:.*){}{}", case(ignore), escaped(&text)),
        (MatchPattern::Contains(text), ignore) => format!("(?s:.*){}{}(?s:.*)", case(ignore), escaped(&text)),
        (MatchPattern::Custom(_), _) => {
            return cursor.field("custom").reject_value("is not supported", "use `exact` or `safe_regex`");
        }
    };
    cursor.checked(Regex::new(&pattern)).map(StringMatch::Regex)
}

/// Decodes a regex in RE2 syntax, which is Envoy's and ours.
pub(super) fn pattern(matcher: matcher::RegexMatcher, cursor: &FieldCursor<'_>) -> Option<Regex> {
    let matcher::RegexMatcher { regex, engine_type: _ } = matcher; // There is only one engine.
    cursor.field("regex").checked(Regex::new(&regex))
}

const fn case(ignore: bool) -> &'static str {
    if ignore { "(?i)" } else { "" }
}

/// Returns a regex that matches exactly this text.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_punctuation() && !matches!(character, '_' | '<' | '>') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_text_matches_itself_only() {
        for text in ["a.b", "a+b*c?", "(x)|[y]{1}", "^$\\", "/a-b_c/~!@#%&=:;,<>'\"`", "ä ö", ""] {
            assert!(Regex::new(&escaped(text)).unwrap().matches(text.as_bytes()), "{text}");
            assert!(!Regex::new(&escaped(text)).unwrap().matches(format!("{text}x").as_bytes()), "{text}");
        }
    }
}
