//! Header maps as guests see them: pseudo-headers first, then all other headers in wire order, with lower-case names.
//! Called by `hostcalls.rs`. Writes are checked here, so that an invalid header is never stored.

use http::header::{HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};
use weir_host_abi::abi::map::MapKind;

use super::header_names;
use crate::filter::chain::{Direction, Exchange};
use crate::head::{RequestHead, ResponseHead};
use crate::limits::MAX_FILTERED_HEADERS;
use crate::packed_headers::PackedHeaders;

/// A header that must not be sent. The stream fails, and the guest gets no error status, since many guests would
/// panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InvalidHeader;

/// Visits the headers of a map: nothing if the map is not readable now.
pub(crate) fn visit(exchange: &Exchange, map: MapKind, visit: &mut dyn FnMut(&[u8], &[u8])) {
    match map {
        _ if exchange.is_tcp => {}
        MapKind::RequestHeaders => {
            let RequestHead { method, scheme, authority, path, headers, .. } = &exchange.request;
            visit(b":method", method.as_str().as_bytes());
            visit(b":scheme", scheme.as_bytes());
            visit(b":authority", authority.as_bytes());
            visit(b":path", path.as_str().as_bytes());
            visit_headers(exchange, Direction::Request, headers, visit);
        }
        MapKind::ResponseHeaders => {
            if let Some(ResponseHead { status, headers, .. }) = &exchange.response {
                visit(b":status", status.as_str().as_bytes());
                visit_headers(exchange, Direction::Response, headers, visit);
            }
        }
        MapKind::RequestTrailers => exchange.request_trailers.iter().for_each(|map| visit_map(map, visit)),
        MapKind::ResponseTrailers => exchange.response_trailers.iter().for_each(|map| visit_map(map, visit)),
        _ => {}
    }
}

/// Returns the number of headers that [`visit`] shows for a direction: all headers, and the pseudo-headers (four of a
/// request, one of a response).
pub(crate) fn header_count(exchange: &Exchange, direction: Direction) -> u32 {
    let count = match direction {
        Direction::Request => exchange.request.headers.len() + 4,
        Direction::Response => exchange.response.as_ref().map_or(0, |head| head.headers.len() + 1),
    };
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Returns the number of trailers of a direction.
pub(crate) fn trailer_count(exchange: &mut Exchange, direction: Direction) -> u32 {
    exchange.trailers(direction).as_ref().map_or(0, |trailers| u32::try_from(trailers.len()).unwrap_or(u32::MAX))
}

/// Visits the headers of a direction, or their copy if they were forwarded.
fn visit_headers(exchange: &Exchange, direction: Direction, headers: &HeaderMap, visit: &mut dyn FnMut(&[u8], &[u8])) {
    match &exchange.forwarded_headers[direction as usize] {
        Some(forwarded) => forwarded.iter().for_each(|(name, value)| visit(name, value)),
        None => visit_map(headers, visit),
    }
}

pub(crate) fn visit_map(headers: &HeaderMap, visit: &mut dyn FnMut(&[u8], &[u8])) {
    for (name, value) in headers {
        visit(name.as_str().as_bytes(), value.as_bytes());
    }
}

/// Returns the first value of a header.
pub(crate) fn value<'a>(exchange: &'a Exchange, map: MapKind, name: &[u8]) -> Option<&'a [u8]> {
    if let Some(pseudo) = pseudo_header(exchange, map, name) {
        return Some(pseudo);
    }
    if let Some(forwarded) = forwarded_headers(exchange, map) {
        return forwarded.iter().find(|(stored, _)| stored.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    }
    let headers = headers(exchange, map)?;
    header_names::with_header_name(name, |name| headers.get(name)).flatten().map(HeaderValue::as_bytes)
}

/// Returns all values of a header, in order.
pub(crate) fn values<'a>(exchange: &'a Exchange, map: MapKind, name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    let pseudo = pseudo_header(exchange, map, name);
    let forwarded = forwarded_headers(exchange, map).filter(|_| pseudo.is_none());
    let headers = headers(exchange, map).filter(|_| pseudo.is_none() && forwarded.is_none());
    let found = headers.and_then(|headers| header_names::with_header_name(name, |name| headers.get_all(name)));
    let forwarded = forwarded.map(|forwarded| forwarded.values(name));
    pseudo
        .into_iter()
        .chain(found.into_iter().flatten().map(HeaderValue::as_bytes))
        .chain(forwarded.into_iter().flatten())
}

/// Returns the copy of a map's headers, if they were forwarded.
fn forwarded_headers(exchange: &Exchange, map: MapKind) -> Option<&PackedHeaders> {
    match map {
        MapKind::RequestHeaders => exchange.forwarded_headers[Direction::Request as usize].as_ref(),
        MapKind::ResponseHeaders => exchange.forwarded_headers[Direction::Response as usize].as_ref(),
        _ => None,
    }
}

