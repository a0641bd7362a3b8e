//! One attempt at one endpoint: pick it, check a connection out, send the request, wait for the response's head. Called
//! by `send`, which decides whether another attempt follows.

use std::error::Error as _;
use std::net::SocketAddr;
use std::rc::Rc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;

use super::pool::{Connection, Pool};
use super::retry::{Again, Retry, replay};
use super::worker::{Upstreams, WorkerCluster};
use crate::body::Body;
use crate::error::ProxyError;

/// Holds a connection for one request until the response's body has ended; dropping it releases the endpoint's load and
/// gives the connection back, or closes it when the request or the response is not whole.
pub(crate) struct Lease {
    pool: Rc<Pool>,
    connection: Option<Connection>,
}

impl Lease {
    fn new(pool: Rc<Pool>) -> Self {
        pool.begin_request();
        Self { pool, connection: None }
    }

    pub(super) fn endpoint(&self) -> SocketAddr {
        self.pool.endpoint().address
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.end_request();
        if let Some(connection) = self.connection.take() {
            self.pool.give_back(connection);
        }
    }
}

/// An attempt that got no response head.
pub(super) struct Failed {
    pub(super) error: ProxyError,
    pub(super) endpoint: Option<SocketAddr>,
    /// The request, when it may be sent again, and how.
    pub(super) again: Option<(Again, Box<Request<Body>>)>,
}

impl Failed {
    fn at(lease: &Lease, error: ProxyError, again: Option<(Again, Box<Request<Body>>)>) -> Self {
        if error.row().fault == crate::error::Fault::Upstream {
            lease.pool.endpoint().record_failure(error.to_string());
        }
        Self { error, endpoint: Some(lease.endpoint()), again }
    }
}

/// Makes one attempt.
pub(super) async fn attempt(
    upstreams: &Upstreams,
    cluster: &WorkerCluster,
    retry: &Retry,
    request: Request<Body>,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let Some(pool) = upstreams.pick(cluster, retry.tried()) else {
        return Err(Failed { error: ProxyError::NoEndpoint, endpoint: None, again: None });
    };
    let mut lease = Lease::new(pool);
    retry.set_current(lease.endpoint());
    match lease.pool.check_out(retry.reuse()).await {
        Ok(connection) => exchange(&mut lease, connection, request).await.map(|response| (response, lease)),
        Err(error) => {
            let again = error.row().retryable.then(|| (Again::Elsewhere, Box::new(request)));
            Err(Failed::at(&lease, error, again))
        }
    }
}

async fn exchange(
    lease: &mut Lease,
    connection: Connection,
    request: Request<Body>,
) -> Result<Response<Incoming>, Failed> {
    match lease.connection.insert(connection) {
        Connection::Http1 { sender, heard, reused } => {
            let copy = if *reused { replay(&request) } else { None };
            let sent = sender.try_send_request(request);
            let (reused, heard) = (*reused, Rc::clone(heard));
            sent.await.map_err(|error| {
                let copy = copy.filter(|_| !heard.anything() && is_closed(error.error()));
                failed(lease, error, copy, reused)
            })
        }
        Connection::Http2 { stream, reused } => {
            let copy = if *reused { replay(&request) } else { None };
            let sent = stream.sender().try_send_request(request);
            let reused = *reused;
            sent.await.map_err(|error| {
                if let Some(Connection::Http2 { stream, .. }) = &lease.connection
                    && !is_stream_error(error.error())
                {
                    stream.retire();
                }
                let copy = copy.filter(|_| is_unprocessed(error.error()));
                failed(lease, error, copy, reused)
            })
        }
    }
}

fn failed(lease: &Lease, mut error: TrySendError<Request<Body>>, copy: Option<Request<Body>>, reused: bool) -> Failed {
    // hyper hands the request back when it had not begun to write it.
    let unsent = if reused { error.take_message() } else { None };
    let again = unsent.or(copy).map(|request| (Again::NewConnection, Box::new(request)));
    Failed::at(lease, explain(&error.into_error()), again)
}

/// True when the connection ended under the request: closed, or reset.
fn is_closed(error: &hyper::Error) -> bool {
    let io = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    error.is_incomplete_message() || error.is_closed() || error.is_canceled() || io.is_some()
}

fn http2(error: &hyper::Error) -> Option<&h2::Error> {
    error.source().and_then(|source| source.downcast_ref())
}

/// True when only this stream has failed, not its connection.
fn is_stream_error(error: &hyper::Error) -> bool {
    error.is_user() || http2(error).is_some_and(h2::Error::is_reset)
}

/// True when the endpoint says that it has not touched the request (RFC 9113 §8.7), or the connection ended.
fn is_unprocessed(error: &hyper::Error) -> bool {
    match http2(error) {
        Some(error) if error.is_reset() => error.reason() == Some(h2::Reason::REFUSED_STREAM),
        Some(error) => error.is_io() || error.is_go_away() && error.is_remote(),
        None => is_closed(error),
    }
}

fn explain(error: &hyper::Error) -> ProxyError {
    if error.is_user() {
        // The request's own body failed, and knows why; as it came in, the downstream did it.
        return match error.source().and_then(|source| source.downcast_ref()) {
            Some(ProxyError::UpstreamReset(_)) | None => ProxyError::DownstreamGone,
            Some(cause) => cause.clone(),
        };
    }
    let text = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let protocol = http2(error).is_some_and(|error| error.is_go_away() && error.is_library());
    if error.is_parse() || protocol { ProxyError::UpstreamProtocol(text) } else { ProxyError::UpstreamReset(text) }
}
