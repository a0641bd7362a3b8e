//! A request goes to a cluster: target, rewrites, header changes, mirrors, then `upstream::send`, raced with whatever
//! ends the stream before an endpoint has answered.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http_body::Body as _;
use weir_model::Forward;
use weir_model::limits::DEFAULT_REQUEST_TIMEOUT;

use crate::body::Body;
use crate::error::ProxyError;
use crate::filter::{Event, MessageEnd, Side};
use crate::route::Route;
use crate::stream::body::SideBody;
use crate::stream::handle::Origin;
use crate::stream::http_stream::HttpStream;
use crate::stream::sanitize;
use crate::stream::source::{Source, Way};
use crate::upstream::{Answer, Cluster, Outgoing, SendFailure, SendOptions, mirror, send, tee};

/// What came back.
pub(super) enum Forwarded {
    /// An endpoint's response; its head is with the filters.
    Response(Origin),
    /// A filter or a timeout answered first.
    Answered,
}

/// Sends the request as the route says.
pub(super) async fn forward(
    stream: &Rc<HttpStream>,
    (route, to): (&Arc<Route>, &Forward),
    (source, end): (Source, bool),
) -> Result<Forwarded, ProxyError> {
    let cluster = target(stream, route)?;
    stream.note_cluster(cluster, request_timeout(to, cluster));
    let body = if end { Body::Empty } else { Body::made(SideBody::new(stream, source)) };
    let options = SendOptions { attempt_timeout: to.timeouts.backend_request };
    let sending = pin!(send(&stream.worker.upstreams, cluster, mirrored(stream, (route, to), body), options));
    let answer = match unless_answered(stream, sending).await {
        Some(Ok(answer)) => answer,
        Some(Err(SendFailure { error, endpoint, attempts })) => {
            stream.note_endpoint(endpoint, attempts);
            return Err(error);
        }
        None => return Ok(Forwarded::Answered),
    };
    stream.note_endpoint(Some(answer.endpoint), answer.attempts);
    take_in(stream, route, answer)
}

/// Where the request goes: where a filter has marked it to go, among the route's own targets, or else by weight.
fn target<'r>(stream: &HttpStream, route: &'r Route) -> Result<&'r Arc<Cluster>, ProxyError> {
    let draw = stream.worker.draw();
    match stream.take_mark() {
        Some(mark) => route
            .marked_target(mark.as_bytes(), draw)
            .ok_or_else(|| ProxyError::UnknownMark(String::from_utf8_lossy(mark.as_bytes()).into_owned())),
        None => route.pick_target(draw).ok_or_else(|| ProxyError::NoTarget("no_target".to_owned())),
    }
}

/// The response's head goes to the filters.
fn take_in(stream: &Rc<HttpStream>, route: &Route, answer: Answer) -> Result<Forwarded, ProxyError> {
    let Answer { response, lease, .. } = answer;
    let (parts, incoming) = response.into_parts();
    let mut head = sanitize::response(parts)?;
    route.response_edits().apply(&mut head.headers);
    let way = stream.wants_body(Side::Response);
    let end = if incoming.is_end_stream() { MessageEnd::Here } else { MessageEnd::Later };
    if way == Way::Filtered && end == MessageEnd::Later {
        head.headers.remove(CONTENT_LENGTH); // A filter may change the body, so it is framed anew.
    }
    stream.on_event(Event::Response(head, end));
    Ok(Forwarded::Response(Origin { source: Source::response(incoming, way), lease: Some(lease) }))
}

/// The request as the endpoint gets it. What filters may read later stays in the exchange.
fn outgoing(stream: &HttpStream, route: &Route, body: Body) -> Outgoing {
    // Asked before the exchange is borrowed: a body that comes from the filters looks there too.
    let framed_anew = stream.wants_body(Side::Request) == Way::Filtered && !body.is_end_stream();
    let mut cell = stream.cell.borrow_mut();
    let exchange = &mut cell.exchange;
    let mut headers = exchange.take_headers(Side::Request, stream.keeps_head(Side::Request));
    let request = &exchange.request;
    route.request_edits().apply(&mut headers);
    if framed_anew {
        headers.remove(CONTENT_LENGTH); // A filter may change the body, so it is framed anew.
    }
    Outgoing {
        method: request.method.clone(),
        scheme: request.scheme,
        authority: route.rewritten_host().unwrap_or(&request.authority).clone(),
        path: route.rewritten_path(&request.path).unwrap_or_else(|| request.path.clone()),
        headers,
        body,
    }
}

/// The same, once the route's mirrors have their copies.
fn mirrored(stream: &HttpStream, (route, to): (&Route, &Forward), body: Body) -> Outgoing {
    let mut outgoing = outgoing(stream, route, body);
    if to.mirrors.is_empty() {
        return outgoing;
    }
    for (cluster, fraction) in route.mirrors() {
        if !fraction.takes(stream.worker.draw()) {
            continue;
        }
        let (body, copy) = tee(std::mem::replace(&mut outgoing.body, Body::Empty));
        outgoing.body = body;
        let copy = Outgoing {
            method: outgoing.method.clone(),
            scheme: outgoing.scheme,
            authority: outgoing.authority.clone(),
            path: outgoing.path.clone(),
            headers: outgoing.headers.clone(),
            body: copy,
        };
        mirror(&stream.worker.upstreams, cluster, copy);
    }
    outgoing
}

/// The route's timeout, else the cluster's, else the default; `None` = no limit.
fn request_timeout(to: &Forward, cluster: &Cluster) -> Option<Duration> {
    let asked = to.timeouts.request.or(cluster.model().request_timeout).unwrap_or(DEFAULT_REQUEST_TIMEOUT);
    (!asked.is_zero()).then_some(asked)
}

/// The future's outcome, or `None` once the stream is answered or broken off; the future is not polled again then.
async fn unless_answered<T>(stream: &Rc<HttpStream>, mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|context| {
        if let Poll::Ready(outcome) = future.as_mut().poll(context) {
            return Poll::Ready(Some(outcome));
        }
        let mut cell = stream.cell.borrow_mut();
        let chain = &mut cell.exchange.chain;
        if chain.is_answered() || chain.is_closed(Side::Response) {
            return Poll::Ready(None);
        }
        chain.outlet(Side::Response).watch(context);
        Poll::Pending
    })
    .await
}
