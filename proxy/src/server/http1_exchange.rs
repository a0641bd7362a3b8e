//! One request and its response on an HTTP/1 connection, and what follows it.

use http::{Method, Version};
use weir_http1::RequestHead;

use crate::stream::RejectedRequest;

/// The properties of a request that its response depends on.
pub(super) struct Exchange {
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) keep_alive: bool,
}

impl Exchange {
    /// Returns the exchange of a request that could not be read.
    pub(super) fn rejected() -> Self {
        Self { method: Method::GET, version: Version::HTTP_11, keep_alive: false }
    }
}

/// The outcome of waiting for a request.
pub(super) enum NextRequest {
    Valid(RequestHead),
    Rejected(RejectedRequest),
    /// The connection has ended, or was idle for too long.
    Closed,
    /// The connection is too old for another request.
    Refused,
}

/// The state of a connection after a response.
pub(super) enum AfterResponse {
    NextRequest,
    Close,
    /// The response is incomplete, or the downstream has gone.
    Broken,
}
