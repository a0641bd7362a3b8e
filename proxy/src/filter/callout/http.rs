//! The request of an HTTP callout, from what a guest has passed.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body::{Body as HttpBody, Frame};
use weir_host_abi::abi::pairs::Pairs;
use weir_host_abi::host::HttpCall;
use weir_model::UpstreamProtocol;

use crate::body::Body;
use crate::error::ProxyError;
use crate::limits::MAX_LOG_FIELD_NAME_BYTES;
use crate::upstream::{RequestTarget, UpstreamRequest};

/// The reason for which a guest's callout has no valid request, for the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InvalidCallout(String);

impl fmt::Display for InvalidCallout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A valid request of a callout.
pub(crate) struct CalloutRequest {
    /// The request.
    pub(crate) request: UpstreamRequest,
    /// The target in place of the request's path, for an HTTP/1.1 endpoint.
    pub(crate) target: Option<RequestTarget>,
}

/// Returns the request of a call to a cluster of this protocol.
///
/// # Errors
/// A pseudo-header is missing or invalid, or a header or trailer is invalid.
pub(crate) fn http_request(call: &HttpCall<'_>, protocol: UpstreamProtocol) -> Result<CalloutRequest, InvalidCallout> {
    let (mut method, mut path, mut authority) = (None, None, None);
    let mut headers = HeaderMap::with_capacity(call.headers.len());
    let invalid = |what: &str| InvalidCallout(format!("{what} is invalid"));
    for (name, value) in call.headers.iter() {
        match name {
            b":method" => method = Some(Method::from_bytes(value).map_err(|_| invalid(":method"))?),
            b":path" => path = Some(target(value, protocol)?),
            b":authority" => authority = Some(HeaderValue::from_bytes(value).map_err(|_| invalid(":authority"))?),
            b":scheme" => {}
            _ => append(&mut headers, "header", name, value)?,
        }
    }
    let body = request_body(call)?;
    let missing = |what: &str| InvalidCallout(format!("{what} is missing"));
    let (path, target) = path.ok_or_else(|| missing(":path"))?;
    let request = UpstreamRequest {
        method: method.ok_or_else(|| missing(":method"))?,
        scheme: "http",
        authority: authority.ok_or_else(|| missing(":authority"))?,
        path,
        headers,
        sent_names: None,
        upgrade: None,
        body,
    };
    Ok(CalloutRequest { request, target })
}

/// Returns the path of a request, or the target in its place, which only an HTTP/1.1 endpoint can receive.
fn target(bytes: &[u8], protocol: UpstreamProtocol) -> Result<(PathAndQuery, Option<RequestTarget>), InvalidCallout> {
    let target = RequestTarget::new(bytes).map_err(|byte| {
        InvalidCallout(match byte {
            Some(byte) => format!("the byte 0x{byte:02x} in :path would end it; percent-encode it"),
            None => ":path is empty".to_owned(),
        })
    })?;
    // The parser drops a fragment, and accepts a query without a path.
    let path = PathAndQuery::try_from(bytes).ok().filter(|path| path.as_str().as_bytes() == bytes);
    let starts_as_path = bytes.starts_with(b"/") || bytes == b"*";
    match (path.filter(|_| starts_as_path), protocol) {
        (Some(path), _) => Ok((path, None)),
        (None, UpstreamProtocol::Http1) => Ok((PathAndQuery::from_static("/"), Some(target))),
        (None, UpstreamProtocol::Http2 | UpstreamProtocol::Auto) => {
            Err(InvalidCallout(unfit_for_http2(bytes, starts_as_path)))
        }
    }
}

/// Returns the reason for which HTTP/2 cannot send a target (RFC 9113 §8.3.1).
fn unfit_for_http2(bytes: &[u8], starts_as_path: bool) -> String {
    let is_unfit = |byte: &&u8| PathAndQuery::try_from(&[b'/', **byte][..]).is_err() && byte.is_ascii();
    if !starts_as_path {
        return format!("over HTTP/2 :path must begin with `/`, which \"{}\" does not", shown(bytes));
    }
    if bytes.contains(&b'#') {
        return "over HTTP/2 :path has no `#`; percent-encode it".to_owned();
    }
    match bytes.iter().find(is_unfit) {
        Some(byte) => format!("the byte 0x{byte:02x} in :path is invalid over HTTP/2; percent-encode it"),
        None => format!(":path, of {} bytes, is too long or no UTF-8", bytes.len()),
    }
}

