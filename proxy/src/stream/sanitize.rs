//! What comes in is made unambiguous, once, before anyone decides by it: one host, one path in one spelling, no headers
//! that were meant for this connection only, and the headers that the proxy itself vouches for. Everything after this
//! (routes, filters, the endpoint) sees the same bytes. Called by `stream::handle` for each request and for each
//! response of an endpoint.
//!
//! What hyper has refused before: a bad or a repeated differing `content-length`, `transfer-encoding` that does not end
//! in `chunked` or comes with HTTP/1.0, bare line feeds, folded lines. It drops a `content-length` beside a
//! `transfer-encoding` (RFC 9112 §6.3), and what follows `#` in a request's target.

use std::cell::RefCell;
use std::io::Write;
use std::net::IpAddr;

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, Entry, HOST, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, request, response};
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

use super::normalise;
use crate::error::ProxyError;
use crate::head::{RequestHead, ResponseHead};
use crate::limits::{MAX_HEADERS, MAX_REQUEST_ID_BYTES};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers that tell parts of the mesh from one another; never taken from outside.
const INTERNAL_PREFIX: &str = "x-weir-";

/// Which headers that need a look are there, by a bit for each kind.
#[derive(Clone, Copy)]
struct Present(u8);

impl Present {
    /// `connection`, which most downstreams send.
    const CONNECTION: u8 = 1;
    /// One of the other headers that always end here, which few send.
    const HOP_BY_HOP: u8 = 1 << 5;
    const TRANSFER_ENCODING: u8 = 1 << 1;
    const CONTENT_LENGTH: u8 = 1 << 2;
    const EXPECT: u8 = 1 << 3;
    const INTERNAL: u8 = 1 << 4;

