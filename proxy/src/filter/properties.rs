//! Properties as guests read them (`proxy_get_property`): what is known of a stream, by path, in its wire form.
//! Called by `host.rs`. The table is §5 of the Proxy-Wasm notes; what a proxy without TLS cannot know is not found.

use std::net::SocketAddr;
use std::time::UNIX_EPOCH;

use weir_host_abi::Status;
use weir_host_abi::abi::map::MapKind;

use crate::filter::exchange::Exchange;
use crate::filter::heads;
use crate::filter::reply::grpc_status;

/// Appends the value of a property of the stream.
///
/// Built-in paths come first, so no filter can spoof them for others; then what filters have set, by the whole path
/// and then by its first segment.
///
/// # Errors
/// `NotFound`; `SerializationFailure` for what has parts and no value of its own, as in Envoy.
pub(super) fn of_stream(exchange: &Exchange, path: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
    let (segments, count) = match path.contains(&0) {
        true => first_of(path.split(|byte| *byte == 0)),
        // One segment with dots is understood too: `request.path`.
        false => first_of(path.splitn(MAX_SEGMENTS, |byte| *byte == b'.')),
    };
    let [first, rest @ ..] = &segments[..count] else { return Err(Status::NotFound) };
    if rest.is_empty() && OBJECTS.contains(first) {
        return Err(Status::SerializationFailure);
    }
    let found = match *first {
        b"request" => request(exchange, rest, out),
        b"response" => response(exchange, rest, out),
        b"source" => address(Some(exchange.facts.peer), rest, out),
        b"destination" => address(Some(exchange.facts.local), rest, out),
        b"upstream" => upstream(exchange, rest, out),
        b"connection" => connection(exchange, rest, out),
        b"connection_id" => put_number(exchange.facts.connection_id, out),
        b"metadata" => metadata(rest, out),
        // Nothing of the proxy's own is kept there.
        b"filter_state" | b"upstream_filter_state" => false,
        b"xds" if rest == [b"upstream_host_metadata"] && exchange.facts.endpoint.is_some() => {
            return Err(Status::SerializationFailure);
        }
        b"xds" => xds(exchange, rest, out),
        // Names that Envoy had before 1.33 and deployed filters still read.
        b"route_name"
        | b"cluster_name"
        | b"listener_direction"
        | b"cluster_metadata"
        | b"route_metadata"
        | b"listener_metadata"
        | b"upstream_host_metadata" => xds(exchange, &[first], out),
        // What is built in is never what a filter has set, not even where there is nothing: policies believe it.
        _ => custom(exchange, path, out),
    };
    if found { Ok(()) } else { Err(Status::NotFound) }
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
fn metadata(rest: &[&[u8]], out: &mut Vec<u8>) -> bool {
    match rest {
        [] => true,
        [b"filter_metadata"] => put(&[0; 4], out),
        _ => false,
    }
}

/// The longest path that is built in.
const MAX_SEGMENTS: usize = 3;

/// The first segments, and how many there are.
fn first_of<'p>(path: impl Iterator<Item = &'p [u8]>) -> ([&'p [u8]; MAX_SEGMENTS], usize) {
    let mut segments = [&[][..]; MAX_SEGMENTS];
    let count = segments.iter_mut().zip(path).map(|(place, segment)| *place = segment).count();
    (segments, count)
}

fn custom(exchange: &Exchange, path: &[u8], out: &mut Vec<u8>) -> bool {
    let values = &exchange.facts.values;
    let find = |wanted: &[u8]| values.iter().find(|(name, _)| &name[..] == wanted).map(|(_, value)| value);
    let first = path.split(|byte| *byte == 0).next().unwrap_or(path);
    let Some(value) = find(path).or_else(|| find(first)) else { return false };
    out.extend_from_slice(value);
    true
}

fn put(value: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(value);
    true
}

fn put_number(value: u64, out: &mut Vec<u8>) -> bool {
    put(&value.to_le_bytes(), out)
}

fn put_header(exchange: &Exchange, map: MapKind, name: &[u8], out: &mut Vec<u8>) -> bool {
    match heads::value(exchange, map, name) {
        Some(value) => put(value, out),
        None => false,
    }
}

/// Every value of a header, joined by commas (Envoy's `request.headers.NAME`); with no name the whole map, as pairs.
fn put_headers(exchange: &Exchange, map: MapKind, name: Option<&&[u8]>, out: &mut Vec<u8>) -> bool {
    let Some(name) = name else {
        let mut pairs = Vec::new();
        heads::visit(exchange, map, &mut |name, value| pairs.push((name.to_vec(), value.to_vec())));
        out.extend(weir_host_abi::abi::pairs::encode(pairs.iter().map(|(name, value)| (&name[..], &value[..]))));
        return true;
    };
    let mut found = false;
    for value in heads::values(exchange, map, name) {
        if std::mem::replace(&mut found, true) {
            out.push(b',');
        }
        out.extend_from_slice(value);
    }
    found
}

fn request(exchange: &Exchange, rest: &[&[u8]], out: &mut Vec<u8>) -> bool {
    let head = &exchange.request;
    let map = MapKind::RequestHeaders;
    let facts = &exchange.facts;
    match rest.first().copied() {
        // A TCP connection has times and sizes.
        Some(
            b"path" | b"url_path" | b"query" | b"host" | b"scheme" | b"method" | b"referer" | b"useragent" | b"id"
            | b"protocol",
        ) if exchange.is_tcp => false,
        Some(b"path") => put(head.path.as_str().as_bytes(), out),
        Some(b"url_path") => put(head.path.path().as_bytes(), out),
        Some(b"query") => put(head.path.query().unwrap_or_default().as_bytes(), out),
        Some(b"host") => put(head.authority.as_bytes(), out),
        Some(b"scheme") => put(head.scheme.as_bytes(), out),
        Some(b"method") => put(head.method.as_str().as_bytes(), out),
        Some(b"headers") => put_headers(exchange, map, rest.get(1), out),
        Some(b"referer") => put_header(exchange, map, b"referer", out),
        Some(b"useragent") => put_header(exchange, map, b"user-agent", out),
        Some(b"id") => put_header(exchange, map, b"x-request-id", out),
        Some(b"protocol") => put(if head.version == http::Version::HTTP_2 { b"HTTP/2" } else { b"HTTP/1.1" }, out),
        Some(b"time") => {
            let since = facts.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
            put_number(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX), out)
        }
        Some(b"duration") => match facts.finished {
            Some(finished) => {
                let took = finished.duration_since(facts.started).as_nanos();
                put_number(u64::try_from(took).unwrap_or(u64::MAX), out)
            }
            None => false,
        },
        Some(b"size") => {
            let told = heads::value(exchange, map, b"content-length").and_then(|text| std::str::from_utf8(text).ok());
            put_number(told.and_then(|text| text.parse().ok()).unwrap_or(facts.request_bytes), out)
        }
        Some(b"total_size") => put_number(facts.request_bytes + size_of_map(exchange, map), out),
        Some(b"headers_bytes") => put_number(size_of_map(exchange, map), out),
        _ => false,
    }
}

