//! Makes heads unambiguous, once, before any decision uses them: one host, one path in one spelling, no hop-by-hop
//! headers, and the headers that the proxy itself sets. Routes, filters and the endpoint see the same bytes.
//! `stream::handle` calls it for each request, and `stream::forward` for each response of an endpoint.
//!
//! The HTTP/1 codec has already rejected ambiguous framing (`docs/http1.md`), and h2 what HTTP/2 forbids.

use std::cell::RefCell;
use std::io::Write;
use std::net::IpAddr;

use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, Entry, HOST, HeaderName, TE, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, request, response};
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

use weir_http1::{belongs_in_head, has_token};
use weir_model::DownstreamProtocolOptions;

use super::normalize;
use crate::error::ProxyError;
use crate::head::{RequestHead, ResponseHead};
use crate::limits::{MAX_COOKIE_HEADERS, MAX_REQUEST_ID_BYTES};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Prefix of headers that are internal to the mesh. They are never accepted from a downstream.
const INTERNAL_PREFIX: &str = "x-weir-";

/// Headers that concern one connection (RFC 9110 §7.6.1). The HTTP/1 codec leaves `te` and an `upgrade` that
/// `connection` has; HTTP/2 forbids all but `te` (RFC 9113 §8.2.2).
const HOP_BY_HOP: [&str; 7] =
    ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade", "http2-settings"];

/// The special headers that a head has, as one bit for each kind.
#[derive(Clone, Copy)]
struct SpecialHeaders(u8);

impl SpecialHeaders {
    /// A hop-by-hop header that the codec has left. Few downstreams send one.
    const HOP_BY_HOP: u8 = 1;
    const CONTENT_LENGTH: u8 = 1 << 2;
    const EXPECT: u8 = 1 << 3;
    const INTERNAL: u8 = 1 << 4;
    /// Headers that a request does not retain.
    const REMOVED: u8 = Self::HOP_BY_HOP | Self::EXPECT | Self::INTERNAL;

    /// Scans the header names once, which costs less than looking up a dozen absent headers.
    fn scan(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self(0), |Self(bits), name| {
            let bit = match name.as_str() {
                name if HOP_BY_HOP.contains(&name) => Self::HOP_BY_HOP,
                "content-length" => Self::CONTENT_LENGTH,
                "expect" => Self::EXPECT,
                name if name.starts_with(INTERNAL_PREFIX) => Self::INTERNAL,
                _ => 0,
            };
            Self(bits | bit)
        })
    }

    fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// The properties of a connection that its requests are sanitized by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestOrigin<'a> {
    /// The downstream's address.
    pub(crate) peer: IpAddr,
    /// The scheme of its requests.
    pub(crate) scheme: &'static str,
    /// Its bounds, and the protocols that a request may switch to.
    pub(crate) options: &'a DownstreamProtocolOptions,
}