    /// One pass over the names: looking up each of a dozen absent headers would cost more.
    fn among(headers: &HeaderMap) -> Self {
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

/// Makes a request's head fit to be routed, filtered and forwarded. `peer` is who sent it, `scheme` how.
///
/// # Errors
/// `BadRequest` for whatever two parties could understand in two ways, and for `CONNECT` and upgrades;
/// `HeadersTooLarge` for more headers than are allowed.
pub(crate) fn request(parts: request::Parts, peer: IpAddr, scheme: &'static str) -> Result<RequestHead, ProxyError> {
    let request::Parts { method, uri, version, mut headers, .. } = parts;
    if headers.len() > MAX_HEADERS {
        return Err(ProxyError::HeadersTooLarge);
    }
    if method == Method::CONNECT {
        return Err(ProxyError::BadRequest("CONNECT is not supported"));
    }
    let authority = authority(&uri, version, &mut headers)?;
    let path = normalise::path(uri, &method)?;
    let present = Present::among(&headers);
    let hop_by_hop = present.has(Present::HOP_BY_HOP);
    let trailers = hop_by_hop && lists(&headers, &TE, "trailers");
    if hop_by_hop {
        refuse_upgrade(&headers)?;
    }
    end_hop_by_hop(&mut headers, present);
    if trailers {
        // RFC 9110 §10.1.4: the one coding of `te` that every hop can pass on.
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if present.has(Present::TRANSFER_ENCODING) {
        end_transfer_encoding(&mut headers).map_err(ProxyError::BadRequest)?;
    } else if present.has(Present::CONTENT_LENGTH) {
        one_content_length(&mut headers).map_err(ProxyError::BadRequest)?;
    }
    if present.has(Present::EXPECT) {
        // hyper answers it when the body is first asked for.
        if !lists(&headers, &EXPECT, "100-continue") {
            return Err(ProxyError::BadRequest("only 100-continue can be expected"));
        }
        headers.remove(EXPECT);
    }
    if present.has(Present::INTERNAL) {
        let internal: Vec<_> =
            headers.keys().filter(|name| name.as_str().starts_with(INTERNAL_PREFIX)).cloned().collect();
        internal.iter().for_each(|name| drop(headers.remove(name)));
    }
    vouch(&mut headers, peer, scheme);
    Ok(RequestHead { method, scheme, authority, path, headers, version })
}

/// Makes the head of an endpoint's response fit to be sent down.
///
/// # Errors
/// `UpstreamProtocol` for what the endpoint was not asked for or no downstream could understand.
pub(crate) fn response(parts: response::Parts) -> Result<ResponseHead, ProxyError> {
    let refused = |reason: &str| ProxyError::UpstreamProtocol(reason.to_owned());
    let response::Parts { status, mut headers, .. } = parts;
    if status.is_informational() {
        return Err(refused("it switched protocols without being asked"));
    }
    if headers.len() > MAX_HEADERS {
        return Err(refused("the response has too many headers"));
    }
    let present = Present::among(&headers);
    end_hop_by_hop(&mut headers, present);
    if present.has(Present::TRANSFER_ENCODING) {
        end_transfer_encoding(&mut headers).map_err(refused)?;
    } else if present.has(Present::CONTENT_LENGTH) {
        one_content_length(&mut headers).map_err(refused)?;
    }
    if status == StatusCode::NO_CONTENT {
        headers.remove(CONTENT_LENGTH); // RFC 9110 §8.6: never with 204.
    }
    Ok(ResponseHead { status, headers })
}

/// The host that the request is for, taken out of the headers. RFC 9112 §3.2: exactly one `host`; one that differs from
/// the target's is refused rather than ignored, because somebody meant it to be seen by somebody.
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

/// A name or an address, and perhaps a port: what has other characters is meant to confuse (RFC 3986 allows more, DNS
/// does not).
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

/// RFC 9110 §7.8: an upgrade may be ignored. Ignoring `h2c` does no harm; who asks for another protocol cannot go on
/// without it, and gets a clear answer.
fn refuse_upgrade(headers: &HeaderMap) -> Result<(), ProxyError> {
    let asked = headers.contains_key(UPGRADE) && lists(headers, &CONNECTION, "upgrade");
    if asked && !lists(headers, &UPGRADE, "h2c") {
        return Err(ProxyError::BadRequest("upgrades are not supported"));
    }
    Ok(())
}

/// True when one of the header's comma-separated elements is `element`, in any case.
fn lists(headers: &HeaderMap, name: &HeaderName, element: &str) -> bool {
    let mut elements = headers.get_all(name).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    elements.any(|it| it.trim_ascii().eq_ignore_ascii_case(element.as_bytes()))
}

/// RFC 9110 §7.6.1: `connection`, what it names, and what has always been meant for one connection, end here.
fn end_hop_by_hop(headers: &mut HeaderMap, present: Present) {
    if present.has(Present::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            // The usual options name no header that could be there.
            .filter(|option| !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive"))
            .filter_map(|option| HeaderName::from_bytes(option).ok())
            .filter(|name| !is_end_to_end(name.as_str()))
            .take(MAX_HEADERS)
            .collect();
        named.iter().for_each(|name| drop(headers.remove(name)));
        headers.remove(CONNECTION);
    }
    if present.has(Present::HOP_BY_HOP) {
        for name in ["keep-alive", "proxy-connection", "te", "upgrade", "http2-settings"] {
            headers.remove(name);
        }
    }
}

/// Headers that `connection` cannot take away: a downstream must not be able to hide who it is, or to change how long
/// its body is, from those behind this proxy.
fn is_end_to_end(name: &str) -> bool {
    name.starts_with("x-forwarded-")
        || name.starts_with("content-")
        || matches!(
            name,
            "transfer-encoding" | "forwarded" | "via" | "x-real-ip" | "x-request-id" | "authorization" | "cookie"
        )
}

/// The body has been taken out of its coding, so neither the coding nor a length beside it says anything any more. Any
/// coding but `chunked` would still be in the body, without its label.
fn end_transfer_encoding(headers: &mut HeaderMap) -> Result<(), &'static str> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = codings.next().is_some_and(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    if !chunked || codings.next().is_some() {
        return Err("a transfer-encoding other than chunked");
    }
    headers.remove(TRANSFER_ENCODING);
    headers.remove(CONTENT_LENGTH);
    Ok(())
}

/// RFC 9110 §8.6: a repeated or listed length is one length, or an error.
fn one_content_length(headers: &mut HeaderMap) -> Result<(), &'static str> {
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

/// Adds what the proxy vouches for: who sent the request, how, and an id to find it again by.
fn vouch(headers: &mut HeaderMap, peer: IpAddr, scheme: &'static str) {
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

/// The chain of those who forwarded the request, with the peer behind them.
fn forwarded_for<'a>(chain: impl Iterator<Item = &'a HeaderValue>, peer: IpAddr) -> HeaderValue {
    thread_local! {
        // Kept, so that only the value itself is allocated, in its exact size.
        static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    TEXT.with_borrow_mut(|text| {
        text.clear();
        for value in chain {
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b", ");
        }
        write_address(text, peer);
        // Header values and an address joined by commas are a header value.
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

/// A random UUID (RFC 9562 §5.4). It is an address in logs, not a secret.
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
