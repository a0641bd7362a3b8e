//! The trait that a filter implements, and the result of its callbacks.
//!
//! Each stream (an HTTP request and its response) has one value of the filter, which `crate::dispatch` creates and
//! calls. All streams of a VM share the filter's `Config`.

use std::rc::Rc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::body::Body;
use crate::headers::{Headers, RequestHeaders, ResponseHeaders};
use crate::reply::Reply;

/// The result of a callback: what the host does with the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Forwards the message to the next filter.
    Continue,
    /// Pauses the message. In a body callback the host buffers the bytes, and the next call sees all of them.
    /// The callback of an [`HttpCall`](crate::HttpCall) that was sent here resumes it with [`Action::Continue`].
    Pause,
    /// Pauses the message for at least this time, then calls [`HttpFilter::on_pause_end`], which continues it by
    /// default. The host decides how much later, usually some milliseconds.
    ///
    /// While the message waits, its other callbacks are made as the host makes them: a pause in the headers usually
    /// holds back body and trailers as well. Their [`Action::Continue`] leaves the message paused until that time, and
    /// their [`Action::Pause`] leaves it paused after that time, until a callout resumes it. A body that was paused in
    /// this way is passed to the next call again, with what has arrived since. A second `PauseFor` moves the end of the
    /// pause, to the later of the two times. A local reply ends it.
    ///
    /// The number of streams that wait is limited only by that of the host. The end of a stream ends its wait. A module
    /// that lists its callbacks (`[package.metadata.weir]`) must list `proxy_on_tick`.
    PauseFor(Duration),
    /// Sends this local reply to the downstream. The upstream does not receive the request.
    Reply(Box<Reply>),
}

impl From<Reply> for Action {
    fn from(reply: Reply) -> Self {
        Self::Reply(Box::new(reply))
    }
}

/// A filter on HTTP streams. Only `Config` and `new` are required; the default of every callback continues.
pub trait HttpFilter: Sized + 'static {
    /// The `config` of the `Filter` resource. It is parsed once per VM. A configuration that does not parse is rejected
    /// before it serves. [`crate::config::FieldReader`] reports several errors at once.
    type Config: DeserializeOwned + 'static;

    /// Creates the filter of a new stream.
    fn new(config: &Rc<Self::Config>) -> Self;

    /// Called with the request line and headers.
    fn on_request_headers(&mut self, _request: &mut RequestHeaders) -> Action {
        Action::Continue
    }

    /// Called with each part of the request body.
    fn on_request_body(&mut self, _body: &mut Body) -> Action {
        Action::Continue
    }

    /// Called with the request trailers, if there are any.
    fn on_request_trailers(&mut self, _trailers: &mut Headers) -> Action {
        Action::Continue
    }

    /// Called with the status and headers of the response, from the upstream or of a local reply.
    fn on_response_headers(&mut self, _response: &mut ResponseHeaders) -> Action {
        Action::Continue
    }

    /// Called with each part of the response body.
    fn on_response_body(&mut self, _body: &mut Body) -> Action {
        Action::Continue
    }

    /// Called with the response trailers, if there are any.
    fn on_response_trailers(&mut self, _trailers: &mut Headers) -> Action {
        Action::Continue
    }

    /// Called when the time of [`Action::PauseFor`] has passed; continues the message by default. It is not called if
    /// the filter has returned [`Action::Pause`] for the message meanwhile, or if the stream has ended.
    fn on_pause_end(&mut self) -> Action {
        Action::Continue
    }

    /// Called at the end of the stream (`proxy_on_log`). Headers can be read, but not modified.
    fn on_log(&mut self, _end: &StreamEnd) {}

    /// Returns the period of [`HttpFilter::on_tick`] in each VM; `None`, the default, disables it.
    fn tick_period(_config: &Self::Config) -> Option<Duration> {
        None
    }

    /// Called once per [`HttpFilter::tick_period`], outside any stream.
    fn on_tick(_config: &Rc<Self::Config>) {}
}

/// The state of a stream at its end.
#[derive(Debug)]
pub struct StreamEnd {
    /// The request headers, as sent to the upstream.
    pub request: RequestHeaders,
    /// The response headers, as sent to the downstream.
    pub response: ResponseHeaders,
}
