//! Single values: durations, addresses, texts to match.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use weir_model::TextMatch;
use weir_model::limits::MAX_DURATION;
use weir_model::matcher::Regex;

use super::fault::{Spot, unsupported};
use crate::proto::core::config_source::ConfigSourceSpecifier;
use crate::proto::{core, matcher, protobuf};

/// From nothing to [`MAX_DURATION`].
pub(super) fn duration(duration: protobuf::Duration, spot: &Spot<'_>) -> Option<Duration> {
    let protobuf::Duration { seconds, nanos } = duration;
    let duration = u64::try_from(seconds).ok().zip(u32::try_from(nanos).ok());
    let duration =
        duration.filter(|(_, nanos)| *nanos < 1_000_000_000).map(|(seconds, nanos)| Duration::new(seconds, nanos));
    match duration {
        Some(duration) if duration <= MAX_DURATION => Some(duration),
        Some(_) => spot.none("is too long", "the longest duration is 99999 hours"),
        None => spot.none("is no duration", "write seconds and nanoseconds that are not negative"),
    }
}

/// An IP address and a port.
pub(super) fn socket_address(address: Option<core::Address>, spot: &Spot<'_>) -> Option<SocketAddr> {
    let (host, port) = host_and_port(address, spot)?;
    match host.parse::<IpAddr>() {
        Ok(ip) => Some(SocketAddr::new(ip, port)),
        Err(_) => spot.none(&format!("`{host}` is no IP address"), "a name needs a cluster of the type STRICT_DNS"),
    }
}

/// A host and a port.
pub(super) fn host_and_port(address: Option<core::Address>, spot: &Spot<'_>) -> Option<(String, u16)> {
    let core::Address { address } = spot.required(address)?;
    let core::address::Address::SocketAddress(socket) = spot.required(address)? else {
        return spot.none("is no socket address", "give `socket_address`");
    };
    let spot = spot.field("socket_address");
    let core::SocketAddress {
        protocol,
        address,
        resolver_name,
        ipv4_compat,
        network_namespace_filepath,
        port_specifier,
    } = socket;
    unsupported!(spot; protocol, resolver_name, ipv4_compat, network_namespace_filepath);
    let port = match spot.required(port_specifier)? {
        core::socket_address::PortSpecifier::PortValue(port) => u16::try_from(port).ok(),
        core::socket_address::PortSpecifier::NamedPort(_) => None,
    };
    match port {
        Some(port) => Some((address, port)),
        None => spot.field("port_value").none("is no port", "give a number up to 65535"),
    }
}

/// `ads: {}` or `self: {}`: everything comes on one stream.
pub(super) fn config_source(source: Option<core::ConfigSource>, spot: &Spot<'_>) -> Option<()> {
    let core::ConfigSource { authorities, initial_fetch_timeout: _, resource_api_version, config_source_specifier } =
        spot.required(source)?;
    unsupported!(spot; authorities);
    if resource_api_version == core::ApiVersion::V2 as i32 {
        spot.field("resource_api_version").refuse("is V2", "only V3 is spoken");
    }
    match spot.required(config_source_specifier)? {
        ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_) => Some(()),
        ConfigSourceSpecifier::Path(_)
        | ConfigSourceSpecifier::PathConfigSource(_)
        | ConfigSourceSpecifier::ApiConfigSource(_) => {
            spot.none("is another source", "everything comes on the one stream: use `ads: {}`")
        }
    }
}

/// How a header or a query parameter matches. What says less than a pattern becomes one.
pub(super) fn text_match(matcher: matcher::StringMatcher, spot: &Spot<'_>) -> Option<TextMatch> {
    use matcher::string_matcher::MatchPattern;
    let matcher::StringMatcher { ignore_case, match_pattern } = matcher;
    let pattern = match (spot.required(match_pattern)?, ignore_case) {
        (MatchPattern::Exact(text), false) => return Some(TextMatch::Exact(text.into())),
        (MatchPattern::SafeRegex(regex), _) => return pattern(regex, &spot.field("safe_regex")).map(TextMatch::Regex),
        (MatchPattern::Exact(text), true) => format!("(?i){}", escaped(&text)),
        (MatchPattern::Prefix(text), ignore) => format!("{}{}(?s:.*)", case(ignore), escaped(&text)),
        (MatchPattern::Suffix(text), ignore) => format!("(?s:.*){}{}", case(ignore), escaped(&text)),
        (MatchPattern::Contains(text), ignore) => format!("(?s:.*){}{}(?s:.*)", case(ignore), escaped(&text)),
        (MatchPattern::Custom(_), _) => {
            return spot.field("custom").none("is not supported", "use `exact` or `safe_regex`");
        }
    };
    spot.checked(Regex::new(&pattern)).map(TextMatch::Regex)
}

/// A regular expression; Envoy's syntax (RE2) is that of ours.
pub(super) fn pattern(matcher: matcher::RegexMatcher, spot: &Spot<'_>) -> Option<Regex> {
    let matcher::RegexMatcher { regex, engine_type: _ } = matcher; // There is one engine.
    spot.field("regex").checked(Regex::new(&regex))
}

const fn case(ignore: bool) -> &'static str {
    if ignore { "(?i)" } else { "" }
}

/// The text as a pattern that matches nothing else.
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
    fn escaped_texts_match_themselves() {
        for text in ["a.b", "a+b*c?", "(x)|[y]{1}", "^$\\", "/a-b_c/~!@#%&=:;,<>'\"`", "ä ö", ""] {
            assert!(Regex::new(&escaped(text)).unwrap().matches(text.as_bytes()), "{text}");
            assert!(!Regex::new(&escaped(text)).unwrap().matches(format!("{text}x").as_bytes()), "{text}");
        }
    }
}
