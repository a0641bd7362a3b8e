//! Sends a request to a cluster: the loop of attempts, until one has a response head, or none may follow. Called by
//! `stream` for requests, by `filter` for callouts, and by `mirror`.
//!
//! What [`send`] promises: hop-by-hop headers apart (`stream::sanitize` removes them), the request goes out as it is
//! given; its framing agrees with its body; it is sent again only when nothing of it can have been acted on.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
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
use super::worker::{Upstreams, WorkerCluster};
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
///
/// The request is made before the future is: an `async fn` would hold it three times over, and each request in flight
/// would touch as much memory.
pub(crate) fn send(
    upstreams: &Rc<Upstreams>,
    cluster: &Arc<Cluster>,
    outgoing: Outgoing,
    options: SendOptions,
) -> impl Future<Output = Result<Answer, SendFailure>> {
    let cluster = upstreams.of(cluster);
    cluster.shard().requests.increment();
    upstreams.sweep_while_open();
    let (mut retry, refused) = match prepare(outgoing, cluster.cluster().model().protocol) {
        Ok(request) => (Retry::new(request), None),
        Err(error) => (Retry::default(), Some(error)),
    };
    async move {
        let result = match refused {
            Some(error) => Err(error),
            None => attempts(upstreams, &cluster, &mut retry, options).await,
        };
        let attempts = retry.attempts();
        cluster.shard().retries.add(attempts.saturating_sub(1));
        match result {
            Ok((response, lease)) => {
                let endpoint = lease.endpoint();
                Ok(Answer { response, lease, endpoint, attempts })
            }
            Err(error) => {
                cluster.shard().failures.increment();
                Err(SendFailure { error, endpoint: retry.current(), attempts })
            }
        }
    }
}

/// Attempts until one has a response head or none may follow; then how the last one failed.
async fn attempts(
    upstreams: &Upstreams,
    cluster: &WorkerCluster,
    retry: &mut Retry,
    options: SendOptions,
) -> Result<(Response<Incoming>, Lease), ProxyError> {
    let mut last = None;
    loop {
        let result = {
            let mut attempt = pin!(attempt(upstreams, cluster, retry)); // There once, with a timeout or without.
            match options.attempt_timeout {
                None => Ok(attempt.await),
                Some(timeout) => tokio::time::timeout(timeout, attempt.as_mut()).await,
            }
        };
        match result.map_err(|_| ProxyError::AttemptTimeout)? {
            Ok(answer) => return Ok(answer),
            // When there is no endpoint left to try, what happened at the last one says more.
            Err(Failed { error: ProxyError::NoEndpoint, .. }) => return Err(last.unwrap_or(ProxyError::NoEndpoint)),
            Err(Failed { error, again }) if retry.again(again) => last = Some(error),
            Err(Failed { error, .. }) => return Err(error),
        }
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
