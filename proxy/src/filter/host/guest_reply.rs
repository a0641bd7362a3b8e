//! Local replies of guests: checks what a guest passed to `proxy_send_local_response` and converts it.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use weir_host_abi::abi::map::MapKind;
use weir_host_abi::host::LocalReply as GuestReply;

use super::header_map::{self, InvalidHeader};
use crate::filter::chain::grpc_status;
use crate::filter::chain::{Exchange, LocalReply};
use crate::head::ResponseHead;

/// Returns a detail for the access log: UTF-8 text without white space, as in Envoy, and bounded.
pub(crate) fn access_log_detail(details: &[u8]) -> String {
    const MAX_DETAILS: usize = 256;
    let text = String::from_utf8_lossy(&details[..details.len().min(MAX_DETAILS)]);
    if text.is_empty() {
        return "filter_reply".to_owned();
    }
    text.chars().map(|letter| if letter.is_whitespace() || letter.is_control() { '_' } else { letter }).collect()
}

/// Checks a guest's local reply and converts it. For a gRPC request the reply is 200 with `grpc-status` and
/// `grpc-message`.
pub(crate) fn parse_guest_reply(exchange: &Exchange, reply: &GuestReply<'_>) -> Result<LocalReply, InvalidHeader> {
    let status = u16::try_from(reply.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.filter(header_map::is_final).ok_or(InvalidHeader)?;
    let mut headers = HeaderMap::with_capacity(reply.headers.len() + 2);
    for (name, value) in reply.headers.iter() {
        let name = HeaderName::from_bytes(name).map_err(|_| InvalidHeader)?;
        headers.append(name, HeaderValue::from_bytes(value).map_err(|_| InvalidHeader)?);
    }
    let content_type = header_map::value(exchange, MapKind::RequestHeaders, b"content-type");
    if content_type.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        let code = reply.grpc_status.unwrap_or_else(|| grpc_status(status));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(code));
        if !reply.body.is_empty() {
            headers.insert("grpc-message", HeaderValue::from_bytes(reply.body).map_err(|_| InvalidHeader)?);
        }
        return Ok(LocalReply { head: ResponseHead::new(StatusCode::OK, headers), body: Bytes::new() });
    }
    if !reply.body.is_empty() {
        let text = HeaderValue::from_static("text/plain");
        headers.entry(CONTENT_TYPE).or_insert(text);
    }
    Ok(LocalReply { head: ResponseHead::new(status, headers), body: Bytes::copy_from_slice(reply.body) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detail_has_no_white_space() {
        assert_eq!(access_log_detail(b"auth rule\ndeny"), "auth_rule_deny");
        assert_eq!(access_log_detail(b""), "filter_reply");
    }
}
