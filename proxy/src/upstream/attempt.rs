//! One attempt at one endpoint: pick it, check a connection out, send the request, wait for the response's head. Called
//! by `send`, which decides whether another attempt follows.

use std::error::Error as _;
use std::net::SocketAddr;
use std::rc::Rc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;

use super::pool::{Connection, Pool};
use super::retry::{Again, Replay, Retry};
use super::worker::{Upstreams, WorkerCluster};
use crate::body::Body;
use crate::error::{Fault, ProxyError};

/// Holds a connection for one request until the response's body has ended; dropping it releases the endpoint's load and
/// gives the connection back, or closes it when the request or the response is not whole.
pub(crate) struct Lease {
    pool: Rc<Pool>,
    connection: Option<Connection>,
}

impl Lease {
    pub(super) fn new(pool: Rc<Pool>) -> Self {
        pool.begin_request();
        Self { pool, connection: None }
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
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

/// An attempt that got no response head. Where another may follow, [`Retry::request`] is what it sends.
pub(super) struct Failed {
    pub(super) error: ProxyError,
    pub(super) again: Again,
}

impl Failed {
    fn at(lease: &Lease, error: ProxyError, again: Again) -> Self {
        if error.row().fault == Fault::Upstream {
            lease.pool.endpoint().record_failure(error.to_string());
        }
        Self { error, again }
    }
}

/// Makes one attempt.
pub(super) async fn attempt(
    upstreams: &Upstreams,
    cluster: &WorkerCluster,
    retry: &mut Retry,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let Some(pool) = upstreams.pick(cluster, retry.tried()) else {
        return Err(Failed { error: ProxyError::NoEndpoint, again: Again::No });
    };
    let mut lease = Lease::new(pool);
    retry.begin_attempt(lease.endpoint());
    match lease.pool.check_out(retry.reuse()).await {
        Ok(connection) => match exchange(&mut lease, connection, retry).await {
            Ok(response) => Ok((response, lease)),
            Err(error) => Err(Failed::at(&lease, error, Again::NewConnection)),
        },
        Err(error) => {
            let again = if error.row().retryable { Again::Elsewhere } else { Again::No };
            Err(Failed::at(&lease, error, again))
        }
    }
}

/// Sends the request. When that fails, [`Retry::request`] is there if it may be sent on another connection.
async fn exchange(
    lease: &mut Lease,
    connection: Connection,
    retry: &mut Retry,
) -> Result<Response<Incoming>, ProxyError> {
    match lease.connection.insert(connection) {
        Connection::Http1 { sender, heard, reused } => {
            let replay = retry.replay(*reused);
            match sender.try_send_request(retry.take_request()).await {
                Ok(response) => Ok(response),
                Err(mut error) => {
                    let unprocessed = !heard.anything() && is_closed(error.error());
                    retry.request = unsent(&mut error, *reused, replay.filter(|_| unprocessed));
                    Err(explain(&error.into_error()))
                }
            }
        }
        Connection::Http2 { stream, reused } => {
            let replay = retry.replay(*reused);
            match stream.sender().try_send_request(retry.take_request()).await {
                Ok(response) => Ok(response),
                Err(mut error) => {
                    if !is_stream_error(error.error()) {
                        stream.retire();
                    }
                    let unprocessed = is_unprocessed(error.error());
                    retry.request = unsent(&mut error, *reused, replay.filter(|_| unprocessed));
                    Err(explain(&error.into_error()))
                }
            }
        }
    }
}

/// What of a request may be sent again: itself, when hyper hands it back because it had not begun to write it; the copy,
/// when the endpoint has not touched it; otherwise nothing.
fn unsent(error: &mut TrySendError<Request<Body>>, reused: bool, replay: Option<Replay>) -> Option<Request<Body>> {
    error.take_message().filter(|_| reused).or_else(|| replay.map(Replay::into_request))
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
