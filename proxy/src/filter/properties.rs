//! Properties as guests read them (`proxy_get_property`): what is known of a stream, by path.
//! Called by `host.rs`. The table is §5 of the Proxy-Wasm notes; what a proxy without TLS cannot know is not found.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::UNIX_EPOCH;

use weir_host_abi::Status;
use weir_host_abi::abi::map::MapKind;
use weir_host_abi::abi::property::PropertyValue::{self, Duration, Timestamp, Unsigned};
use weir_host_abi::abi::protobuf::put_bytes;
use weir_model::{Metadata, MetadataGroup};

use crate::filter::exchange::Exchange;
use crate::filter::heads;
use crate::filter::reply::grpc_status;

/// The value of a property of the stream.
///
/// Built-in paths come first, so no filter can spoof them for others; then what filters have set, by the whole path
/// and then by its first segment.
///
/// # Errors
/// `NotFound`; `SerializationFailure` for what has parts and no value of its own, as in Envoy.
pub(super) fn of_stream<'a>(exchange: &'a Exchange, path: &[u8]) -> Result<PropertyValue<'a>, Status> {
    let (segments, count) = match path.contains(&0) {
        true => first_of(path.split(|byte| *byte == 0)),
        // One segment with dots is understood too: `request.path`.
        false => first_of(path.splitn(MAX_DOTTED_SEGMENTS, |byte| *byte == b'.')),
    };
    let [first, rest @ ..] = &segments[..count] else { return Err(Status::NotFound) };
    if rest.is_empty() && OBJECTS.contains(first) {
        return Err(Status::SerializationFailure);
    }
    let found = match *first {
        b"request" => request(exchange, rest),
        b"response" => response(exchange, rest),
        b"source" => address(Some(exchange.facts.peer), rest),
        b"destination" => address(Some(exchange.facts.local), rest),
        b"upstream" => upstream(exchange, rest),
        b"connection" => connection(exchange, rest),
        b"connection_id" => Some(Unsigned(exchange.facts.connection_id)),
        b"metadata" => metadata(rest),
        // Nothing of the proxy's own is kept there.
        b"filter_state" | b"upstream_filter_state" => None,
        b"xds" if rest == [b"upstream_host_metadata"] && exchange.facts.endpoint.is_some() => {
            return Err(Status::SerializationFailure);
        }
        b"xds" => xds(exchange, rest),
        // Names that Envoy had before 1.33 and deployed filters still read.
        b"route_name"
        | b"cluster_name"
        | b"listener_direction"
        | b"cluster_metadata"
        | b"route_metadata"
        | b"listener_metadata"
        | b"upstream_host_metadata" => xds(exchange, &segments[..count]),
        // What is built in is never what a filter has set, not even where there is nothing: policies believe it.
        _ => custom(exchange, path),
    };
    found.ok_or(Status::NotFound)
}

/// What is known of the proxy itself, without a stream. It is part of no cluster.
pub(super) fn of_node<'n>(path: &[u8], node: &'n str) -> Option<&'n str> {
    match path {
        b"xds\0node\0id" | b"xds.node.id" | b"node\0id" | b"node.id" => Some(node),
        b"xds\0node\0cluster" | b"xds.node.cluster" | b"node\0cluster" | b"node.cluster" => Some(""),
        _ => None,
    }
}

/// What has parts and no value of its own.
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

/// Envoy's dynamic metadata: nothing here writes any.
fn metadata(rest: &[&[u8]]) -> Option<PropertyValue<'static>> {
    match rest {
        [] => Some(PropertyValue::Bytes(Cow::Borrowed(b""))),
        [b"filter_metadata"] => Some(PropertyValue::Pairs(Vec::new())),
        _ => None,
    }
}

/// The longest path that is built in: a value of the metadata of a route.
const MAX_SEGMENTS: usize = 5;

/// The longest one that may be written with dots: what follows is one name, which may have dots.
const MAX_DOTTED_SEGMENTS: usize = 3;

/// The first segments, and how many there are.
fn first_of<'p>(path: impl Iterator<Item = &'p [u8]>) -> ([&'p [u8]; MAX_SEGMENTS], usize) {
    let mut segments = [&[][..]; MAX_SEGMENTS];
    let count = segments.iter_mut().zip(path).map(|(place, segment)| *place = segment).count();
    (segments, count)
}

fn custom<'a>(exchange: &'a Exchange, path: &[u8]) -> Option<PropertyValue<'a>> {
    let values = &exchange.facts.values;
    let find = |wanted: &[u8]| values.iter().find(|(name, _)| &name[..] == wanted).map(|(_, value)| value);
    let first = path.split(|byte| *byte == 0).next().unwrap_or(path);
    let value = find(path).or_else(|| find(first))?;
    Some(PropertyValue::Bytes(Cow::Borrowed(value)))
}

