//! The request walk. [`handle`] has the steps of every request in order.

use std::rc::Rc;
use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Body as _;
use weir_model::{DirectResponse, RouteAction};

use crate::body::Body;
use crate::connection::{Connection, reconnect_reason};
use crate::error::{NO_BACKEND_WEIGHT, ProxyError};
use crate::filter::{Direction, EndOfStream, Event, GrpcForm, LocalReply};
use crate::head::{RequestHead, ResponseHead};
use crate::incoming::Incoming;
use crate::route::Route;
use crate::stream::await_head::{HeadOutcome, wait_for_filtered_head};
use crate::stream::body_source::{BodyMode, BodySource};
use crate::stream::forward::{self, ForwardOutcome, MatchedRoute, RequestBody};
use crate::stream::http_stream::{HttpStream, RoutedRequest, StreamGuard};
use crate::stream::read_ahead::read_arrived_body;
use crate::stream::received::{ReceivedRequest, SanitizedRequest, sanitize_received};
use crate::stream::response_body::ResponseBody;
use crate::stream::response_source::ResponseSource;
use crate::worker::{Worker, WorkerConfig};

/// Serves one request. An error resets the stream, because no response can be sent any more.
pub(crate) async fn handle(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    received: ReceivedRequest,
) -> Result<Response<Body>, ProxyError> {
    connection.stream_started();
    let config = worker.config(&connection.listener.name); // One configuration until the end (I4).
    let SanitizedRequest { head, incoming, expectation, informational, rejected } =
        sanitize_received(received, &connection); // One reading for all that follows.
    let route = match rejected {
        Some(error) => Err(error),
        None => check_security(&config, &connection).and_then(|()| find_route(&config, &connection, &head)),
    };
    let chain = route.as_ref().map(|route| config.chain(route)).unwrap_or_default();
    let request = RoutedRequest { config, head, expectation, informational, route, chain };
    let stream = HttpStream::start(&worker, &connection, request);
    let guard = StreamGuard::new(&stream); // Logs the request and finishes its filters, however it ends.
    let mut source = match produce_response(&stream, incoming).await {
        Ok(source) => source,
        Err(error) => stream.reply_with_error(&error), // The route's response filters see it, too.
    };
    // The filters have the response's head; `source` is where its body comes from.
    match wait_for_filtered_head(&stream, Direction::Response, &mut source.body).await {
        HeadOutcome::Forwarded { end_of_stream } => {
            if stream.has_reply() {
                source = ResponseSource::local_reply(); // A response filter may have replaced an upstream's response.
            }
            source.end_of_stream = end_of_stream;
            let head = match source.body.mode {
                BodyMode::Filtered if !end_of_stream => {
                    // The head has left the filters: what they do to it while they read the body has no effect. On the
                    // heap, since few streams have one here.
                    let head = Box::new(stream.response_head());
                    read_arrived_body(&stream, &mut source.body).await;
                    *head
                }
                _ => stream.response_head(),
            };
            Ok(build_response(&stream, guard, head, source))
        }
        // `Replied` is an outcome of a request's head only; a reply made here is `Forwarded`, above.
        HeadOutcome::Reset | HeadOutcome::Replied => Err(stream.abort_error()),
    }
}

/// Rejects a request on a connection whose listener requires more security by now.
fn check_security(config: &WorkerConfig, connection: &Connection) -> Result<(), ProxyError> {
    match reconnect_reason(config, &connection.listener.name, connection.security()) {
        Some(reason) => Err(ProxyError::BadRequest(reason)),
        None => Ok(()),
    }
}

fn find_route(config: &WorkerConfig, connection: &Connection, head: &RequestHead) -> Result<Arc<Route>, ProxyError> {
    let table = config.route_table(&connection.listener.name);
    table.and_then(|table| table.find(head)).cloned().ok_or(ProxyError::NoRoute)
}