fn size_of_map(exchange: &Exchange, map: MapKind) -> u64 {
    let mut size = 0;
    heads::visit(exchange, map, &mut |name, value| size += (name.len() + value.len()) as u64);
    size
}

fn response(exchange: &Exchange, rest: &[&[u8]], out: &mut Vec<u8>) -> bool {
    let map = MapKind::ResponseHeaders;
    let facts = &exchange.facts;
    match rest.first().copied() {
        Some(b"flags") => return put_number(flags(exchange), out),
        Some(b"size") => return put_number(facts.response_bytes, out),
        _ => {}
    }
    let Some(head) = &exchange.response else { return false };
    match rest.first().copied() {
        Some(b"code") => put_number(u64::from(head.status.as_u16()), out),
        Some(b"code_details") => match (&facts.details, &exchange.error) {
            (Some(details), _) => put(details.as_bytes(), out),
            (None, Some(error)) => put(error.row().detail.as_bytes(), out),
            (None, None) => facts.endpoint.is_some() && put(b"via_upstream", out),
        },
        Some(b"grpc_status") => {
            let find = |map| heads::value(exchange, map, b"grpc-status");
            let text =
                find(MapKind::ResponseTrailers).or_else(|| find(map)).and_then(|it| std::str::from_utf8(it).ok());
            // An answer that is none of gRPC's has the status that gRPC's clients would see.
            let status = text.and_then(|text| text.parse().ok());
            put_number(status.unwrap_or_else(|| u64::from(grpc_status(head.status))), out)
        }
        Some(b"headers") => put_headers(exchange, map, rest.get(1), out),
        Some(b"trailers") => put_headers(exchange, MapKind::ResponseTrailers, rest.get(1), out),
        Some(b"headers_bytes") => put_number(size_of_map(exchange, map), out),
        Some(b"total_size") => put_number(facts.response_bytes + size_of_map(exchange, map), out),
        _ => false,
    }
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

fn address(address: Option<SocketAddr>, rest: &[&[u8]], out: &mut Vec<u8>) -> bool {
    let Some(address) = address else { return false };
    match rest.first().copied() {
        Some(b"address") => put(address.to_string().as_bytes(), out),
        Some(b"port") => put_number(u64::from(address.port()), out),
        _ => false,
    }
}

fn upstream(exchange: &Exchange, rest: &[&[u8]], out: &mut Vec<u8>) -> bool {
    match rest.first().copied() {
        Some(b"request_attempt_count") => put_number(u64::from(exchange.facts.attempts), out),
        Some(b"num_endpoints") if exchange.facts.endpoints > 0 => put_number(exchange.facts.endpoints, out),
        Some(b"transport_failure_reason") if exchange.is_tcp => true,
        // What cannot be said is empty once there is an upstream.
        Some(b"transport_failure_reason" | b"locality") => exchange.facts.endpoint.is_some(),
        _ => address(exchange.facts.endpoint, rest, out),
    }
}

fn connection(exchange: &Exchange, rest: &[&[u8]], out: &mut Vec<u8>) -> bool {
    match rest.first().copied() {
        Some(b"id") => put_number(exchange.facts.connection_id, out),
        Some(b"mtls") => put(&[u8::from(exchange.facts.identity.is_some())], out),
        Some(b"uri_san_peer_certificate") => match &exchange.facts.identity {
            Some(identity) => put(identity.as_bytes(), out),
            None => false,
        },
        Some(b"requested_server_name") => match &exchange.facts.server_name {
            Some(name) => put(name.as_bytes(), out),
            None => true,
        },
        Some(b"tls_version") if exchange.facts.is_tls => put(b"TLSv1.3", out),
        _ => false,
    }
}

fn xds(exchange: &Exchange, rest: &[&[u8]], out: &mut Vec<u8>) -> bool {
    let facts = &exchange.facts;
    let name = match rest {
        [b"route_name"] => facts.route.as_ref().map(weir_model::RouteName::as_str),
        [b"route_metadata" | b"virtual_host_name" | b"virtual_host_metadata"] if exchange.is_tcp => None,
        [b"cluster_metadata"] if exchange.is_tcp && facts.cluster.is_none() => None,
        [b"virtual_host_name"] => facts.route.as_ref().map(|route| parent_of(route.as_str())),
        [b"cluster_name"] => facts.cluster.as_ref().map(weir_model::ClusterName::as_str),
        [b"filter_chain_name"] => facts.listener.as_ref().map(weir_model::ListenerName::as_str),
        [b"listener_direction"] => return put_number(0, out),
        // Our resources have no metadata.
        [b"route_metadata" | b"cluster_metadata" | b"virtual_host_metadata" | b"listener_metadata"] => Some(""),
        _ => None,
    };
    match name {
        Some(name) => put(name.as_bytes(), out),
        None => false,
    }
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
            let mut out = Vec::new();
            let found = of_stream(&exchange, &asked, &mut out);
            if BUILT_IN.contains(&first) {
                prop_assert!(!out.ends_with(SPOOFED), "{:?}", String::from_utf8_lossy(&asked));
            } else {
                prop_assert_eq!((found, &out[..]), (Ok(()), SPOOFED));
            }
            exchange.facts.values.clear();
            let mut again = Vec::new();
            if of_stream(&exchange, &asked, &mut again).is_err() {
                prop_assert_eq!(again, b"");
            }
        }
    }
}
