//! The trait that a filter implements, and what its callbacks answer.
//!
//! One value of the filter exists for each stream (an HTTP request and its response); `crate::dispatch` makes it
//! and calls it. What all streams of a VM share is the filter's `Config`.

use std::rc::Rc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::body::Body;
use crate::headers::{Headers, RequestHeaders, ResponseHeaders};
use crate::reply::Reply;

/// What happens to the message after a callback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// On to the next filter.
    Continue,
    /// Hold the message here. In a body callback the bytes are kept, and the next call sees all of them together.
    /// The callback of an [`HttpCall`](crate::HttpCall) started here resumes it by answering [`Action::Continue`].
    Pause,
    /// Send this to the downstream instead. The upstream never sees the request.
    Reply(Box<Reply>),
}

impl From<Reply> for Action {
    fn from(reply: Reply) -> Self {
        Self::Reply(Box::new(reply))
    }
}

/// A filter on HTTP streams. Only `Config` and `new` are required; every callback continues unless you write it.
pub trait HttpFilter: Sized + 'static {
    /// The `config` of the `Filter` resource. It is parsed once per VM, and a configuration that does not parse is
    /// refused before it serves. To report several errors at once see [`crate::config::Fields`].
    type Config: DeserializeOwned + 'static;

    /// A new stream begins.
    fn new(config: &Rc<Self::Config>) -> Self;

    /// The request line and headers have arrived.
    fn on_request_headers(&mut self, _request: &mut RequestHeaders) -> Action {
        Action::Continue
    }

    /// A part of the request body has arrived.
    fn on_request_body(&mut self, _body: &mut Body) -> Action {
        Action::Continue
    }

    /// The request ends with these trailers.
    fn on_request_trailers(&mut self, _trailers: &mut Headers) -> Action {
        Action::Continue
    }

    /// The status and headers of the response have arrived, from the upstream or as a local reply.
    fn on_response_headers(&mut self, _response: &mut ResponseHeaders) -> Action {
        Action::Continue
    }

    /// A part of the response body has arrived.
    fn on_response_body(&mut self, _body: &mut Body) -> Action {
        Action::Continue
    }

    /// The response ends with these trailers.
    fn on_response_trailers(&mut self, _trailers: &mut Headers) -> Action {
        Action::Continue
    }

    /// The stream is over. Headers can be read here, not changed.
    fn on_end(&mut self, _end: &StreamEnd) {}

    /// How often [`HttpFilter::on_tick`] is called in each VM; `None`, the default, is never.
    fn tick_period(_config: &Self::Config) -> Option<Duration> {
        None
    }

    /// Called every [`HttpFilter::tick_period`], outside any stream.
    fn on_tick(_config: &Rc<Self::Config>) {}
}

/// What is known when a stream is over.
#[derive(Debug)]
pub struct StreamEnd {
    /// The request as it went to the upstream.
    pub request: RequestHeaders,
    /// The response as it went to the downstream.
    pub response: ResponseHeaders,
}