/// Makes a request's head unambiguous. `host` is the value of `host` that the codec has separated from the headers.
///
/// # Errors
/// `BadRequest` for a head that two parties could interpret differently, and for `CONNECT`. `UpgradeNotAllowed` for
/// a protocol that the listener does not allow. `HeadersTooLarge` for more headers than allowed. `ExpectationFailed` for another expectation than `100-continue`,
/// `Misdirected` for an `https` target on a connection without TLS.
pub(crate) fn request(
    parts: request::Parts,
    host: Option<HeaderValue>,
    origin: RequestOrigin<'_>,
) -> Result<RequestHead, ProxyError> {
    let request::Parts { mut method, uri, version, mut headers, mut extensions, .. } = parts;
    let RequestOrigin { peer, scheme, options } = origin;
    if version == Version::HTTP_2 {
        join_cookies(&mut headers)?;
    }
    if headers.len() > options.head.headers as usize {
        return Err(ProxyError::HeadersTooLarge);
    }
    let extended = extensions.remove::<Protocol>();
    if method == Method::CONNECT {
        let Some(protocol) = &extended else { return Err(ProxyError::BadRequest("CONNECT is not supported")) };
        // Routes and filters see an upgrade, as in HTTP/1.1 and in Envoy.
        method = Method::GET;
        let protocol = HeaderValue::from_str(protocol.as_str());
        headers.insert(UPGRADE, protocol.map_err(|_| ProxyError::BadRequest("the protocol is not valid"))?);
    }
    // RFC 9112 §3.2.3: a target in authority-form is for CONNECT alone.
    if uri.authority().is_some() && uri.scheme().is_none() {
        return Err(ProxyError::BadRequest("the target is a host"));
    }
    // RFC 9110 §7.4: a client that believes to be on a secured connection must learn that it is not.
    if version < Version::HTTP_2 && uri.scheme_str() == Some("https") && scheme != "https" {
        return Err(ProxyError::Misdirected);
    }
    let authority = authority(&uri, version, host, &mut headers)?;
    let path = normalize::path(uri, &method)?;
    let present = SpecialHeaders::scan(&headers);
    if present.has(SpecialHeaders::EXPECT) {
        check_expectation(&headers)?;
    }
    let upgrade = match present.has(SpecialHeaders::HOP_BY_HOP) {
        true => requested_upgrade(&headers, version, options)?,
        false => None,
    };
    if present.has(SpecialHeaders::REMOVED) {
        let accepts_trailers = has_token(&headers, &TE, b"trailers");
        retain(&mut headers, |name| !is_removed(name.as_str()));
        if accepts_trailers {
            // RFC 9110 §10.1.4: the only value of `te` that every hop can forward.
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    if let Some(protocol) = &upgrade {
        if headers.remove(CONTENT_LENGTH).is_some_and(|length| length != "0") {
            return Err(ProxyError::BadRequest("a request that switches protocols has a body"));
        }
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.clone());
    }
    if present.has(SpecialHeaders::CONTENT_LENGTH) {
        check_content_length(&mut headers).map_err(ProxyError::BadRequest)?;
    }
    set_forwarded_headers(&mut headers, peer, scheme);
    Ok(RequestHead { method, scheme, authority, path, headers, sent_names: extensions.remove(), version, upgrade })
}

/// Joins the `cookie` headers of HTTP/2 to one, before anything reads them (RFC 9113 §8.2.3).
///
/// # Errors
/// More than [`MAX_COOKIE_HEADERS`].
fn join_cookies(headers: &mut HeaderMap) -> Result<(), ProxyError> {
    let mut cookies = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (cookies.next(), cookies.next()) else { return Ok(()) };
    let mut joined = first.as_bytes().to_vec();
    let mut count = 1;
    for cookie in std::iter::once(second).chain(cookies) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
        count += 1;
    }
    if count > MAX_COOKIE_HEADERS {
        return Err(ProxyError::HeadersTooLarge);
    }
    // Header values joined by text are a header value.
    let joined = HeaderValue::from_maybe_shared(Bytes::from(joined)).map_err(|_| ProxyError::HeadersTooLarge)?;
    headers.insert(COOKIE, joined);
    Ok(())
}

/// Returns true for request headers that end here: hop-by-hop ones, `expect`, which the codec has recorded, and internal
/// ones.
fn is_removed(name: &str) -> bool {
    HOP_BY_HOP.contains(&name) || name == "expect" || name.starts_with(INTERNAL_PREFIX)
}

/// Removes headers, and leaves the others in their order.
fn retain(headers: &mut HeaderMap, is_retained: impl Fn(&HeaderName) -> bool) {
    let mut retained = HeaderMap::with_capacity(headers.len());
    let mut current = None;
    for (name, value) in std::mem::take(headers) {
        current = name.or(current); // Further values of one name come without it.
        if let Some(name) = current.as_ref().filter(|name| is_retained(name)) {
            retained.append(name.clone(), value);
        }
    }
    *headers = retained;
}

/// Accepts `100-continue`, and an empty list (RFC 9110 §10.1.1).
fn check_expectation(headers: &HeaderMap) -> Result<(), ProxyError> {
    let values = headers.get_all(EXPECT).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut expectations = values.map(<[u8]>::trim_ascii).filter(|expectation| !expectation.is_empty());
    match expectations.all(|expectation| expectation.eq_ignore_ascii_case(b"100-continue")) {
        true => Ok(()),
        false => Err(ProxyError::ExpectationFailed),
    }
}

/// The properties of an exchange that its response is sanitized by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResponseOrigin<'a> {
    /// The largest number of headers of a response.
    pub(crate) max_headers: usize,
    /// The protocol that the request has asked for.
    pub(crate) upgrade: Option<&'a HeaderValue>,
    /// True for an extended CONNECT of HTTP/2: to its downstream every 2xx opens the tunnel (RFC 8441 §5).
    pub(crate) is_connect: bool,
}

