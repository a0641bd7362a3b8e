//! Local replies of guests: checks what a guest passed to `proxy_send_local_response` and converts it.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use weir_host_abi::host::LocalReply as GuestReply;

use super::header_map::{self, InvalidHeader};
use crate::filter::chain::{GrpcForm, LocalReply};
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

/// Checks a guest's local reply and converts it. The guest's gRPC status is for gRPC requests only.
pub(crate) fn parse_guest_reply(reply: &GuestReply<'_>) -> Result<LocalReply, InvalidHeader> {
    let status = u16::try_from(reply.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.filter(header_map::is_final).ok_or(InvalidHeader)?;
    let mut headers = HeaderMap::with_capacity(reply.headers.len() + 2);
    for (name, value) in reply.headers.iter() {
        let name = HeaderName::from_bytes(name).map_err(|_| InvalidHeader)?;
        headers.append(name, HeaderValue::from_bytes(value).map_err(|_| InvalidHeader)?);
    }
    if !reply.body.is_empty() {
        let text = HeaderValue::from_static("text/plain");
        headers.entry(CONTENT_TYPE).or_insert(text);
    }
    let grpc = reply.grpc_status.map_or(GrpcForm::Mapped, GrpcForm::Status);
    let (head, body) = (ResponseHead::new(status, headers), Bytes::copy_from_slice(reply.body));
    Ok(LocalReply { grpc, ..LocalReply::new(head, body) })
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
