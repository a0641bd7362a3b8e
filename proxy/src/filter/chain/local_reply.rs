//! Local replies: a short text with a status and the stable response code detail, or what a filter made. A gRPC request
//! gets them in the form that gRPC clients read: 200, trailers only.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::event::{GrpcForm, LocalReply};
use crate::error::ProxyError;
use crate::head::{RequestHead, ResponseHead};
use crate::limits::MAX_GRPC_MESSAGE_BYTES;

/// The content type of gRPC. Subtypes follow after `+`.
const GRPC: &[u8] = b"application/grpc";

/// gRPC's status of a call (`PROTOCOL-HTTP2.md`).
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// gRPC's description of a status, percent-encoded.
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// gRPC's status of a call whose deadline has passed.
const DEADLINE_EXCEEDED: u32 = 4;

impl LocalReply {
    /// Returns a reply, which a gRPC request gets with the gRPC status of its HTTP status.
    pub(crate) fn new(head: ResponseHead, body: Bytes) -> Self {
        Self { head, body, grpc: GrpcForm::Mapped }
    }

    /// Returns the reply for an error: its status, reason and detail. Causes stay in the log, since they may contain
    /// addresses and plugin names.
    pub(crate) fn from_error(error: &ProxyError) -> Self {
        let row = error.info();
        let reply = Self::text(row.status, format!("{} ({})\n", row.reason, row.detail));
        match error {
            ProxyError::GrpcTimeout => Self { grpc: GrpcForm::Status(DEADLINE_EXCEEDED), ..reply },
            _ => reply,
        }
    }

    /// Returns a reply with a plain text body.
    fn text(status: StatusCode, body: String) -> Self {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Self::new(ResponseHead::new(status, headers), Bytes::from(body))
    }

    /// Returns the reply as a gRPC client reads it: 200 with `grpc-status` and `grpc-message`, without a body (Envoy's
    /// `Utility::prepareLocalReply`). A `grpc-status` among the headers stays.
    pub(super) fn into_grpc(self) -> Self {
        let Self { mut head, body, grpc } = self;
        let status = match grpc {
            GrpcForm::Mapped => grpc_status(head.status),
            GrpcForm::Status(status) => status,
            GrpcForm::Http => return Self { head, body, grpc },
        };
        head.status = StatusCode::OK;
        head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        head.headers.remove(CONTENT_LENGTH);
        head.headers.entry(GRPC_STATUS).or_insert_with(|| HeaderValue::from(status));
        if let Some(message) = grpc_message(&body) {
            head.headers.insert(GRPC_MESSAGE, message);
        }
        Self { head, body: Bytes::new(), grpc }
    }
}

/// Returns true for the head of a gRPC request: a POST of `application/grpc`, or one of its subtypes. gRPC-Web, which has
/// another framing, is not gRPC.
pub(crate) fn is_grpc(request: &RequestHead) -> bool {
    request.method == Method::POST && has_grpc_type(&request.headers)
}

fn has_grpc_type(headers: &HeaderMap) -> bool {
    let rest = headers.get(CONTENT_TYPE).and_then(|kind| kind.as_bytes().strip_prefix(GRPC));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
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

/// Returns a text as the value of `grpc-message`, of at most [`MAX_GRPC_MESSAGE_BYTES`] of the text: bytes outside of
/// 0x20 to 0x7E and the percent sign are percent-encoded. `None` for an empty text. A final line break is left out.
fn grpc_message(text: &[u8]) -> Option<HeaderValue> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let text = &text[..text.len().min(MAX_GRPC_MESSAGE_BYTES)];
    let mut encoded = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => encoded.push(*byte),
            _ => encoded.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]]),
        }
    }
    if encoded.is_empty() {
        return None;
    }
    HeaderValue::from_bytes(&encoded).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reply(status: u16, body: &'static str, grpc: GrpcForm) -> LocalReply {
        let head = ResponseHead::new(StatusCode::from_u16(status).unwrap(), HeaderMap::new());
        LocalReply { grpc, ..LocalReply::new(head, Bytes::from(body)) }
    }

    fn value<'a>(reply: &'a LocalReply, name: &str) -> Option<&'a str> {
        reply.head.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn content_type_decides_what_is_grpc() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            assert_eq!(has_grpc_type(&headers), expected, "{kind}");
        }
        assert!(!has_grpc_type(&HeaderMap::new()));
    }

    #[test]
    fn http_status_is_mapped_unless_filter_sets_one() {
        for (status, form, expected) in [
            (400, GrpcForm::Mapped, "13"),
            (401, GrpcForm::Mapped, "16"),
            (403, GrpcForm::Mapped, "7"),
            (404, GrpcForm::Mapped, "12"),
            (429, GrpcForm::Mapped, "14"),
            (502, GrpcForm::Mapped, "14"),
            (503, GrpcForm::Mapped, "14"),
            (504, GrpcForm::Mapped, "14"),
            (200, GrpcForm::Mapped, "2"),
            (418, GrpcForm::Mapped, "2"),
            (503, GrpcForm::Status(8), "8"),
        ] {
            let reply = reply(status, "no\n", form).into_grpc();
            assert_eq!((reply.head.status, value(&reply, "grpc-status")), (StatusCode::OK, Some(expected)), "{status}");
            assert_eq!((value(&reply, "grpc-message"), reply.body.len()), (Some("no"), 0));
        }
        let timeout = LocalReply::from_error(&ProxyError::GrpcTimeout).into_grpc();
        assert_eq!(value(&timeout, "grpc-status"), Some("4"));
    }

    #[test]
    fn header_of_filter_wins_and_redirect_stays() {
        let mut own = reply(403, "", GrpcForm::Status(7));
        own.head.headers.insert(GRPC_STATUS, HeaderValue::from_static("9"));
        own.head.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("5"));
        let own = own.into_grpc();
        assert_eq!((value(&own, "grpc-status"), value(&own, "grpc-message")), (Some("9"), None));
        assert_eq!(value(&own, "content-length"), None);
        let redirect = reply(302, "", GrpcForm::Http);
        assert_eq!(redirect.clone().into_grpc(), redirect);
    }

    #[test]
    fn message_is_percent_encoded() {
        for (text, expected) in [("100%", "100%25"), ("a\r\nb", "a%0D%0Ab"), ("grün~ !", "gr%C3%BCn~ !")] {
            assert_eq!(grpc_message(text.as_bytes()).unwrap(), expected);
        }
        let long = grpc_message(&[0xff; MAX_GRPC_MESSAGE_BYTES + 1]).unwrap();
        assert_eq!(long.len(), 3 * MAX_GRPC_MESSAGE_BYTES);
        assert_eq!(grpc_message(b"\n"), None);
    }

    proptest! {
        #[test]
        fn message_is_a_header_value(text in prop::collection::vec(any::<u8>(), 1..200)) {
            let trimmed = text.strip_suffix(b"\n").unwrap_or(&text);
            let message = grpc_message(&text);
            prop_assert_eq!(message.is_none(), trimmed.is_empty());
            if let Some(message) = message {
                prop_assert!(message.as_bytes().iter().all(|byte| (b' '..=b'~').contains(byte)));
            }
        }
    }
}