async fn produce_response(stream: &Rc<HttpStream>, incoming: Incoming) -> Result<ResponseSource, ProxyError> {
    let initial_route = stream.take_route()?;
    // Before the filters, since browsers send preflight requests without credentials.
    let preflight = initial_route.cors().and_then(|cors| stream.with_request(|request| cors.preflight(request)));
    if let Some(headers) = preflight {
        stream.record_details("cors_preflight");
        let head = ResponseHead::new(StatusCode::OK, headers);
        stream.on_event(Event::LocalReply(LocalReply::new(head, bytes::Bytes::new())));
        return Ok(ResponseSource::local_reply());
    }
    let end_of_stream = if incoming.is_end_stream() { EndOfStream::Yes } else { EndOfStream::No };
    let mut body = BodySource::request(incoming, stream.body_mode(Direction::Request));
    stream.on_event(Event::RequestHeaders(end_of_stream));
    let end_of_stream = match wait_for_filtered_head(stream, Direction::Request, &mut body).await {
        HeadOutcome::Forwarded { end_of_stream } => end_of_stream,
        HeadOutcome::Replied => return Ok(ResponseSource::local_reply()),
        HeadOutcome::Reset => return Err(ProxyError::DownstreamGone),
    };
    // Filters may have changed path or headers, so the request is routed again. Unlike in Envoy, a route with other
    // filters is an error (I9: no bypass).
    let route = stream.reroute_after_filters(initial_route)?;
    match &route.model.action {
        RouteAction::Forward(action) => {
            let matched = MatchedRoute { route: &route, forward: action };
            match forward::forward(stream, matched, RequestBody { source: body, end_of_stream }).await? {
                ForwardOutcome::Response(source) => Ok(source),
                ForwardOutcome::Replied => Ok(ResponseSource::local_reply()),
            }
        }
        RouteAction::Redirect(_) => redirect(stream, &route),
        RouteAction::Respond(direct) => Ok(respond_directly(stream, direct)),
        RouteAction::NoBackend => Err(ProxyError::NoTarget(NO_BACKEND_WEIGHT.to_owned())),
    }
}

/// Replies with a route's direct response, which has no body (xDS with a `body` is rejected).
fn respond_directly(stream: &HttpStream, direct: &DirectResponse) -> ResponseSource {
    let status = StatusCode::from_u16(direct.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR); // The model allows 200 to 599.
    stream.record_details(&direct.detail);
    let head = ResponseHead::new(status, HeaderMap::new());
    stream.on_event(Event::LocalReply(LocalReply::new(head, bytes::Bytes::new())));
    ResponseSource::local_reply()
}

fn redirect(stream: &HttpStream, route: &Arc<Route>) -> Result<ResponseSource, ProxyError> {
    let port = stream.connection.listener.address.port();
    let Some((status, location)) = stream.with_request(|request| route.redirect(request, port)) else {
        return Err(ProxyError::NoTarget("redirect".to_owned())); // The location is not a valid header value.
    };
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(http::header::LOCATION, location);
    if let Some(edits) = route.response_modifier() {
        edits.apply(&mut headers);
    }
    stream.record_details("redirect");
    let head = ResponseHead::new(status, headers);
    // A gRPC client reads the redirect's own status, and fails with it; unlike in Envoy, where it becomes Unknown.
    let reply = LocalReply { grpc: GrpcForm::Http, ..LocalReply::new(head, bytes::Bytes::new()) };
    stream.on_event(Event::LocalReply(reply));
    Ok(ResponseSource::local_reply())
}

/// Returns the response for the codec. The stream ends when the codec has read or dropped its body.
fn build_response(
    stream: &Rc<HttpStream>,
    guard: StreamGuard,
    head: ResponseHead,
    source: ResponseSource,
) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    stream.apply_cors(response.headers_mut());
    if let Some(reason) = head.reason {
        response.extensions_mut().insert(reason);
    }
    if let Some(names) = head.sent_names {
        response.extensions_mut().insert(names);
    }
    let is_last = stream.connection.listener.drain.is_draining() || stream.connection.is_spent();
    // A connection that has switched protocols has no further request.
    if is_last && stream.is_http1() && head.status != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    let end_of_stream = source.end_of_stream;
    let is_filtered = source.body.mode == BodyMode::Filtered;
    let body = ResponseBody::new(stream, guard, source);
    // RFC 9110 §9.3.2, §15.3.5, §15.4.5: these responses have no body, not even a filter's.
    let has_no_body = stream.is_head() || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if end_of_stream || has_no_body || body.is_end_stream() {
        body.complete();
    } else {
        if is_filtered {
            response.headers_mut().remove(CONTENT_LENGTH); // A filter may have changed the body's length.
        }
        *response.body_mut() = Body::stream(body);
    }
    response
}