/// Makes the head of an endpoint's response unambiguous.
///
/// # Errors
/// `UpstreamProtocol` for a response that was not requested or that no downstream could interpret.
pub(crate) fn response(parts: response::Parts, origin: ResponseOrigin<'_>) -> Result<ResponseHead, ProxyError> {
    let rejected = |reason: &str| ProxyError::UpstreamProtocol(reason.to_owned());
    let response::Parts { status, mut headers, mut extensions, .. } = parts;
    let ResponseOrigin { max_headers, upgrade, is_connect } = origin;
    let switches_to = upgrade.filter(|_| status == StatusCode::SWITCHING_PROTOCOLS);
    if status.is_informational() && switches_to.is_none() {
        return Err(rejected("it switched protocols without a request"));
    }
    if is_connect && status.is_success() {
        return Err(rejected("it responded without switching protocols, which HTTP/2 cannot express"));
    }
    if headers.len() > max_headers {
        return Err(rejected("the response has too many headers"));
    }
    let present = SpecialHeaders::scan(&headers);
    if present.has(SpecialHeaders::HOP_BY_HOP) {
        retain(&mut headers, |name| !HOP_BY_HOP.contains(&name.as_str()));
    }
    if present.has(SpecialHeaders::CONTENT_LENGTH) {
        check_content_length(&mut headers).map_err(rejected)?;
    }
    if status == StatusCode::NO_CONTENT || switches_to.is_some() {
        headers.remove(CONTENT_LENGTH); // RFC 9110 §8.6: never with 204 and 1xx.
    }
    if let Some(protocol) = switches_to {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.clone());
    }
    let (reason, sent_names) = (extensions.remove(), extensions.remove());
    Ok(ResponseHead { status, reason, headers, sent_names })
}

/// Removes what only a head may have from trailers (RFC 9110 §6.5.1), internal headers, and those that the proxy sets.
pub(super) fn trailers(trailers: &mut HeaderMap) {
    let is_removed = |name: &HeaderName| {
        let text = name.as_str();
        belongs_in_head(name)
            || text.starts_with(INTERNAL_PREFIX)
            || text.starts_with("x-forwarded-")
            || text == "x-request-id"
    };
    if trailers.keys().any(is_removed) {
        retain(trailers, |name| !is_removed(name));
    }
}

/// Removes hop-by-hop headers from an informational response.
pub(crate) fn informational(headers: &mut HeaderMap) {
    // RFC 9110 §8.6: no length with 1xx.
    retain(headers, |name| !HOP_BY_HOP.contains(&name.as_str()) && *name != CONTENT_LENGTH);
}

/// Removes the `host` header of HTTP/2, and returns the request's host.
///
/// RFC 9112 §3.2: a request has exactly one `host`. One that differs from the target's host is rejected and not
/// ignored, because another server may use it.
fn authority(
    uri: &Uri,
    version: Version,
    host: Option<HeaderValue>,
    headers: &mut HeaderMap,
) -> Result<HeaderValue, ProxyError> {
    let host = match (host, headers.entry(HOST)) {
        (Some(_), Entry::Occupied(_)) => return Err(ProxyError::BadRequest("more than one host header")),
        (None, Entry::Occupied(hosts)) if hosts.iter().nth(1).is_some() => {
            return Err(ProxyError::BadRequest("more than one host header"));
        }
        (None, Entry::Occupied(host)) => Some(host.remove()),
        (host, Entry::Vacant(_)) => host,
    };
    let authority = match (uri.authority(), host) {
        (Some(target), Some(host)) => {
            if !target.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()) {
                return Err(ProxyError::BadRequest("the host header is not the target's host"));
            }
            host
        }
        // RFC 9112 §3.2: also with a target in absolute-form.
        (Some(_), None) if version == Version::HTTP_11 => return Err(ProxyError::BadRequest("no host")),
        (Some(target), None) => {
            HeaderValue::from_str(target.as_str()).map_err(|_| ProxyError::BadRequest("the host is not valid"))?
        }
        (None, Some(host)) => host,
        // RFC 9112 §3.2: before HTTP/1.1 there was no host to send.
        (None, None) if version <= Version::HTTP_10 => HeaderValue::from_static(""),
        (None, None) => return Err(ProxyError::BadRequest("no host")),
    };
    if uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(ProxyError::BadRequest("the target's scheme is not http or https"));
    }
    if is_host(authority.as_bytes()) { Ok(authority) } else { Err(ProxyError::BadRequest("the host is not valid")) }
}

/// Returns true for a name or an address with an optional port.
///
/// Rejects characters that RFC 3986 allows and DNS does not, since they only serve to confuse.
fn is_host(authority: &[u8]) -> bool {
    let (host, port) = match authority.iter().rposition(|byte| matches!(byte, b':' | b']')) {
        Some(colon) if authority[colon] == b':' => (&authority[..colon], &authority[colon + 1..]),
        _ => (authority, &[][..]),
    };
    let valid = match host {
        [b'[', address @ .., b']'] => {
            address.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
        }
        name => name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')),
    };
    valid && port.len() <= 5 && port.iter().all(u8::is_ascii_digit)
}

