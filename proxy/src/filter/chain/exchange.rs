//! One request and its response, as filters see and change them. A plain value without sockets, codecs or guests.
//!
//! The driver moves it, hostcalls read and write it, and the stream owns it. A TCP connection is an exchange without
//! headers, whose bytes move as bodies do.

use http::HeaderMap;

use super::chain_state::ChainState;
use super::event::Direction;
use super::local_reply::is_grpc;
use crate::error::ProxyError;
use crate::head::{ROUTING_MARK, RequestHead, ResponseHead};
use crate::packed_headers::PackedHeaders;
use crate::stream_info::StreamInfo;
use crate::telemetry::StreamProperty;

/// One request and its response.
pub(crate) struct Exchange {
    /// True for a TCP connection, which has only bytes in both directions.
    pub(crate) is_tcp: bool,
    /// True for a gRPC request, as the downstream sent it. Its local replies are trailers only.
    pub(crate) is_grpc: bool,
    /// The request's head, with the changes of filters so far.
    pub(crate) request: RequestHead,
    /// The request's trailers, once received. Boxed, since most messages have none.
    pub(crate) request_trailers: Option<Box<HeaderMap>>,
    /// The response's head, once received.
    pub(crate) response: Option<ResponseHead>,
    /// The response's trailers, once received.
    pub(crate) response_trailers: Option<Box<HeaderMap>>,
    /// Copies of forwarded headers, by direction, for filters that read them later.
    pub(crate) forwarded_headers: [Option<PackedHeaders>; 2],
    /// State of both directions.
    pub(crate) chain: ChainState,
    /// Addresses, route, sizes and times of the stream, which properties expose.
    pub(crate) stream_info: StreamInfo,
    /// The request as the first AuthorizationPolicy saw it; `None` before, and for a chain without one.
    pub(crate) policy_input: Option<Box<PolicyInput>>,
    request_changes: RequestChanges,
    /// Bytes that filters have added to headers since the headers were last measured.
    pub(crate) uncounted_header_bytes: usize,
    /// The first error of the stream, if it failed.
    pub(crate) error: Option<ProxyError>,
}

/// A request as its first AuthorizationPolicy saw it. After a change of policies it is decided on again.
pub(crate) struct PolicyInput {
    /// The head without its headers.
    target: RequestHead,
    headers: PackedHeaders,
    /// The properties that filters had set.
    pub(crate) properties: Vec<StreamProperty>,
}

impl PolicyInput {
    /// Returns the head without its headers, which costs no allocation.
    pub(crate) fn target(&self) -> RequestHead {
        self.target.clone()
    }

    /// Returns the headers.
    pub(crate) fn headers(&self) -> HeaderMap {
        self.headers.to_map()
    }
}

/// Changes that filters have made to the request's head.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RequestChanges {
    /// The parts that were changed.
    pub(crate) head: HeadChange,
    /// True if the routing mark may have been changed.
    pub(crate) routing_mark: bool,
}

/// The parts of a request's head that were changed. A change of the target includes the headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HeadChange {
    /// None.
    #[default]
    None,
    /// Any header.
    Headers,
    /// Method, scheme, authority or path.
    Target,
}

impl Exchange {
    /// Returns the exchange of a request before any filter has run.
    pub(crate) fn new(request: RequestHead, chain: ChainState, stream_info: StreamInfo) -> Self {
        Self {
            is_tcp: false,
            is_grpc: is_grpc(&request),
            request,
            request_trailers: None,
            response: None,
            response_trailers: None,
            forwarded_headers: [None, None],
            chain,
            stream_info,
            policy_input: None,
            request_changes: RequestChanges::default(),
            uncounted_header_bytes: 0,
            error: None,
        }
    }

    /// Returns the exchange of a TCP connection before any filter has run.
    pub(crate) fn new_tcp(chain: ChainState, stream_info: StreamInfo) -> Self {
        Self { is_tcp: true, ..Self::new(RequestHead::for_tcp(), chain, stream_info) }
    }

    /// Stores the request for later decisions, before its first AuthorizationPolicy is called. Later calls do nothing.
    pub(crate) fn store_policy_input(&mut self) {
        if self.policy_input.is_none() {
            self.policy_input = Some(Box::new(PolicyInput {
                target: self.request.without_headers(),
                headers: PackedHeaders::new(&self.request.headers),
                properties: self.stream_info.properties.clone(),
            }));
        }
    }

    /// Returns the trailers of a direction.
    pub(crate) fn trailers(&mut self, direction: Direction) -> &mut Option<Box<HeaderMap>> {
        match direction {
            Direction::Request => &mut self.request_trailers,
            Direction::Response => &mut self.response_trailers,
        }
    }

    /// Removes and returns the headers of a direction, to be forwarded. With `keep` a copy stays, for filters that
    /// read it later. Later writes of filters have no effect.
    ///
    /// The response must be present for its direction.
    pub(crate) fn take_headers(&mut self, direction: Direction, keep: bool) -> HeaderMap {
        let headers = match (direction, &mut self.response) {
            (Direction::Request, _) => std::mem::take(&mut self.request.headers),
            (Direction::Response, Some(response)) => std::mem::take(&mut response.headers),
            (Direction::Response, None) => HeaderMap::new(),
        };
        if keep {
            self.forwarded_headers[direction as usize] = Some(PackedHeaders::new(&headers));
        }
        headers
    }

    /// Records that a filter has changed the header `name` of the request. `None` means all headers.
    pub(crate) fn mark_request_changed(&mut self, name: Option<&[u8]>) {
        let is_target = |name: &[u8]| name.first() == Some(&b':') || name.eq_ignore_ascii_case(b"host");
        let change = if name.is_none_or(is_target) { HeadChange::Target } else { HeadChange::Headers };
        self.request_changes.head = self.request_changes.head.max(change);
        let is_mark = |name: &[u8]| name.eq_ignore_ascii_case(ROUTING_MARK.as_str().as_bytes());
        self.request_changes.routing_mark |= name.is_none_or(is_mark);
    }

    /// Returns what filters have changed of the request's head. Another route may match afterwards.
    pub(crate) fn request_changes(&self) -> RequestChanges {
        self.request_changes
    }

    /// Records the error of the stream. The first error stays.
    pub(crate) fn fail(&mut self, error: ProxyError) {
        if self.error.is_none() {
            self.error = Some(error);
        }
    }
}
