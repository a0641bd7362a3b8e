//! Answers that the proxy makes itself: the same short text for people everywhere, with the stable detail in it.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::error::ProxyError;
use crate::filter::event::LocalReply;
use crate::head::ResponseHead;

impl LocalReply {
    /// What the downstream is told of an error: its status and its reason. Causes stay in the log: they may name
    /// addresses and plugins.
    pub(crate) fn of_error(error: &ProxyError) -> Self {
        let row = error.row();
        Self::text(row.status, format!("{} ({})\n", row.reason, row.detail))
    }

    /// A reply of plain text.
    pub(crate) fn text(status: StatusCode, body: String) -> Self {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Self { head: ResponseHead { status, headers }, body: Bytes::from(body) }
    }
}