fn nanoseconds(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

fn header<'a>(exchange: &'a Exchange, map: MapKind, name: &[u8]) -> Option<PropertyValue<'a>> {
    heads::value(exchange, map, name).map(PropertyValue::text)
}

/// Every value of a header, joined by commas (Envoy's `request.headers.NAME`); with no name the whole map, as pairs.
fn headers<'a>(exchange: &'a Exchange, map: MapKind, name: Option<&&[u8]>) -> Option<PropertyValue<'a>> {
    let Some(name) = name else {
        let mut pairs = Vec::new();
        heads::visit(exchange, map, &mut |name, value| pairs.push((name.to_vec(), value.to_vec())));
        return Some(PropertyValue::Pairs(pairs));
    };
    let mut values = heads::values(exchange, map, name);
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
    let facts = &exchange.facts;
    Some(match *rest.first()? {
        // A TCP connection has times and sizes.
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
        b"time" => Timestamp(nanoseconds(facts.started_at.duration_since(UNIX_EPOCH).unwrap_or_default())),
        b"duration" => Duration(nanoseconds(facts.finished?.duration_since(facts.started))),
        b"size" => {
            let told = heads::value(exchange, map, b"content-length").and_then(|text| std::str::from_utf8(text).ok());
            integer(told.and_then(|text| text.parse().ok()).unwrap_or(facts.request_bytes))
        }
        b"total_size" => integer(facts.request_bytes + size_of_map(exchange, map)),
        b"headers_bytes" => integer(size_of_map(exchange, map)),
        _ => return None,
    })
}

fn integer(number: u64) -> PropertyValue<'static> {
    PropertyValue::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn size_of_map(exchange: &Exchange, map: MapKind) -> u64 {
    let mut size = 0;
    heads::visit(exchange, map, &mut |name, value| size += (name.len() + value.len()) as u64);
    size
}

fn response<'a>(exchange: &'a Exchange, rest: &[&[u8]]) -> Option<PropertyValue<'a>> {
    let map = MapKind::ResponseHeaders;
    let facts = &exchange.facts;
    match *rest.first()? {
        b"flags" => return Some(integer(flags(exchange))),
        b"size" => return Some(integer(facts.response_bytes)),
        _ => {}
    }
    let head = exchange.response.as_ref()?;
    Some(match *rest.first()? {
        b"code" => integer(u64::from(head.status.as_u16())),
        b"code_details" => match (&facts.details, &exchange.error) {
            (Some(details), _) => PropertyValue::text(&**details),
            (None, Some(error)) => PropertyValue::text(error.row().detail),
            (None, None) => PropertyValue::text(facts.endpoint.map(|_| "via_upstream")?),
        },
        b"grpc_status" => {
            let find = |map| heads::value(exchange, map, b"grpc-status");
            let text =
                find(MapKind::ResponseTrailers).or_else(|| find(map)).and_then(|it| std::str::from_utf8(it).ok());
            // An answer that is none of gRPC's has the status that gRPC's clients would see.
            let status = text.and_then(|text| text.parse().ok());
            integer(status.unwrap_or_else(|| u64::from(grpc_status(head.status))))
        }
        b"headers" => return headers(exchange, map, rest.get(1)),
        b"trailers" => return headers(exchange, MapKind::ResponseTrailers, rest.get(1)),
        b"headers_bytes" => integer(size_of_map(exchange, map)),
        b"total_size" => integer(facts.response_bytes + size_of_map(exchange, map)),
        _ => return None,
    })
}

/// Envoy's legacy bit vector of response flags.
fn flags(exchange: &Exchange) -> u64 {
    let Some(error) = &exchange.error else { return 0 };
    let bit = match error.row().flag {
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

fn address(address: Option<SocketAddr>, rest: &[&[u8]]) -> Option<PropertyValue<'static>> {
    let address = address?;
    match *rest.first()? {
        b"address" => Some(PropertyValue::Text(Cow::Owned(address.to_string().into_bytes()))),
        b"port" => Some(integer(u64::from(address.port()))),
        _ => None,
    }
}

fn upstream<'a>(exchange: &'a Exchange, rest: &[&[u8]]) -> Option<PropertyValue<'a>> {
    match *rest.first()? {
        b"request_attempt_count" => Some(Unsigned(u64::from(exchange.facts.attempts))),
        b"num_endpoints" if exchange.facts.endpoints > 0 => Some(Unsigned(exchange.facts.endpoints)),
        b"transport_failure_reason" if exchange.is_tcp => Some(PropertyValue::text("")),
        // What cannot be said is empty once there is an upstream.
        b"transport_failure_reason" | b"locality" => exchange.facts.endpoint.map(|_| PropertyValue::text("")),
        _ => address(exchange.facts.endpoint, rest),
    }
}

