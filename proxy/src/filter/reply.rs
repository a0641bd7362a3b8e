//! Answers that the proxy makes itself: the same short text for people everywhere, with the stable detail in it; and
//! those that a filter asks for, checked.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use weir_host_abi::abi::map::MapKind;
use weir_host_abi::host::LocalReply as GuestReply;

use crate::error::ProxyError;
use crate::filter::event::LocalReply;
use crate::filter::exchange::Exchange;
use crate::filter::heads::{self, Invalid};
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

/// Details as the access log takes them: no white space (as Envoy does), bounded, text.
pub(super) fn details_of(details: &[u8]) -> String {
    const MAX_DETAILS: usize = 256;
    let text = String::from_utf8_lossy(&details[..details.len().min(MAX_DETAILS)]);
    if text.is_empty() {
        return "filter_reply".to_owned();
    }
    text.chars().map(|letter| if letter.is_whitespace() || letter.is_control() { '_' } else { letter }).collect()
}

/// The reply that a guest asked for. A gRPC request is answered in gRPC's way when a status is given: 200 with
/// `grpc-status` and `grpc-message`.
pub(super) fn local_reply(exchange: &Exchange, reply: &GuestReply<'_>) -> Result<LocalReply, Invalid> {
    let status = u16::try_from(reply.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.filter(heads::is_final).ok_or(Invalid)?;
    let mut headers = HeaderMap::with_capacity(reply.headers.len() + 2);
    for (name, value) in reply.headers.iter() {
        let name = HeaderName::from_bytes(name).map_err(|_| Invalid)?;
        headers.append(name, HeaderValue::from_bytes(value).map_err(|_| Invalid)?);
    }
    let content_type = heads::value(exchange, MapKind::RequestHeaders, b"content-type");
    if content_type.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        let code = reply.grpc_status.unwrap_or_else(|| grpc_status(status));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(code));
        if !reply.body.is_empty() {
            headers.insert("grpc-message", HeaderValue::from_bytes(reply.body).map_err(|_| Invalid)?);
        }
        return Ok(LocalReply { head: ResponseHead { status: StatusCode::OK, headers }, body: Bytes::new() });
    }
    if !reply.body.is_empty() {
        let text = HeaderValue::from_static("text/plain");
        headers.entry(CONTENT_TYPE).or_insert(text);
    }
    Ok(LocalReply { head: ResponseHead { status, headers }, body: Bytes::copy_from_slice(reply.body) })
}

/// The gRPC status of an HTTP status (gRPC's `http-grpc-status-mapping`).
pub(super) fn grpc_status(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_one_word() {
        assert_eq!(details_of(b"auth rule\ndeny"), "auth_rule_deny");
        assert_eq!(details_of(b""), "filter_reply");
    }
}
