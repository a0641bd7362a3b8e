//! Heads of requests and responses, whatever the codec. Pseudo headers are separate fields; every other header is in a
//! map with lower-case names.

use http::header::HeaderName;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use hyper::ext::ReasonPhrase;
use weir_http1::SentNames;

/// The internal header by which a filter chooses one of its route's targets.
///
/// `stream::sanitize` removes it from downstream requests, and no endpoint receives it.
pub(crate) const ROUTING_MARK: HeaderName = HeaderName::from_static("x-weir-target");

/// A request's head. `host` is never among the headers; its value is [`RequestHead::authority`].
#[derive(Debug, Clone)]
pub(crate) struct RequestHead {
    /// `:method`.
    pub(crate) method: Method,
    /// `:scheme`: `http` or `https`.
    pub(crate) scheme: &'static str,
    /// `:authority`: host and optional port, as sent. Empty when an HTTP/1.0 request has none.
    pub(crate) authority: HeaderValue,
    /// `:path`, with the query.
    pub(crate) path: PathAndQuery,
    /// Every other header.
    pub(crate) headers: HeaderMap,
    /// The names of headers as sent, if the listener preserves them. HTTP/1 only.
    pub(crate) sent_names: Option<SentNames>,
    /// The downstream's protocol version.
    pub(crate) version: Version,
    /// The protocol to which the request switches (RFC 9110 §7.8), which is also among the headers.
    pub(crate) upgrade: Option<HeaderValue>,
}

impl RequestHead {
    /// Returns a copy without the headers. Costs no allocation.
    pub(crate) fn without_headers(&self) -> Self {
        Self {
            method: self.method.clone(),
            scheme: self.scheme,
            authority: self.authority.clone(),
            path: self.path.clone(),
            headers: HeaderMap::new(),
            sent_names: None,
            version: self.version,
            upgrade: self.upgrade.clone(),
        }
    }

    /// Returns the placeholder head of a TCP connection.
    pub(crate) fn for_tcp() -> Self {
        Self {
            method: Method::GET,
            scheme: "",
            authority: HeaderValue::from_static(""),
            path: PathAndQuery::from_static("/"),
            headers: HeaderMap::new(),
            sent_names: None,
            version: Version::HTTP_11,
            upgrade: None,
        }
    }
}

/// A response's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    /// `:status`.
    pub(crate) status: StatusCode,
    /// The endpoint's reason phrase, if it is not the usual one of the status. HTTP/1 only.
    pub(crate) reason: Option<ReasonPhrase>,
    /// Every other header.
    pub(crate) headers: HeaderMap,
    /// The names of headers as sent, if the cluster preserves them. HTTP/1 only.
    pub(crate) sent_names: Option<SentNames>,
}

impl ResponseHead {
    /// Returns a head with the usual reason phrase.
    pub(crate) fn new(status: StatusCode, headers: HeaderMap) -> Self {
        Self { status, reason: None, headers, sent_names: None }
    }
}
