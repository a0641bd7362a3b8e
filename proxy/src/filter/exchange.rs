//! One request and its response, as filters see and change them: a plain value, without sockets, codecs or guests.
//! The driver moves it along; the host reads and writes it for guests; the stream owns it. A TCP connection is one too:
//! its bytes move as bodies do, and it has no heads.

use http::HeaderMap;

use crate::error::ProxyError;
use crate::filter::chain::Chain;
use crate::filter::event::Side;
use crate::filter::facts::Facts;
use crate::head::{ROUTING_MARK, RequestHead, ResponseHead};
use crate::kept_headers::KeptHeaders;

/// One request and its response.
pub(crate) struct Exchange {
    /// True for a TCP connection: nothing but bytes in both directions.
    pub(crate) is_tcp: bool,
    /// The request's head, as the filters so far have left it.
    pub(crate) request: RequestHead,
    /// The request's trailers, once they are there; most messages have none.
    pub(crate) request_trailers: Option<Box<HeaderMap>>,
    /// The response's head, once it is there.
    pub(crate) response: Option<ResponseHead>,
    /// The response's trailers, once they are there.
    pub(crate) response_trailers: Option<Box<HeaderMap>>,
    /// The headers of each side that have gone on, for filters that look at them later.
    pub(super) kept: [Option<KeptHeaders>; 2],
    /// Where both directions stand.
    pub(crate) chain: Chain,
    /// What else is known about the stream: what properties show.
    pub(crate) facts: Facts,
    request_changed: Changed,
    /// Bytes that filters have added to heads since somebody counted how long these are.
    pub(super) head_growth: usize,
    /// Why the stream failed, once it did: the first reason stays.
    pub(crate) error: Option<ProxyError>,
}

/// What filters have changed of a head.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub(crate) struct Changed {
    /// Method, scheme, authority or path.
    pub(crate) target: bool,
    /// A header.
    pub(crate) headers: bool,
    /// Perhaps the routing mark.
    pub(crate) mark: bool,
}

impl Exchange {
    /// A request with its head, before any filter.
    pub(crate) fn new(request: RequestHead, chain: Chain, facts: Facts) -> Self {
        Self {
            is_tcp: false,
            request,
            request_trailers: None,
            response: None,
            response_trailers: None,
            kept: [None, None],
            chain,
            facts,
            request_changed: Changed::default(),
            head_growth: 0,
            error: None,
        }
    }

    /// A TCP connection, before any filter.
    pub(crate) fn of_connection(chain: Chain, facts: Facts) -> Self {
        Self { is_tcp: true, ..Self::new(RequestHead::nothing(), chain, facts) }
    }

    /// The trailers of a side.
    pub(crate) fn trailers(&mut self, side: Side) -> &mut Option<Box<HeaderMap>> {
        match side {
            Side::Request => &mut self.request_trailers,
            Side::Response => &mut self.response_trailers,
        }
    }

    /// The headers of a side, to go on. Filters that may look at them later see what they were; what they write then is lost.
    ///
    /// The response must be there.
    pub(crate) fn take_headers(&mut self, side: Side, keep: bool) -> HeaderMap {
        let headers = match (side, &mut self.response) {
            (Side::Request, _) => std::mem::take(&mut self.request.headers),
            (Side::Response, Some(response)) => std::mem::take(&mut response.headers),
            (Side::Response, None) => HeaderMap::new(),
        };
        if keep {
            self.kept[side as usize] = Some(KeptHeaders::of(&headers));
        }
        headers
    }

    /// A filter has changed the header `name` of the request, or all headers.
    pub(crate) fn mark_request_changed(&mut self, name: Option<&[u8]>) {
        let is_target = |name: &[u8]| name.first() == Some(&b':') || name.eq_ignore_ascii_case(b"host");
        self.request_changed.target |= name.is_none_or(is_target);
        self.request_changed.headers = true;
        let is_mark = |name: &[u8]| name.eq_ignore_ascii_case(ROUTING_MARK.as_str().as_bytes());
        self.request_changed.mark |= name.is_none_or(is_mark);
    }

    /// What filters have changed of the request's head: another route may match.
    pub(crate) fn request_changed(&self) -> Changed {
        self.request_changed
    }

    /// Remembers why the stream failed; the first reason stays.
    pub(crate) fn fail(&mut self, error: ProxyError) {
        if self.error.is_none() {
            self.error = Some(error);
        }
    }
}
