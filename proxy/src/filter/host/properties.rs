//! Properties of a stream by path (`proxy_get_property`), as in Envoy's attributes. Called by `hostcalls.rs`. A
//! property without a value, such as one of TLS on a plaintext connection, is not found.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::UNIX_EPOCH;

use weir_host_abi::Status;
use weir_host_abi::abi::map::MapKind;
use weir_host_abi::abi::property::PropertyValue::{self, Duration, Timestamp, Unsigned};
use weir_host_abi::abi::protobuf::put_bytes;
use weir_model::{EndpointAddress, Metadata, MetadataGroup};

use super::header_map;
use crate::filter::chain::Exchange;
use crate::filter::chain::grpc_status;

/// Returns the value of a stream property.
///
/// Built-in paths come first, so no filter can spoof them for others. Then come properties that filters have set, by
/// the whole path and then by its first segment.
///
/// # Errors
/// `NotFound` if there is no value. `SerializationFailure` for an object without a value of its own, as in Envoy.
pub(crate) fn stream_property<'a>(exchange: &'a Exchange, path: &[u8]) -> Result<PropertyValue<'a>, Status> {
    let (segments, count) = split_path(path.split(|byte| *byte == 0));
    let [first, rest @ ..] = &segments[..count] else { return Err(Status::NotFound) };
    if rest.is_empty() && OBJECTS.contains(first) {
        return Err(Status::SerializationFailure);
    }
    let found = match *first {
        b"request" => request(exchange, rest),
        b"response" => response(exchange, rest),
        b"source" => address(exchange.stream_info.peer, rest),
        b"destination" => address(exchange.stream_info.local, rest),
        b"upstream" => upstream(exchange, rest),
        b"connection" => connection(exchange, rest),
        b"connection_id" => Some(Unsigned(exchange.stream_info.connection_id)),
        b"metadata" => metadata(rest),
        // The proxy has no filter state.
        b"filter_state" | b"upstream_filter_state" => None,
        b"xds" if rest == [b"upstream_host_metadata"] && exchange.stream_info.endpoint.is_some() => {
            return Err(Status::SerializationFailure);
        }
        b"xds" => xds(exchange, rest),
        // Names of Envoy before 1.33, which deployed filters still read.
        b"route_name"
        | b"cluster_name"
        | b"listener_direction"
        | b"cluster_metadata"
        | b"route_metadata"
        | b"listener_metadata"
        | b"upstream_host_metadata" => xds(exchange, &segments[..count]),
        // A built-in name never falls back to a filter's property, even without a value, since policies rely on it.
        _ => filter_property(exchange, path),
    };
    found.ok_or(Status::NotFound)
}

/// Returns a property of the proxy itself, without a stream. The node's cluster is empty.
pub(crate) fn node_property<'n>(path: &[u8], node: &'n str) -> Option<&'n str> {
    match path {
        b"xds\0node\0id" | b"node\0id" => Some(node),
        b"xds\0node\0cluster" | b"node\0cluster" => Some(""),
        _ => None,
    }
}

/// Objects that have fields and no value of their own.
const OBJECTS: [&[u8]; 9] = [
    b"request",
    b"response",
    b"connection",
    b"upstream",
    b"source",
    b"destination",
    b"filter_state",
    b"upstream_filter_state",
    b"xds",
];

/// Returns Envoy's dynamic metadata, which is always empty here.
fn metadata(rest: &[&[u8]]) -> Option<PropertyValue<'static>> {
    match rest {
        [] => Some(PropertyValue::Bytes(Cow::Borrowed(b""))),
        [b"filter_metadata"] => Some(PropertyValue::Pairs(Vec::new())),
        _ => None,
    }
}

/// Segments of the longest built-in path: a value of a route's metadata.
const MAX_SEGMENTS: usize = 5;

/// Returns the first segments of a path, and their number.
fn split_path<'p>(path: impl Iterator<Item = &'p [u8]>) -> ([&'p [u8]; MAX_SEGMENTS], usize) {
    let mut segments = [&[][..]; MAX_SEGMENTS];
    let count = segments.iter_mut().zip(path).map(|(entry, segment)| *entry = segment).count();
    (segments, count)
}

fn filter_property<'a>(exchange: &'a Exchange, path: &[u8]) -> Option<PropertyValue<'a>> {
    let values = &exchange.stream_info.properties;
    let find = |path: &[u8]| values.iter().find(|property| *property.path == *path).map(|property| &property.value);
    let first = path.split(|byte| *byte == 0).next().unwrap_or(path);
    let value = find(path).or_else(|| find(first))?;
    Some(PropertyValue::Bytes(Cow::Borrowed(value)))
}

fn nanoseconds(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

fn header<'a>(exchange: &'a Exchange, map: MapKind, name: &[u8]) -> Option<PropertyValue<'a>> {
    header_map::value(exchange, map, name).map(PropertyValue::text)
}

