//! Forwards a request to a cluster: chooses the cluster, applies the route's rewrites and header changes, starts its
//! mirrors, and sends. A local reply or a reset of the stream cancels the upstream request.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use http::StatusCode;
use http::header::CONTENT_LENGTH;
use http_body::Body as _;
use weir_model::Forward;

use crate::body::Body;
use crate::error::ProxyError;
use crate::filter::{Direction, EndOfStream, Event};
use crate::route::{ChosenTarget, Route, TargetEdits};
use crate::stream::body::StreamBody;
use crate::stream::body_source::{BodyMode, BodySource};
use crate::stream::http_stream::HttpStream;
use crate::stream::read_ahead::read_arrived_body;
use crate::stream::received::Expectation;
use crate::stream::response_source::ResponseSource;
use crate::stream::sanitize::{self, ResponseOrigin};
use crate::stream::timeouts::request_timeout;
use crate::upstream::{SendError, SendOptions, UpstreamRequest, UpstreamResponse, mirror, send, tee};

/// The outcome of forwarding.
pub(super) enum ForwardOutcome {
    /// An endpoint's response, whose head has been passed to the filters.
    Response(ResponseSource),
    /// A filter or a timeout replied first.
    Replied,
}

/// A route that forwards, and its action.
#[derive(Clone, Copy)]
pub(super) struct MatchedRoute<'a> {
    /// The route.
    pub(super) route: &'a Arc<Route>,
    /// The route's action.
    pub(super) forward: &'a Forward,
}

/// The body of a request to forward.
pub(super) struct RequestBody {
    /// The source of the body.
    pub(super) source: BodySource,
    /// True if the request has ended with its headers.
    pub(super) end_of_stream: bool,
}

/// Sends the request to a cluster of its route, and passes the response's head to the filters.
pub(super) async fn forward(
    stream: &Rc<HttpStream>,
    matched: MatchedRoute<'_>,
    RequestBody { mut source, end_of_stream }: RequestBody,
) -> Result<ForwardOutcome, ProxyError> {
    let MatchedRoute { route, forward } = matched;
    let ChosenTarget { cluster, edits } = choose_cluster(stream, route)?;
    stream.record_cluster(cluster, request_timeout(forward, cluster.model().request_timeout));
    let mut request = match reads_ahead(stream, &source, end_of_stream) {
        true => {
            // The head has left the filters: what they do to it while they read the body has no effect. On the heap,
            // since few streams have one here.
            let request = Box::new(build_upstream_request(stream, route, edits));
            read_arrived_body(stream, &mut source).await;
            if stream.has_reply() || stream.is_closed(Direction::Request) {
                return Ok(ForwardOutcome::Replied);
            }
            *request
        }
        false => build_upstream_request(stream, route, edits),
    };
    if !end_of_stream {
        request.body = Body::stream(StreamBody::new(stream, source));
        if stream.body_mode(Direction::Request) == BodyMode::Filtered && !request.body.is_end_stream() {
            request.headers.remove(CONTENT_LENGTH); // A filter may change the body's length.
        }
    }
    let options = SendOptions {
        attempt_timeout: forward.timeouts.backend_request,
        // Filters that read the body have satisfied the expectation.
        expects_continue: stream.expectation == Expectation::Continue
            && stream.body_mode(Direction::Request) == BodyMode::Passthrough,
        informational: stream.informational.clone(),
        target: None,
        retry: forward.retry.clone(),
    };
    let sending = pin!(send(&stream.worker.upstreams, cluster, start_mirrors(stream, matched, request), options));
    let mut response = match until_replied(stream, sending).await {
        Some(Ok(response)) => response,
        Some(Err(SendError { error, endpoint, attempts, failed })) => {
            stream.record_attempts(failed);
            stream.record_endpoint(endpoint, attempts);
            return Err(error);
        }
        None => return Ok(ForwardOutcome::Replied),
    };
    stream.record_attempts(std::mem::take(&mut response.failed));
    stream.record_endpoint(Some(response.endpoint.clone()), response.attempts);
    let max_headers = cluster.model().options.head.headers as usize;
    begin_response(stream, ResponseEdits { route, edits, max_headers }, response)
}

/// Returns true if the part of a request's body that has arrived passes the filters before the head is sent.
fn reads_ahead(stream: &HttpStream, source: &BodySource, end_of_stream: bool) -> bool {
    // Reading the body of a request that expects `100 Continue` would ask for it, and what follows a request that
    // switches protocols has no meaning before the endpoint has agreed.
    source.mode == BodyMode::Filtered
        && !end_of_stream
        && stream.expectation != Expectation::Continue
        && stream.with_request(|request| request.upgrade.is_none())
}

