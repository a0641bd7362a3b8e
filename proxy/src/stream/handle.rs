//! The request walk. Read [`handle`] downwards: this is the order in which things happen to every request.

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use weir_model::{DirectResponse, RouteAction};

use crate::body::Body;
use crate::connection::Connection;
use crate::error::ProxyError;
use crate::filter::{Event, LocalReply, MessageEnd, Side};
use crate::head::ResponseHead;
use crate::route::Route;
use crate::stream::forward::{self, Forwarded};
use crate::stream::http_stream::{Finisher, HttpStream};
use crate::stream::response_body::ResponseBody;
use crate::stream::source::Source;
use crate::stream::wait::{HeadOut, head_out};
use crate::worker::Worker;

/// Serves one request. An error breaks the stream off: there is nothing that could be answered.
pub(crate) async fn handle(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ProxyError> {
    let (stream, incoming) = HttpStream::start(&worker, &connection, request); // One configuration to the end (I4).
    let finisher = Finisher::of(&stream); // However this ends, it is logged, and every filter is told.
    let mut origin = match respond(&stream, incoming).await {
        Ok(origin) => origin,
        Err(error) => stream.answer(&error), // Local replies too pass the filters: 401, 429 and 503 are seen by all.
    };
    match head_out(&stream, Side::Response, &mut origin.source).await {
        HeadOut::Gone(end) => {
            if stream.is_answered() {
                origin = Origin::local(); // A filter has answered in place of an endpoint, whose body is nobody's now.
            }
            Ok(send(&stream, finisher, (origin.source, end, origin.lease)))
        }
        HeadOut::Answered | HeadOut::Reset => Err(stream.broken()),
    }
}

/// A response on its way to the filters, and where its body comes from.
pub(super) struct Origin {
    /// The upstream's body; nothing for a local reply.
    pub(super) source: Source,
    /// Held until the body has ended.
    pub(super) lease: Option<crate::upstream::Lease>,
}

impl Origin {
    /// An answer of the proxy's own: its body is with the filters already.
    pub(super) fn local() -> Self {
        Self { source: Source::nothing(), lease: None }
    }
}

async fn respond(stream: &Rc<HttpStream>, incoming: Incoming) -> Result<Origin, ProxyError> {
    let first = stream.take_route()?; // Sanitised and routed, or why not.
    let end = if incoming.is_end_stream() { MessageEnd::Here } else { MessageEnd::Later };
    let mut source = Source::request(incoming, stream.wants_body(Side::Request));
    stream.on_event(Event::Request(end));
    let end = match head_out(stream, Side::Request, &mut source).await {
        HeadOut::Gone(end) => end,
        HeadOut::Answered => return Ok(Origin::local()),
        HeadOut::Reset => return Err(ProxyError::DownstreamGone),
    };
    let route = stream.followed_route(first)?; // Same chain or refusal (I8b).
    match &route.model.action {
        RouteAction::Forward(to) => match forward::forward(stream, (&route, to), (source, end)).await? {
            Forwarded::Response(origin) => Ok(origin),
            Forwarded::Answered => Ok(Origin::local()),
        },
        RouteAction::Redirect(_) => redirect(stream, &route),
        RouteAction::Respond(direct) if direct.status == 500 => Err(ProxyError::NoTarget(direct.detail.to_string())),
        RouteAction::Respond(direct) => Ok(respond_directly(stream, direct)),
    }
}

/// The answer that a control plane has given a route of its own, without a body.
fn respond_directly(stream: &HttpStream, direct: &DirectResponse) -> Origin {
    let status = StatusCode::from_u16(direct.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR); // 200 to 599.
    stream.note_details(&direct.detail);
    let head = ResponseHead { status, headers: HeaderMap::new() };
    stream.on_event(Event::Reply(LocalReply { head, body: bytes::Bytes::new() }));
    Origin::local()
}

fn redirect(stream: &HttpStream, route: &Arc<Route>) -> Result<Origin, ProxyError> {
    let port = stream.connection.listener.address.port();
    let Some((status, location)) = stream.with_request(|request| route.redirect(request, port)) else {
        return Err(ProxyError::NoTarget("redirect".to_owned()));
    };
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(http::header::LOCATION, location);
    route.response_edits().apply(&mut headers);
    stream.note_details("redirect");
    let head = ResponseHead { status, headers };
    stream.on_event(Event::Reply(LocalReply { head, body: bytes::Bytes::new() }));
    Ok(Origin::local())
}

/// The response as hyper takes it; its body ends the stream.
fn send(
    stream: &Rc<HttpStream>,
    finisher: Finisher,
    (source, end, lease): (Source, bool, Option<crate::upstream::Lease>),
) -> Response<Body> {
    let head = stream.response_head();
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    if stream.connection.listener.drain.is_draining() && stream.is_http1() {
        response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    let body = ResponseBody::new(stream, finisher, (source, lease));
    // RFC 9110 §9.3.2: a response to HEAD has no body, even one of our own.
    if end || stream.is_head() || body.is_end_stream() {
        body.whole();
    } else {
        *response.body_mut() = Body::made(body);
    }
    response
}