/// Returns the protocol that a request switches to, if its endpoint agrees.
///
/// RFC 9110 §7.8 allows ignoring an upgrade. Ignoring `h2c` is harmless. A downstream that requests another protocol
/// cannot continue without it, so it gets an error.
fn requested_upgrade(
    headers: &HeaderMap,
    version: Version,
    options: &DownstreamProtocolOptions,
) -> Result<Option<HeaderValue>, ProxyError> {
    let mut protocols = headers.get_all(UPGRADE).iter();
    let Some(protocol) = protocols.next() else { return Ok(None) };
    // RFC 9110 §7.8: `upgrade` of HTTP/1.0 is ignored.
    if version == Version::HTTP_10 || has_token(headers, &UPGRADE, b"h2c") {
        return Ok(None);
    }
    if protocols.next().is_some() || !options.allows_upgrade(protocol.as_bytes()) {
        return Err(ProxyError::UpgradeNotAllowed(String::from_utf8_lossy(protocol.as_bytes()).into_owned()));
    }
    Ok(Some(protocol.clone()))
}

/// Reduces a repeated or listed `content-length` to one (RFC 9110 §8.6).
///
/// # Errors
/// The lengths differ, or are not numbers.
fn check_content_length(headers: &mut HeaderMap) -> Result<(), &'static str> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let first = values.next().map(HeaderValue::as_bytes).unwrap_or_default();
    let single = values.next().is_none();
    if single && !first.is_empty() && first.iter().all(u8::is_ascii_digit) {
        return Ok(());
    }
    let mut lengths =
        headers.get_all(CONTENT_LENGTH).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let first = lengths.next().map(<[u8]>::trim_ascii).unwrap_or_default();
    let valid = !first.is_empty() && first.iter().all(u8::is_ascii_digit);
    if !valid || !lengths.all(|length| length.trim_ascii() == first) {
        return Err("content-length is not one number");
    }
    let length = HeaderValue::from_bytes(first).map_err(|_| "content-length is not one number")?;
    headers.insert(CONTENT_LENGTH, length);
    Ok(())
}

/// Sets the headers that the proxy is the authority for: `x-forwarded-proto`, `x-forwarded-for` and `x-request-id`.
fn set_forwarded_headers(headers: &mut HeaderMap, peer: IpAddr, scheme: &'static str) {
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    match headers.entry(FORWARDED_FOR) {
        Entry::Vacant(entry) => drop(entry.insert(forwarded_for(std::iter::empty(), peer))),
        Entry::Occupied(mut entry) => {
            let chain = forwarded_for(entry.iter(), peer);
            entry.insert(chain);
        }
    }
    let usable = |id: &HeaderValue| {
        (1..=MAX_REQUEST_ID_BYTES).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    match headers.entry(REQUEST_ID) {
        Entry::Vacant(entry) => drop(entry.insert(new_request_id())),
        Entry::Occupied(entry) if usable(entry.get()) && entry.iter().nth(1).is_none() => {}
        Entry::Occupied(mut entry) => drop(entry.insert(new_request_id())),
    }
}

/// Returns the chain of forwarders, with the peer at its end.
fn forwarded_for<'a>(chain: impl Iterator<Item = &'a HeaderValue>, peer: IpAddr) -> HeaderValue {
    thread_local! {
        // Reused, so that only the value itself is allocated, in its exact size.
        static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    TEXT.with_borrow_mut(|text| {
        text.clear();
        for value in chain {
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b", ");
        }
        write_address(text, peer);
        // Header values and an address joined by commas are a valid header value.
        HeaderValue::from_bytes(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    })
}

fn write_address(text: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let mut digits = itoa::Buffer::new();
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    text.push(b'.');
                }
                text.extend_from_slice(digits.format(octet).as_bytes());
            }
        }
        // Writing to a `Vec` cannot fail.
        IpAddr::V6(address) => drop(write!(text, "{address}")),
    }
}

/// Returns a random UUID (RFC 9562 §5.4). It identifies a request in logs, and is no secret.
fn new_request_id() -> HeaderValue {
    thread_local! {
        static RNG: RefCell<SmallRng> = RefCell::new(SmallRng::from_os_rng());
    }
    let mut bytes = [0; 16];
    RNG.with_borrow_mut(|rng| rng.fill_bytes(&mut bytes));
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble & 0x0F)];
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        (text[at], text[at + 1]) = (digit(byte >> 4), digit(byte));
        at += 2;
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("none"))
}

#[cfg(test)]
#[path = "sanitize_tests.rs"]
mod tests;