fn connection<'a>(exchange: &'a Exchange, rest: &[&[u8]]) -> Option<PropertyValue<'a>> {
    let facts = &exchange.facts;
    Some(match *rest.first()? {
        b"id" => Unsigned(facts.connection_id),
        b"mtls" => PropertyValue::Bool(facts.identity.is_some()),
        b"uri_san_peer_certificate" => PropertyValue::text(&**facts.identity.as_ref()?),
        b"requested_server_name" => PropertyValue::text(facts.server_name.as_deref().unwrap_or_default()),
        b"tls_version" if facts.is_tls => PropertyValue::text("TLSv1.3"),
        _ => return None,
    })
}

fn xds<'a>(exchange: &'a Exchange, rest: &[&[u8]]) -> Option<PropertyValue<'a>> {
    let facts = &exchange.facts;
    let name = match rest {
        [b"route_metadata", rest @ ..] if !exchange.is_tcp => return texts(&facts.route_metadata, rest),
        [b"cluster_metadata", rest @ ..] if !exchange.is_tcp || facts.cluster.is_some() => {
            return texts(&facts.cluster_metadata, rest);
        }
        [b"route_name"] => facts.route.as_ref().map(weir_model::RouteName::as_str),
        [b"virtual_host_name" | b"virtual_host_metadata"] if exchange.is_tcp => None,
        [b"virtual_host_name"] => facts.route.as_ref().map(|route| parent_of(route.as_str())),
        [b"cluster_name"] => facts.cluster.as_ref().map(weir_model::ClusterName::as_str),
        [b"filter_chain_name"] => facts.listener.as_ref().map(weir_model::ListenerName::as_str),
        [b"listener_direction"] => return Some(PropertyValue::Integer(0)),
        // These have no metadata.
        [b"virtual_host_metadata" | b"listener_metadata"] => Some(""),
        _ => None,
    };
    name.map(PropertyValue::text)
}

/// What people have written about an object: a `core.v3.Metadata`, its `filter_metadata`, a group of that, or a text.
fn texts<'a>(metadata: &'a Metadata, rest: &[&[u8]]) -> Option<PropertyValue<'a>> {
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

/// `core.v3.Metadata`: 1 map from names to `Struct`; `Struct`: 1 map from names to `Value`; `Value`: 3 text. An entry of a
/// map has its key in 1 and its value in 2.
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

/// The object that a route was made from: `namespace/name` of `namespace/name/rule/match`.
fn parent_of(route: &str) -> &str {
    let end = route.match_indices('/').nth(1).map_or(route.len(), |(at, _)| at);
    &route[..end]
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use http::uri::PathAndQuery;
    use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
    use proptest::prelude::*;

    use super::*;
    use crate::filter::chain::Chain;
    use crate::filter::facts::Facts;
    use crate::head::{RequestHead, ResponseHead};

    /// The first segments of what is built in.
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

    /// What a filter has set in place of what is built in.
    const SPOOFED: &[u8] = b"spoofed by a filter";

    fn exchange(has_response: bool) -> Exchange {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_bytes(b"\xff1").unwrap());
        headers.append("content-length", HeaderValue::from_static("many"));
        let request = RequestHead {
            method: Method::GET,
            scheme: "http",
            authority: HeaderValue::from_static("shop.example"),
            path: PathAndQuery::from_static("/a?b"),
            headers: headers.clone(),
            version: Version::HTTP_11,
        };
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let mut exchange = Exchange::new(request, Chain::new(1, |_| 0), Facts::new(nowhere, nowhere, 1));
        exchange.response = has_response.then(|| ResponseHead { status: StatusCode::OK, headers });
        exchange
    }

    /// A segment that means something, or any bytes.
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
        fn no_path_panics_and_no_filter_answers_for_what_is_built_in(
            asked in path(),
            set in prop::collection::vec(path(), 0..4),
            has_response: bool,
        ) {
            let mut exchange = exchange(has_response);
            let separator = if asked.contains(&0) { 0 } else { b'.' };
            let first = asked.split(|byte| *byte == separator).next().unwrap_or_default();
            for name in set.iter().map(Vec::as_slice).chain([&asked[..], first]) {
                exchange.facts.values.push((name.into(), SPOOFED.into()));
            }
            let found = of_stream(&exchange, &asked);
            let spoofed = Ok(PropertyValue::Bytes(Cow::Borrowed(SPOOFED)));
            prop_assert_eq!(found == spoofed, !BUILT_IN.contains(&first), "{:?}", String::from_utf8_lossy(&asked));
        }
    }
}