/// Returns all values of a header, joined by commas (Envoy's `request.headers.NAME`). Without a name, returns the
/// whole map as pairs.
fn headers<'a>(exchange: &'a Exchange, map: MapKind, name: Option<&&[u8]>) -> Option<PropertyValue<'a>> {
    let Some(name) = name else {
        let mut pairs = Vec::new();
        header_map::visit(exchange, map, &mut |name, value| pairs.push((name.to_vec(), value.to_vec())));
        return Some(PropertyValue::Pairs(pairs));
    };
    let mut values = header_map::values(exchange, map, name);
    let mut all = Cow::Borrowed(values.next()?);
    for value in values {
        let all = all.to_mut();
        all.push(b',');
        all.extend_from_slice(value);
    }
    Some(PropertyValue::Text(all))
}

fn request<'a>(exchange: &'a Exchange, rest: &[&[u8]]) -> Option<PropertyValue<'a>> {
    let head = &exchange.request;
    let map = MapKind::RequestHeaders;
    let info = &exchange.stream_info;
    Some(match *rest.first()? {
        // A TCP connection has only times and sizes.
        b"path" | b"url_path" | b"query" | b"host" | b"scheme" | b"method" | b"referer" | b"useragent" | b"id"
        | b"protocol"
            if exchange.is_tcp =>
        {
            return None;
        }
        b"path" => PropertyValue::text(head.path.as_str()),
        b"url_path" => PropertyValue::text(head.path.path()),
        b"query" => PropertyValue::text(head.path.query().unwrap_or_default()),
        b"host" => PropertyValue::text(head.authority.as_bytes()),
        b"scheme" => PropertyValue::text(head.scheme),
        b"method" => PropertyValue::text(head.method.as_str()),
        b"headers" => return headers(exchange, map, rest.get(1)),
        b"referer" => return header(exchange, map, b"referer"),
        b"useragent" => return header(exchange, map, b"user-agent"),
        b"id" => return header(exchange, map, b"x-request-id"),
        b"protocol" => PropertyValue::text(if head.version == http::Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" }),
        b"time" => Timestamp(nanoseconds(info.started_at.duration_since(UNIX_EPOCH).unwrap_or_default())),
        b"duration" => Duration(nanoseconds(info.finished?.duration_since(info.started))),
        b"size" => {
            let content_length =
                header_map::value(exchange, map, b"content-length").and_then(|text| std::str::from_utf8(text).ok());
            integer(content_length.and_then(|text| text.parse().ok()).unwrap_or(info.request_bytes))
        }
        b"total_size" => integer(info.request_bytes + size_of_map(exchange, map)),
        b"headers_bytes" => integer(size_of_map(exchange, map)),
        _ => return None,
    })
}

fn integer(number: u64) -> PropertyValue<'static> {
    PropertyValue::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn size_of_map(exchange: &Exchange, map: MapKind) -> u64 {
    let mut size = 0;
    header_map::visit(exchange, map, &mut |name, value| size += (name.len() + value.len()) as u64);
    size
}

fn response<'a>(exchange: &'a Exchange, rest: &[&[u8]]) -> Option<PropertyValue<'a>> {
    let map = MapKind::ResponseHeaders;
    let info = &exchange.stream_info;
    match *rest.first()? {
        b"flags" => return Some(integer(flags(exchange))),
        b"size" => return Some(integer(info.response_bytes)),
        _ => {}
    }
    let head = exchange.response.as_ref()?;
    Some(match *rest.first()? {
        b"code" => integer(u64::from(head.status.as_u16())),
        b"code_details" => match (&info.details, &exchange.error) {
            (Some(details), _) => PropertyValue::text(&**details),
            (None, Some(error)) => PropertyValue::text(error.info().detail),
            (None, None) => PropertyValue::text(info.endpoint.as_ref().map(|_| "via_upstream")?),
        },
        b"grpc_status" => {
            let find = |map| header_map::value(exchange, map, b"grpc-status");
            let text =
                find(MapKind::ResponseTrailers).or_else(|| find(map)).and_then(|text| std::str::from_utf8(text).ok());
            // A response without `grpc-status` gets the status that gRPC clients derive from its HTTP status.
            let status = text.and_then(|text| text.parse().ok());
            integer(status.unwrap_or_else(|| u64::from(grpc_status(head.status))))
        }
        b"headers" => return headers(exchange, map, rest.get(1)),
        b"trailers" => return headers(exchange, MapKind::ResponseTrailers, rest.get(1)),
        b"headers_bytes" => integer(size_of_map(exchange, map)),
        b"total_size" => integer(info.response_bytes + size_of_map(exchange, map)),
        _ => return None,
    })
}

