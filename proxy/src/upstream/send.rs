//! Sends a request to a cluster: the loop of attempts, until one has a response head, or none may follow. Called by
//! `stream` for requests, by `filter` for callouts, and by `mirror`.
//!
//! What [`send`] promises: hop-by-hop headers apart (`stream::sanitize` removes them), the request goes out as it is
//! given; its framing agrees with its body; it is sent again only when nothing of it can have been acted on.

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use weir_model::UpstreamProtocol;

pub(crate) use super::attempt::Lease;
use super::attempt::{Failed, attempt};
use super::cluster::Cluster;
use super::retry::Retry;
use super::worker::Upstreams;
use crate::body::Body;
use crate::error::ProxyError;

/// A request on its way out.
pub(crate) struct Outgoing {
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
    /// The body.
    pub(crate) body: Body,
}

/// How a request is sent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SendOptions {
    /// Time for one attempt, until its response's head; `None` = no limit.
    pub(crate) attempt_timeout: Option<Duration>,
}

/// A response's head, its body to come.
pub(crate) struct Answer {
    /// The response as it came.
    pub(crate) response: Response<Incoming>,
    /// To be held until the response's body has ended, and dropped then.
    pub(crate) lease: Lease,
    /// Who answered.
    pub(crate) endpoint: SocketAddr,
    /// Attempts made, the successful one included.
    pub(crate) attempts: u32,
}

/// No endpoint has answered.
#[derive(Debug)]
pub(crate) struct SendFailure {
    /// How the last attempt failed.
    pub(crate) error: ProxyError,
    /// Where.
    pub(crate) endpoint: Option<SocketAddr>,
    /// Attempts made.
    pub(crate) attempts: u32,
}

/// Sends a request and waits for the response's head.
pub(crate) async fn send(
    upstreams: &Rc<Upstreams>,
    cluster: &Arc<Cluster>,
    outgoing: Outgoing,
    options: SendOptions,
) -> Result<Answer, SendFailure> {
    let cluster = upstreams.of(cluster);
    cluster.shard().requests.increment();
    upstreams.sweep_while_open();
    let mut retry = Retry::default();
    let mut last = None;
    let mut request = match prepare(outgoing, cluster.cluster().model().protocol) {
        Ok(request) => request,
        Err(error) => return Err(SendFailure { error, endpoint: None, attempts: 0 }),
    };
    loop {
        retry.begin_attempt();
        let attempt = within(options.attempt_timeout, attempt(upstreams, &cluster, &retry, request)).await;
        let failed = match attempt {
            Ok((response, lease)) => {
                let endpoint = lease.endpoint();
                return Ok(Answer { response, lease, endpoint, attempts: retry.attempts() });
            }
            Err(failed) => failed,
        };
        // When there is no endpoint left to try, what happened at the last one says more.
        let failed = match (failed, last.take()) {
            (Failed { error: ProxyError::NoEndpoint, .. }, Some(before)) => before,
            (failed, _) => failed,
        };
        let Failed { error, endpoint, again } = failed;
        let endpoint = endpoint.or_else(|| retry.current());
        match (again, endpoint) {
            (Some((again, unsent)), Some(at)) if retry.again(again, at) => {
                last = Some(Failed { error, endpoint, again: None });
                cluster.shard().retries.increment();
                request = *unsent;
            }
            _ => {
                cluster.shard().failures.increment();
                return Err(SendFailure { error, endpoint, attempts: retry.attempts() });
            }
        }
    }
}

/// The attempt, with a limit if there is one.
async fn within<T>(timeout: Option<Duration>, attempt: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    let Some(timeout) = timeout else { return attempt.await };
    match tokio::time::timeout(timeout, attempt).await {
        Ok(result) => result,
        Err(_) => Err(Failed { error: ProxyError::AttemptTimeout, endpoint: None, again: None }),
    }
}

fn prepare(outgoing: Outgoing, protocol: UpstreamProtocol) -> Result<Request<Body>, ProxyError> {
    let Outgoing { method, scheme, authority, path, mut headers, body } = outgoing;
    frame(&mut headers, &method, &body, protocol);
    let uri = match protocol {
        UpstreamProtocol::Http1 => {
            headers.insert(HOST, authority);
            Uri::from(path)
        }
        UpstreamProtocol::Http2 => {
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(if scheme == "https" { Scheme::HTTPS } else { Scheme::HTTP });
            parts.authority = Authority::try_from(authority.as_bytes()).ok();
            parts.path_and_query = Some(path);
            Uri::from_parts(parts).map_err(|_| ProxyError::BadRequest("no host, which HTTP/2 cannot do without"))?
        }
    };
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Makes the framing agree with the body, whatever the headers say: hyper believes the headers, and an endpoint that is
/// told another length than it gets would read the rest as the next request.
fn frame(headers: &mut HeaderMap, method: &Method, body: &Body, protocol: UpstreamProtocol) {
    headers.remove(TRANSFER_ENCODING);
    match body.size_hint().exact() {
        Some(length) => {
            let told = headers.get(CONTENT_LENGTH).map(|value| value.as_bytes());
            let needed = length > 0 || matches!(*method, Method::POST | Method::PUT | Method::PATCH);
            match told {
                Some(told) if told == itoa::Buffer::new().format(length).as_bytes() => {}
                None if !needed => {}
                _ => {
                    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
                }
            }
        }
        None => {
            headers.remove(CONTENT_LENGTH);
            // Without this hyper drops the body of a GET that is not known to have one.
            if protocol == UpstreamProtocol::Http1 {
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
        }
    }
}
