//! Header maps as guests see them: pseudo headers first, then every other header in wire order; names lower-case.
//! Called by `host.rs`. What a guest writes is checked here: what must not go on the wire is never stored.

use http::header::{HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};
use weir_host_abi::abi::map::MapKind;

use crate::filter::event::Side;
use crate::filter::exchange::Exchange;
use crate::filter::names;
use crate::head::{RequestHead, ResponseHead};
use crate::kept_headers::KeptHeaders;
use crate::limits::MAX_HEADERS;

/// What a guest wrote must not go on the wire: the stream fails, the guest is told nothing (many would panic).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Invalid;

/// A map that can be read now, or `None`.
pub(super) fn visit(exchange: &Exchange, map: MapKind, visit: &mut dyn FnMut(&[u8], &[u8])) {
    match map {
        _ if exchange.is_tcp => {}
        MapKind::RequestHeaders => {
            let RequestHead { method, scheme, authority, path, headers, .. } = &exchange.request;
            visit(b":method", method.as_str().as_bytes());
            visit(b":scheme", scheme.as_bytes());
            visit(b":authority", authority.as_bytes());
            visit(b":path", path.as_str().as_bytes());
            visit_headers(exchange, Side::Request, headers, visit);
        }
        MapKind::ResponseHeaders => {
            if let Some(ResponseHead { status, headers }) = &exchange.response {
                visit(b":status", status.as_str().as_bytes());
                visit_headers(exchange, Side::Response, headers, visit);
            }
        }
        MapKind::RequestTrailers => exchange.request_trailers.iter().for_each(|map| visit_map(map, visit)),
        MapKind::ResponseTrailers => exchange.response_trailers.iter().for_each(|map| visit_map(map, visit)),
        _ => {}
    }
}

/// The headers of a side as they are, or as they went on.
fn visit_headers(exchange: &Exchange, side: Side, headers: &HeaderMap, visit: &mut dyn FnMut(&[u8], &[u8])) {
    match &exchange.kept[side as usize] {
        Some(kept) => kept.iter().for_each(|(name, value)| visit(name, value)),
        None => visit_map(headers, visit),
    }
}

pub(super) fn visit_map(headers: &HeaderMap, visit: &mut dyn FnMut(&[u8], &[u8])) {
    for (name, value) in headers {
        visit(name.as_str().as_bytes(), value.as_bytes());
    }
}

/// The first value of a header.
pub(super) fn value<'a>(exchange: &'a Exchange, map: MapKind, name: &[u8]) -> Option<&'a [u8]> {
    if let Some(own) = own_value(exchange, map, name) {
        return Some(own);
    }
    if let Some(kept) = kept(exchange, map) {
        return kept.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    }
    let headers = map_to_read(exchange, map)?;
    names::with(name, |name| headers.get(name)).flatten().map(HeaderValue::as_bytes)
}

/// Every value of a header, in order.
pub(super) fn values<'a>(exchange: &'a Exchange, map: MapKind, name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    let own = own_value(exchange, map, name);
    let kept = kept(exchange, map).filter(|_| own.is_none());
    let headers = map_to_read(exchange, map).filter(|_| own.is_none() && kept.is_none());
    let found = headers.and_then(|headers| names::with(name, |name| headers.get_all(name)));
    let kept = kept.map(|kept| kept.values(name));
    own.into_iter().chain(found.into_iter().flatten().map(HeaderValue::as_bytes)).chain(kept.into_iter().flatten())
}

/// The headers of a map that have gone on.
fn kept(exchange: &Exchange, map: MapKind) -> Option<&KeptHeaders> {
    match map {
        MapKind::RequestHeaders => exchange.kept[Side::Request as usize].as_ref(),
        MapKind::ResponseHeaders => exchange.kept[Side::Response as usize].as_ref(),
        _ => None,
    }
}

/// What is a header to guests and a field of its own to us.
fn own_value<'a>(exchange: &'a Exchange, map: MapKind, name: &[u8]) -> Option<&'a [u8]> {
    match map {
        MapKind::RequestHeaders => match name {
            b":method" => Some(exchange.request.method.as_str().as_bytes()),
            b":scheme" => Some(exchange.request.scheme.as_bytes()),
            b":path" => Some(exchange.request.path.as_str().as_bytes()),
            b":authority" => Some(exchange.request.authority.as_bytes()),
            _ if name.eq_ignore_ascii_case(b"host") => Some(exchange.request.authority.as_bytes()),
            _ => None,
        },
        MapKind::ResponseHeaders if name == b":status" => Some(exchange.response.as_ref()?.status.as_str().as_bytes()),
        _ => None,
    }
}