/// Returns the value of a pseudo-header or of `host`, which the head stores as a field of its own.
fn pseudo_header<'a>(exchange: &'a Exchange, map: MapKind, name: &[u8]) -> Option<&'a [u8]> {
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

fn headers(exchange: &Exchange, map: MapKind) -> Option<&HeaderMap> {
    match map {
        MapKind::RequestHeaders => Some(&exchange.request.headers),
        MapKind::ResponseHeaders => exchange.response.as_ref().map(|response| &response.headers),
        MapKind::RequestTrailers => exchange.request_trailers.as_deref(),
        MapKind::ResponseTrailers => exchange.response_trailers.as_deref(),
        _ => None,
    }
}

/// Mode of a header write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderWrite {
    /// Appends a value.
    Append,
    /// Replaces all values of the name.
    Set,
}

/// A header to write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeaderField<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
}

/// Writes a header. Creates trailers if there are none, and ignores a response that has not arrived.
pub(crate) fn write(
    exchange: &mut Exchange,
    map: MapKind,
    mode: HeaderWrite,
    field: HeaderField<'_>,
) -> Result<(), InvalidHeader> {
    let HeaderField { name, value } = field;
    if name.first() == Some(&b':') {
        return write_pseudo(exchange, map, name, value);
    }
    if map == MapKind::RequestHeaders && name.eq_ignore_ascii_case(b"host") {
        exchange.request.authority = HeaderValue::from_bytes(value).map_err(|_| InvalidHeader)?;
        return Ok(());
    }
    let name = header_names::with_header_name(name, HeaderName::clone).ok_or(InvalidHeader)?;
    let value = HeaderValue::from_bytes(value).map_err(|_| InvalidHeader)?;
    let Some(headers) = headers_mut(exchange, map) else { return Ok(()) };
    if headers.len() >= MAX_FILTERED_HEADERS {
        return Err(InvalidHeader); // A filter may exceed the downstream limit, up to twice.
    }
    match mode {
        HeaderWrite::Append => {
            headers.append(name, value);
        }
        HeaderWrite::Set => {
            headers.insert(name, value);
        }
    }
    Ok(())
}

/// Adds `added` bytes to the growth of the headers. Once the growth exceeds `limit_bytes`, the map is measured and
/// must not be larger than that.
pub(crate) fn charge_growth(
    exchange: &mut Exchange,
    map: MapKind,
    added: usize,
    limit_bytes: usize,
) -> Result<(), InvalidHeader> {
    exchange.uncounted_header_bytes = exchange.uncounted_header_bytes.saturating_add(added);
    if exchange.uncounted_header_bytes <= limit_bytes {
        return Ok(());
    }
    exchange.uncounted_header_bytes = 0;
    let mut size = 0;
    visit(exchange, map, &mut |name, value| size += name.len() + value.len());
    if size > limit_bytes { Err(InvalidHeader) } else { Ok(()) }
}

/// Removes all values of a header and returns whether there were any. A pseudo-header cannot be removed, since a head
/// without it cannot be sent.
pub(crate) fn remove(exchange: &mut Exchange, map: MapKind, name: &[u8]) -> Result<bool, InvalidHeader> {
    if name.first() == Some(&b':') {
        return Err(InvalidHeader);
    }
    let headers = match map {
        MapKind::RequestTrailers => exchange.request_trailers.as_deref_mut(),
        MapKind::ResponseTrailers => exchange.response_trailers.as_deref_mut(),
        _ => headers_mut(exchange, map),
    };
    let removed = headers.and_then(|headers| header_names::with_header_name(name, |name| headers.remove(name)));
    Ok(removed.flatten().is_some())
}

/// Replaces a whole map. Pseudo-headers that are left out stay unchanged.
pub(crate) fn replace_all<'a>(
    exchange: &mut Exchange,
    map: MapKind,
    pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<(), InvalidHeader> {
    if let Some(headers) = headers_mut(exchange, map) {
        headers.clear();
    }
    for (name, value) in pairs {
        write(exchange, map, HeaderWrite::Append, HeaderField { name, value })?;
    }
    Ok(())
}

fn headers_mut(exchange: &mut Exchange, map: MapKind) -> Option<&mut HeaderMap> {
    if forwarded_headers(exchange, map).is_some() {
        return None; // They were forwarded.
    }
    match map {
        MapKind::RequestHeaders => Some(&mut exchange.request.headers),
        MapKind::ResponseHeaders => exchange.response.as_mut().map(|response| &mut response.headers),
        MapKind::RequestTrailers => Some(exchange.request_trailers.get_or_insert_default()),
        MapKind::ResponseTrailers => Some(exchange.response_trailers.get_or_insert_default()),
        _ => None,
    }
}

