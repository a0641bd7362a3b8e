//! Makes heads unambiguous, once, before any decision uses them: one host, one path in one spelling, no hop-by-hop
//! headers, and the headers that the proxy itself sets. Routes, filters and the endpoint see the same bytes.
//! `stream::handle` calls it for each request, and `stream::forward` for each response of an endpoint.
//!
//! The HTTP/1 codec has already rejected ambiguous framing (`docs/http1.md`), and hyper what HTTP/2 forbids.

use std::cell::RefCell;
use std::io::Write;
use std::net::IpAddr;

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, Entry, HOST, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, request, response};
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

use weir_http1::has_token;

use super::normalize;
use crate::error::ProxyError;
use crate::head::{RequestHead, ResponseHead};
use crate::limits::{MAX_HEADERS, MAX_REQUEST_ID_BYTES};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Prefix of headers that are internal to the mesh. They are never accepted from a downstream.
const INTERNAL_PREFIX: &str = "x-weir-";

/// The special headers that a head has, as one bit for each kind.
#[derive(Clone, Copy)]
struct SpecialHeaders(u8);

impl SpecialHeaders {
    /// The `connection` header, which most downstreams send.
    const CONNECTION: u8 = 1;
    /// Any other hop-by-hop header. Few downstreams send one.
    const HOP_BY_HOP: u8 = 1 << 5;
    const TRANSFER_ENCODING: u8 = 1 << 1;
    const CONTENT_LENGTH: u8 = 1 << 2;
    const EXPECT: u8 = 1 << 3;
    const INTERNAL: u8 = 1 << 4;

