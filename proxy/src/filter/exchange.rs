//! One request and its response, as filters see and change them: a plain value, without sockets, codecs or guests.
//! The driver moves it along; the host reads and writes it for guests; the stream owns it.

use bytes::BytesMut;
use http::HeaderMap;

use crate::error::ProxyError;
use crate::filter::chain::Chain;
use crate::filter::event::Side;
use crate::filter::facts::Facts;
use crate::head::{RequestHead, ResponseHead};

/// One request and its response.
pub(crate) struct Exchange {
    /// The request's head, as the filters so far have left it.
    pub(crate) request: RequestHead,
    /// The request's trailers, once they are there.
    pub(crate) request_trailers: Option<HeaderMap>,
    /// The response's head, once it is there.
    pub(crate) response: Option<ResponseHead>,
    /// The response's trailers, once they are there.
    pub(crate) response_trailers: Option<HeaderMap>,
    /// Where both directions stand.
    pub(crate) chain: Chain,
    /// What else is known about the stream: what properties show.
    pub(crate) facts: Facts,
    head_changed: bool,
    /// Why the stream failed, once it did: the first reason stays.
    pub(crate) error: Option<ProxyError>,
}

impl Exchange {
    /// A request with its head, before any filter.
    pub(crate) fn new(request: RequestHead, filters: usize, facts: Facts) -> Self {
        Self {
            request,
            request_trailers: None,
            response: None,
            response_trailers: None,
            chain: Chain::new(filters),
            facts,
            head_changed: false,
            error: None,
        }
    }

    /// The trailers of a side.
    pub(crate) fn trailers(&mut self, side: Side) -> &mut Option<HeaderMap> {
        match side {
            Side::Request => &mut self.request_trailers,
            Side::Response => &mut self.response_trailers,
        }
    }

    /// The body that a filter may read and change now: what has arrived at its station and not left it.
    pub(crate) fn body_at(&mut self, side: Side, filter: usize) -> Option<&mut BytesMut> {
        self.chain.body_at(side, filter)
    }

    /// A filter has changed the request's head.
    pub(crate) fn mark_head_changed(&mut self) {
        self.head_changed = true;
    }

    /// True when a filter has changed the request's head: another route may match.
    pub(crate) fn is_head_changed(&self) -> bool {
        self.head_changed
    }

    /// Remembers why the stream failed; the first reason stays.
    pub(crate) fn fail(&mut self, error: ProxyError) {
        if self.error.is_none() {
            self.error = Some(error);
        }
    }
}