/// Returns the target that a filter's routing mark names, or a target picked by weight.
///
/// # Errors
/// `UnknownMark` when the mark names no target of the route, `NoTarget` when the route has no usable target.
fn choose_cluster<'r>(stream: &HttpStream, route: &'r Route) -> Result<ChosenTarget<'r>, ProxyError> {
    let draw = stream.worker.random_u32();
    match stream.take_routing_mark() {
        Some(mark) => route
            .marked_target(mark.as_bytes(), draw)
            .ok_or_else(|| ProxyError::UnknownMark(String::from_utf8_lossy(mark.as_bytes()).into_owned())),
        None => route.pick_target(draw).ok_or_else(|| ProxyError::NoTarget("no_target".to_owned())),
    }
}

/// The changes of a response's head.
struct ResponseEdits<'a> {
    route: &'a Route,
    /// Those of the target.
    edits: Option<&'a TargetEdits>,
    /// The bound of its headers.
    max_headers: usize,
}

/// Passes the response's head to the filters.
fn begin_response(
    stream: &Rc<HttpStream>,
    ResponseEdits { route, edits, max_headers }: ResponseEdits<'_>,
    response: UpstreamResponse,
) -> Result<ForwardOutcome, ProxyError> {
    let UpstreamResponse { response, lease, .. } = response;
    let (parts, incoming) = response.into_parts();
    let upgrade = stream.with_request(|request| request.upgrade.clone());
    let is_connect = upgrade.is_some() && !stream.is_http1();
    let mut head = sanitize::response(parts, ResponseOrigin { max_headers, upgrade: upgrade.as_ref(), is_connect })?;
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        stream.begin_tunnel();
    }
    if let Some(edits) = edits {
        edits.response.apply(&mut head.headers);
    }
    if let Some(edits) = route.response_modifier() {
        edits.apply(&mut head.headers);
    }
    let mode = stream.body_mode(Direction::Response);
    let end_of_stream = if incoming.is_end_stream() { EndOfStream::Yes } else { EndOfStream::No };
    stream.on_event(Event::ResponseHeaders(head, end_of_stream));
    Ok(ForwardOutcome::Response(ResponseSource::upstream(BodySource::response(incoming, mode), lease)))
}

/// Returns the request for the endpoint, without its body. Headers that filters may read later stay in the exchange.
fn build_upstream_request(stream: &HttpStream, route: &Route, edits: Option<&TargetEdits>) -> UpstreamRequest {
    let mut cell = stream.cell.borrow_mut();
    let exchange = &mut cell.exchange;
    let mut headers = exchange.take_headers(Direction::Request, stream.needs_headers_later(Direction::Request));
    let request = &exchange.request;
    if let Some(edits) = edits {
        edits.request.apply(&mut headers);
    }
    if let Some(edits) = route.request_modifier() {
        edits.apply(&mut headers);
    }
    UpstreamRequest {
        method: request.method.clone(),
        scheme: request.scheme,
        authority: route.rewritten_host().unwrap_or(&request.authority).clone(),
        path: route.rewritten_path(&request.path).unwrap_or_else(|| request.path.clone()),
        headers,
        sent_names: request.sent_names.clone(),
        upgrade: request.upgrade.clone(),
        body: Body::Empty,
    }
}

/// Sends copies of a request to the route's mirrors, and returns the request.
fn start_mirrors(stream: &HttpStream, matched: MatchedRoute<'_>, mut request: UpstreamRequest) -> UpstreamRequest {
    // The bytes of another protocol cannot be mirrored.
    if matched.forward.mirrors.is_empty() || request.upgrade.is_some() {
        return request;
    }
    for (cluster, fraction) in matched.route.mirrors() {
        if !fraction.samples(stream.worker.random_u32()) {
            continue;
        }
        let (body, copy) = tee(std::mem::replace(&mut request.body, Body::Empty));
        request.body = body;
        let copy = UpstreamRequest {
            method: request.method.clone(),
            scheme: request.scheme,
            authority: request.authority.clone(),
            path: request.path.clone(),
            headers: request.headers.clone(),
            sent_names: request.sent_names.clone(),
            upgrade: None,
            body: copy,
        };
        mirror(&stream.worker.upstreams, cluster, copy);
    }
    request
}

/// Waits for `future`. Returns `None` once the stream has a local reply or is reset; then `future` is not polled again.
async fn until_replied<T>(stream: &Rc<HttpStream>, mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|context| {
        if let Poll::Ready(outcome) = future.as_mut().poll(context) {
            return Poll::Ready(Some(outcome));
        }
        let mut cell = stream.cell.borrow_mut();
        let chain = &mut cell.exchange.chain;
        if chain.has_local_reply() || chain.is_closed(Direction::Response) {
            return Poll::Ready(None);
        }
        chain.output(Direction::Response).register_waker(context);
        Poll::Pending
    })
    .await
}