fn map_to_read(exchange: &Exchange, map: MapKind) -> Option<&HeaderMap> {
    match map {
        MapKind::RequestHeaders => Some(&exchange.request.headers),
        MapKind::ResponseHeaders => exchange.response.as_ref().map(|response| &response.headers),
        MapKind::RequestTrailers => exchange.request_trailers.as_deref(),
        MapKind::ResponseTrailers => exchange.response_trailers.as_deref(),
        _ => None,
    }
}

/// How a header is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Write {
    /// One more value.
    Add,
    /// This value instead of all others.
    Replace,
}

/// Writes a header. Trailers come into being by a write; a response that is not there yet is left alone.
pub(super) fn write(
    exchange: &mut Exchange,
    map: MapKind,
    how: Write,
    (name, value): (&[u8], &[u8]),
) -> Result<(), Invalid> {
    if name.first() == Some(&b':') {
        return write_pseudo(exchange, map, name, value);
    }
    if map == MapKind::RequestHeaders && name.eq_ignore_ascii_case(b"host") {
        exchange.request.authority = HeaderValue::from_bytes(value).map_err(|_| Invalid)?;
        return Ok(());
    }
    let name = names::with(name, HeaderName::clone).ok_or(Invalid)?;
    let value = HeaderValue::from_bytes(value).map_err(|_| Invalid)?;
    let Some(headers) = map_to_write(exchange, map) else { return Ok(()) };
    if headers.len() >= MAX_HEADERS * 2 {
        return Err(Invalid); // A filter may add to a full head, but not without end.
    }
    match how {
        Write::Add => {
            headers.append(name, value);
        }
        Write::Replace => {
            headers.insert(name, value);
        }
    }
    Ok(())
}

/// Counts what was added to a head; once it is more than `room`, the head must not be longer than that.
pub(super) fn grow(exchange: &mut Exchange, map: MapKind, added: usize, room: usize) -> Result<(), Invalid> {
    exchange.head_growth = exchange.head_growth.saturating_add(added);
    if exchange.head_growth <= room {
        return Ok(());
    }
    exchange.head_growth = 0;
    let mut size = 0;
    visit(exchange, map, &mut |name, value| size += name.len() + value.len());
    if size > room { Err(Invalid) } else { Ok(()) }
}

/// Removes all values of a header; whether there were any. A pseudo header cannot be removed: a head without it cannot go
/// on the wire.
pub(super) fn remove(exchange: &mut Exchange, map: MapKind, name: &[u8]) -> Result<bool, Invalid> {
    if name.first() == Some(&b':') {
        return Err(Invalid);
    }
    let headers = match map {
        MapKind::RequestTrailers => exchange.request_trailers.as_deref_mut(),
        MapKind::ResponseTrailers => exchange.response_trailers.as_deref_mut(),
        _ => map_to_write(exchange, map),
    };
    let removed = headers.and_then(|headers| names::with(name, |name| headers.remove(name)));
    Ok(removed.flatten().is_some())
}

/// Replaces a whole map. Pseudo headers that are left out stay as they are.
pub(super) fn replace_all<'a>(
    exchange: &mut Exchange,
    map: MapKind,
    pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<(), Invalid> {
    if let Some(headers) = map_to_write(exchange, map) {
        headers.clear();
    }
    for pair in pairs {
        write(exchange, map, Write::Add, pair)?;
    }
    Ok(())
}

fn map_to_write(exchange: &mut Exchange, map: MapKind) -> Option<&mut HeaderMap> {
    if kept(exchange, map).is_some() {
        return None; // They have gone on.
    }
    match map {
        MapKind::RequestHeaders => Some(&mut exchange.request.headers),
        MapKind::ResponseHeaders => exchange.response.as_mut().map(|response| &mut response.headers),
        MapKind::RequestTrailers => Some(exchange.request_trailers.get_or_insert_default()),
        MapKind::ResponseTrailers => Some(exchange.response_trailers.get_or_insert_default()),
        _ => None,
    }
}

fn write_pseudo(exchange: &mut Exchange, map: MapKind, name: &[u8], value: &[u8]) -> Result<(), Invalid> {
    match (map, name) {
        (MapKind::RequestHeaders, b":method") => {
            exchange.request.method = Method::from_bytes(value).map_err(|_| Invalid)?;
        }
        (MapKind::RequestHeaders, b":path") => exchange.request.path = path(value)?,
        (MapKind::RequestHeaders, b":authority") => {
            exchange.request.authority = HeaderValue::from_bytes(value).map_err(|_| Invalid)?;
        }
        (MapKind::RequestHeaders, b":scheme") => {
            exchange.request.scheme = match value {
                b"http" => "http",
                b"https" => "https",
                _ => return Err(Invalid),
            };
        }
        (MapKind::ResponseHeaders, b":status") => {
            if let Some(response) = &mut exchange.response {
                response.status = StatusCode::from_bytes(value).ok().filter(is_final).ok_or(Invalid)?;
            }
        }
        _ => return Err(Invalid),
    }
    Ok(())
}

