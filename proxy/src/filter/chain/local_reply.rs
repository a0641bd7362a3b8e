//! Local replies: a short text with a status and the stable response code detail.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::event::LocalReply;
use crate::error::ProxyError;
use crate::head::ResponseHead;

impl LocalReply {
    /// Returns the reply for an error: its status, reason and detail. Causes stay in the log, since they may contain
    /// addresses and plugin names.
    pub(crate) fn from_error(error: &ProxyError) -> Self {
        let row = error.info();
        Self::text(row.status, format!("{} ({})\n", row.reason, row.detail))
    }

    /// Returns a reply with a plain text body.
    pub(crate) fn text(status: StatusCode, body: String) -> Self {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Self { head: ResponseHead::new(status, headers), body: Bytes::from(body) }
    }
}

/// Returns the gRPC status for an HTTP status (gRPC's `http-grpc-status-mapping.md`).
pub(crate) fn grpc_status(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}