    /// Scans the header names once, which costs less than looking up a dozen absent headers.
    fn scan(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self(0), |Self(bits), name| {
            let bit = match name.as_str() {
                "connection" => Self::CONNECTION,
                "keep-alive" | "proxy-connection" | "te" | "upgrade" | "http2-settings" => Self::HOP_BY_HOP,
                "transfer-encoding" => Self::TRANSFER_ENCODING,
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

/// Makes a request's head unambiguous. `peer` is the downstream's address, `scheme` its scheme.
///
/// # Errors
/// `BadRequest` for a head that two parties could interpret differently, for `CONNECT` and for upgrades.
/// `HeadersTooLarge` for more headers than allowed.
pub(crate) fn request(parts: request::Parts, peer: IpAddr, scheme: &'static str) -> Result<RequestHead, ProxyError> {
    let request::Parts { method, uri, version, mut headers, .. } = parts;
    if headers.len() > MAX_HEADERS {
        return Err(ProxyError::HeadersTooLarge);
    }
    if method == Method::CONNECT {
        return Err(ProxyError::BadRequest("CONNECT is not supported"));
    }
    let authority = authority(&uri, version, &mut headers)?;
    let path = normalize::path(uri, &method)?;
    let present = SpecialHeaders::scan(&headers);
    let hop_by_hop = present.has(SpecialHeaders::HOP_BY_HOP);
    let trailers = hop_by_hop && has_token(&headers, &TE, b"trailers");
    if hop_by_hop {
        reject_upgrade(&headers)?;
    }
    remove_hop_by_hop(&mut headers, present);
    if trailers {
        // RFC 9110 §10.1.4: the only value of `te` that every hop can forward.
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if present.has(SpecialHeaders::TRANSFER_ENCODING) {
        remove_transfer_encoding(&mut headers).map_err(ProxyError::BadRequest)?;
    } else if present.has(SpecialHeaders::CONTENT_LENGTH) {
        check_content_length(&mut headers).map_err(ProxyError::BadRequest)?;
    }
    if present.has(SpecialHeaders::EXPECT) {
        // The codec sends 100 when the body is first read.
        if !has_token(&headers, &EXPECT, b"100-continue") {
            return Err(ProxyError::ExpectationFailed);
        }
        headers.remove(EXPECT);
    }
    if present.has(SpecialHeaders::INTERNAL) {
        let internal: Vec<_> =
            headers.keys().filter(|name| name.as_str().starts_with(INTERNAL_PREFIX)).cloned().collect();
        internal.iter().for_each(|name| drop(headers.remove(name)));
    }
    set_forwarded_headers(&mut headers, peer, scheme);
    Ok(RequestHead { method, scheme, authority, path, headers, version })
}

/// Makes the head of an endpoint's response unambiguous.
///
/// # Errors
/// `UpstreamProtocol` for a response that was not requested or that no downstream could interpret.
pub(crate) fn response(parts: response::Parts) -> Result<ResponseHead, ProxyError> {
    let rejected = |reason: &str| ProxyError::UpstreamProtocol(reason.to_owned());
    let response::Parts { status, mut headers, mut extensions, .. } = parts;
    if status.is_informational() {
        return Err(rejected("it switched protocols without a request"));
    }
    if headers.len() > MAX_HEADERS {
        return Err(rejected("the response has too many headers"));
    }
    let present = SpecialHeaders::scan(&headers);
    remove_hop_by_hop(&mut headers, present);
    if present.has(SpecialHeaders::TRANSFER_ENCODING) {
        remove_transfer_encoding(&mut headers).map_err(rejected)?;
    } else if present.has(SpecialHeaders::CONTENT_LENGTH) {
        check_content_length(&mut headers).map_err(rejected)?;
    }
    if status == StatusCode::NO_CONTENT {
        headers.remove(CONTENT_LENGTH); // RFC 9110 §8.6: never with 204.
    }
    Ok(ResponseHead { status, reason: extensions.remove(), headers })
}

/// Removes what only a head may have from trailers: internal headers, and those that the proxy sets (RFC 9110 §6.5.1).
pub(super) fn trailers(trailers: &mut HeaderMap) {
    let is_set_by_proxy = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with(INTERNAL_PREFIX) || name.starts_with("x-forwarded-") || name == "x-request-id"
    };
    let named: Vec<HeaderName> = trailers.keys().filter(|name| is_set_by_proxy(name)).cloned().collect();
    named.iter().for_each(|name| drop(trailers.remove(name)));
}

/// Removes hop-by-hop headers from an informational response.
pub(crate) fn informational(headers: &mut HeaderMap) {
    let present = SpecialHeaders::scan(headers);
    remove_hop_by_hop(headers, present);
    headers.remove(TRANSFER_ENCODING);
    headers.remove(CONTENT_LENGTH); // RFC 9110 §8.6: never with 1xx.
}

/// Removes the `host` header and returns the request's host.
///
/// RFC 9112 §3.2: a request has exactly one `host`. One that differs from the target's host is rejected and not
/// ignored, because another server may use it.
fn authority(uri: &Uri, version: Version, headers: &mut HeaderMap) -> Result<HeaderValue, ProxyError> {
    let host = match headers.entry(HOST) {
        Entry::Occupied(hosts) if hosts.iter().nth(1).is_some() => {
            return Err(ProxyError::BadRequest("more than one host header"));
        }
        Entry::Occupied(host) => Some(host.remove()),
        Entry::Vacant(_) => None,
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

/// Rejects an upgrade other than `h2c`.
///
/// RFC 9110 §7.8 allows ignoring an upgrade. Ignoring `h2c` is harmless. A downstream that requests another protocol
/// cannot continue without it, so it gets an error.
fn reject_upgrade(headers: &HeaderMap) -> Result<(), ProxyError> {
    let upgrades = headers.contains_key(UPGRADE) && has_token(headers, &CONNECTION, b"upgrade");
    if upgrades && !has_token(headers, &UPGRADE, b"h2c") {
        return Err(ProxyError::BadRequest("upgrades are not supported"));
    }
    Ok(())
}

/// Removes `connection`, the headers that it names, and the other hop-by-hop headers (RFC 9110 §7.6.1).
fn remove_hop_by_hop(headers: &mut HeaderMap, present: SpecialHeaders) {
    if present.has(SpecialHeaders::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            // The usual options name no header that could be present.
            .filter(|option| !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive"))
            .filter_map(|option| HeaderName::from_bytes(option).ok())
            .filter(|name| !is_end_to_end(name.as_str()))
            .take(MAX_HEADERS)
            .collect();
        named.iter().for_each(|name| drop(headers.remove(name)));
        headers.remove(CONNECTION);
    }
    if present.has(SpecialHeaders::HOP_BY_HOP) {
        for name in ["keep-alive", "proxy-connection", "te", "upgrade", "http2-settings"] {
            headers.remove(name);
        }
    }
}

/// Returns true for headers that `connection` cannot remove.
///
/// A downstream must not be able to hide its identity, or to change the length of its body, towards those behind this
/// proxy.
fn is_end_to_end(name: &str) -> bool {
    name.starts_with("x-forwarded-")
        || name.starts_with("content-")
        || matches!(
            name,
            "transfer-encoding" | "forwarded" | "via" | "x-real-ip" | "x-request-id" | "authorization" | "cookie"
        )
}

/// Removes `transfer-encoding` and a length beside it, since the codec has decoded the body.
///
/// # Errors
/// Any coding but `chunked`: the body would still be coded, without its label.
fn remove_transfer_encoding(headers: &mut HeaderMap) -> Result<(), &'static str> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = codings.next().is_some_and(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    if !chunked || codings.next().is_some() {
        return Err("a transfer-encoding other than chunked");
    }
    headers.remove(TRANSFER_ENCODING);
    headers.remove(CONTENT_LENGTH);
    Ok(())
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