/// Returns the response flags as Envoy's legacy bit vector.
fn flags(exchange: &Exchange) -> u64 {
    let Some(error) = &exchange.error else { return 0 };
    let bit = match error.info().flag {
        "UH" => 1,
        "UT" => 2,
        "UF" => 5,
        "UC" => 6,
        "UO" => 7,
        "NR" => 8,
        "DC" => 14,
        "SI" => 16,
        "DPE" => 18,
        "UPE" => 23,
        "NC" => 24,
        _ => return 0, // A Wasm local reply sets no flag in Envoy.
    };
    1 << bit
}

fn address(address: SocketAddr, rest: &[&[u8]]) -> Option<PropertyValue<'static>> {
    match *rest.first()? {
        b"address" => Some(PropertyValue::Text(Cow::Owned(address.to_string().into_bytes()))),
        b"port" => Some(integer(u64::from(address.port()))),
        _ => None,
    }
}

fn upstream<'a>(exchange: &'a Exchange, rest: &[&[u8]]) -> Option<PropertyValue<'a>> {
    match *rest.first()? {
        b"request_attempt_count" => Some(Unsigned(u64::from(exchange.stream_info.attempts))),
        b"num_endpoints" if exchange.stream_info.endpoints > 0 => Some(Unsigned(exchange.stream_info.endpoints)),
        b"transport_failure_reason" if exchange.is_tcp => Some(PropertyValue::text("")),
        // Envoy returns an empty text once there is an upstream.
        b"transport_failure_reason" | b"locality" => {
            exchange.stream_info.endpoint.as_ref().map(|_| PropertyValue::text(""))
        }
        property => match exchange.stream_info.endpoint.as_ref()? {
            EndpointAddress::Socket(endpoint) => address(*endpoint, rest),
            // As in Envoy: the path, and no port.
            EndpointAddress::Unix(path) => {
                (property == b"address").then(|| PropertyValue::Text(Cow::Owned(path.as_str().as_bytes().to_vec())))
            }
        },
    }
}

fn connection<'a>(exchange: &'a Exchange, rest: &[&[u8]]) -> Option<PropertyValue<'a>> {
    let info = &exchange.stream_info;
    Some(match *rest.first()? {
        b"id" => Unsigned(info.connection_id),
        b"mtls" => PropertyValue::Bool(info.identity.is_some()),
        b"uri_san_peer_certificate" => PropertyValue::text(&**info.identity.as_ref()?),
        b"requested_server_name" => PropertyValue::text(info.server_name.as_deref().unwrap_or_default()),
        b"tls_version" if info.is_tls => PropertyValue::text("TLSv1.3"),
        _ => return None,
    })
}

fn xds<'a>(exchange: &'a Exchange, rest: &[&[u8]]) -> Option<PropertyValue<'a>> {
    let info = &exchange.stream_info;
    let name = match rest {
        [b"route_metadata", rest @ ..] if !exchange.is_tcp => return metadata_property(&info.route_metadata, rest),
        [b"cluster_metadata", rest @ ..] if !exchange.is_tcp || info.cluster.is_some() => {
            return metadata_property(&info.cluster_metadata, rest);
        }
        [b"route_name"] => info.route.as_ref().map(weir_model::RouteName::as_str),
        [b"virtual_host_name" | b"virtual_host_metadata"] if exchange.is_tcp => None,
        [b"virtual_host_name"] => info.route.as_ref().map(|route| virtual_host_of(route.as_str())),
        [b"cluster_name"] => info.cluster.as_ref().map(weir_model::ClusterName::as_str),
        [b"filter_chain_name"] => info.listener.as_ref().map(weir_model::ListenerName::as_str),
        [b"listener_direction"] => return Some(PropertyValue::Integer(0)),
        // Virtual hosts and listeners have no metadata here.
        [b"virtual_host_metadata" | b"listener_metadata"] => Some(""),
        _ => None,
    };
    name.map(PropertyValue::text)
}

/// Returns a property of an object's metadata: a `core.v3.Metadata`, its `filter_metadata`, a group of that, or a
/// value.
fn metadata_property<'a>(metadata: &'a Metadata, rest: &[&[u8]]) -> Option<PropertyValue<'a>> {
    let pairs = |group: &MetadataGroup| {
        group.iter().map(|(name, text)| (name.as_bytes().to_vec(), text.as_bytes().to_vec())).collect::<Vec<_>>()
    };
    let group = |name: &[u8]| metadata.group(std::str::from_utf8(name).ok()?);
    Some(match rest {
        [] => PropertyValue::Bytes(Cow::Owned(message(metadata))),
        [b"filter_metadata"] => {
            let group = |(name, group): (&str, &MetadataGroup)| {
                let mut bytes = Vec::new();
                PropertyValue::Pairs(pairs(group)).write(&mut bytes);
                (name.as_bytes().to_vec(), bytes)
            };
            PropertyValue::Pairs(metadata.groups().map(group).collect())
        }
        [b"filter_metadata", name] => PropertyValue::Pairs(pairs(group(name)?)),
        [b"filter_metadata", name, key] => PropertyValue::text(&**group(name)?.get(std::str::from_utf8(key).ok()?)?),
        _ => return None,
    })
}

