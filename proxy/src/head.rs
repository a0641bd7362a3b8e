//! The heads of a request and a response as the proxy holds them, whatever the codec: pseudo headers apart, every
//! other header in a map with lower-case names.

use http::header::HeaderName;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

/// How a filter says which of its route's targets a request goes to; an internal header, which nobody outside can send or
/// see.
pub(crate) const ROUTING_MARK: HeaderName = HeaderName::from_static("x-weir-target");

/// A request's head. `host` is never among the headers: it is [`RequestHead::authority`].
#[derive(Debug, Clone)]
pub(crate) struct RequestHead {
    /// `:method`.
    pub(crate) method: Method,
    /// `:scheme`: `http` or `https`.
    pub(crate) scheme: &'static str,
    /// `:authority`: host and perhaps port, as sent; empty when HTTP/1.0 sent none.
    pub(crate) authority: HeaderValue,
    /// `:path`, with the query.
    pub(crate) path: PathAndQuery,
    /// Every other header.
    pub(crate) headers: HeaderMap,
    /// What the downstream speaks.
    pub(crate) version: Version,
}

impl RequestHead {
    /// The head of what has none: a TCP connection.
    pub(crate) fn nothing() -> Self {
        Self {
            method: Method::GET,
            scheme: "",
            authority: HeaderValue::from_static(""),
            path: PathAndQuery::from_static("/"),
            headers: HeaderMap::new(),
            version: Version::HTTP_11,
        }
    }
}

/// A response's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    /// `:status`.
    pub(crate) status: StatusCode,
    /// Every other header.
    pub(crate) headers: HeaderMap,
}
