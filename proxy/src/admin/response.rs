//! Responses of admin pages: plain text and JSON.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

/// The response of an admin page.
pub(super) type AdminResponse = Response<Full<Bytes>>;

/// Returns a response of plain text.
pub(super) fn text(status: StatusCode, content: &str) -> AdminResponse {
    content_of_type(status, "text/plain; charset=utf-8", content.to_owned())
}

/// Returns a response of indented JSON, or status 500 if `value` cannot be serialized.
pub(super) fn json(value: &impl Serialize) -> AdminResponse {
    match serde_json::to_string_pretty(value) {
        Ok(content) => content_of_type(StatusCode::OK, "application/json", content + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("cannot be written as JSON: {error}\n")),
    }
}

/// Returns a response with this `content-type`.
pub(super) fn content_of_type(status: StatusCode, content_type: &'static str, content: String) -> AdminResponse {
    let mut response = Response::new(Full::new(Bytes::from(content)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