/// Appends a header or trailer; `what` is the noun for the log.
fn append(headers: &mut HeaderMap, what: &str, name: &[u8], value: &[u8]) -> Result<(), InvalidCallout> {
    let valid = HeaderName::from_bytes(name)
        .map_err(|_| InvalidCallout(format!("the {what} name \"{}\" is invalid", shown(name))))?;
    let value = HeaderValue::from_bytes(value)
        .map_err(|_| InvalidCallout(format!("the value of the {what} {valid} is invalid")))?;
    headers.append(valid, value);
    Ok(())
}

/// Returns the beginning of a guest's bytes, as printable ASCII.
fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(MAX_LOG_FIELD_NAME_BYTES)].escape_ascii().to_string()
}

/// Returns the body of a call, followed by its trailers if it has any.
fn request_body(call: &HttpCall<'_>) -> Result<Body, InvalidCallout> {
    let data = Bytes::copy_from_slice(call.body);
    if call.trailers.is_empty() {
        return Ok(Body::full(data));
    }
    let trailers = trailers(call.trailers)?;
    Ok(Body::stream(BodyWithTrailers { data: Some(data).filter(|data| !data.is_empty()), trailers: Some(trailers) }))
}

fn trailers(pairs: Pairs<'_>) -> Result<HeaderMap, InvalidCallout> {
    let mut trailers = HeaderMap::with_capacity(pairs.len());
    for (name, value) in pairs.iter() {
        append(&mut trailers, "trailer", name, value)?;
    }
    Ok(trailers)
}

/// A body in memory, and its trailers. Its length is not declared, because HTTP/1.1 sends trailers after chunks only.
struct BodyWithTrailers {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl HttpBody for BodyWithTrailers {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let body = self.get_mut();
        let frame = body.data.take().map(Frame::data).or_else(|| body.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use weir_host_abi::abi::pairs::encode;

    use super::*;

    async fn collected(trailers: &[(&[u8], &[u8])]) -> Option<(Bytes, Option<HeaderMap>)> {
        let no_headers = encode([]);
        let trailers = encode(trailers.iter().copied());
        let call = HttpCall {
            upstream: b"shop/api:80",
            headers: Pairs::decode(&no_headers).unwrap(),
            body: b"body",
            trailers: Pairs::decode(&trailers).unwrap(),
            timeout: None,
        };
        let collected = request_body(&call).ok()?.collect().await.ok()?;
        let trailers = collected.trailers().cloned();
        Some((collected.to_bytes(), trailers))
    }

    #[tokio::test]
    async fn request_trailers_follow_body() {
        let body = Bytes::from_static(b"body");
        assert_eq!(collected(&[]).await, Some((body.clone(), None)));
        let trailers = HeaderMap::from_iter([(HeaderName::from_static("x-sum"), HeaderValue::from_static("1"))]);
        assert_eq!(collected(&[(b"x-sum", b"1")]).await, Some((body, Some(trailers))));
        assert_eq!(collected(&[(b":path", b"/")]).await, None);
    }

    #[test]
    fn every_target_is_unchanged_or_rejected() {
        for bytes in [&b"/"[..], b"/a?b", b"*", b"x", b"http://a/b?c#d", b"?q", b"/a#f", b"/<", b"/\xff", b"/a b", b""]
        {
            for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2, UpstreamProtocol::Auto] {
                let Ok((path, target)) = target(bytes, protocol) else { continue };
                let sent = target.as_ref().map_or(path.as_str().as_bytes(), RequestTarget::as_bytes);
                assert_eq!(sent.escape_ascii().to_string(), bytes.escape_ascii().to_string());
                assert!(target.is_none() || protocol == UpstreamProtocol::Http1);
            }
        }
    }
}