/// A path in origin form (RFC 9112 §3.2.1), or `*`.
fn path(value: &[u8]) -> Result<PathAndQuery, Invalid> {
    if value.first() != Some(&b'/') && value != b"*" {
        return Err(Invalid);
    }
    let path = PathAndQuery::try_from(value).map_err(|_| Invalid)?;
    if path.as_str().len() == value.len() { Ok(path) } else { Err(Invalid) } // It would cut off a fragment.
}

/// True for a status that ends a response: 200 to 599.
pub(super) fn is_final(status: &StatusCode) -> bool {
    (200..600).contains(&status.as_u16())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::filter::chain::Chain;
    use crate::filter::facts::Facts;

    fn exchange() -> Exchange {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_static("2"));
        let request = RequestHead {
            method: Method::GET,
            scheme: "http",
            authority: HeaderValue::from_static("shop.example"),
            path: PathAndQuery::from_static("/a?b"),
            headers,
            version: http::Version::HTTP_11,
        };
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        Exchange::new(request, Chain::new(1, |_| 0), Facts::new(nowhere, nowhere, 1))
    }

    #[test]
    fn reads() {
        let exchange = exchange();
        for (name, expected) in [
            (&b":path"[..], Some(&b"/a?b"[..])),
            (b":authority", Some(b"shop.example")),
            (b"Host", Some(b"shop.example")),
            (b"X-A", Some(b"1")),
            (b"x-b", None),
            (b"x b", None),
            (b":status", None),
        ] {
            let all: Vec<_> = values(&exchange, MapKind::RequestHeaders, name).collect();
            assert_eq!(all.len(), if name == b"X-A" { 2 } else { usize::from(expected.is_some()) });
            assert_eq!(value(&exchange, MapKind::RequestHeaders, name), expected, "{name:?}");
        }
        assert_eq!(value(&exchange, MapKind::ResponseHeaders, b":status"), None);
    }

    #[test]
    fn what_must_not_go_on_the_wire_is_not_stored() {
        for (name, value) in [
            (&b"x-a"[..], &b"a\r\nb: c"[..]),
            (b"x-a", b"a\0b"),
            (b"x a", b"1"),
            (b"", b"1"),
            (b":path", b"no-slash"),
            (b":path", b"/a b"),
            (b":path", b"/a#b"),
            (b":path", b""),
            (b":method", b"G T"),
            (b":scheme", b"ftp"),
            (b":status", b"200"),
            (b":made-up", b"1"),
        ] {
            let mut exchange = exchange();
            let result = write(&mut exchange, MapKind::RequestHeaders, Write::Replace, (name, value));
            assert_eq!(result, Err(Invalid), "{:?}", String::from_utf8_lossy(name));
            assert_eq!(exchange.request.headers.len(), 2);
        }
    }

    #[test]
    fn writes() {
        let mut exchange = exchange();
        write(&mut exchange, MapKind::RequestHeaders, Write::Add, (b"X-A", b"3")).unwrap();
        assert_eq!(exchange.request.headers.get_all("x-a").iter().count(), 3);
        write(&mut exchange, MapKind::RequestHeaders, Write::Replace, (b"x-a", b"\xff")).unwrap();
        assert_eq!(exchange.request.headers.get_all("x-a").iter().count(), 1);
        write(&mut exchange, MapKind::ResponseTrailers, Write::Add, (b"grpc-status", b"0")).unwrap();
        assert!(exchange.response_trailers.is_some());
        assert_eq!(remove(&mut exchange, MapKind::RequestTrailers, b"x"), Ok(false));
        assert!(exchange.request_trailers.is_none());
        assert_eq!(remove(&mut exchange, MapKind::RequestHeaders, b"X-A"), Ok(true));
        assert_eq!(remove(&mut exchange, MapKind::RequestHeaders, b"x-a"), Ok(false));
        assert_eq!(remove(&mut exchange, MapKind::RequestHeaders, b"\xff"), Ok(false));
    }

    #[test]
    fn a_head_has_an_end() {
        let mut exchange = exchange();
        let value = [b'x'; 100];
        let mut add = |name: &str| {
            write(&mut exchange, MapKind::RequestHeaders, Write::Replace, (name.as_bytes(), &value)).unwrap();
            grow(&mut exchange, MapKind::RequestHeaders, name.len() + value.len(), 500)
        };
        // The same one again and again is no growth; others are.
        assert!((0..50).all(|_| add("x-same").is_ok()));
        assert!((0..10).any(|number| add(&format!("x-{number}")).is_err()));
    }
}