fn write_pseudo(exchange: &mut Exchange, map: MapKind, name: &[u8], value: &[u8]) -> Result<(), InvalidHeader> {
    match (map, name) {
        (MapKind::RequestHeaders, b":method") => {
            exchange.request.method = Method::from_bytes(value).map_err(|_| InvalidHeader)?;
        }
        (MapKind::RequestHeaders, b":path") => exchange.request.path = path(value)?,
        (MapKind::RequestHeaders, b":authority") => {
            exchange.request.authority = HeaderValue::from_bytes(value).map_err(|_| InvalidHeader)?;
        }
        (MapKind::RequestHeaders, b":scheme") => {
            exchange.request.scheme = match value {
                b"http" => "http",
                b"https" => "https",
                _ => return Err(InvalidHeader),
            };
        }
        (MapKind::ResponseHeaders, b":status") => {
            if let Some(response) = &mut exchange.response {
                response.status = StatusCode::from_bytes(value).ok().filter(is_final).ok_or(InvalidHeader)?;
                response.reason = None;
            }
        }
        _ => return Err(InvalidHeader),
    }
    Ok(())
}

/// Parses a path in origin form (RFC 9112 §3.2.1), or `*`.
fn path(value: &[u8]) -> Result<PathAndQuery, InvalidHeader> {
    if value.first() != Some(&b'/') && value != b"*" {
        return Err(InvalidHeader);
    }
    let path = PathAndQuery::try_from(value).map_err(|_| InvalidHeader)?;
    if path.as_str().len() == value.len() { Ok(path) } else { Err(InvalidHeader) } // `PathAndQuery` drops a fragment.
}

/// Returns true for a status of a final response: 200 to 599.
pub(crate) fn is_final(status: &StatusCode) -> bool {
    (200..600).contains(&status.as_u16())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::filter::chain::ChainState;
    use crate::route::testing::request;
    use crate::stream_info::StreamInfo;

    fn exchange() -> Exchange {
        let request = request("GET", "shop.example", "/a?b", &[("x-a", "1"), ("x-a", "2")]);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        Exchange::new(request, ChainState::new(1, |_| 0), StreamInfo::new(address, address, 1))
    }

    fn field<'a>(name: &'a [u8], value: &'a [u8]) -> HeaderField<'a> {
        HeaderField { name, value }
    }

    #[test]
    fn headers_and_pseudo_headers_are_read() {
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
    fn invalid_header_is_not_stored() {
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
            let result = write(&mut exchange, MapKind::RequestHeaders, HeaderWrite::Set, HeaderField { name, value });
            assert_eq!(result, Err(InvalidHeader), "{:?}", String::from_utf8_lossy(name));
            assert_eq!(exchange.request.headers.len(), 2);
        }
    }

    #[test]
    fn headers_are_written_and_removed() {
        let mut exchange = exchange();
        write(&mut exchange, MapKind::RequestHeaders, HeaderWrite::Append, field(b"X-A", b"3")).unwrap();
        assert_eq!(exchange.request.headers.get_all("x-a").iter().count(), 3);
        write(&mut exchange, MapKind::RequestHeaders, HeaderWrite::Set, field(b"x-a", b"\xff")).unwrap();
        assert_eq!(exchange.request.headers.get_all("x-a").iter().count(), 1);
        write(&mut exchange, MapKind::ResponseTrailers, HeaderWrite::Append, field(b"grpc-status", b"0")).unwrap();
        assert!(exchange.response_trailers.is_some());
        assert_eq!(remove(&mut exchange, MapKind::RequestTrailers, b"x"), Ok(false));
        assert!(exchange.request_trailers.is_none());
        assert_eq!(remove(&mut exchange, MapKind::RequestHeaders, b"X-A"), Ok(true));
        assert_eq!(remove(&mut exchange, MapKind::RequestHeaders, b"x-a"), Ok(false));
        assert_eq!(remove(&mut exchange, MapKind::RequestHeaders, b"\xff"), Ok(false));
    }

    #[test]
    fn number_of_headers_is_limited() {
        let mut exchange = exchange();
        let mut add = |number: usize| {
            let name = format!("x-{number}");
            write(&mut exchange, MapKind::RequestHeaders, HeaderWrite::Append, field(name.as_bytes(), b"1"))
        };
        // The exchange has two headers.
        assert!((2..MAX_FILTERED_HEADERS).all(|number| add(number).is_ok()));
        assert_eq!(add(MAX_FILTERED_HEADERS), Err(InvalidHeader));
        assert_eq!(exchange.request.headers.len(), MAX_FILTERED_HEADERS);
    }

    #[test]
    fn header_growth_is_limited() {
        let mut exchange = exchange();
        let value = [b'x'; 100];
        let mut add = |name: &str| {
            write(&mut exchange, MapKind::RequestHeaders, HeaderWrite::Set, field(name.as_bytes(), &value)).unwrap();
            charge_growth(&mut exchange, MapKind::RequestHeaders, name.len() + value.len(), 500)
        };
        // Replacing one header does not make the map grow. Adding others does.
        assert!((0..50).all(|_| add("x-same").is_ok()));
        assert!((0..10).any(|number| add(&format!("x-{number}")).is_err()));
    }
}