/// Encodes a `core.v3.Metadata`. Field 1 of `Metadata` maps names to `Struct`, field 1 of `Struct` maps names to
/// `Value`, and field 3 of `Value` is the text. A map entry has its key in field 1 and its value in field 2.
fn message(metadata: &Metadata) -> Vec<u8> {
    let entry = |out: &mut Vec<u8>, key: &str, value: &[u8]| {
        let mut entry = Vec::new();
        put_bytes(&mut entry, 1, key.as_bytes());
        put_bytes(&mut entry, 2, value);
        put_bytes(out, 1, &entry);
    };
    let mut message = Vec::new();
    for (name, group) in metadata.groups() {
        let mut fields = Vec::new();
        for (key, text) in group {
            let mut value = Vec::new();
            put_bytes(&mut value, 3, text.as_bytes());
            entry(&mut fields, key, &value);
        }
        entry(&mut message, name, &fields);
    }
    message
}

/// Returns the name of the object that a route was made from: `namespace/name` of `namespace/name/rule/match`.
fn virtual_host_of(route: &str) -> &str {
    let end = route.match_indices('/').nth(1).map_or(route.len(), |(at, _)| at);
    &route[..end]
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use http::{HeaderMap, HeaderValue, StatusCode};
    use proptest::prelude::*;

    use super::*;
    use crate::filter::chain::ChainState;
    use crate::head::{RequestHead, ResponseHead};
    use crate::route::testing::request;
    use crate::stream_info::StreamInfo;
    use crate::telemetry::StreamProperty;

    /// First segments of built-in paths.
    const BUILT_IN: [&[u8]; 18] = [
        b"request",
        b"response",
        b"source",
        b"destination",
        b"upstream",
        b"connection",
        b"connection_id",
        b"xds",
        b"route_name",
        b"cluster_name",
        b"metadata",
        b"filter_state",
        b"upstream_filter_state",
        b"listener_direction",
        b"cluster_metadata",
        b"route_metadata",
        b"listener_metadata",
        b"upstream_host_metadata",
    ];

    /// Value that a filter has set under a built-in name.
    const SPOOFED: &[u8] = b"spoofed by a filter";

    fn exchange(has_response: bool) -> Exchange {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_bytes(b"\xff1").unwrap());
        headers.append("content-length", HeaderValue::from_static("many"));
        let request = RequestHead { headers: headers.clone(), ..request("GET", "shop.example", "/a?b", &[]) };
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let mut exchange = Exchange::new(request, ChainState::new(1, |_| 0), StreamInfo::new(peer, peer, 1));
        exchange.response = has_response.then(|| ResponseHead::new(StatusCode::OK, headers));
        exchange
    }

    /// Generates a known segment, or any bytes.
    fn segment() -> impl Strategy<Value = Vec<u8>> {
        let words: Vec<&[u8]> =
            vec![b"", b"path", b"headers", b"trailers", b"x-a", b"id", b"size", b"address", b"route_name", b"code"];
        let known = prop::sample::select([&BUILT_IN[..], &words].concat()).prop_map(<[u8]>::to_vec);
        prop_oneof![4 => known, 1 => prop::collection::vec(any::<u8>(), 0..12)]
    }

    fn path() -> impl Strategy<Value = Vec<u8>> {
        let joined = (prop::collection::vec(segment(), 0..5), prop::sample::select(vec![0, b'.']))
            .prop_map(|(segments, separator)| segments.join(&separator));
        prop_oneof![3 => joined, 1 => prop::collection::vec(any::<u8>(), 0..64)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn any_path_is_readable_and_built_in_paths_are_not_spoofed(
            path in path(),
            set in prop::collection::vec(path(), 0..4),
            has_response: bool,
        ) {
            let mut exchange = exchange(has_response);
            let first = path.split(|byte| *byte == 0).next().unwrap_or_default();
            for name in set.iter().map(Vec::as_slice).chain([&path[..], first]) {
                let property = StreamProperty { path: name.into(), value: SPOOFED.into() };
                exchange.stream_info.properties.push(property);
            }
            let found = stream_property(&exchange, &path);
            let spoofed = Ok(PropertyValue::Bytes(Cow::Borrowed(SPOOFED)));
            prop_assert_eq!(found == spoofed, !BUILT_IN.contains(&first), "{:?}", String::from_utf8_lossy(&path));
        }
    }
}
