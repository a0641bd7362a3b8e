//! The form of a request to an endpoint: with `host` and framing headers for HTTP/1.1, with an authority in its URI for
//! HTTP/2. Where the endpoint selects the protocol, the request has the form of HTTP/1.1 until a connection is checked out.

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use http_body::Body as _;
use weir_http1::SentNames;
use weir_model::UpstreamProtocol;

use super::request_target::RequestTarget;
use super::tunnel::Tunnel;
use crate::body::Body;
use crate::error::ProxyError;

/// A request to an upstream.
pub(crate) struct UpstreamRequest {
    /// `:method`.
    pub(crate) method: Method,
    /// `:scheme`.
    pub(crate) scheme: &'static str,
    /// `:authority`, which is `host` in HTTP/1.1.
    pub(crate) authority: HeaderValue,
    /// `:path`, with the query.
    pub(crate) path: PathAndQuery,
    /// Every other header, without hop-by-hop ones.
    pub(crate) headers: HeaderMap,
    /// The names of headers as sent, for an endpoint of HTTP/1.1.
    pub(crate) sent_names: Option<SentNames>,
    /// The protocol that the request switches to: the body is what the downstream sends in it.
    pub(crate) upgrade: Option<HeaderValue>,
    /// The body.
    pub(crate) body: Body,
}

/// Options of a request's form, without effect over HTTP/2.
pub(super) struct RequestForm {
    /// True if the body waits for the endpoint's `100 Continue`.
    pub(super) expects_continue: bool,
    /// The target in place of the path.
    pub(super) target: Option<RequestTarget>,
}

/// Builds a request in the form of a cluster's protocol.
///
/// # Errors
/// The request has no host, and the protocol is HTTP/2.
pub(super) fn build_request(
    request: UpstreamRequest,
    protocol: UpstreamProtocol,
    form: &RequestForm,
) -> Result<Request<Body>, ProxyError> {
    let UpstreamRequest { method, scheme, authority, path, headers, sent_names, upgrade, body } = request;
    let tunnel = upgrade.map(|upgrade| Tunnel::new(upgrade, &headers));
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.headers_mut() = headers;
    if protocol == UpstreamProtocol::Auto {
        request.extensions_mut().insert(uri_scheme(scheme)); // A connection of HTTP/2 needs it.
    }
    if let Some(names) = sent_names {
        request.extensions_mut().insert(names);
    }
    if let Some(tunnel) = tunnel {
        // RFC 9110 §8.6: what follows the head is no content.
        [CONTENT_LENGTH, TRANSFER_ENCODING].iter().for_each(|name| drop(request.headers_mut().remove(name)));
        request.extensions_mut().insert(tunnel);
    }
    if let Some(target) = &form.target {
        request.extensions_mut().insert(target.clone());
    }
    match protocol {
        UpstreamProtocol::Http1 | UpstreamProtocol::Auto => {
            set_http1_head(&mut request, authority, path);
            if form.expects_continue {
                request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
            }
        }
        UpstreamProtocol::Http2 => set_http2_head(&mut request, &authority, uri_scheme(scheme), path)?,
    }
    Ok(request)
}

/// Converts a request to the form of HTTP/2, unless it has it.
///
/// # Errors
/// The request has no host.
pub(super) fn to_http2(request: &mut Request<Body>) -> Result<(), ProxyError> {
    if request.uri().authority().is_some() {
        return Ok(());
    }
    let headers = request.headers_mut();
    [CONNECTION, EXPECT].iter().for_each(|name| drop(headers.remove(name)));
    let authority = headers.remove(HOST).unwrap_or_else(|| HeaderValue::from_static(""));
    let scheme = request.extensions_mut().remove::<Scheme>().unwrap_or(Scheme::HTTP);
    let path = path(request);
    set_http2_head(request, &authority, scheme, path)
}

/// Converts a request to the form of HTTP/1.1, unless it has it: another endpoint has not processed it over HTTP/2.
pub(super) fn to_http1(request: &mut Request<Body>) {
    let uri = request.uri();
    let Some(authority) = uri.authority().and_then(|text| HeaderValue::try_from(text.as_str()).ok()) else { return };
    let scheme = uri.scheme().cloned();
    if let Some(scheme) = scheme {
        request.extensions_mut().insert(scheme);
    }
    let path = path(request);
    set_http1_head(request, authority, path);
}

fn path(request: &Request<Body>) -> PathAndQuery {
    request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

fn uri_scheme(scheme: &str) -> Scheme {
    if scheme == "https" { Scheme::HTTPS } else { Scheme::HTTP }
}

/// Sets the target, and the headers that only HTTP/1.1 has.
fn set_http1_head(request: &mut Request<Body>, authority: HeaderValue, path: PathAndQuery) {
    *request.uri_mut() = Uri::from(path);
    let tunnel = request.extensions().get::<Tunnel>().cloned();
    if tunnel.is_none() {
        set_framing(request, UpstreamProtocol::Http1);
    }
    let headers = request.headers_mut();
    headers.insert(HOST, authority);
    if headers.contains_key(TE) {
        headers.insert(CONNECTION, HeaderValue::from_static("te")); // RFC 9110 §10.1.4.
    }
    if let Some(tunnel) = tunnel {
        tunnel.set_headers(headers);
    }
}

/// Sets the URI, and a length that agrees with the body.
fn set_http2_head(
    request: &mut Request<Body>,
    authority: &HeaderValue,
    scheme: Scheme,
    path: PathAndQuery,
) -> Result<(), ProxyError> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Authority::try_from(authority.as_bytes()).ok();
    parts.path_and_query = Some(path);
    let uri = Uri::from_parts(parts).map_err(|_| ProxyError::BadRequest("no host, which HTTP/2 cannot do without"))?;
    *request.uri_mut() = uri;
    if request.extensions().get::<Tunnel>().is_none() {
        set_framing(request, UpstreamProtocol::Http2);
    }
    Ok(())
}

/// Makes the framing headers agree with the body.
///
/// The codecs trust the headers. An endpoint that receives another length than declared would read the rest as the next
/// request.
fn set_framing(request: &mut Request<Body>, protocol: UpstreamProtocol) {
    let length = request.body().size_hint().exact();
    let needs_length = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    let headers = request.headers_mut();
    headers.remove(TRANSFER_ENCODING);
    match length {
        Some(length) => {
            let declared = headers.get(CONTENT_LENGTH).map(|value| value.as_bytes());
            let needed = length > 0 || needs_length;
            match declared {
                Some(declared) if declared == itoa::Buffer::new().format(length).as_bytes() => {}
                None if !needed => {}
                _ => {
                    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
                }
            }
        }
        None => {
            headers.remove(CONTENT_LENGTH);
            if protocol == UpstreamProtocol::Http1 {
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
        }
    }
}
